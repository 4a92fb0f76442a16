package ticket

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"sluice"
)

// The claims that are sluice's own.
const (
	claimClass = "class"
	claimSale  = "sale"
)

// leeway is how far a shop's clock may be ahead of ours.
const leeway = 10 * time.Second

// genuine is a ticket that the shop signed for us. Whether it is good depends on the time alone.
type genuine struct {
	ticket sluice.Ticket
	from   time.Time
}

// at says what is wrong with the ticket at a time.
func (g *genuine) at(now time.Time) error {
	switch {
	case now.Before(g.from):
		return errNotYet
	case !now.Before(g.ticket.Expires):
		return errExpired
	}
	return nil
}

// read makes a ticket of signed claims.
func (c *Config) read(claims jwt.MapClaims) (g genuine, err error) {
	expires, ok := moment(claims["exp"])
	if !ok {
		return g, errNoExpiry
	}
	g.ticket.Expires = expires
	for _, name := range []string{"nbf", "iat"} {
		if claim, there := claims[name]; there {
			t, ok := moment(claim)
			if !ok {
				return g, errTimes
			}
			g.from = latest(g.from, t.Add(-leeway))
		}
	}
	if err := c.meantForUs(claims); err != nil {
		return g, err
	}
	if g.ticket.Buyer, ok = buyer(claims[c.BuyerClaim]); !ok {
		return g, errBuyer
	}
	if claim, there := claims[claimClass]; there {
		if g.ticket.Class, ok = plain(claim, sluice.MaxClassBytes); !ok {
			return g, errClass
		}
	}
	if claim, there := claims[claimSale]; there {
		if g.ticket.Sale, ok = claim.(string); !ok || !sluice.ValidSaleID(g.ticket.Sale) {
			return g, errSale
		}
	}
	return g, nil
}

func (c *Config) meantForUs(claims jwt.MapClaims) error {
	if c.Issuer != "" {
		if issuer, err := claims.GetIssuer(); err != nil || issuer != c.Issuer {
			return errIssuer
		}
	}
	if c.Audience != "" {
		if audience, err := claims.GetAudience(); err != nil || !slices.Contains(audience, c.Audience) {
			return errAudience
		}
	}
	return nil
}

// buyer reads a name, or a whole number as a database counts its customers. The number is taken as it is written: a float64
// would make one buyer of two from 2^53 on.
func buyer(claim any) (string, bool) {
	if n, ok := claim.(json.Number); ok {
		text := n.String()
		return text, strings.Trim(text, "0123456789") == "" && len(text) <= sluice.MaxUserBytes
	}
	return plain(claim, sluice.MaxUserBytes)
}

// plain reads text. The replacement character is no text: it stands for bytes that were not UTF-8, and so for several names.
func plain(claim any, most int) (string, bool) {
	text, ok := claim.(string)
	return text, ok && sluice.PlainText([]byte(text), most) && !strings.ContainsRune(text, utf8.RuneError)
}

// moment reads a NumericDate (RFC 7519, section 2) up to the year 9999, to the second.
func moment(claim any) (time.Time, bool) {
	const year10000 = 253402300800
	n, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := n.Float64()
	if err != nil || !(seconds >= 0 && seconds < year10000) {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
