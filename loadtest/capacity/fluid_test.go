package capacity

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice"
	"sluice/loadtest"
)

func TestFluid_LosesNobodyAndKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := story{
			quantity: float64(rapid.IntRange(1, 3).Draw(t, "quantity")), double: rapid.Float64Range(0, 0.5).Draw(t, "double"),
			retry: rapid.Float64Range(0, 1).Draw(t, "retry"), tries: rapid.IntRange(0, 4).Draw(t, "tries"),
			buyers: rapid.SampledFrom([]float64{0, 500, 1e6}).Draw(t, "buyers"), keyed: rapid.Float64Range(0, 1).Draw(t, "keyed"),
			bound: rapid.Float64Range(1, 20000).Draw(t, "bound"), maxWait: time.Duration(rapid.IntRange(0, 30).Draw(t, "max wait")) * time.Second,
			drain: rapid.Float64Range(10, 20000).Draw(t, "drain"), set: rapid.Bool().Draw(t, "set"), settle: 0.01,
		}
		if rapid.Bool().Draw(t, "slow") {
			s.slow = loadtest.Slow{From: sluice.Duration(time.Second), For: sluice.Duration(2 * time.Second), Busy: 4e8, Of: 5e8}
		}
		for range rapid.IntRange(1, 4).Draw(t, "spans") {
			s.spans = append(s.spans, span{rapid.Float64Range(0.1, 3).Draw(t, "seconds"), rapid.Float64Range(0, 50000).Draw(t, "orders"), 10})
		}
		sales := rapid.IntRange(1, 3).Draw(t, "sales")
		for range sales {
			units := float64(rapid.IntRange(1, 30000).Draw(t, "units"))
			s.sales = append(s.sales, stock{1 / float64(sales), units, rapid.Float64Range(0, 2).Draw(t, "opens")})
		}
		keepsItsBounds(t, s)
	})
}

// failer is a test, or one of rapid's.
type failer interface {
	Errorf(format string, args ...any)
}

// keepsItsBounds plays a story: whoever came was answered, whoever was let in was settled, and nothing was let in or sold beyond what there was.
func keepsItsBounds(t failer, s story) {
	var stocked float64
	for _, sale := range s.sales {
		stocked += sale.units
	}
	o := s.run()
	var refusedAll float64
	for _, n := range o.refused {
		refusedAll += n
	}
	const rounding = 1e-3
	if got := o.accepted + o.repeated + refusedAll; math.Abs(got-o.offered) > rounding {
		t.Errorf("%v were answered of %v that came", got, o.offered)
	}
	if math.Abs(o.settled-o.accepted) > rounding {
		t.Errorf("%v were settled of %v accepted", o.settled, o.accepted)
	}
	if o.outstanding > s.bound+rounding {
		t.Errorf("%v were outstanding, bound %v", o.outstanding, s.bound)
	}
	if o.sold > stocked+rounding || o.sold > o.settled*s.quantity+rounding {
		t.Errorf("%v units were sold of %v, to %v orders of %v", o.sold, stocked, o.settled, s.quantity)
	}
	all := o.total()
	if math.Abs(all[accepted]-o.accepted) > rounding || math.Abs(all[settled]-o.settled) > rounding {
		t.Errorf("the seconds have %v accepted and %v settled, the whole %v and %v", all[accepted], all[settled], o.accepted, o.settled)
	}
}

// Stories that an earlier fluid got wrong, as rapid found and shrank them.
func TestFluid_KeepsWhatItOnceLost(t *testing.T) {
	usual := story{quantity: 1, double: 0.5, retry: 1, keyed: 1, drain: 10, settle: 0.01}
	for name, change := range map[string]func(*story){
		"who comes before a sale opens, and again when it does": func(s *story) {
			s.bound, s.spans, s.sales = 1, []span{{1, 1, 10}}, []stock{{1, 1, 0.5}}
		},
		"more who come again at an opening than there are units": func(s *story) {
			s.bound, s.spans, s.sales = 2, []span{{1, 1, 10}, {1, 27.5, 10}}, []stock{{1, 2, 1}}
		},
		"two sales that open together under a bound of one": func(s *story) {
			s.bound, s.spans, s.sales = 1, []span{{1, 1, 10}, {1, 1, 10}, {1, 24.75, 10}}, []stock{{0.5, 2, 1}, {0.5, 2, 1}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := usual
			change(&s)
			keepsItsBounds(t, s)
		})
	}
}

func burst(orders float64) story {
	return story{spans: []span{{10, orders, 0}}, sales: []stock{{1, 1e9, 0}}, quantity: 1, bound: 2000, maxWait: 30 * time.Second, drain: 1000, set: true}
}

func TestFluid_WaitsAreTheBoundByTheDrainRate(t *testing.T) {
	o := burst(50000).run()
	// 2,000 come in during the first half second, in which 500 leave; then as many as leave.
	if !near(o.accepted, 2000+10*1000, 0.01) || !near(o.waitMax, 2, 0.02) || !near(o.idle, 12, 0.01) || !near(o.firstShed, 0.5, 0.05) {
		t.Errorf("accepted %v, longest wait %v, idle at %v, first shed at %v; want 12,000, 2, 12, 0.5", o.accepted, o.waitMax, o.idle, o.firstShed)
	}
	if !near(o.shed(), 0.76, 0.01) || o.refused[sluice.QueueFull] == 0 {
		t.Errorf("shed share %v, refused %v; want 0.76, queue-full", o.shed(), o.refused)
	}
}

func TestFluid_TheLongestWaitBoundsTheQueueToo(t *testing.T) {
	s := burst(50000)
	s.maxWait = time.Second
	o := s.run()
	if !near(o.outstanding, 1000, 0.02) || !near(o.waitMax, 1, 0.03) || o.refused[sluice.TooSlow] == 0 || o.refused[sluice.QueueFull] != 0 {
		t.Errorf("outstanding %v, longest wait %v, refused %v; want 1,000, 1, too-slow", o.outstanding, o.waitMax, o.refused)
	}
	s.set = false // doors must see the rate first, as they do
	if o := s.run(); !near(o.outstanding, 2000, 0.02) || o.bound > 1100 {
		t.Errorf("unknown rate: outstanding %v, bound then %v; want 2,000 and then about 1,000", o.outstanding, o.bound)
	}
}

func TestFluid_AdmitsOnlyAsManyAsUnitsAreLeft(t *testing.T) {
	s := burst(50000)
	s.sales[0].units = 1000
	o := s.run()
	if !near(o.sold, 1000, 0.001) || o.accepted > 1510 || o.soldOut < 0.9 || o.soldOut > 1.1 || o.refused[sluice.AllSold] == 0 || o.refused[sluice.NoneFree] == 0 {
		t.Errorf("sold %v, accepted %v, sold out at %v, refused %v; want 1,000, at most 1,500, 1 s", o.sold, o.accepted, o.soldOut, o.refused)
	}
}

func TestFluid_BuyersWhoComeAgainFillWhatIsFree(t *testing.T) {
	s := burst(20000)
	alone := s.run()
	s.retry, s.tries = 1, 5
	again := s.run()
	if again.offered <= alone.offered || again.accepted <= alone.accepted {
		t.Errorf("with retries %v came and %v got in, without %v and %v", again.offered, again.accepted, alone.offered, alone.accepted)
	}
}

func TestFluid_ASlowDatabaseIsSlowAsLongAsItIs(t *testing.T) {
	s := burst(8000) // less than the drain carries
	s.slow = loadtest.Slow{From: sluice.Duration(2 * time.Second), For: sluice.Duration(5 * time.Second), Busy: 4e8, Of: 5e8}
	if o := s.run(); !near(o.outstanding, 2000, 0.05) {
		t.Errorf("600 a second pile up for 5 s over a bound of 2,000: outstanding %v", o.outstanding)
	}
	s.slow.For = sluice.Duration(time.Second)
	if o := s.run(); !near(o.outstanding, 600, 0.05) || o.shed() != 0 {
		t.Errorf("600 a second pile up for a second: outstanding %v, shed %v", o.outstanding, o.shed())
	}
}
