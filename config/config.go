// Package config turns defaults, a file, the environment and flags into one typed, validated Config. It never guesses:
// an unknown key or a value out of range is an error that names the key, the value, where it came from and what is allowed.
package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cast"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Config is every setting of every part; a part reads what it needs.
type Config struct {
	Listen         string // the part's own address
	Admin          string // operations API
	Metrics        string // Prometheus metrics of a door that runs alone; empty: none
	Data           string // folder of everything that must outlive the process
	Store          string // "sqlite" or a postgres:// URL
	NSQD           string // nsqd's TCP address
	NSQDHTTP       string // nsqd's HTTP address; empty: the port after the TCP port
	Worker         string // address of the operations API that a door asks
	ID             string // a door's name
	IDKey          string // file with the key of order ids
	TokenFile      string // file with the operations API's bearer token
	WebhooksFile   string // file with the endpoints that events are posted to; empty: none
	Bound          int    // most outstanding orders of a door
	Identity       string // how a buyer is known: "open", "header" or "ticket"
	TrustAnyBuyer  bool   // listen beyond loopback with an open identity
	IdentityHeader string // in which trusted proxies name the buyer
	TrustedProxies []netip.Prefix
	TicketKey      string        // file with the keys of buyers' tickets
	TicketIssuer   string        // who issues tickets; empty: anyone with the key
	TicketAudience string        // whom tickets are for; empty: anyone
	TicketBuyer    string        // the claim that names the buyer
	TicketCookie   string        // the cookie that may hold a ticket
	AddressHeader  string        // in which trusted proxies list addresses
	AddressRate    int           // new orders a second of one address without an identity, and bad tickets with one; 0: any
	BuyerRate      int           // new orders a second of one buyer; 0: any
	MaxConnections int           // of buyers; 0: what the limit of open files leaves
	CORSOrigins    []string      // whose pages may read a door's answers: exact origins, or "*" alone
	BasePath       string        // that a door is mounted at; empty: the root
	WaitingPage    string        // URL with {order}, {sale}, for browsers whose order is in; empty: the door's own page
	BusyPage       string        // URL with {sale}, {reason}, for browsers that are refused; empty: the door's own page
	TLSCert        string        // PEM file of a door's certificates; empty: no TLS
	TLSKey         string        // PEM file of their key
	AdminTLSCert   string        // PEM file of the certificates of the operations API, and of a door's metrics; empty: no TLS
	AdminTLSKey    string        // PEM file of their key
	AdminCA        string        // PEM file of the authorities of the operations API that is asked; empty: the system's, for https://
	NSQDTLSCert    string        // PEM file of nsqd's certificates; empty: no TLS
	NSQDTLSKey     string        // PEM file of their key
	NSQDClientCA   string        // PEM file of the authorities of nsqd's clients; empty: they show no certificate
	NSQDCA         string        // PEM file of the authorities of the nsqd that is asked; empty: no TLS
	NSQDClientCert string        // PEM file of the certificate that nsqd is shown; empty: none
	NSQDClientKey  string        // PEM file of its key
	TrustStoreNet  bool          // speak to a PostgreSQL beyond loopback without TLS
	MaxWait        time.Duration // longest wait to admit for; 0: any
	DrainRate      int           // orders a second; 0: no limit
	DrainWorkers   int           // most transactions at a time
	Batch          int           // most orders in one transaction
	Flush          time.Duration // longest wait for a batch to fill
	Window         int           // most orders in hand; 0: what the workers can use
	Pools          []Pool        // further pools, beside the one that the settings above make
	EventChannels  []string      // of the topic of events, made before the first event
	EventRetention time.Duration // how long events are kept and sent again
	EventBacklog   int           // most messages in the deepest of the channels
	JournalMemory  int           // MiB of a door's journal: cache, tables, filter
	DiskFloor      int           // MiB of free disk below which a door stops admitting
	Demo           bool          // create the sale "demo"
	LogFormat      string        // "text" or "json"
	LogVerbose     bool          // log debug events too

	AddressConnections int // most of one address at once; 0: a quarter of MaxConnections
	AdminConnections   int // of the operations API; 0: what the limit of open files leaves, 1024 at most
}

// Error says what is wrong with a setting. Such errors are usage errors.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

func wrong(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// envPrefix begins the name of every environment variable: max-wait is SLUICE_MAX_WAIT.
const envPrefix = "SLUICE"

// EnvName is the environment variable of a key.
func EnvName(key string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// Flags adds a flag for each key, and --config. A key may be followed by "=" and the default that it has here.
func Flags(fs *pflag.FlagSet, keys ...string) {
	for _, key := range keys {
		key, standard, differs := strings.Cut(key, "=")
		s := find(key)
		if differs {
			s.standard = standard
		}
		usage := s.help + " (env " + EnvName(key) + ")"
		if s.kind == kindBool {
			fs.Bool(key, s.standard == "true", usage)
		} else {
			fs.Var(&text{value: s.standard, kind: s.kind}, key, usage)
		}
	}
	fs.String("config", "", "YAML file with any of these as keys (env "+EnvName("config")+"; default "+defaultFile()+" if it exists)")
}

// text is a flag that keeps what was typed: Load reads values from every source alike.
type text struct {
	value string
	kind  kind
}

func (t *text) String() string     { return t.value }
func (t *text) Set(v string) error { t.value = v; return nil }
func (t *text) Type() string       { return string(t.kind) }

// Load merges flags over environment over file over defaults and checks every value.
func Load(fs *pflag.FlagSet) (Config, error) {
	v := viper.New()
	v.SetEnvPrefix(envPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	for _, s := range settings {
		v.SetDefault(s.key, s.standard)
	}
	fs.VisitAll(func(f *pflag.Flag) { v.SetDefault(f.Name, f.DefValue) })
	if err := readFile(v, fs); err != nil {
		return Config{}, err
	}
	if err := v.BindPFlags(fs); err != nil {
		return Config{}, err
	}
	var c Config
	for _, s := range settings {
		value, err := textOf(v.Get(s.key), s.kind.many())
		if err == nil {
			err = s.set(&c, value)
		}
		if err != nil {
			return Config{}, wrong("%s %q (from %s): %v", s.key, shown(s.key, value), source(v, fs, s.key), err)
		}
	}
	return c, nil
}

// textOf is a value as it would stand in a flag: where many are allowed a list of YAML has commas between its entries.
func textOf(value any, many bool) (string, error) {
	list, ok := value.([]any)
	if !ok || !many {
		text, err := cast.ToStringE(value)
		if err != nil {
			return fmt.Sprint(value), errors.New("want a single value")
		}
		return strings.TrimSpace(text), nil
	}
	entries := make([]string, len(list))
	for i, entry := range list {
		text, err := textOfEntry(entry)
		if err != nil {
			return fmt.Sprint(value), errors.New("want a list of single values")
		}
		entries[i] = text
	}
	return strings.Join(entries, ","), nil
}

// textOfEntry is one entry of a list; one that is a map is written name=value name=value.
func textOfEntry(entry any) (string, error) {
	fields, ok := entry.(map[string]any)
	if !ok {
		return cast.ToStringE(entry)
	}
	texts := make([]string, 0, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		text, err := cast.ToStringE(fields[name])
		if err != nil {
			return "", err
		}
		texts = append(texts, name+"="+text)
	}
	return strings.Join(texts, " "), nil
}

// readFile reads the configuration file, if one is named or lies at its place.
func readFile(v *viper.Viper, fs *pflag.FlagSet) error {
	named := os.Getenv(EnvName("config"))
	if f := fs.Lookup("config"); f != nil && f.Changed {
		named = f.Value.String()
	}
	file := named
	if file == "" {
		file = defaultFile()
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return wrong("config file %s: %v", file, err)
	}
	return unknownKeys(file)
}

// unknownKeys reads the file once more, for itself: a key may have a dot in it, which is no reason to overlook it.
func unknownKeys(file string) error {
	const inside = "\x00"
	alone := viper.NewWithOptions(viper.KeyDelimiter(inside))
	alone.SetConfigFile(file)
	alone.SetConfigType("yaml")
	if err := alone.ReadInConfig(); err != nil {
		return wrong("config file %s: %v", file, err)
	}
	for _, key := range alone.AllKeys() {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.key == key }) {
			return wrong("config file %s: %q is not a key; want one of %s", file, shown("", strings.ReplaceAll(key, inside, ".")), strings.Join(Keys(), ", "))
		}
	}
	return nil
}

// shown is a value as an error may tell it: what may have a password in it is not told. Of the store that is all but its
// first word, for who mistypes a URL mistypes it anywhere; of others, what looks like a URL with somebody's name.
func shown(key, text string) string {
	scheme, rest, isURL := strings.Cut(text, "://")
	switch {
	case !isURL && key == "store" && strings.ContainsFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }):
		return "…"
	case isURL && (key == "store" || strings.Contains(rest, "@") || strings.Contains(rest, "password=")):
		return scheme + "://…"
	}
	return text
}

// source tells a person where a value came from.
func source(v *viper.Viper, fs *pflag.FlagSet, key string) string {
	if f := fs.Lookup(key); f != nil && f.Changed {
		return "--" + key
	}
	if _, ok := os.LookupEnv(EnvName(key)); ok {
		return EnvName(key)
	}
	if v.InConfig(key) {
		return v.ConfigFileUsed()
	}
	return "the default"
}

// Keys lists every key.
func Keys() []string {
	keys := make([]string, len(settings))
	for i := range settings {
		keys[i] = settings[i].key
	}
	return keys
}

func find(key string) setting {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		panic("config: no setting " + key) // a programming error, seen by the first test
	}
	return settings[i]
}

// defaultFile is where the XDG base directory specification puts it.
func defaultFile() string {
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "sluice", "sluice.yaml")
	}
	return filepath.Join("/etc", "sluice", "sluice.yaml")
}

// defaultData is where the XDG base directory specification puts data.
func defaultData() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "sluice")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "sluice")
	}
	return filepath.Join("/var", "lib", "sluice")
}
