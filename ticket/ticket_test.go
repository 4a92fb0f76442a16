package ticket

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"sluice"
	"sluice/internal/race"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a-secret-of-more-than-32-bytes-for-tests"

// now is when the tests' tickets are looked at.
var now = time.Unix(1_800_000_000, 0)

// Keys that are made once: RSA ones take long.
var (
	edKey    = sync.OnceValue(newEd25519)
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return newEC(elliptic.P256()) })
	otherKey = sync.OnceValue(newEd25519)
)

func newEd25519() ed25519.PrivateKey {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return must(private, err)
}

func newRSA(bits int) *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, bits)) }

func newEC(curve elliptic.Curve) *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(curve, rand.Reader))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // of the standard library, on input that a test made
	}
	return v
}

func publicPEM(k crypto.Signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k.Public()))})
}

func privatePEM(k crypto.Signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k))})
}

// jwk makes a public key of a JWKS, with changes such as {"alg": "PS256"}.
func jwk(kid string, k crypto.Signer, changes ...map[string]any) map[string]any {
	made := must(jwkset.NewJWKFromKey(k.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}}))
	var m map[string]any
	if err := json.Unmarshal(must(json.Marshal(made.Marshal())), &m); err != nil {
		panic(err)
	}
	for _, c := range changes {
		maps.Copy(m, c)
	}
	return m
}

func jwks(keys ...map[string]any) []byte { return must(json.Marshal(map[string]any{"keys": keys})) }

// sign makes a token; a key is what the method wants.
func sign(method jwt.SigningMethod, key any, claims jwt.MapClaims, header ...map[string]any) string {
	t := jwt.NewWithClaims(method, claims)
	for _, h := range header {
		maps.Copy(t.Header, h)
	}
	return must(t.SignedString(key))
}

// claims are those of a good ticket, with changes; nil takes one away.
func claims(changes map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "u1", "exp": now.Add(time.Minute).Unix()}
	for name, value := range changes {
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
	}
	return c
}

func keyFile(t testing.TB, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ticket.key")
	rewrite(t, name, content)
	return name
}

// rewrite replaces a file as a shop should: whole or not at all.
func rewrite(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, content []byte, c Config) *Verifier {
	t.Helper()
	c.KeyFile = keyFile(t, content)
	v, err := Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify_ReadsWhatAGoodTicketSays(t *testing.T) {
	v := open(t, publicPEM(edKey()), Config{Issuer: "shop", Audience: "sluice"})
	token := sign(jwt.SigningMethodEdDSA, edKey(), claims(map[string]any{
		"iss": "shop", "aud": []string{"web", "sluice"}, "class": "members", "sale": "spring", "nbf": now.Unix(), "iat": now.Unix(), "more": map[string]any{"a": 1},
	}))
	want := sluice.Ticket{Buyer: "u1", Class: "members", Sale: "spring", Expires: now.Add(time.Minute)}
	for _, time := range []string{"first", "second"} {
		if got, err := v.Verify([]byte(token), now); err != nil || got != want {
			t.Errorf("the %s time: %+v, %v; want %+v", time, got, err, want)
		}
	}
}

func TestVerify_TakesEveryAlgorithmThatAKeyFileMayAllow(t *testing.T) {
	all := jwks(jwk("ed", edKey()), jwk("rsa", rsaKey(), map[string]any{"alg": "RS256", "use": "sig"}), jwk("ec", ecKey(), map[string]any{"key_ops": []string{"verify"}}))
	for _, c := range []struct {
		name   string
		file   []byte
		method jwt.SigningMethod
		key    any
		header map[string]any
	}{
		{"Ed25519 in PEM", publicPEM(edKey()), jwt.SigningMethodEdDSA, edKey(), nil},
		{"Ed25519, a private key in PEM", privatePEM(edKey()), jwt.SigningMethodEdDSA, edKey(), nil},
		{"Ed25519 in PEM behind a byte order mark", append([]byte("\ufeff"), publicPEM(edKey())...), jwt.SigningMethodEdDSA, edKey(), nil},
		{"PEM has no kid, so any will do", publicPEM(edKey()), jwt.SigningMethodEdDSA, edKey(), map[string]any{"kid": "2027"}},
		{"RSA in PEM", publicPEM(rsaKey()), jwt.SigningMethodRS256, rsaKey(), nil},
		{"P-256 in PEM", publicPEM(ecKey()), jwt.SigningMethodES256, ecKey(), nil},
		{"the second of two keys in PEM", append(publicPEM(otherKey()), publicPEM(edKey())...), jwt.SigningMethodEdDSA, edKey(), nil},
		{"a secret", []byte(secret), jwt.SigningMethodHS256, []byte(secret), nil},
		{"a secret with a line end", []byte(secret + "\r\n"), jwt.SigningMethodHS256, []byte(secret), nil},
		{"JWKS, EdDSA", all, jwt.SigningMethodEdDSA, edKey(), map[string]any{"kid": "ed"}},
		{"JWKS, RS256", all, jwt.SigningMethodRS256, rsaKey(), map[string]any{"kid": "rsa"}},
		{"JWKS, ES256", all, jwt.SigningMethodES256, ecKey(), map[string]any{"kid": "ec"}},
		{"JWKS, no kid in the token", all, jwt.SigningMethodES256, ecKey(), nil},
		{"JWKS, no kid at the key", jwks(jwk("", edKey())), jwt.SigningMethodEdDSA, edKey(), map[string]any{"kid": "any"}},
		{"JWKS, two keys of one kid", jwks(jwk("a", otherKey()), jwk("a", edKey())), jwt.SigningMethodEdDSA, edKey(), map[string]any{"kid": "a"}},
		{"JWKS, Ed25519 by its newer name", jwks(jwk("a", edKey(), map[string]any{"alg": "Ed25519"})), jwt.SigningMethodEdDSA, edKey(), map[string]any{"kid": "a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := sign(c.method, c.key, claims(nil), c.header)
			if got, err := open(t, c.file, Config{}).Verify([]byte(token), now); err != nil || got.Buyer != "u1" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestVerify_ReadsTheBuyer(t *testing.T) {
	for _, c := range []struct {
		claim any
		want  string // empty: refused
	}{
		{"u1", "u1"},
		{"Zoë 東京", "Zoë 東京"},
		{strings.Repeat("x", sluice.MaxUserBytes), strings.Repeat("x", sluice.MaxUserBytes)},
		{0, "0"},
		{int64(math.MaxInt64), "9223372036854775807"},
		{json.Number("9007199254740993"), "9007199254740993"}, // 2^53 + 1
		{strings.Repeat("x", sluice.MaxUserBytes+1), ""},
		{json.Number("1" + strings.Repeat("0", sluice.MaxUserBytes)), ""},
		{nil, ""},
		{json.RawMessage("null"), ""},
		{"", ""},
		{"a\nb", ""},
		{"a\x00b", ""},
		{"a\u0085b", ""},
		{json.RawMessage("\"M\xfcller\""), ""}, // Latin-1
		{json.RawMessage(`"\ud800"`), ""},      // half a surrogate pair
		{-1, ""},
		{1.5, ""},
		{json.RawMessage("1e3"), ""},
		{json.RawMessage("1.0"), ""},
		{true, ""},
		{[]string{"u1"}, ""},
	} {
		v := open(t, []byte(secret), Config{BuyerClaim: "customer"})
		token := rawToken(claims(map[string]any{"sub": nil, "customer": c.claim}))
		got, err := v.Verify([]byte(token), now)
		if c.want == "" && !errors.Is(err, errBuyer) || c.want != "" && (err != nil || got.Buyer != c.want) {
			t.Errorf("%q: %q, %v; want %q", c.claim, got.Buyer, err, c.want)
		}
	}
}

// rawToken signs claims as they are, without the library, whose encoder would mend bad UTF-8.
func rawToken(c map[string]any) string {
	var body []string
	for name, value := range c {
		raw, ok := value.(json.RawMessage)
		if !ok {
			raw = must(json.Marshal(value))
		}
		body = append(body, fmt.Sprintf("%q:%s", name, raw))
	}
	text := encode(`{"alg":"HS256"}`) + "." + encode("{"+strings.Join(body, ",")+"}")
	return text + "." + encode(string(must(jwt.SigningMethodHS256.Sign(text, []byte(secret)))))
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// Every sentence is fixed, so that nothing of a ticket gets into an answer or a log.
func TestVerify_SaysWhatIsWrong(t *testing.T) {
	ed := func(changes map[string]any, header ...map[string]any) string {
		return sign(jwt.SigningMethodEdDSA, edKey(), claims(changes), header...)
	}
	good := ed(map[string]any{"iss": "shop", "aud": "sluice"})
	us := map[string]any{"iss": "shop", "aud": "sluice"}
	with := func(name string, value any) map[string]any {
		c := maps.Clone(us)
		c[name] = value
		return c
	}
	publicText := publicPEM(edKey())
	for _, c := range []struct {
		name  string
		token string
		want  error
	}{
		{"good", good, nil},
		{"empty", "", errMissing},
		{"longer than 4 KiB", ed(with("x", strings.Repeat("x", MaxBytes))), errTooLong},
		{"garbage", "garbage", errMalformed},
		{"dots", "..", errMalformed},
		{"four parts", good + ".x", errMalformed},
		{"not base64", "ä.ö.ü", errMalformed},
		{"a header that is a list", encode("[]") + "." + encode("{}") + ".x", errMalformed},
		{"claims that are a list", encode(`{"alg":"EdDSA"}`) + "." + encode("[]") + ".x", errMalformed},
		{"claims that are null", encode(`{"alg":"EdDSA"}`) + "." + encode("null") + ".", errSignature},
		{"a header that is null", encode("null") + "." + encode("{}") + ".x", errAlgorithm},
		{"padding", good + "=", errMalformed},
		{"a line end in the signature", good + "\n", errMalformed},
		{"bits that base64 leaves over", good[:len(good)-1] + sibling(good[len(good)-1]), errMalformed},
		{"an extension", ed(us, map[string]any{"crit": []string{"b64"}, "b64": true}), errCritical},
		{"an extension of nothing", ed(us, map[string]any{"crit": json.RawMessage("null")}), errCritical},
		{"no algorithm", encode(`{}`) + "." + encode("{}") + ".x", errAlgorithm},
		{"alg none", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(us)), errAlgorithm},
		{"alg None", encode(`{"alg":"None"}`) + "." + encode(`{"sub":"u1"}`) + ".", errAlgorithm},
		{"an algorithm that does not exist", encode(`{"alg":"XX256"}`) + "." + encode("{}") + ".x", errAlgorithm},
		{"HS256 by the public key's text", sign(jwt.SigningMethodHS256, publicText, claims(us)), errAlgorithm},
		{"HS256 by the public key's bytes", sign(jwt.SigningMethodHS256, []byte(edKey().Public().(ed25519.PublicKey)), claims(us)), errAlgorithm},
		{"RS256", sign(jwt.SigningMethodRS256, rsaKey(), claims(us)), errAlgorithm},
		{"another key", sign(jwt.SigningMethodEdDSA, otherKey(), claims(us)), errSignature},
		{"no signature", good[:strings.LastIndexByte(good, '.')+1], errSignature},
		{"another's signature", good[:strings.LastIndexByte(good, '.')] + ed(nil)[strings.LastIndexByte(ed(nil), '.'):], errSignature},
		{"other claims", tampered(good), errSignature},
		{"no exp", ed(with("exp", nil)), errNoExpiry},
		{"exp as text", ed(with("exp", "1900000000")), errNoExpiry},
		{"exp beyond all calendars", ed(with("exp", 1e300)), errNoExpiry},
		{"exp below zero", ed(with("exp", -1)), errNoExpiry},
		{"expired just now", ed(with("exp", now.Unix())), errExpired},
		{"expires within the second", ed(with("exp", float64(now.Unix())+0.9)), errExpired},
		{"expired", ed(with("exp", now.Add(-time.Hour).Unix())), errExpired},
		{"not yet", ed(with("nbf", now.Add(11*time.Second).Unix())), errNotYet},
		{"a clock that is 10 s ahead", ed(with("nbf", now.Add(10*time.Second).Unix())), nil},
		{"issued in the future", ed(with("iat", now.Add(11*time.Second).Unix())), errNotYet},
		{"issued in the future, by nbf good already", ed(map[string]any{"iss": "shop", "aud": "sluice", "iat": now.Add(time.Hour).Unix(), "nbf": now.Unix()}), errNotYet},
		{"nbf as text", ed(with("nbf", "now")), errTimes},
		{"iat null", ed(with("iat", json.RawMessage("null"))), errTimes},
		{"another issuer", ed(with("iss", "mallory")), errIssuer},
		{"no issuer", ed(with("iss", nil)), errIssuer},
		{"an issuer that is no text", ed(with("iss", 5)), errIssuer},
		{"another audience", ed(with("aud", []string{"web"})), errAudience},
		{"no audience", ed(with("aud", nil)), errAudience},
		{"an audience that is no text", ed(with("aud", []int{5})), errAudience},
		{"no buyer", ed(with("sub", nil)), errBuyer},
		{"no class", ed(with("class", "")), errClass},
		{"a class that is no text", ed(with("class", 5)), errClass},
		{"a long class", ed(with("class", strings.Repeat("x", sluice.MaxClassBytes+1))), errClass},
		{"no sale", ed(with("sale", "")), errSale},
		{"sale null", ed(with("sale", json.RawMessage("null"))), errSale},
		{"a sale that can't be", ed(with("sale", "Spring Sale")), errSale},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := open(t, publicText, Config{Issuer: "shop", Audience: "sluice"})
			for range 2 { // a failure is no better the second time
				got, err := v.Verify([]byte(c.token), now)
				if !errors.Is(err, c.want) || (err != nil && got != sluice.Ticket{}) {
					t.Fatalf("%+v, %v; want %v", got, err, c.want)
				}
			}
			if n := v.ring.Load().seen.Len(); c.want != nil && n != 0 {
				t.Errorf("%d failures are remembered", n)
			}
		})
	}
}

// sibling is a base64 digit that stands for the same bits where the last two are not used.
func sibling(digit byte) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(digits[strings.IndexByte(digits, digit)^1])
}

// tampered makes another buyer of u1.
func tampered(token string) string {
	parts := strings.Split(token, ".")
	body := must(base64.RawURLEncoding.DecodeString(parts[1]))
	parts[1] = encode(string(bytes.Replace(body, []byte(`"u1"`), []byte(`"u2"`), 1)))
	return strings.Join(parts, ".")
}

func TestVerify_HoldsEachKeyToItsIdAndAlgorithm(t *testing.T) {
	file := jwks(jwk("ed", edKey()), jwk("rsa", rsaKey()), jwk("ec", ecKey()))
	for _, c := range []struct {
		name  string
		token string
		want  error
	}{
		{"a kid that is not known", sign(jwt.SigningMethodEdDSA, edKey(), claims(nil), map[string]any{"kid": "old"}), errNoKey},
		{"another key's kid", sign(jwt.SigningMethodEdDSA, edKey(), claims(nil), map[string]any{"kid": "rsa"}), errNoKey},
		{"a kid that is a number", sign(jwt.SigningMethodEdDSA, edKey(), claims(nil), map[string]any{"kid": 5}), errNoKey},
		{"a kid that is a list", sign(jwt.SigningMethodEdDSA, edKey(), claims(nil), map[string]any{"kid": []string{"ed"}}), errNoKey},
		{"another's kid, other's key", sign(jwt.SigningMethodEdDSA, otherKey(), claims(nil), map[string]any{"kid": "ed"}), errSignature},
		{"PS256 by the RSA key", sign(jwt.SigningMethodPS256, rsaKey(), claims(nil), map[string]any{"kid": "rsa"}), errAlgorithm},
		{"RS512 by the RSA key", sign(jwt.SigningMethodRS512, rsaKey(), claims(nil), map[string]any{"kid": "rsa"}), errAlgorithm},
		{"HS256 by the JWKS", sign(jwt.SigningMethodHS256, file, claims(nil), map[string]any{"kid": "rsa"}), errAlgorithm},
		{"HS256 by the RSA key's DER", sign(jwt.SigningMethodHS256, must(x509.MarshalPKIXPublicKey(rsaKey().Public())), claims(nil)), errAlgorithm},
		{"none", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil), map[string]any{"kid": "ed"}), errAlgorithm},
		{"the other keys' algorithm by another's", sign(jwt.SigningMethodRS256, newRSA(2048), claims(nil)), errSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := open(t, file, Config{}).Verify([]byte(c.token), now); !errors.Is(err, c.want) {
				t.Errorf("%+v, %v; want %v", got, err, c.want)
			}
		})
	}
	v := open(t, []byte(secret), Config{})
	for _, other := range []jwt.SigningMethod{jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		if _, err := v.Verify([]byte(sign(other, []byte(secret), claims(nil))), now); !errors.Is(err, errAlgorithm) {
			t.Errorf("%s by an HS256 secret: %v", other.Alg(), err)
		}
	}
}

func TestVerify_RemembersATicketOnlyWhileItIsGood(t *testing.T) {
	v := open(t, publicPEM(edKey()), Config{})
	token := []byte(sign(jwt.SigningMethodEdDSA, edKey(), claims(map[string]any{"nbf": now.Unix()})))
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{now, nil},
		{now.Add(time.Minute - 1), nil},
		{now.Add(time.Minute), errExpired},
		{now.Add(-leeway), nil},
		{now.Add(-leeway - 1), errNotYet},
		{now, nil},
	} {
		if _, err := v.Verify(token, c.at); !errors.Is(err, c.want) {
			t.Errorf("at %v: %v; want %v", c.at.Sub(now), err, c.want)
		}
	}
	if n := v.ring.Load().seen.Len(); n != 1 {
		t.Errorf("%d tickets are remembered; want 1", n)
	}
}

// P9
func TestVerify_RemembersNoMoreThanItsBound(t *testing.T) {
	seen := open(t, []byte(secret), Config{}).ring.Load().seen
	for n := range seenTickets + 1000 {
		seen.Add([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}, genuine{})
	}
	if seen.Len() != seenTickets {
		t.Errorf("%d entries; want %d", seen.Len(), seenTickets)
	}
}

func TestVerify_ARepeatDoesNotAllocate(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	v := open(t, publicPEM(edKey()), Config{})
	token := []byte(sign(jwt.SigningMethodEdDSA, edKey(), claims(map[string]any{"class": "members"})))
	n := testing.AllocsPerRun(1000, func() {
		if _, err := v.Verify(token, now); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations; want 0", n)
	}
}

// Whatever is made of genuine tickets, only they themselves are good.
func FuzzVerify(f *testing.F) {
	rings := [][]byte{publicPEM(edKey()), []byte(secret), jwks(jwk("a", edKey()), jwk("b", rsaKey()), jwk("c", ecKey()))}
	genuine := map[string]bool{}
	for _, c := range []jwt.MapClaims{claims(nil), claims(map[string]any{"sub": 5, "class": "members", "sale": "spring", "nbf": now.Unix()})} {
		for _, token := range []string{
			sign(jwt.SigningMethodEdDSA, edKey(), c),
			sign(jwt.SigningMethodEdDSA, edKey(), c, map[string]any{"kid": "a"}),
			sign(jwt.SigningMethodRS256, rsaKey(), c, map[string]any{"kid": "b"}),
			sign(jwt.SigningMethodHS256, []byte(secret), c),
		} {
			genuine[token] = true
			f.Add([]byte(token))
			f.Add([]byte(tampered(token)))
		}
	}
	f.Add([]byte(sign(jwt.SigningMethodHS256, rings[0], claims(nil))))
	f.Add([]byte(sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil))))
	f.Add([]byte("eyJhbGciOiJFZERTQSJ9.e30."))
	var verifiers []*Verifier
	for _, ring := range rings {
		verifiers = append(verifiers, open(f, ring, Config{}))
	}
	f.Fuzz(func(t *testing.T, token []byte) {
		for i, v := range verifiers {
			got, err := v.Verify(token, now)
			if err == nil && !genuine[string(token)] {
				t.Errorf("keys %d: %q was never issued and is good: %+v", i, token, got)
			}
			if (err == nil) != (got != sluice.Ticket{}) {
				t.Errorf("keys %d: %+v, %v", i, got, err)
			}
		}
	})
}
