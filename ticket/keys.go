package ticket

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"
)

// Bounds of a key file.
const (
	maxKeyFileBytes = 256 << 10
	maxKeys         = 16 // a ticket that names no key is tried with all of its algorithm
	minSecretBytes  = 32
	minRSABits      = 2048
)

// wanted ends every error about a key file.
const wanted = "want PEM public keys (Ed25519, RSA of 2048 bits or more, EC P-256), a JWKS of such keys, " +
	"or an HS256 secret: one word of 32 or more visible ASCII characters"

// keyring is what a key file says, and the tickets that were found genuine by it.
type keyring struct {
	sum  [sha256.Size]byte // of the file
	keys []key
	seen *lru.Cache[[sha256.Size]byte, genuine] // by the token's SHA-256
}

// key checks signatures of exactly one algorithm.
type key struct {
	id     string // kid; empty: of any ticket
	method jwt.SigningMethod
	public any // what method wants; a secret for HS256
}

// readKeyFile reads a key file, or less than all of something that can't be one.
func readKeyFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("ticket keys: %w", err)
	}
	if !info.Mode().IsRegular() { // reading a pipe again would wait for somebody to write
		return nil, fmt.Errorf("ticket keys in %s: it is not a regular file; %s", name, wanted)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("ticket keys: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("ticket keys: %w", err)
	}
	return content, nil
}

func newKeyring(name string, content []byte) (*keyring, error) {
	keys, err := readKeys(content)
	if err == nil && len(keys) > maxKeys {
		err = fmt.Errorf("it has %d keys, and %d are the most", len(keys), maxKeys)
	}
	if err != nil {
		return nil, fmt.Errorf("ticket keys in %s: %w; %s", name, err, wanted)
	}
	seen, err := lru.New[[sha256.Size]byte, genuine](seenTickets)
	if err != nil {
		return nil, err
	}
	return &keyring{sum: sha256.Sum256(content), keys: keys, seen: seen}, nil
}

// readKeys finds out what a key file is. What looks like a public key gone wrong (armour, JSON, a URL) is not taken for a secret: anyone could
// sign with it.
func readKeys(content []byte) ([]key, error) {
	if len(content) > maxKeyFileBytes {
		return nil, fmt.Errorf("it is longer than %d bytes", maxKeyFileBytes)
	}
	text := trim(content)
	switch {
	case len(text) == 0:
		return nil, errors.New("it is empty")
	case isPEM(text):
		return pemKeys(text)
	case isJSON(text):
		return jwksKeys(text)
	}
	secret, err := readSecret(text)
	if err != nil {
		return nil, err
	}
	return []key{{method: jwt.SigningMethodHS256, public: secret}}, nil
}

// trim takes off white space, and the byte order mark that some editors put in front.
func trim(content []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\ufeff")))
}

const pemBegin = "-----BEGIN"

func isPEM(text []byte) bool { return bytes.Contains(text, []byte(pemBegin)) }

func isJSON(text []byte) bool { return text[0] == '{' || text[0] == '[' || text[0] == '"' }

// readSecret checks that text may be a secret.
func readSecret(text []byte) ([]byte, error) {
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return nil, errors.New("it is neither PEM nor JSON, and for a secret it has a space, a line end or another character that is not visible ASCII")
		}
	}
	switch {
	case len(text) < minSecretBytes:
		return nil, fmt.Errorf("as a secret it is too short: %d bytes", len(text))
	case bytes.Contains(text, []byte("://")):
		return nil, errors.New("it is an address, not a key: save what is there")
	case wrapped(text):
		return nil, errors.New("it is a key in base64: decode it, or put PEM's BEGIN and END lines around it")
	}
	return text, nil
}

// wrapped reports whether text is the base64 of a key or a certificate.
func wrapped(text []byte) bool {
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(text), "="))
	b, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil {
		return false
	}
	_, notPublic := x509.ParsePKIXPublicKey(b)
	_, notPrivate := x509.ParsePKCS8PrivateKey(b)
	_, notCertificate := x509.ParseCertificate(b)
	return notPublic == nil || notPrivate == nil || notCertificate == nil || json.Valid(b) || isPEM(b)
}

func pemKeys(text []byte) (keys []key, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		public, err := parsePEM(block)
		if err != nil {
			return nil, err
		}
		k, err := newKey("", public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) != bytes.Count(text, []byte(pemBegin)) { // Decode passes over what is damaged
		return nil, errors.New("its PEM can't be read: a BEGIN line, base64 or an END line is damaged")
	}
	return keys, nil
}

// parsePEM answers a public key, a private key's too.
func parsePEM(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("its public key can't be read: %w", err)
		}
		return public, nil
	case "PRIVATE KEY":
		private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("its private key can't be read: %w", err)
		}
		if signer, ok := private.(crypto.Signer); ok {
			return signer.Public(), nil
		}
		return nil, fmt.Errorf("its private key is no key to sign with: %T", private)
	}
	return nil, fmt.Errorf("its PEM is %.40q, not PUBLIC KEY or PRIVATE KEY", block.Type)
}

// jwksKeys reads a JWK Set (RFC 7517). Keys for other purposes and of other algorithms are passed over, as section 5 says;
// what is dangerous is an error.
func jwksKeys(text []byte) (keys []key, err error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("it looks like JSON, but can't be read as a JWKS: %w", err)
	}
	for i, jwk := range set.Keys {
		if jwk.KTY == jwkset.KtyOct {
			return nil, fmt.Errorf("key %d of its JWKS is a secret (oct), which does not belong among public keys", i+1)
		}
		if !understood(jwk) {
			continue
		}
		k, err := jwkKey(jwk)
		if err != nil {
			return nil, fmt.Errorf("key %d of its JWKS: %w", i+1, err)
		}
		if jwk.ALG == "" || jwk.ALG.String() == k.method.Alg() || jwk.ALG == "Ed25519" { // RFC 9864 has two names for EdDSA
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf(`of the %d keys under "keys" in its JSON, none is for signatures by EdDSA (Ed25519), RS256 or ES256`, len(set.Keys))
	}
	return keys, nil
}

// understood reports whether a key is one for signatures of a kind that is allowed.
func understood(jwk jwkset.JWKMarshal) bool {
	if (jwk.USE != "" && jwk.USE != jwkset.UseSig) || (len(jwk.KEYOPS) > 0 && !slices.Contains(jwk.KEYOPS, jwkset.KeyOpsVerify)) {
		return false
	}
	switch jwk.KTY {
	case jwkset.KtyOKP:
		return jwk.CRV == jwkset.CrvEd25519
	case jwkset.KtyEC:
		return jwk.CRV == jwkset.CrvP256
	default:
		return jwk.KTY == jwkset.KtyRSA
	}
}

// jwkKey reads the public key itself: certificates, and addresses of certificates, say nothing here.
func jwkKey(jwk jwkset.JWKMarshal) (key, error) {
	public := jwkset.JWKMarshal{KTY: jwk.KTY, CRV: jwk.CRV, X: jwk.X, Y: jwk.Y, N: jwk.N, E: jwk.E}
	parsed, err := jwkset.NewJWKFromMarshal(public, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, err
	}
	return newKey(jwk.KID, parsed.Key())
}

// newKey ties a public key to its one algorithm.
func newKey(id string, public any) (key, error) {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return key{id, jwt.SigningMethodEdDSA, public}, nil
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits {
			return key{}, fmt.Errorf("an RSA key of %d bits is too short", bits)
		}
		return key{id, jwt.SigningMethodRS256, public}, nil
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return key{}, fmt.Errorf("an EC key on the curve %s is not one that is allowed", public.Params().Name)
		}
		return key{id, jwt.SigningMethodES256, public}, nil
	}
	return key{}, fmt.Errorf("a key of the kind %T is not one that is allowed", public)
}

// algorithms lists what the keys are for.
func (r *keyring) algorithms() []string {
	var all []string
	for _, k := range r.keys {
		if !slices.Contains(all, k.method.Alg()) {
			all = append(all, k.method.Alg())
		}
	}
	return all
}

// parser is strict, so that a ticket can be written in one way only, and keeps numbers as they are written.
var parser = jwt.NewParser(jwt.WithJSONNumber(), jwt.WithStrictDecoding())

// open answers the claims of a token that one of the keys signed. The algorithm is the key's; what the token says of it only
// finds the key.
func (r *keyring) open(token string) (jwt.MapClaims, error) {
	if strings.ContainsAny(token, "\r\n") { // base64 would skip them
		return nil, errMalformed
	}
	claims := jwt.MapClaims{}
	parsed, _, err := parser.ParseUnverified(token, claims)
	switch {
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return nil, errAlgorithm
	case err != nil:
		return nil, errMalformed
	}
	if _, critical := parsed.Header["crit"]; critical { // RFC 7515, section 4.1.11
		return nil, errCritical
	}
	if err := r.signed(parsed, token[:strings.LastIndexByte(token, '.')]); err != nil {
		return nil, err
	}
	return claims, nil
}

// signed tries the keys that the token may be signed with.
func (r *keyring) signed(t *jwt.Token, text string) error {
	id, named := t.Header["kid"]
	verdict := errAlgorithm
	for _, k := range r.keys {
		switch {
		case k.method != t.Method:
			continue
		case named && k.id != "" && k.id != id:
			if !errors.Is(verdict, errSignature) {
				verdict = errNoKey
			}
			continue
		case k.method.Verify(text, t.Signature, k.public) == nil:
			return nil
		}
		verdict = errSignature
	}
	return verdict
}
