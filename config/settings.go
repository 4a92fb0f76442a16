package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// kind is how --help names a value.
type kind string

const (
	kindAddress  kind = "host:port"
	kindFolder   kind = "dir"
	kindFile     kind = "file"
	kindNumber   kind = "n"
	kindDuration kind = "duration"
	kindName     kind = "name"
	kindNetworks kind = "networks"
	kindBool     kind = "bool"
	kindList     kind = "list" // separated by commas; in the file, a list too
	kindPath     kind = "path"
	kindURL      kind = "url"
	kindPools    kind = "pools" // in the file, a list of maps
)

// many reports whether a value may be a list.
func (k kind) many() bool { return k == kindNetworks || k == kindList || k == kindPools }

// setting is one key: its default, its meaning, and how its text becomes a field of Config.
type setting struct {
	key      string
	kind     kind
	standard string
	help     string
	set      func(c *Config, text string) error
}

const maxOrders = 10_000_000

var settings = []setting{
	{"listen", kindAddress, "127.0.0.1:8080", "address to serve", address(func(c *Config) *string { return &c.Listen })},
	{"admin", kindAddress, "127.0.0.1:8081", "address of the operations API", endpoint(func(c *Config) *string { return &c.Admin })},
	{"metrics", kindAddress, "", "address of Prometheus metrics; beyond loopback they ask for the token of --admin-token-file; empty: none", optionalAddress(func(c *Config) *string { return &c.Metrics })},
	{"data", kindFolder, defaultData(), "folder for everything that must outlive the process", required(func(c *Config) *string { return &c.Data })},
	{"store", kindName, "sqlite", "inventory: sqlite, or a postgres:// URL; one with a password belongs in the environment or the file, for everybody on a machine sees its command lines", setStore},
	{"trust-store-network", kindBool, "false", "speak to a PostgreSQL beyond loopback without TLS all the same: whoever is on the way may read and change everything", boolean(func(c *Config) *bool { return &c.TrustStoreNet })},
	{"nsqd", kindAddress, "127.0.0.1:4150", "nsqd's TCP address; port 0, for the embedded one: any that is free", address(func(c *Config) *string { return &c.NSQD })},
	{"nsqd-http", kindAddress, "", "nsqd's HTTP address; empty: the port after the TCP one", optionalAddress(func(c *Config) *string { return &c.NSQDHTTP })},
	{"nsqd-tls-cert", kindFile, "", "PEM file with nsqd's certificate chain, for both its ports, read at the start; nobody gets far without TLS then; empty: no TLS", optional(func(c *Config) *string { return &c.NSQDTLSCert })},
	{"nsqd-tls-key", kindFile, "", "PEM file with the key of nsqd's certificate", optional(func(c *Config) *string { return &c.NSQDTLSKey })},
	{"nsqd-client-ca", kindFile, "", "PEM file with the authorities of nsqd's clients, each of whom must then show a certificate; empty: they need none", optional(func(c *Config) *string { return &c.NSQDClientCA })},
	{"nsqd-ca", kindFile, "", "PEM file with the authorities of the nsqd that is asked, which is then spoken to over TLS or not at all; empty: no TLS", optional(func(c *Config) *string { return &c.NSQDCA })},
	{"nsqd-client-cert", kindFile, "", "PEM file with the certificate that nsqd is shown, read again for each connection; empty: none", optional(func(c *Config) *string { return &c.NSQDClientCert })},
	{"nsqd-client-key", kindFile, "", "PEM file with the key of that certificate", optional(func(c *Config) *string { return &c.NSQDClientKey })},
	{"worker", kindAddress, "127.0.0.1:8081", "address of the worker's operations API", endpoint(func(c *Config) *string { return &c.Worker })},
	{"id", kindName, "door-1", "this door's name; no two doors share one", required(func(c *Config) *string { return &c.ID })},
	{"id-key", kindFile, "", "file with the key of order ids, that all doors and workers share; only up makes one itself, in its data folder", optional(func(c *Config) *string { return &c.IDKey })},
	{"admin-token-file", kindFile, "", "file with the bearer token of the operations API, or with one NAME TOKEN a line, of which sluice itself shows the first; needed beyond loopback", optional(func(c *Config) *string { return &c.TokenFile })},
	{"admin-tls-cert", kindFile, "", "PEM file with the certificate chain of the operations API, and of a door's metrics, read again when it changes; empty: no TLS", optional(func(c *Config) *string { return &c.AdminTLSCert })},
	{"admin-tls-key", kindFile, "", "PEM file with the certificate's key", optional(func(c *Config) *string { return &c.AdminTLSKey })},
	{"admin-ca", kindFile, "", "PEM file with the authorities of the operations API that is asked, over TLS or not at all; empty: the system's, where its address begins with https://", optional(func(c *Config) *string { return &c.AdminCA })},
	{"admin-connections", kindNumber, "0", "most connections of the operations API at once, and most calls; an eighth of both is kept for doors; 0: 1024, or a quarter of the limit of open files where that is less", number(0, 100_000, func(c *Config) *int { return &c.AdminConnections })},
	{"webhooks-file", kindFile, "", "file with the endpoints that events are posted to, a list in YAML or JSON; empty: none", optional(func(c *Config) *string { return &c.WebhooksFile })},
	{"ticket-key", kindFile, "", "file with the keys of buyers' tickets: PEM, a JWKS, or an HS256 secret", optional(func(c *Config) *string { return &c.TicketKey })},
	{"ticket-issuer", kindName, "", "the issuer (iss) of tickets; empty: any", optional(func(c *Config) *string { return &c.TicketIssuer })},
	{"ticket-audience", kindName, "", "the audience (aud) of tickets; empty: any", optional(func(c *Config) *string { return &c.TicketAudience })},
	{"ticket-buyer-claim", kindName, "sub", "the claim of a ticket that names the buyer", required(func(c *Config) *string { return &c.TicketBuyer })},
	{"ticket-cookie", kindName, "sluice_ticket", "the cookie that may hold a buyer's ticket", cookieName(func(c *Config) *string { return &c.TicketCookie })},
	{"bound", kindNumber, "10000", "most outstanding orders: of a door, its share; of nsqd, what its memory holds, the sum of the shares", number(1, maxOrders, func(c *Config) *int { return &c.Bound })},
	{"identity", kindName, "open", "how a buyer is known: open (whoever the order says), header (whoever a trusted proxy says) or ticket (whoever a signed ticket says)", oneOf([]string{"open", "header", "ticket"}, func(c *Config) *string { return &c.Identity })},
	{"trust-any-buyer", kindBool, "false", "with --identity open, listen beyond loopback all the same: anybody may order in anybody's name", boolean(func(c *Config) *bool { return &c.TrustAnyBuyer })},
	{"identity-header", kindName, "Sluice-User", "header in which trusted proxies name the buyer", headerName(func(c *Config) *string { return &c.IdentityHeader })},
	{"trusted-proxies", kindNetworks, "", "networks of the proxies whose word on a buyer counts, such as 10.0.0.0/8,::1", networks(func(c *Config) *[]netip.Prefix { return &c.TrustedProxies })},
	{"address-header", kindName, "X-Forwarded-For", "header in which trusted proxies list addresses, the nearest last", addressHeader},
	{"address-rate", kindNumber, "0", "new orders a second from one address (IPv6: a /64) with --identity open, and bad tickets with others; twice as many at once; 0: any", number(0, 1_000_000, func(c *Config) *int { return &c.AddressRate })},
	{"max-connections", kindNumber, "0", "most connections of buyers at once; 0: what the limit of open files leaves", number(0, 1_000_000, func(c *Config) *int { return &c.MaxConnections })},
	{"address-connections", kindNumber, "0", "most connections of one address at once; 0: a quarter of max-connections", number(0, 1_000_000, func(c *Config) *int { return &c.AddressConnections })},
	{"buyer-rate", kindNumber, "10", "new orders a second that one buyer may ask for, twice as many at once; 0: any", number(0, 1_000_000, func(c *Config) *int { return &c.BuyerRate })},
	{"cors-origins", kindList, "", "origins whose pages may read a door's answers, such as https://shop.example; * for all, without credentials", setOrigins},
	{"base-path", kindPath, "", "path that a door is mounted at, such as /sluice; empty: the root", setBasePath},
	{"waiting-page", kindURL, "", "the shop's page for browsers whose order is in, with {order} and perhaps {sale}; empty: the door's own", page(func(c *Config) *string { return &c.WaitingPage }, true, "{order}", "{sale}")},
	{"busy-page", kindURL, "", "the shop's page for browsers that are refused, perhaps with {sale} and {reason}; empty: the door's own", page(func(c *Config) *string { return &c.BusyPage }, false, "{sale}", "{reason}")},
	{"tls-cert", kindFile, "", "PEM file with a door's certificate chain, read again when it changes; empty: no TLS", optional(func(c *Config) *string { return &c.TLSCert })},
	{"tls-key", kindFile, "", "PEM file with the certificate's key", optional(func(c *Config) *string { return &c.TLSKey })},
	{"max-wait", kindDuration, "30s", "longest wait in the queue to admit for; 0s: any", duration(0, time.Hour, func(c *Config) *time.Duration { return &c.MaxWait })},
	{"drain-rate", kindNumber, "0", "orders a second to settle; 0: as fast as the store", setDrainRate},
	{"batch", kindNumber, "256", "most orders in one transaction", setBatch},
	{"drain-workers", kindNumber, "2", "most transactions of a worker at a time", setDrainWorkers},
	{"flush", kindDuration, "2ms", "longest wait for a batch to fill; 0s: none", setFlush},
	{"window", kindNumber, "0", "most orders that a worker has in hand at once; 0: two batches for each of its transactions", setWindow},
	{"pools", kindPools, "", "further pools between commas, such as \"vip topic=orders-vip rate=500\"; also channel, workers, batch, flush and window", setPools}, // after those whose values are its defaults
	{"events-channels", kindList, "", "channels of nsqd's topic events, made before the first event, such as points,mail; one whose name ends in #ephemeral keeps nothing on disk; empty: events are sent once somebody has made a channel", channels(func(c *Config) *[]string { return &c.EventChannels })},
	{"events-retention", kindDuration, "24h", "how long events are kept, and sent again to an nsqd that has restarted", duration(time.Minute, 30*24*time.Hour, func(c *Config) *time.Duration { return &c.EventRetention })},
	{"events-backlog", kindNumber, "1000000", "messages in the deepest channel of events from which on they wait in the store", number(1000, 100_000_000, func(c *Config) *int { return &c.EventBacklog })},
	{"journal-memory", kindNumber, "128", "MiB that a door's journal takes for its cache, its tables and its filter", number(8, 1<<14, func(c *Config) *int { return &c.JournalMemory })},
	{"disk-floor", kindNumber, "256", "MiB of free disk below which a door stops admitting; 0: none", number(0, 1<<20, func(c *Config) *int { return &c.DiskFloor })},
	{"demo", kindBool, "false", "create the sale \"demo\": 1,000 units, one a buyer, paid at once", boolean(func(c *Config) *bool { return &c.Demo })},
	{"log-format", kindName, "text", "text or json", oneOf([]string{"text", "json"}, func(c *Config) *string { return &c.LogFormat })},
	{"log-verbose", kindBool, "false", "log debug events too", boolean(func(c *Config) *bool { return &c.LogVerbose })},
}

func optional(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		*field(c) = text
		return nil
	}
}

func required(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		if text == "" {
			return errors.New("it must not be empty")
		}
		*field(c) = text
		return nil
	}
}

func address(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		_, port, err := net.SplitHostPort(text)
		if err != nil {
			return errors.New("want host:port, such as 127.0.0.1:8080")
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("port %s: want 0 to 65535", port)
		}
		*field(c) = text
		return nil
	}
}

func optionalAddress(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		if text == "" {
			return nil
		}
		return address(field)(c, text)
	}
}

// endpoint is an address, or the URL of one, behind a TLS proxy perhaps.
func endpoint(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		if !strings.Contains(text, "://") {
			return address(field)(c, text)
		}
		if u, err := url.Parse(text); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return errors.New("want host:port, or a URL that begins with http:// or https://")
		}
		*field(c) = text
		return nil
	}
}

func number(least, most int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a whole number from %d to %d", least, most)
		}
		*field(c) = n
		return nil
	}
}

func duration(least, most time.Duration, field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > most {
			return fmt.Errorf("want a duration from %v to %v, such as 30s", least, most)
		}
		*field(c) = d
		return nil
	}
}

// headerName takes a field name of HTTP (RFC 9110 section 5.1).
func headerName(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		if !httpguts.ValidHeaderFieldName(text) {
			return errors.New("want the name of a header, such as X-Forwarded-For")
		}
		*field(c) = text
		return nil
	}
}

// addressHeader is the name of a header that holds plain addresses. Forwarded (RFC 7239) has a syntax of its own.
func addressHeader(c *Config, text string) error {
	if strings.EqualFold(text, "Forwarded") {
		return errors.New("want a header that lists plain addresses, such as X-Forwarded-For; have the proxy send one")
	}
	return headerName(func(c *Config) *string { return &c.AddressHeader })(c, text)
}

// networks takes a list of networks and addresses.
func networks(field func(*Config) *[]netip.Prefix) func(*Config, string) error {
	return func(c *Config, text string) error {
		var list []netip.Prefix
		for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
			network, err := netip.ParsePrefix(entry)
			if a, e := netip.ParseAddr(entry); e == nil {
				network, err = a.Prefix(a.BitLen())
			}
			if err != nil {
				return fmt.Errorf("%q: want networks and addresses between commas, such as 10.0.0.0/8,::1", entry)
			}
			if a := network.Addr(); a.Is4In6() { // as addresses are compared
				network = netip.PrefixFrom(a.Unmap(), network.Bits()-96)
				if network.Bits() < 0 {
					return fmt.Errorf("%q: want an IPv4 network as such, such as 10.0.0.0/8", entry)
				}
			}
			list = append(list, network.Masked())
		}
		*field(c) = list
		return nil
	}
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, text string) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want true or false")
		}
		*field(c) = b
		return nil
	}
}

// cookieName is a token (RFC 6265, section 4.1.1).
func cookieName(field func(*Config) *string) func(*Config, string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return func(c *Config, text string) error {
		if text == "" || len(text) > 64 || strings.Trim(text, letters+"!#$%&'*+-.^_`|~") != "" {
			return errors.New("want a cookie's name: 1 to 64 letters, digits and any of !#$%&'*+-.^_`|~")
		}
		*field(c) = text
		return nil
	}
}

func oneOf(allowed []string, field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, text string) error {
		if !slices.Contains(allowed, text) {
			return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
		}
		*field(c) = text
		return nil
	}
}

// SQLite is the value of store that means the embedded database.
const SQLite = "sqlite"

func setStore(c *Config, text string) error {
	if text != SQLite && !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return errors.New("want sqlite, or a URL that begins with postgres://")
	}
	c.Store = text
	return nil
}
