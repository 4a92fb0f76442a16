package ticket

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice"
)

// Claims is what a ticket is to say.
type Claims struct {
	sluice.Ticket

	Issued     time.Time // iat; zero: not said
	Issuer     string    // iss; empty: not said
	Audience   string    // aud; empty: not said
	BuyerClaim string    // the claim that names the buyer; empty: sub
}

// Issue signs a ticket. The key is the content of a key file that can sign: an Ed25519 private key (PKCS #8 in PEM) or an HS256
// secret.
func Issue(key []byte, c Claims) (string, error) {
	method, private, err := signer(key)
	if err != nil {
		return "", fmt.Errorf("%w; want an Ed25519 private key (PKCS #8 in PEM), or an HS256 secret: "+
			"one word of %d or more visible ASCII characters", err, minSecretBytes)
	}
	if err := c.validate(); err != nil {
		return "", err
	}
	return jwt.NewWithClaims(method, c.claims()).SignedString(private)
}

// signer finds out what a key file signs with.
func signer(content []byte) (jwt.SigningMethod, any, error) {
	text := trim(content)
	switch {
	case len(text) == 0:
		return nil, nil, errors.New("it is empty")
	case isPEM(text):
		private, err := privateKey(text)
		return jwt.SigningMethodEdDSA, private, err
	case isJSON(text):
		return nil, nil, errors.New("a JWKS can only check tickets")
	}
	secret, err := readSecret(text)
	return jwt.SigningMethodHS256, secret, err
}

func privateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("its PEM can't be read")
	case block.Type == "PUBLIC KEY":
		return nil, errors.New("a public key can only check tickets")
	case block.Type != "PRIVATE KEY":
		return nil, fmt.Errorf("its PEM is %.40q, not PRIVATE KEY", block.Type)
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its private key can't be read: %w", err)
	}
	k, ok := private.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("its private key is of the kind %T, which is not for Ed25519", private)
	}
	return k, nil
}

// validate refuses what Verify would.
func (c *Claims) validate() error {
	_, plainBuyer := plain(c.Buyer, sluice.MaxUserBytes)
	_, plainClass := plain(c.Class, sluice.MaxClassBytes)
	switch {
	case !plainBuyer:
		return sluice.Refuse(sluice.BadRequest, "buyer %.140q: want 1 to %d bytes of UTF-8 without control characters", c.Buyer, sluice.MaxUserBytes)
	case c.Class != "" && !plainClass:
		return sluice.Refuse(sluice.BadRequest, "class %.80q: want at most %d bytes of UTF-8 without control characters", c.Class, sluice.MaxClassBytes)
	case c.Sale != "" && !sluice.ValidSaleID(c.Sale):
		return sluice.Refuse(sluice.BadRequest, "sale %.80q: want 1 to %d of a-z, 0-9, '.', '-', '_', beginning with a letter or digit", c.Sale, sluice.MaxSaleBytes)
	case !c.Expires.After(c.Issued):
		return sluice.Refuse(sluice.BadRequest, "expires %s: want a time after it is issued", c.Expires.Format(time.RFC3339))
	}
	return nil
}

func (c *Claims) claims() jwt.MapClaims {
	name := c.BuyerClaim
	if name == "" {
		name = "sub"
	}
	m := jwt.MapClaims{name: c.Buyer, "exp": c.Expires.Unix()}
	if !c.Issued.IsZero() {
		m["iat"] = c.Issued.Unix()
	}
	for claim, text := range map[string]string{"iss": c.Issuer, "aud": c.Audience, claimClass: c.Class, claimSale: c.Sale} {
		if text != "" {
			m[claim] = text
		}
	}
	return m
}

// MakeKeys makes an Ed25519 pair in PEM: the private key (PKCS #8) signs tickets, the public one checks them.
func MakeKeys() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	privDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	pubDER, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privDER}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pubDER}), nil
}
