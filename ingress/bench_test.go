package ingress

import (
	"fmt"
	"testing"

	"github.com/valyala/fasthttp"

	"sluice"
	"sluice/internal/race"
)

// asks prepares a request context that asks for one unit, and the function that asks again as another buyer.
func asks(sale string) (*fasthttp.RequestCtx, func(user int)) {
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/v1/sales/" + sale + "/orders")
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.Header.Set("Idempotency-Key", "6b1f7c1e-54f2-4b6f-9a3e-1f2d3c4b5a69")
	body := make([]byte, 0, 128)
	return ctx, func(user int) {
		body = append(body[:0], `{"user":"buyer-`...)
		body = appendNumber(body, user)
		body = append(body, `","quantity":1,"attributes":{"size":"L"}}`...)
		ctx.Request.SetBodyRaw(body)
		ctx.Response.Reset()
	}
}

func appendNumber(b []byte, n int) []byte {
	var digits [9]byte
	for i := range digits {
		digits[len(digits)-1-i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, digits[:]...)
}

// fullDoor has a bound of one, taken, and a sale that is sold out beside one that is not.
func fullDoor(tb testing.TB) *stand {
	tb.Helper()
	cfg := testConfig()
	cfg.Bound = 1
	s := newStand(tb, cfg, nil, sale("demo", nil), sale("gone", func(s *sluice.Sale) { s.Free, s.Sold = 0, 1000 }))
	s.keepFresh()
	s.want(s.buy("first"), 202, "queued")
	return s
}

// P7: a refusal is cheap. Whole requests are parsed, repeats recognised, and nothing is allocated.
func TestRefusing_AllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("allocations can't be counted under the race detector")
	}
	s := fullDoor(t)
	for sale, status := range map[string]int{"demo": 503, "gone": 409, "nope": 404} {
		ctx, next := asks(sale)
		user := 0
		n := testing.AllocsPerRun(1000, func() {
			user++
			next(user)
			s.Handle(ctx)
		})
		if ctx.Response.StatusCode() != status || n != 0 {
			t.Errorf("sale %s: status %d with %v allocations; want %d with 0", sale, ctx.Response.StatusCode(), n, status)
		}
	}
}

// An order that comes in costs a handful of allocations, the journal's and the carrier's among them.
func TestAccepting_AllocatesLittle(t *testing.T) {
	if race.Enabled {
		t.Skip("allocations can't be counted under the race detector")
	}
	cfg := testConfig()
	cfg.Bound = 1 << 40
	s := newStand(t, cfg, nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = sluice.MaxStock, sluice.MaxStock }))
	s.carrier.full = true // orders are not kept here
	ctx, next := asks("demo")
	user := 0
	n := testing.AllocsPerRun(1000, func() {
		user++
		next(user)
		s.Handle(ctx)
	})
	if ctx.Response.StatusCode() != 202 || n > 10 { // 6 here; one batch an order is the worst case
		t.Errorf("status %d with %v allocations; want 202 with at most 10", ctx.Response.StatusCode(), n)
	}
}

func BenchmarkShed(b *testing.B) {
	s := fullDoor(b)
	s.run()
	for _, c := range []struct {
		name, sale string
		status     int
	}{{"queue-full", "demo", 503}, {"sold-out", "gone", 409}} {
		b.Run(c.name, func(b *testing.B) {
			ctx, next := asks(c.sale)
			user := 0
			b.ReportAllocs()
			for b.Loop() {
				user++
				next(user)
				s.Handle(ctx)
			}
			if got := ctx.Response.StatusCode(); got != c.status {
				b.Fatalf("status %d: %s", got, ctx.Response.Body())
			}
		})
	}
}

// BenchmarkAccept answers 202 from a journal in memory, so that the door's own cost shows; clients ask at the same
// time, as buyers do.
func BenchmarkAccept(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			cfg := testConfig()
			cfg.Bound = 1 << 40
			s := newStand(b, cfg, nil, sale("demo", func(s *sluice.Sale) { s.Stock, s.Free = sluice.MaxStock, sluice.MaxStock }))
			s.carrier.full = true // orders are not kept here
			var users counter
			b.SetParallelism(clients)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx, next := asks("demo")
				for pb.Next() {
					next(users.next())
					s.Handle(ctx)
					if got := ctx.Response.StatusCode(); got != 202 {
						b.Errorf("status %d: %s", got, ctx.Response.Body())
						return
					}
				}
			})
		})
	}
}
