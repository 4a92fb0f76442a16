package inventorytest

import (
	"fmt"
	"reflect"

	"sluice"
	"sluice/inventory"
)

// Settings of pools are kept by the same means as limits, whose tests say the rest.
var poolsTests = []test{
	{"SettingsOfPoolsAreZeroUntilTheyAreSet", func(b *bench) { b.wantPools(sluice.Pools{}) }},
	{"SettingsOfPoolsAreKeptAsTheyWereAnswered", func(b *bench) {
		rate, window := 2.5, 0
		want := sluice.Pools{Version: 1, Pools: map[string]sluice.Pool{"settle": {Rate: &rate}, "vip": {Window: &window}, "bulk": {}}}
		answered := b.changePools(func(p *sluice.Pools) error {
			*p = want
			p.Version = 77 // not the caller's to say
			return nil
		})
		if !reflect.DeepEqual(answered, want) {
			b.Errorf("answered %+v, want %+v", answered, want)
		}
		b.wantPools(want)
		if err := b.store.Close(); err != nil {
			b.Fatal(err)
		}
		b.store = b.open()
		b.wantPools(want)
	}},
	{"SettingsOfPoolsAreNoLimits", func(b *bench) {
		limits := b.changeLimits(block("a"))
		pools := b.changePools(paced("settle", 7))
		b.wantLimits(limits)
		b.wantPools(pools)
		b.changeLimits(block("b"))
		b.wantPools(pools)
	}},
	{"SettingsOfPoolsThatAreNotValidAreRefused", func(b *bench) {
		before := b.changePools(paced("settle", 7))
		_, err := b.store.ChangePools(b.Context(), paced("settle", -1))
		b.wantRefused(err, sluice.BadRequest)
		b.wantPools(before)
	}},
	{"SettingsOfPoolsOfAnotherProcessAreSeenAtOnce", func(b *bench) {
		other := b.open()
		for i := range 3 {
			want, err := other.ChangePools(b.Context(), paced(fmt.Sprint("p", i), float64(i+1)))
			if err != nil {
				b.Fatal(err)
			}
			b.wantPools(want)
			b.wantPools(want) // also where it was read before
		}
	}},
	{"ConcurrentChangesOfPoolsDoNotLoseOneAnother", func(b *bench) {
		const changes = 10
		stores := []inventory.Store{b.store, b.open()}
		together(changes, func(i int) {
			if _, err := stores[i%2].ChangePools(b.Context(), paced(fmt.Sprint("p", i), 1)); err != nil {
				b.Error(err)
			}
		})
		p, err := b.store.Pools(b.Context())
		if err != nil || p.Version != changes || len(p.Pools) != changes {
			b.Errorf("got %+v, %v, want all of %d changes", p, err, changes)
		}
	}},
}

// paced sets one pool's rate.
func paced(name string, rate float64) func(*sluice.Pools) error {
	return func(p *sluice.Pools) error {
		if p.Pools == nil {
			p.Pools = map[string]sluice.Pool{}
		}
		p.Pools[name] = sluice.Pool{Rate: &rate}
		return nil
	}
}

func (b *bench) changePools(change func(*sluice.Pools) error) sluice.Pools {
	b.Helper()
	p, err := b.store.ChangePools(b.Context(), change)
	if err != nil {
		b.Fatalf("change the settings of pools: %v", err)
	}
	return p
}

func (b *bench) wantPools(want sluice.Pools) {
	b.Helper()
	got, err := b.store.Pools(b.Context())
	if err != nil || !reflect.DeepEqual(got, want) {
		b.Errorf("settings of pools: got %+v, %v, want %+v", got, err, want)
	}
}
