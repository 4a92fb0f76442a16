package ticket

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func TestOpen_RefusesAKeyFileThatIsNotOne(t *testing.T) {
	edDER := must(x509.MarshalPKIXPublicKey(edKey().Public()))
	x25519 := must(x509.MarshalPKIXPublicKey(must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey()))
	damaged := bytes.Replace(publicPEM(edKey()), []byte("MCow"), []byte("MC*w"), 1)
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "it is empty"},
		{"white space", []byte(" \n"), "it is empty"},
		{"too long", []byte(strings.Repeat("x", maxKeyFileBytes+1)), "longer than"},
		{"a short secret", []byte(strings.Repeat("x", minSecretBytes-1) + "\n"), "too short: 31 bytes"},
		{"a secret of two words", []byte(secret + " " + secret), "space"},
		{"two lines of secrets", []byte(secret + "\n" + secret), "line end"},
		{"bytes", bytes.Repeat([]byte{0xff}, 64), "visible ASCII"},
		{"a public key of OpenSSH", []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOx0 shop@example.com"), "space"},
		{"the address of a JWKS", []byte("https://shop.example.com/.well-known/jwks.json"), "address"},
		{"a public key without PEM's lines", []byte(base64.StdEncoding.EncodeToString(edDER)), "in base64"},
		{"a public key in base64url", []byte(base64.RawURLEncoding.EncodeToString(edDER)), "in base64"},
		{"PEM in base64", []byte(base64.StdEncoding.EncodeToString(publicPEM(edKey()))), "in base64"},
		{"a JWKS in base64", []byte(base64.StdEncoding.EncodeToString(jwks(jwk("a", edKey())))), "in base64"},
		{"half of PEM", publicPEM(edKey())[:40], "damaged"},
		{"PEM that is damaged", damaged, "damaged"},
		{"a damaged key before a good one", append(damaged, publicPEM(edKey())...), "damaged"},
		{"PEM of a certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), `"CERTIFICATE"`},
		{"PEM of something else", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "can't be read"},
		{"a private key of something else", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "can't be read"},
		{"X25519 in PEM", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: x25519}), "not one that is allowed"},
		{"a short RSA key in PEM", publicPEM(newRSA(1024)), "RSA key of 1024 bits"},
		{"P-384 in PEM", publicPEM(newEC(elliptic.P384())), "P-384"},
		{"half of a JWKS", jwks(jwk("a", edKey()))[:40], "can't be read as a JWKS"},
		{"a list in JSON", []byte(`[{"kty":"OKP"},{"kty":"OKP"},{"kty":"OKP"}]`), "can't be read as a JWKS"},
		{"text in JSON", []byte(`"` + secret + `"`), "can't be read as a JWKS"},
		{"a key that is no set", must(json.Marshal(jwk("a", edKey()))), "of the 0 keys"},
		{"no keys", []byte(`{"keys":[]}`), "of the 0 keys"},
		{"a secret in a JWKS", jwks(jwk("a", edKey()), map[string]any{"kty": "oct", "k": "eHh4"}), "key 2 of its JWKS is a secret"},
		{"a short RSA key in a JWKS", jwks(jwk("a", newRSA(1024))), "RSA key of 1024 bits"},
		{"a point that is not on its curve", jwks(jwk("a", ecKey(), map[string]any{"x": jwk("b", newEC(elliptic.P256()))["x"]})), "key 1 of its JWKS"},
		{"a short Ed25519 key", jwks(jwk("a", edKey(), map[string]any{"x": "AAAA"})), "key 1 of its JWKS"},
		{"only keys for other things", jwks(
			jwk("a", rsaKey(), map[string]any{"use": "enc"}), jwk("b", rsaKey(), map[string]any{"key_ops": []string{"encrypt"}}),
			jwk("c", rsaKey(), map[string]any{"alg": "PS256"}), jwk("d", rsaKey(), map[string]any{"alg": "HS256"}),
			jwk("e", newEC(elliptic.P384())), map[string]any{"kty": "OKP", "crv": "X25519", "x": "AAAA"}, map[string]any{"kty": "new"},
		), "of the 7 keys"},
		{"too many keys", bytes.Repeat(publicPEM(edKey()), maxKeys+1), "17 keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := keyFile(t, c.content)
			_, err := Open(Config{KeyFile: name}, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, want := range []string{name, c.want, "want PEM public keys", "HS256 secret"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q tells the secret", err)
			}
		})
	}
}

func TestOpen_NeedsAFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Join(dir, "none"), ""} {
		if _, err := Open(Config{KeyFile: name}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestOpen_PassesOverKeysForOtherThings(t *testing.T) {
	v := open(t, jwks(jwk("a", rsaKey(), map[string]any{"use": "enc"}), map[string]any{"kty": "new"}, jwk("c", edKey())), Config{})
	if got := v.ring.Load().algorithms(); !slices.Equal(got, []string{"EdDSA"}) {
		t.Errorf("algorithms %v; want EdDSA alone", got)
	}
	if _, err := v.Verify([]byte(sign(jwt.SigningMethodRS256, rsaKey(), claims(nil))), now); !errors.Is(err, errAlgorithm) {
		t.Errorf("a ticket by a key for encryption: %v", err)
	}
}

func TestOpen_ReadsWhatMakeKeysMade(t *testing.T) {
	private, public, err := MakeKeys()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(public, []byte("PRIVATE")) {
		t.Fatalf("the public key is %s", public)
	}
	for _, file := range [][]byte{private, public} {
		token, err := Issue(private, Claims{Ticket: wanting("u1")})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := open(t, file, Config{}).Verify([]byte(token), now); err != nil || got != wanting("u1") {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if again, _, err := MakeKeys(); err != nil || bytes.Equal(again, private) {
		t.Errorf("the same key twice, %v", err)
	}
}

// FuzzKeyFile: whatever a key file holds, it is refused or has keys, and none of it allows what it may not.
func FuzzKeyFile(f *testing.F) {
	for _, seed := range [][]byte{publicPEM(edKey()), privatePEM(edKey()), []byte(secret), jwks(jwk("a", edKey()), jwk("b", ecKey())), jwks(jwk("c", rsaKey()))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		ring, err := newKeyring("fuzz", content)
		if err != nil {
			return
		}
		if len(ring.keys) == 0 {
			t.Errorf("%q has no keys", content)
		}
		for _, k := range ring.keys {
			if s, symmetric := k.public.([]byte); symmetric && (len(s) < minSecretBytes || len(ring.keys) != 1 || isPEM(content)) {
				t.Errorf("%q is taken for a secret", content)
			}
			if p, ok := k.public.(ed25519.PublicKey); ok && len(p) != ed25519.PublicKeySize {
				t.Errorf("%q: a key of %d bytes", content, len(p))
			}
		}
		_ = ring.signed(must2(parser.ParseUnverified("eyJhbGciOiJFZERTQSJ9.e30.eHg", jwt.MapClaims{})), "eyJhbGciOiJFZERTQSJ9.e30")
	})
}

func must2[T, U any](v T, _ U, err error) T { return must(v, err) }

func TestReadKeyFile_RefusesAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // so that whoever reads does not wait
	defer func() { _ = r.Close() }()
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip("no /dev/fd here")
	}
	if _, err := readKeyFile("/dev/fd/" + strconv.Itoa(int(r.Fd()))); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("%v", err)
	}
}
