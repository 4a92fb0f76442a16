package inventorytest

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"sluice"
	"sluice/inventory"
)

var limitsTests = []test{
	{"LimitsAreZeroUntilTheyAreSet", func(b *bench) {
		if l := b.limits(); !reflect.DeepEqual(l, sluice.Limits{}) {
			b.Errorf("got %+v", l)
		}
	}},
	{"LimitsAreKeptAsTheyWereAnswered", func(b *bench) {
		wait, rate, connections, none := sluice.Duration(90*time.Second), 2.5, 5000, 0
		network := netip.MustParsePrefix("2001:db8::/32")
		until := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
		want := sluice.Limits{
			Version: 1, Bounds: map[string]int64{"north": 500, "süd": 0}, MaxWait: &wait, BuyerRate: &rate, AddressRate: &rate,
			Connections: &connections, AddressConnections: &none,
			Blocks: []sluice.Block{{User: "<\"b😀\">", Until: until, Note: "a bot"}, {Network: network}},
		}
		answered := b.changeLimits(func(l *sluice.Limits) error {
			*l = want
			l.Version = 77 // not the caller's to say
			return nil
		})
		*want.MaxWait++ // what was written shares nothing with what the caller keeps
		*answered.MaxWait++
		if !reflect.DeepEqual(answered, want) {
			b.Errorf("answered %+v, want %+v", answered, want)
		}
		*want.MaxWait--
		b.wantLimits(want)
		if err := b.store.Close(); err != nil {
			b.Fatal(err)
		}
		b.store = b.open()
		b.wantLimits(want)
		want.Version, want.MaxWait, want.Bounds = 2, nil, map[string]int64{"north": 500}
		b.changeLimits(func(l *sluice.Limits) error {
			l.MaxWait = nil
			delete(l.Bounds, "süd")
			return nil
		})
		b.wantLimits(want)
	}},
	{"AChangeThatFailsLeavesTheLimitsAsTheyWere", func(b *bench) {
		before := b.changeLimits(block("a"))
		b.wantLimits(before)
		mine := errors.New("changed my mind")
		_, err := b.store.ChangeLimits(b.Context(), func(l *sluice.Limits) error {
			l.Blocks[0].User, l.Bounds = "b", map[string]int64{"north": 1}
			return mine
		})
		if err != mine { //nolint:errorlint // the very error, not one around it
			b.Errorf("got %v, want the error of the change", err)
		}
		_, err = b.store.ChangeLimits(b.Context(), func(l *sluice.Limits) error {
			l.Blocks[0].User, l.Bounds = "b", map[string]int64{"north": -1}
			return nil
		})
		b.wantRefused(err, sluice.BadRequest)
		b.wantLimits(before)
	}},
	{"ConcurrentChangesOfTheLimitsDoNotLoseOneAnother", testLimitsRace},
	{"AnOverdueBlockIsDroppedByTheNextChange", func(b *bench) {
		b.changeLimits(func(l *sluice.Limits) error {
			l.Blocks = []sluice.Block{
				{User: "over", Until: time.Now().Add(-time.Second)},
				{User: "soon", Until: farOff},
				{User: "later", Until: farOff.Add(time.Second)},
				{User: "always"},
			}
			return nil
		})
		b.wantBlocked("soon", "later", "always")
		b.passFarOff()
		b.changeLimits(block("new"))
		b.wantBlocked("later", "always", "new")
	}},
	{"OverdueBlocksDoNotStandInTheWayOfNewOnes", func(b *bench) {
		b.changeLimits(func(l *sluice.Limits) error {
			for i := range sluice.MaxBlocks {
				l.Blocks = append(l.Blocks, sluice.Block{User: fmt.Sprint("u", i), Until: farOff})
			}
			return nil
		})
		_, err := b.store.ChangeLimits(b.Context(), block("new"))
		b.wantRefused(err, sluice.BadRequest)
		b.passFarOff()
		b.changeLimits(block("new"))
		b.wantBlocked("new")
	}},
	{"AFieldOfALaterVersionIsIgnoredOnReading", func(b *bench) {
		b.query(`UPDATE documents SET version = 5, document = '{"version":5,"buyer_rate":3,"of_tomorrow":{"a":[1]}}' WHERE name = 'limits'`)
		rate := 3.0
		b.wantLimits(sluice.Limits{Version: 5, BuyerRate: &rate})
		b.changeLimits(block("a"))
		b.wantLimits(sluice.Limits{Version: 6, BuyerRate: &rate, Blocks: []sluice.Block{{User: "a"}}})
	}},
	{"LimitsOfAnotherProcessAreSeenAtOnce", func(b *bench) {
		other := b.open()
		for i := range 3 {
			want, err := other.ChangeLimits(b.Context(), block(fmt.Sprint("u", i)))
			if err != nil {
				b.Fatal(err)
			}
			b.wantLimits(want)
			b.wantLimits(want) // also where it was read before
		}
	}},
}

// testLimitsRace has several processes add blocks at once while others read.
func testLimitsRace(b *bench) {
	const changes, each = 8, 5
	stores := []inventory.Store{b.store, b.open()}
	var mu sync.Mutex
	var versions []int64 // guarded by mu
	together(changes+2, func(i int) {
		store := stores[i%2]
		last := int64(0)
		for n := range each {
			var l sluice.Limits
			var err error
			if i < changes {
				l, err = store.ChangeLimits(b.Context(), block(fmt.Sprint("u", i, "-", n)))
				mu.Lock()
				versions = append(versions, l.Version)
				mu.Unlock()
			} else {
				l, err = store.Limits(b.Context())
			}
			if err != nil || l.Version < last || l.Version != int64(len(l.Blocks)) {
				b.Errorf("version %d after %d, with %d blocks, %v", l.Version, last, len(l.Blocks), err)
			}
			last = l.Version
		}
	})
	slices.Sort(versions)
	for i, v := range versions {
		if v != int64(i+1) {
			b.Fatalf("versions: got %v, want each of 1 to %d once", versions, changes*each)
		}
	}
	blocked := map[string]bool{}
	for _, block := range b.limits().Blocks {
		blocked[block.User] = true
	}
	if len(blocked) != changes*each {
		b.Errorf("got %d blocks, want %d: %v", len(blocked), changes*each, blocked)
	}
}

// block adds one block that lasts.
func block(user string) func(*sluice.Limits) error {
	return func(l *sluice.Limits) error {
		l.Blocks = append(l.Blocks, sluice.Block{User: user})
		return nil
	}
}

// farOff is a time that passes when passFarOff says so.
var farOff = time.Date(2999, 12, 31, 23, 59, 58, 0, time.UTC)

// passFarOff makes what was stored to end at farOff end in the past, behind the store's back.
func (b *bench) passFarOff() {
	b.Helper()
	past := time.Now().Add(-time.Second).UTC()
	b.query(fmt.Sprintf("UPDATE documents SET document = replace(document, '%s', '%s')", farOff.Format(time.RFC3339), past.Format(time.RFC3339)))
}

func (b *bench) limits() sluice.Limits {
	b.Helper()
	l, err := b.store.Limits(b.Context())
	if err != nil {
		b.Fatalf("read the limits: %v", err)
	}
	return l
}

func (b *bench) changeLimits(change func(*sluice.Limits) error) sluice.Limits {
	b.Helper()
	l, err := b.store.ChangeLimits(b.Context(), change)
	if err != nil {
		b.Fatalf("change the limits: %v", err)
	}
	return l
}

func (b *bench) wantLimits(want sluice.Limits) {
	b.Helper()
	if got := b.limits(); !reflect.DeepEqual(got, want) {
		b.Errorf("limits: got %+v, want %+v", got, want)
	}
}

func (b *bench) wantBlocked(users ...string) {
	b.Helper()
	var got []string
	for _, block := range b.limits().Blocks {
		got = append(got, block.User)
	}
	if !slices.Equal(got, users) {
		b.Errorf("blocked: got %q, want %q", got, users)
	}
}

// testMigration opens what the first version of the schema left, from several processes at once.
func testMigration(b *bench) {
	if err := b.place.Old(b.Context()); err != nil {
		b.Fatalf("make a database of the first version: %v", err)
	}
	tables := map[string]string{
		"sales": "SELECT id, sku, stock, topups, free, held, sold, per_user_limit, starts_at, ends_at, payment_window, max_age, " +
			"checkout_url, over_admission, paused, version FROM sales",
		"orders":       "SELECT id, sale, buyer, key, attempt, quantity, attributes, accepted_at, state, reason, version, pay_by, settled_at, payment_ref FROM orders ORDER BY id",
		"dead_letters": "SELECT message, body, order_id, attempts, error, at FROM dead_letters",
		"refunds_due":  "SELECT order_id, payment_ref, reason, at FROM refunds_due",
		"the views":    "SELECT * FROM sluice_orders, sluice_sales ORDER BY 1",
	}
	before := map[string][][]string{}
	for table, query := range tables {
		if before[table] = b.query(query); len(before[table]) == 0 {
			b.Fatalf("%s: nothing to keep", table)
		}
	}
	errs := make([]error, 4)
	together(len(errs), func(i int) {
		store, err := b.place.Open(b.Context())
		if err == nil {
			err = errors.Join(store.Ping(b.Context()), store.Close())
		}
		errs[i] = err
	})
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	for table, query := range tables {
		if after := b.query(query); !reflect.DeepEqual(after, before[table]) {
			b.Errorf("%s: got %q, want %q", table, after, before[table])
		}
	}
	b.store = b.open()
	b.wantUnits("old", 6, 2, 4)
	b.wantLimits(sluice.Limits{})
	held := sluice.OrderID{6: 0x80, 8: 0x80, 15: 1}
	c, err := b.store.Pay(b.Context(), held, "ref")
	if err != nil || c.Sales[0].ReservedFor != "" || c.Sales[0].ReservedShare != 0 {
		b.Errorf("pay an old order: got %+v, %v", c, err)
	}
	b.wantUnits("old", 6, 0, 6)
	b.wantEvents(0, "order.paid a 3") // and nothing of what was before there were events
	b.tick()
	if e := b.orderEvents(held); len(e) != 1 || string(e[0].Attributes) != `{"colour":"red"}` || b.newest() != 1 {
		b.Errorf("events of an old order: got %+v", e)
	}
	b.changeLimits(block("a"))
	b.wantBlocked("a")
}

// testReservedShare looks at every answer that brings a sale along.
func testReservedShare(b *bench) {
	reserved := func(s *sluice.Sale) { s.ReservedFor, s.ReservedShare = "members of \"gold\"", 0.25 }
	b.sale("brief", 10, window(soon), reserved)
	b.overdue(b.hold(order("brief", "due", "", 1)))
	b.sale("s", 10, reserved)
	a, c := order("s", "a", "", 1), order("s", "c", "", 1)
	ctx := b.Context()
	for _, call := range []struct {
		name string
		do   func() (sluice.Changes, error)
	}{
		{"expire", func() (sluice.Changes, error) { return b.store.Expire(ctx, 10) }},
		{"reserve", func() (sluice.Changes, error) { return b.store.Reserve(ctx, []sluice.Order{a, c}) }},
		{"pay", func() (sluice.Changes, error) { return b.store.Pay(ctx, a.ID, "ref") }},
		{"cancel", func() (sluice.Changes, error) { return b.store.Cancel(ctx, c.ID) }},
		{"top up", func() (sluice.Changes, error) { return b.store.TopUp(ctx, "s", 5) }},
		{"end", func() (sluice.Changes, error) { return b.store.End(ctx, "s") }},
		{"sales", func() (sluice.Changes, error) { return b.store.Sales(ctx) }},
		{"one sale", func() (sluice.Changes, error) { return b.store.Sales(ctx, "s") }},
	} {
		changes, err := call.do()
		if err != nil || len(changes.Sales) == 0 {
			b.Errorf("%s: got %+v, %v, want a sale", call.name, changes, err)
		}
		for _, s := range changes.Sales {
			if s.ReservedFor != "members of \"gold\"" || s.ReservedShare != 0.25 {
				b.Errorf("%s: got %+v, want the sale with its reserved share", call.name, s)
			}
		}
	}
}
