package inventorytest

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice"
	"sluice/inventory"
)

var saleTests = []test{
	{"CreateSaleKeepsEveryFact", func(b *bench) {
		start := time.Now().Add(time.Hour).UTC()
		created := b.sale("s", 10, func(s *sluice.Sale) {
			s.StartsAt, s.EndsAt, s.MaxAge = start, start.Add(time.Hour), sluice.Duration(90*time.Second)
			s.CheckoutURL, s.OverAdmission, s.Paused = "https://shop.example/{order}", 2.25, true
			s.PaymentWindow = 1
			s.ReservedFor, s.ReservedShare = "members", 0.2
			s.TopUps, s.Free, s.Held, s.Sold, s.Version = 1, 2, 3, 4, 5 // not the caller's to say
		})
		if created.Free != 10 || created.TopUps != 0 || created.Held != 0 || created.Sold != 0 || created.Version != 1 {
			b.Errorf("got %+v", created)
		}
		c, err := b.store.Sales(b.Context(), "s")
		if err != nil || len(c.Sales) != 1 || !reflect.DeepEqual(c.Sales[0], created) {
			b.Errorf("read back: got %+v, %v, want %+v", c.Sales, err, created)
		}
	}},
	{"EveryAnswerWithASaleTellsItsReservedShare", testReservedShare},
	{"CreateSaleRefusesASecondAndAnInvalidOne", func(b *bench) {
		b.sale("s", 10)
		_, err := b.store.CreateSale(b.Context(), sluice.Sale{ID: "s", Stock: 99, PerUserLimit: 1, OverAdmission: 1})
		b.wantRefused(err, sluice.SaleExists)
		_, err = b.store.CreateSale(b.Context(), sluice.Sale{ID: "Not Valid"})
		b.wantRefused(err, sluice.BadRequest)
		b.wantUnits("s", 10, 0, 0)
	}},
	{"TopUpAddsAndTakesFreeUnits", func(b *bench) { // P1, P8
		b.sale("s", 10)
		b.hold(order("s", "u", "", 4))
		for _, step := range []struct {
			units, free, topups, version int64
			refused                      sluice.Refusal
		}{
			{5, 11, 5, 3, ""},
			{-11, 0, -6, 4, ""},
			{-1, 0, -6, 4, sluice.NotFree},
			{0, 0, -6, 4, sluice.BadRequest},
			{sluice.MaxStock, 0, -6, 4, sluice.BadRequest},
			{math.MaxInt64, 0, -6, 4, sluice.BadRequest},
			{math.MinInt64, 0, -6, 4, sluice.NotFree},
			{sluice.MaxStock - 4, sluice.MaxStock - 4, sluice.MaxStock - 10, 5, ""},
		} {
			c, err := b.store.TopUp(b.Context(), "s", step.units)
			if step.refused != "" {
				b.wantRefused(err, step.refused)
			} else if err != nil {
				b.Fatalf("top up by %d: %v", step.units, err)
			} else if s := c.Sales[0]; s.Free != step.free || s.TopUps != step.topups || s.Version != step.version {
				b.Errorf("top up by %d: got %+v, want %+v", step.units, s, step)
			}
			b.wantUnits("s", step.free, 4, 0)
		}
		_, err := b.store.TopUp(b.Context(), "nowhere", 1)
		b.wantRefused(err, sluice.NoSuchSale)
	}},
	{"EndClosesAdmissionAndSettlesWhatWasInTime", func(b *bench) {
		s := b.sale("s", 10)
		c, err := b.store.End(b.Context(), "s")
		if err != nil || len(c.Sales) != 1 || !c.Sales[0].EndsAt.Equal(c.Now) || c.Sales[0].Version != s.Version+1 {
			b.Fatalf("end: got %+v, %v", c, err)
		}
		again, err := b.store.End(b.Context(), "s")
		if err != nil || !reflect.DeepEqual(again.Sales, c.Sales) {
			b.Errorf("end again: got %+v, %v, want %+v", again.Sales, err, c.Sales)
		}
		b.wantStates(b.reserve(accepted(order("s", "a", "", 1), c.Now.Add(-time.Second)),
			accepted(order("s", "b", "", 1), c.Now.Add(time.Minute))), "held", "rejected sale_closed")
		_, err = b.store.End(b.Context(), "nowhere")
		b.wantRefused(err, sluice.NoSuchSale)
	}},
	{"SalesAnswersInOrderOfIDs", func(b *bench) {
		for _, id := range []string{"b", "c", "a-1", "a"} {
			b.sale(id, 1)
		}
		for _, ask := range []struct{ ids, want []string }{
			{nil, []string{"a", "a-1", "b", "c"}},
			{[]string{"c", "nowhere", "a", "c"}, []string{"a", "c"}},
			{[]string{"nowhere"}, nil},
		} {
			c, err := b.store.Sales(b.Context(), ask.ids...)
			var got []string
			for _, s := range c.Sales {
				got = append(got, s.ID)
			}
			if err != nil || !slices.Equal(got, ask.want) || c.Now.IsZero() {
				b.Errorf("sales %q: got %q at %v, %v, want %q", ask.ids, got, c.Now, err, ask.want)
			}
		}
	}},
	{"SalesTellsWhenTheFirstHoldFallsDueWhereNoUnitIsFree", func(b *bench) {
		b.sale("s", 2)
		first := b.reserve(order("s", "a", "", 1))[0]
		if c, err := b.store.Sales(b.Context()); err != nil || !c.Sales[0].NextRelease.IsZero() {
			b.Errorf("with a unit free: %+v, %v", c.Sales, err)
		}
		b.reserve(order("s", "b", "", 1))
		if c, err := b.store.Sales(b.Context()); err != nil || !c.Sales[0].NextRelease.Equal(first.PayBy) {
			b.Errorf("with none free: got %+v, %v, want a release at %v", c.Sales, err, first.PayBy)
		}
	}},
	{"AuditCountsOrdersByState", func(b *bench) { // P8
		b.sale("s", 3)
		b.reserve(order("s", "a", "", 1), order("s", "b", "", 1), order("s", "c", "", 9), order("nowhere", "d", "", 1))
		if _, err := b.store.Pay(b.Context(), order("s", "a", "", 1).ID, "ref"); err != nil {
			b.Fatal(err)
		}
		audit, err := b.store.Audit(b.Context())
		want := sluice.Audit{Balanced: true, Sales: []sluice.SaleAudit{{
			ID: "s", Stock: 3, Free: 1, Held: 1, Sold: 1,
			Orders: map[sluice.State]int64{sluice.Paid: 1, sluice.Held: 1, sluice.Rejected: 1},
		}}}
		if err != nil || !reflect.DeepEqual(audit, want) {
			b.Errorf("got %+v, %v, want %+v", audit, err, want)
		}
	}},
	{"AuditFindsAPlantedDifference", func(b *bench) { // P8
		b.tampered = true
		for i, fault := range []string{
			"UPDATE sales SET free = free - 1, sold = sold + 1 WHERE id = 's%d'",
			"UPDATE orders SET quantity = quantity + 1 WHERE sale = 's%d'",
			"UPDATE orders SET state = 'expired' WHERE sale = 's%d'",
			"UPDATE orders SET sale = 'elsewhere%d' WHERE sale = 's%[1]d'",
		} {
			id := fmt.Sprint("s", i)
			b.sale(id, 10)
			b.hold(order(id, "u", "", 2))
			b.wantOnlyDifferences(i)
			b.query(fmt.Sprintf(fault, i))
			b.wantOnlyDifferences(i + 1)
		}
	}},
	{"TheDatabaseItselfRefusesAnOversell", func(b *bench) { // P1
		b.sale("s", 10)
		db, err := b.place.SQL()
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close() //nolint:errcheck // a test's own connection
		for _, fault := range []string{
			"UPDATE sales SET sold = sold + 1",
			"UPDATE sales SET free = free - 11, sold = sold + 11",
			"UPDATE sales SET free = free + 1, held = held - 1",
			"UPDATE sales SET topups = topups + 1",
		} {
			if _, err := db.ExecContext(b.Context(), fault); err == nil {
				b.Errorf("%s: the database took it", fault)
			}
		}
	}},
}

// wantOnlyDifferences expects an audit in which n sales that exist differ, and no others.
func (b *bench) wantOnlyDifferences(n int) {
	b.Helper()
	audit, err := b.store.Audit(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	differ := 0
	for _, s := range audit.Sales {
		if strings.HasPrefix(s.ID, "s") && len(s.Differences) > 0 {
			differ++
		}
	}
	if differ != n || audit.Balanced != (n == 0) {
		b.Errorf("got %d differing sales, balanced %v, want %d: %+v", differ, audit.Balanced, n, audit)
	}
}

var storeTests = []test{
	{"ReopeningKeepsTheData", func(b *bench) { // P3
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 2))
		if err := b.store.Close(); err != nil {
			b.Fatal(err)
		}
		b.store = b.open()
		if got := b.status(o.Order); !reflect.DeepEqual(got, o) {
			b.Errorf("got %+v, want %+v", got, o)
		}
		b.wantUnits("s", 8, 2, 0)
	}},
	{"SeveralProcessesMayOpenItAtOnce", func(b *bench) {
		errs := make([]error, 4)
		together(len(errs), func(i int) {
			store, err := b.place.Open(b.Context())
			if err == nil {
				err = errors.Join(store.Ping(b.Context()), store.Close())
			}
			errs[i] = err
		})
		if err := errors.Join(errs...); err != nil {
			b.Error(err)
		}
	}},
	{"ACancelledCallChangesNothing", func(b *bench) {
		b.sale("s", 10)
		o := b.hold(order("s", "u", "", 2))
		_, reserve := b.store.Reserve(quiet(b), []sluice.Order{order("s", "v", "", 1)})
		_, pay := b.store.Pay(quiet(b), o.Order, "ref")
		_, cancel := b.store.Cancel(quiet(b), o.Order)
		_, expire := b.store.Expire(quiet(b), 1)
		_, topup := b.store.TopUp(quiet(b), "s", 1)
		_, sales := b.store.Sales(quiet(b))
		_, limits := b.store.Limits(quiet(b))
		_, change := b.store.ChangeLimits(quiet(b), block("a"))
		_, events := b.store.Events(quiet(b), 0, 1)
		_, orderEvents := b.store.OrderEvents(quiet(b), o.Order)
		_, tick := b.store.Tick(quiet(b))
		_, prune := b.store.PruneEvents(quiet(b), 0, 1)
		_, _, claim := b.store.Claim(quiet(b), "r", "a", time.Hour)
		_, advance := b.store.Advance(quiet(b), "r", "a", 1)
		_, readers := b.store.Readers(quiet(b))
		_, audit := b.store.Audit(quiet(b))
		for i, err := range []error{
			reserve, pay, cancel, expire, topup, sales, limits, change, audit, b.store.Ping(quiet(b)),
			events, orderEvents, tick, prune, claim, advance, readers,
		} {
			if !errors.Is(err, inventory.ErrUnavailable) {
				b.Errorf("call %d: got %v, want ErrUnavailable", i, err)
			}
		}
		b.wantUnits("s", 8, 2, 0)
		b.wantLimits(sluice.Limits{})
		b.wantReaders(map[string]int64{})
	}},
	{"AClosedStoreIsUnavailable", func(b *bench) {
		b.tampered = true
		if err := b.store.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := b.store.Close(); err != nil {
			b.Fatal(err)
		}
		_, err := b.store.Reserve(b.Context(), []sluice.Order{order("s", "u", "", 1)})
		if !errors.Is(err, inventory.ErrUnavailable) {
			b.Errorf("reserve: got %v, want ErrUnavailable", err)
		}
		if err := b.store.Ping(b.Context()); !errors.Is(err, inventory.ErrUnavailable) {
			b.Errorf("ping: got %v, want ErrUnavailable", err)
		}
	}},
	{"TheViewsHaveTheContractsColumns", func(b *bench) {
		b.sale("s", 10)
		o := order("s", "u", "k", 2)
		b.reserve(o, order("s", "v", "", 11))
		got := b.query("SELECT id, sale, buyer, key, quantity, state, reason, version FROM sluice_orders " +
			"WHERE settled_at IS NOT NULL AND buyer = 'u'")
		if want := []string{o.ID.String(), "s", "u", "k", "2", "held", "", "2"}; !slices.Equal(got[0], want) {
			b.Errorf("sluice_orders: got %q, want %q", got[0], want)
		}
		if got := b.query("SELECT reason FROM sluice_orders WHERE buyer = 'v'"); got[0][0] != "sold_out" {
			b.Errorf("sluice_orders: got %q", got)
		}
		got = b.query("SELECT id, stock, topups, free, held, sold, version FROM sluice_sales")
		if want := []string{"s", "10", "0", "8", "2", "0", "2"}; !slices.Equal(got[0], want) {
			b.Errorf("sluice_sales: got %q, want %q", got[0], want)
		}
		if n := len(b.query("SELECT * FROM sluice_orders")[0]); n != 9 {
			b.Errorf("sluice_orders has %d columns, want 9", n)
		}
		if n := len(b.query("SELECT * FROM sluice_sales")[0]); n != 7 {
			b.Errorf("sluice_sales has %d columns, want 7", n)
		}
	}},
}
