// Package ticket tells who a buyer is, by a JSON Web Token (RFC 7519) that the shop signed. It never asks the network, and
// it never takes a ticket that one of the keys in its file does not vouch for.
package ticket

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"sluice"
)

// MaxBytes is the longest ticket that is looked at.
const MaxBytes = 4096

// seenTickets is how many verified tickets are remembered, some 400 bytes each; the one that was used least lately goes first.
const seenTickets = 100_000

// What Verify says of a ticket that is not good. Nothing of the ticket is in it: the shop may show it to anyone.
var (
	errMissing   = errors.New("there is no ticket")
	errTooLong   = errors.New("the ticket is longer than 4096 bytes")
	errMalformed = errors.New("the ticket is not a signed JSON Web Token: three parts of base64url, the first two JSON objects")
	errCritical  = errors.New("the ticket asks for an extension (crit), and none is known here")
	errAlgorithm = errors.New("the ticket is signed by an algorithm (alg) that no key here is for")
	errNoKey     = errors.New("the ticket names a key (kid) that is not known here")
	errSignature = errors.New("the signature is not good")
	errNoExpiry  = errors.New("the ticket has no expiry (exp), or one that is not a time")
	errTimes     = errors.New("the ticket's nbf or iat is not a time")
	errExpired   = errors.New("the ticket has expired")
	errNotYet    = errors.New("the ticket is not good yet (nbf, iat)")
	errIssuer    = errors.New("the ticket's issuer (iss) is not the one that is wanted here")
	errAudience  = errors.New("the ticket's audience (aud) is not the one that is wanted here")
	errBuyer     = errors.New("the ticket names no buyer: want 1 to 128 bytes of text without control characters, or a whole number")
	errClass     = errors.New("the ticket's class is wrong: want 1 to 64 bytes of text without control characters, or no such claim")
	errSale      = errors.New("the ticket's sale is wrong: want the id of a sale, or no such claim")
)

// Config says where the keys are and what tickets must say.
type Config struct {
	KeyFile    string // PEM public keys, a JWKS, or an HS256 secret: its content decides
	Issuer     string // the iss of every ticket; empty: any
	Audience   string // one of the aud of every ticket; empty: any
	BuyerClaim string // the claim that names the buyer; empty: sub
}

// Verifier tells good tickets from bad ones. It is safe for concurrent use.
type Verifier struct {
	config Config
	log    *slog.Logger
	ring   atomic.Pointer[keyring] // replaced by Follow
}

// Open reads the keys. Its error names the file, and says what was wrong and what a key file may be.
func Open(c Config, log *slog.Logger) (*Verifier, error) {
	if c.BuyerClaim == "" {
		c.BuyerClaim = "sub"
	}
	v := &Verifier{config: c, log: log}
	content, err := readKeyFile(c.KeyFile)
	if err != nil {
		return nil, err
	}
	ring, err := newKeyring(c.KeyFile, content)
	if err != nil {
		return nil, err
	}
	v.use(ring)
	return v, nil
}

// use puts keys in force. What was seen with others goes with them.
func (v *Verifier) use(ring *keyring) {
	v.ring.Store(ring)
	v.log.Info("ticket keys in force", "file", v.config.KeyFile, "keys", len(ring.keys), "algorithms", ring.algorithms())
}

// Verify answers what a ticket says, or a fixed sentence that says what is wrong with it. A ticket that was verified lately is
// only looked up; what is wrong with others is found out anew each time. The token is the caller's again afterwards.
func (v *Verifier) Verify(token []byte, now time.Time) (sluice.Ticket, error) {
	switch {
	case len(token) == 0:
		return sluice.Ticket{}, errMissing
	case len(token) > MaxBytes:
		return sluice.Ticket{}, errTooLong
	}
	ring, sum := v.ring.Load(), sha256.Sum256(token)
	g, seen := ring.seen.Get(sum)
	if !seen {
		var err error
		if g, err = v.config.verify(ring, string(token)); err != nil {
			return sluice.Ticket{}, err
		}
	}
	if err := g.at(now); err != nil {
		return sluice.Ticket{}, err
	}
	if !seen {
		ring.seen.Add(sum, g)
	}
	return g.ticket, nil
}

// verify does all that does not depend on the time.
func (c *Config) verify(ring *keyring, token string) (genuine, error) {
	claims, err := ring.open(token)
	if err != nil {
		return genuine{}, err
	}
	return c.read(claims)
}
