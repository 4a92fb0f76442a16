package ticket

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// sharedLog is a log that is read while others write to it.
type sharedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *sharedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// taken answers what was written since the last time.
func (l *sharedLog) taken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func TestFollow_TakesOverNewKeysAndKeepsTheOldWhereTheyAreBroken(t *testing.T) {
	name := keyFile(t, jwks(jwk("2026", edKey())))
	old := []byte(sign(jwt.SigningMethodEdDSA, edKey(), claims(nil), map[string]any{"kid": "2026"}))
	young := []byte(sign(jwt.SigningMethodEdDSA, otherKey(), claims(nil), map[string]any{"kid": "2027"}))
	steps := []struct {
		name       string
		content    []byte // nil: no file
		old, young error
		log        string // in what is logged; empty: nothing is
	}{
		{"the same again", jwks(jwk("2026", edKey())), nil, errNoKey, ""},
		{"both", jwks(jwk("2026", edKey()), jwk("2027", otherKey())), nil, nil, `keys=2`},
		{"broken", []byte("{"), nil, nil, "can't be read as a JWKS"},
		{"broken still", []byte("{"), nil, nil, ""},
		{"gone", nil, nil, nil, "no such file"},
		{"gone still", nil, nil, nil, ""},
		{"broken again", []byte("{"), nil, nil, "can't be read as a JWKS"},
		{"as it was before it broke", jwks(jwk("2026", edKey()), jwk("2027", otherKey())), nil, nil, ""},
		{"broken once more", []byte("{"), nil, nil, "can't be read as a JWKS"},
		{"the new one alone", jwks(jwk("2027", otherKey())), errNoKey, nil, `keys=1`},
		{"another kind", []byte(secret), errAlgorithm, errAlgorithm, "HS256"},
	}
	synctest.Test(t, func(t *testing.T) {
		var log sharedLog
		v, err := Open(Config{KeyFile: name}, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		_ = log.taken()
		var following sync.WaitGroup
		following.Go(func() { v.Follow(ctx) })
		defer following.Wait()
		defer stop()
		time.Sleep(followEvery / 2) // files change between two looks
		for _, s := range steps {
			if s.content == nil {
				_ = os.Remove(name) // it may be gone
			} else {
				rewrite(t, name, s.content)
			}
			time.Sleep(followEvery)
			synctest.Wait()
			_, errOld := v.Verify(old, now)
			_, errYoung := v.Verify(young, now)
			if !errors.Is(errOld, s.old) || !errors.Is(errYoung, s.young) {
				t.Errorf("%s: the old key's ticket: %v; the new one's: %v; want %v, %v", s.name, errOld, errYoung, s.old, s.young)
			}
			if said := log.taken(); (s.log == "") != (said == "") || !strings.Contains(said, s.log) || strings.Count(said, "\n") > 1 {
				t.Errorf("%s: logged %q; want %q", s.name, said, s.log)
			}
		}
	})
}

// No request fails while keys are replaced, as long as the file always has the key.
func TestVerify_NeverFailsWhileKeysAreReplaced(t *testing.T) {
	with := [][]byte{jwks(jwk("a", edKey())), jwks(jwk("a", edKey()), jwk("b", otherKey())), publicPEM(edKey())}
	v := open(t, with[0], Config{})
	token := []byte(sign(jwt.SigningMethodEdDSA, edKey(), claims(nil), map[string]any{"kid": "a"}))
	bad := []byte(sign(jwt.SigningMethodEdDSA, newEd25519(), claims(nil), map[string]any{"kid": "a"}))
	done := make(chan struct{})
	var buyers sync.WaitGroup
	for range 4 {
		buyers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := v.Verify(token, now); err != nil {
					t.Errorf("a good ticket: %v", err)
					return
				}
				if _, err := v.Verify(bad, now); !errors.Is(err, errSignature) {
					t.Errorf("a bad ticket: %v", err)
					return
				}
			}
		})
	}
	for n := range 200 {
		rewrite(t, v.config.KeyFile, with[n%len(with)])
		if err := v.look(); err != nil {
			t.Error(err)
		}
	}
	close(done)
	buyers.Wait()
}
