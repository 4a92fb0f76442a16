package ticket

import (
	"fmt"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// benchmarks are the algorithms, each with a key file and what signs for it.
var benchmarks = []struct {
	method jwt.SigningMethod
	file   func() []byte
	key    func() any
}{
	{jwt.SigningMethodEdDSA, func() []byte { return publicPEM(edKey()) }, func() any { return edKey() }},
	{jwt.SigningMethodHS256, func() []byte { return []byte(secret) }, func() any { return []byte(secret) }},
	{jwt.SigningMethodRS256, func() []byte { return publicPEM(rsaKey()) }, func() any { return rsaKey() }},
	{jwt.SigningMethodES256, func() []byte { return publicPEM(ecKey()) }, func() any { return ecKey() }},
}

func BenchmarkVerify_First(b *testing.B) {
	for _, m := range benchmarks {
		b.Run(m.method.Alg(), func(b *testing.B) {
			v := open(b, m.file(), Config{})
			token := []byte(sign(m.method, m.key(), claims(map[string]any{"class": "members", "iat": now.Unix()})))
			seen := v.ring.Load().seen
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(token, now); err != nil {
					b.Fatal(err)
				}
				seen.Purge()
			}
		})
	}
}

func BenchmarkVerify_Again(b *testing.B) {
	for _, m := range benchmarks {
		b.Run(m.method.Alg(), func(b *testing.B) {
			v := open(b, m.file(), Config{})
			token := []byte(sign(m.method, m.key(), claims(map[string]any{"class": "members", "iat": now.Unix()})))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(token, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify_AgainOfMany is what a sale is like: as many buyers as are remembered, on all processors.
func BenchmarkVerify_AgainOfMany(b *testing.B) {
	v := open(b, []byte(secret), Config{})
	tokens := make([][]byte, seenTickets)
	for n := range tokens {
		tokens[n] = []byte(sign(jwt.SigningMethodHS256, []byte(secret), claims(map[string]any{"sub": fmt.Sprintf("buyer-%d", n)})))
		if _, err := v.Verify(tokens[n], now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n += 7919 {
			if _, err := v.Verify(tokens[n%len(tokens)], now); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkVerify_Forged is what a forger costs.
func BenchmarkVerify_Forged(b *testing.B) {
	v := open(b, publicPEM(edKey()), Config{})
	token := []byte(sign(jwt.SigningMethodEdDSA, otherKey(), claims(nil)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(token, now); err == nil {
			b.Fatal("it is good")
		}
	}
}
