package loadtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// SearchOptions say how a capacity search goes about it. What is 0 has the default named last.
type SearchOptions struct {
	From       float64 // orders a second to begin with; 200
	Factor     float64 // from one step of the ramp to the next; 1.6
	Within     float64 // the bisection ends when it knows the knee so well, a share of it; 0.05
	Repeats    int     // around the knee; 6, and no fewer
	MostProbes int     // in all; 40
	Ceiling    float64 // orders a second that the generator can offer by itself; not known
}

// Stages of a search, as Probe has them.
const (
	StageRamp      = "ramp"
	StageBisection = "bisection"
	StageRepeat    = "repeat"
)

// What ends a search, as Search.Limit has it. Unless it was the service, the figure is a lower bound: "at least N".
const (
	LimitService   = "service"
	LimitGenerator = "generator"   // it could not keep up, or its ceiling is near
	LimitProbes    = "probes"      // there were no more
	LimitEnd       = "interrupted" // by a failure, or by whoever started it
	LimitPromise   = "promise"     // one was broken: there is no figure
)

// errPartial marks a result that is only what was known until then.
var errPartial = errors.New("partial result")

// errPromise says that a promise was broken: whatever rate the service carries so, nobody may sell with it.
var errPromise = errors.New("a promise was broken")

// errProbesSpent says that the knee would have needed more probes than there were.
var errProbesSpent = errors.New("all probes are used up")

const (
	mostAgain   = 2    // times that an invalid probe is made once more
	mostLooks   = 2    // times that the search goes on when it ended too early
	lookProbes  = 16   // besides the repeats, that such a look and what may follow take
	coarse      = 0.25 // how well a bound from below is known
	nearCeiling = 0.9  // of the generator's ceiling: nothing above is tried, as the generator would be measured
	leastShare  = 20   // the ramp goes down to the first rate through this and no further
	minRepeats  = 6
	minProbes   = 4 // besides the repeats
	maxProbes   = 1000
	maxRate     = 10e6
)

func (o SearchOptions) checked() (SearchOptions, error) {
	o.From = cmp.Or(o.From, 200)
	o.Factor = cmp.Or(o.Factor, 1.6)
	o.Within = cmp.Or(o.Within, 0.05)
	o.Repeats = cmp.Or(o.Repeats, minRepeats)
	o.MostProbes = cmp.Or(o.MostProbes, 40)
	switch {
	case !within(o.From, 1, maxRate):
		return o, fmt.Errorf("search from %v orders a second: want 1 to %.0f", o.From, maxRate)
	case !within(o.Factor, 1.05, 10):
		return o, fmt.Errorf("search factor %v: want 1.05 to 10", o.Factor)
	case !within(o.Within, 0.005, 0.5):
		return o, fmt.Errorf("search within %v: want a share of the knee, 0.005 to 0.5", o.Within)
	case o.Repeats < minRepeats || o.Repeats > maxProbes/2:
		return o, fmt.Errorf("search repeats %d: want %d to %d; fewer say nothing of the spread", o.Repeats, minRepeats, maxProbes/2)
	case o.MostProbes < o.Repeats+minProbes || o.MostProbes > maxProbes:
		return o, fmt.Errorf("search probes %d: want %d to %d with %d repeats", o.MostProbes, o.Repeats+minProbes, maxProbes, o.Repeats)
	case o.Ceiling != 0 && !within(o.Ceiling, 1, math.MaxFloat64):
		return o, fmt.Errorf("search ceiling %v orders a second: want 1 or more, or 0 where it is not known", o.Ceiling)
	}
	return o, nil
}

// Check says what of the options is out of range.
func (o SearchOptions) Check() error {
	_, err := o.checked()
	return err
}

// search finds the knee: the highest rate at which the service keeps its SLO. probe offers a rate to it; its Kept and Invalid decide, and a
// broken promise ends everything. Rates go up geometrically until one is bad, the bracket is bisected, and the last good rate is then repeated:
// it stands when all repeats but one keep the SLO, and otherwise the next lower one is repeated. So it is the knee that most probes
// confirm, and not one lucky probe: a service is no deterministic function of its load, as RFC 2544, section 26.1, takes for granted.
// That trials at one load may disagree, and a share of them may exceed the limit, is from "Multiple Loss Ratio Search"
// (draft-ietf-bmwg-mlrsearch).
//
// No probe is believed too easily: a broken SLO is believed when it is broken twice, and is looked at again in the end; an invalid
// probe is made again twice and then is the generator's limit. A search that can't be finished answers what there is, and an error
// that is errPartial.
func search(ctx context.Context, o SearchOptions, probe func(ctx context.Context, stage string, rate float64) (Probe, error),
	say func(format string, a ...any),
) (Search, error) {
	o, err := o.checked()
	if err != nil {
		return Search{}, err
	}
	k := &knee{SearchOptions: o, probe: probe, say: say, least: o.From / leastShare, top: maxRate}
	if o.Ceiling > 0 {
		k.top = min(k.top, nearCeiling*o.Ceiling)
	}
	for looks := 0; ; looks++ {
		err = k.find(ctx)
		if err == nil || errors.Is(err, errProbesSpent) { // the repeats have probes of their own
			err = cmp.Or(k.confirm(ctx), err)
		}
		if err != nil || looks == mostLooks {
			return k.conclude(err)
		}
		if wrong, err := k.doubt(ctx); err != nil || !wrong {
			return k.conclude(err)
		}
	}
}

// knee is a search under way, by one goroutine.
type knee struct {
	SearchOptions
	probe      func(ctx context.Context, stage string, rate float64) (Probe, error)
	say        func(format string, a ...any)
	least, top float64 // rates worth trying

	bracket
	limit string   // why the lowest bad rate is bad,
	why   []string // in words
	most  int      // probes until the stage's end
	found Search
}

// find closes the bracket, and leaves probes for the repeats.
func (k *knee) find(ctx context.Context) error {
	k.most = k.MostProbes - k.Repeats
	for !k.closed() {
		stage := StageRamp
		if k.both() {
			stage = StageBisection
		}
		if err := k.judge(ctx, stage, min(k.next(k.From, k.Factor), k.top)); err != nil {
			return err
		}
	}
	return nil
}

func (k *knee) closed() bool {
	switch {
	case k.both():
		return k.bad <= k.good*(1+k.step())
	case k.good > 0:
		return k.good >= k.top
	default:
		return k.bad > 0 && k.bad <= k.least
	}
}

// step is how well the knee is to be known, as a share of it. Where the generator ends first the figure is a bound from below, and
// needs no probes to be a close one.
func (k *knee) step() float64 {
	if k.limit == LimitGenerator {
		return max(k.Within, coarse)
	}
	return k.Within
}

// judge moves one end of the bracket to rate.
func (k *knee) judge(ctx context.Context, stage string, rate float64) error {
	p, err := k.measure(ctx, stage, rate)
	if err == nil && len(p.Invalid) == 0 && !p.Kept {
		p, err = k.measure(ctx, stage, rate) // a moment's noise breaks an SLO, too
	}
	switch {
	case err != nil:
		return err
	case len(p.Invalid) > 0:
		k.exclude(rate, LimitGenerator, p.Invalid)
	case !p.Kept:
		k.exclude(rate, LimitService, p.Why)
	default:
		k.good = rate
	}
	return nil
}

func (k *knee) exclude(rate float64, limit string, why []string) {
	k.bad, k.limit, k.why = rate, limit, why
}

// confirm repeats the last good rate, and steps down until one holds.
func (k *knee) confirm(ctx context.Context) error {
	k.most = k.MostProbes
	for k.good > 0 {
		holds, err := k.holds(ctx)
		if err != nil || holds {
			return err
		}
		if k.good = k.bad / (1 + k.step()); k.good < k.least {
			k.good = 0
		}
	}
	return nil
}

// doubt looks once more at the lowest bad rate, as bad moments may come in pairs. When it is good twice now, it was not the limit, and
// the search goes on above. Without probes for all that, the figure stands as it is.
func (k *knee) doubt(ctx context.Context) (wrong bool, err error) {
	if k.limit != LimitService || k.MostProbes-len(k.found.Probes) < k.Repeats+lookProbes {
		return false, nil
	}
	rate := k.bad
	for range 2 {
		if p, err := k.measure(ctx, StageRepeat, rate); err != nil || len(p.Invalid) > 0 || !p.Kept {
			return false, err
		}
	}
	k.exclude(0, "", nil)
	k.good = rate
	return true, nil
}

// holds reports whether all repeats of the good rate but one keep the SLO. Where a second one does not, the rate is bad, and more
// repeats would not change that.
func (k *knee) holds(ctx context.Context) (bool, error) {
	broken := 0
	for range k.Repeats {
		p, err := k.measure(ctx, StageRepeat, k.good)
		switch {
		case err != nil:
			return false, err
		case len(p.Invalid) > 0:
			k.exclude(k.good, LimitGenerator, p.Invalid)
			return false, nil
		case p.Kept:
			continue
		}
		if broken++; broken > 1 {
			k.exclude(k.good, LimitService, p.Why)
			return false, nil
		}
	}
	return true, nil
}

// measure probes until a probe is valid, or has been invalid too often.
func (k *knee) measure(ctx context.Context, stage string, rate float64) (p Probe, err error) {
	for range 1 + mostAgain {
		if p, err = k.try(ctx, stage, rate); err != nil || len(p.Invalid) == 0 {
			break
		}
	}
	return p, err
}

func (k *knee) try(ctx context.Context, stage string, rate float64) (Probe, error) {
	if len(k.found.Probes) >= k.most {
		return Probe{}, errProbesSpent
	}
	if err := context.Cause(ctx); err != nil {
		return Probe{}, err
	}
	p, err := k.probe(ctx, stage, rate)
	if err == nil {
		err = context.Cause(ctx) // a probe that was cut short measured nothing
	}
	if err != nil {
		return Probe{}, fmt.Errorf("%s at %s: %w", stage, rateText(rate), err)
	}
	p.Stage, p.Rate = stage, rate
	k.found.Probes = append(k.found.Probes, p)
	k.tell(p)
	if len(p.Wrong) > 0 {
		return p, fmt.Errorf("%w at %s: %s", errPromise, rateText(rate), strings.Join(p.Wrong, "; "))
	}
	return p, nil
}

func (k *knee) tell(p Probe) {
	verdict, why := "keeps the SLO", ""
	switch {
	case len(p.Wrong) > 0:
		verdict, why = "breaks a promise", ": "+p.Wrong[0]
	case len(p.Invalid) > 0:
		verdict, why = "invalid", ": "+p.Invalid[0]
	case !p.Kept && len(p.Why) > 0:
		verdict, why = "breaks the SLO", ": "+p.Why[0]
	case !p.Kept:
		verdict = "breaks the SLO"
	}
	k.say("%s at %s: %s (settled %s, accepted p99 %.4g ms)%s", p.Stage, rateText(p.Rate), verdict, rateText(p.Goodput), p.P99, why)
}

// conclude makes the result; err says why it is only a part of one.
func (k *knee) conclude(err error) (Search, error) {
	f := k.found
	f.Rate, f.Sustains, f.Margin = k.sustained()
	f.Limit, f.Why = k.limit, k.why
	switch {
	case errors.Is(err, errPromise):
		f.Limit, f.Rate, f.Sustains, f.Margin, f.Why = LimitPromise, 0, 0, 0, nil
	case errors.Is(err, errProbesSpent):
		f.Limit = LimitProbes
	case err != nil:
		f.Limit = LimitEnd
	case k.bad == 0:
		f.Limit = LimitGenerator
		f.Why = []string{fmt.Sprintf("the SLO is kept at %s, and the load generator is measured instead of the service above: nothing more was tried",
			rateText(k.good))}
	}
	if err == nil {
		return f, nil
	}
	f.Why = append([]string{err.Error()}, f.Why...)
	return f, fmt.Errorf("%w of a search, after %d probes: %w", errPartial, len(f.Probes), err)
}

// sustained is the highest rate up to the good one at which the SLO was kept, with the median of what was settled a second and half
// of the widest distance, over all valid repeats there, the one that broke the SLO too: without it the spread would be of the survivors.
// Where the rate was not repeated, because the search ended before, it is over all probes.
func (k *knee) sustained() (rate, median, margin float64) {
	for _, p := range k.found.Probes {
		if p.Kept && len(p.Invalid) == 0 && p.Rate <= k.good {
			rate = max(rate, p.Rate)
		}
	}
	var repeats, all []float64
	for _, p := range k.found.Probes {
		if p.Rate != rate || len(p.Invalid) > 0 {
			continue
		}
		if all = append(all, p.Goodput); p.Stage == StageRepeat {
			repeats = append(repeats, p.Goodput)
		}
	}
	if len(repeats) == 0 {
		repeats = all
	}
	if len(repeats) == 0 {
		return 0, 0, 0
	}
	slices.Sort(repeats)
	n := len(repeats)
	return rate, (repeats[(n-1)/2] + repeats[n/2]) / 2, (repeats[n-1] - repeats[0]) / 2
}
