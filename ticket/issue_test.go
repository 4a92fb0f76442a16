package ticket

import (
	"strings"
	"testing"
	"time"

	"sluice"
)

// wanting is a ticket of the tests: a minute long.
func wanting(buyer string) sluice.Ticket {
	return sluice.Ticket{Buyer: buyer, Expires: now.Add(time.Minute)}
}

func TestIssue_MakesTicketsThatVerify(t *testing.T) {
	for name, file := range map[string][]byte{"EdDSA": privatePEM(edKey()), "HS256": []byte(secret + "\n")} {
		c := Claims{Ticket: wanting("42"), Issued: now, Issuer: "shop", Audience: "sluice", BuyerClaim: "customer"}
		c.Class, c.Sale = "members", "spring"
		token, err := Issue(file, c)
		if err != nil {
			t.Fatal(err)
		}
		v := open(t, file, Config{Issuer: "shop", Audience: "sluice", BuyerClaim: "customer"})
		if got, err := v.Verify([]byte(token), now); err != nil || got != c.Ticket {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.Ticket)
		}
		if _, err := v.Verify([]byte(token), now.Add(-time.Hour)); err == nil {
			t.Errorf("%s: it is good before it was issued", name)
		}
	}
}

func TestIssue_SaysWhatIsWrong(t *testing.T) {
	good := Claims{Ticket: wanting("u1"), Issued: now}
	with := func(change func(*Claims)) Claims {
		c := good
		change(&c)
		return c
	}
	for _, c := range []struct {
		name   string
		key    []byte
		claims Claims
		want   string
	}{
		{"no key", nil, good, "it is empty"},
		{"a public key", publicPEM(edKey()), good, "a public key can only check"},
		{"a JWKS", jwks(jwk("a", edKey())), good, "a JWKS can only check"},
		{"another kind of key", privatePEM(ecKey()), good, "*ecdsa.PrivateKey"},
		{"damaged PEM", privatePEM(edKey())[:60], good, "can't be read"},
		{"a short secret", []byte("short"), good, "too short"},
		{"no buyer", []byte(secret), with(func(c *Claims) { c.Buyer = "" }), "buyer"},
		{"a class that can't be", []byte(secret), with(func(c *Claims) { c.Class = "a\nb" }), "class"},
		{"a sale that can't be", []byte(secret), with(func(c *Claims) { c.Sale = "Spring" }), "sale"},
		{"no expiry", []byte(secret), with(func(c *Claims) { c.Expires = time.Time{} }), "expires"},
	} {
		if token, err := Issue(c.key, c.claims); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, token, err, c.want)
		}
	}
}
