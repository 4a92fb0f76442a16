package loadtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/loadtest/lab"
)

// player plays one round.
type player struct {
	*Options
	plan   *plan
	number int

	target *Service
	names  []string // of the sales
	warmup string
	ahead  time.Duration // of this machine's clock, the store's is
	tally  *tally
	watch  *watch
	start  time.Time            // of the first phase
	cpu    []map[string]float64 // at each border, by process
	slowed error
}

// play plays the story for sales of its own, and reads the books at its end.
func (r *player) play(ctx context.Context) (round Round, log []Interval, err error) {
	target, stop, err := r.service(ctx)
	if err != nil {
		return round, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r.target = target
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	begin, err := r.sell(ctx)
	if err != nil {
		return round, nil, err
	}
	a, err := newAttack(ctx, &r.Scenario, r.plan, target.Doors, r.names, r.warmup)
	if err != nil {
		return round, nil, err
	}
	r.tally = newTally(&r.Scenario, r.plan, a.schedule)
	const ready = 50 * time.Millisecond // to have everything under way when the first request is due
	if err := sleep(ctx, time.Until(begin)-ready); err != nil {
		return round, nil, err
	}
	a.schedule.beginAt(begin)
	then := lab.Now()
	idle := r.attack(ctx, a)
	stolen := then.Steal()
	if r.slowed != nil {
		return round, nil, r.slowed
	}
	// The books are read although the run was interrupted.
	books, settled, err := audit(context.WithoutCancel(ctx), target, r.names, int64(len(r.tally.promised)), r.tally.lost)
	if err != nil {
		return round, nil, err
	}
	round = r.report(settled, books)
	round.Recovery.Idle = idle
	round.Invalid = gate(&round, r.Scenario.Connections, stolen)
	round.Broken = broken(r.Scenario.SLO, round.Measured, books)
	return round, r.tally.log.of(r.number, r.start), nil
}

// attack sends everything, and waits until nothing is outstanding; idle is how long that took, nil: longer than allowed.
func (r *player) attack(ctx context.Context, a *attack) (idle *float64) {
	beside, stop := context.WithCancel(ctx)
	defer stop()
	r.watch = newWatch(r.target)
	var all sync.WaitGroup
	all.Go(func() {
		<-a.schedule.begin
		began := a.schedule.began
		r.start = began.Add(r.plan.start)
		all.Go(func() { r.watch.run(beside, r.start) })
		all.Go(func() { r.borders(beside, began) })
		all.Go(func() { r.show(beside, began) })
		if slow := r.Scenario.Parts.Slow; slow != (Slow{}) {
			r.slowed = r.target.slow(beside, r.start, slow)
		}
	})
	a.run(r.tally.see)
	r.tally.end(r.plan.end)
	at, ok := r.watch.waitIdle(context.WithoutCancel(ctx), time.Duration(r.Scenario.Settle), r.names, int64(len(r.tally.promised)))
	if ok {
		s := max(0, at.Sub(r.start).Seconds()-r.tally.lastAnswer.Seconds())
		idle = &s
	}
	stop()
	all.Wait()
	r.cpu = append(r.cpu, r.watch.cpuAt()) //nolint:contextcheck // also after an interrupt; it is bounded by itself
	for _, note := range r.watch.notes() {
		r.Say("%s", note)
	}
	return idle
}

// report puts a round's figures together.
func (r *player) report(settled time.Time, books Audit) Round {
	t := r.tally
	round := Round{
		Measured: t.all.figures(r.Scenario.Name, 0, t.played(-1), true),
		Audit:    books, Series: r.watch.fill(t.points),
	}
	m, last := &round.Measured, len(r.cpu)-1
	if took := settled.Sub(r.start).Seconds(); took > 0 {
		m.Goodput = float64(books.Settled) / took
	}
	m.used(r.cpu[0], r.cpu[last])
	for i, f := range t.phases {
		if t.played(i) == 0 {
			break // it was interrupted before
		}
		phase := f.figures(r.Scenario.Phases[i].Name, r.plan.borders[i]-r.plan.start, t.played(i), false)
		if i+1 < last {
			phase.used(r.cpu[i], r.cpu[i+1])
		}
		round.Phases = append(round.Phases, phase)
	}
	if t.firstShed >= 0 {
		s := t.firstShed.Seconds()
		n := max(0, r.plan.phase(t.firstShed+r.plan.start))
		round.Recovery.FirstShed, round.Recovery.ShedIn = &s, r.Scenario.Phases[n].Name
		round.Recovery.ShedAfter = (t.firstShed + r.plan.start - r.plan.borders[n]).Seconds()
	}
	round.Recovery.Calm = calmAgain(&r.Scenario, round.Series)
	return round
}

// used is the processor time between two moments.
func (f *Figures) used(before, after map[string]float64) {
	var all float64
	for name, s := range after {
		f.CPU[name] = max(0, s-before[name])
		if name != generator {
			all += f.CPU[name]
		}
	}
	if f.Accepted > 0 {
		f.Each = all / float64(f.Accepted) * 1000
	}
}

// borders notes the processor time used when phases begin and end.
func (r *player) borders(ctx context.Context, began time.Time) {
	for _, at := range r.plan.borders {
		if sleep(ctx, time.Until(began.Add(at))) != nil {
			return
		}
		r.cpu = append(r.cpu, r.watch.cpuAt()) //nolint:contextcheck // it is bounded by itself
	}
}

// show keeps the progress line.
func (r *player) show(ctx context.Context, began time.Time) {
	line := newProgress(r.Progress, r.plan.end)
	defer line.end()
	for sleep(ctx, 500*time.Millisecond) == nil {
		p := r.tally.progress()
		p.Done = time.Since(began)
		p.Left = max(0, r.plan.end-p.Done)
		p.Phase = r.phase(p.Done)
		line.show(p)
	}
}

func (r *player) phase(at time.Duration) string {
	name := "warm-up"
	if i := r.plan.phase(at); i >= 0 {
		name = r.Scenario.Phases[i].Name
	}
	if at >= r.plan.end {
		name = "settling"
	}
	if r.Rounds > 1 {
		name = fmt.Sprintf("round %d of %d, %s", r.number, r.Rounds, name)
	}
	return name
}

// calmAgain is the time from the end of the phase with the highest rate until three seconds in a row are calm.
func calmAgain(s *Scenario, points []Point) *float64 {
	var end, highest float64
	var after time.Duration
	for i := range s.Phases {
		after += time.Duration(s.Phases[i].For)
		if rate := s.Phases[i].Orders.highest(); rate > highest {
			highest, end = rate, after.Seconds()
		}
	}
	const inARow = 3
	limit := milliseconds(time.Duration(s.SLO.AcceptedP99))
	calmFor := 0
	for i := int(end); i < len(points) && points[i].At <= s.length().Seconds(); i++ {
		if !points[i].calm(limit) {
			calmFor = 0
			continue
		}
		if calmFor++; calmFor == inARow {
			from := max(0, points[i].At-inARow-end)
			return &from
		}
	}
	return nil
}

// calm says that in a second nothing failed, nobody was shed for load, accepted orders were answered within the SLO, and orders, where
// some were due, had answers that a sale gives.
func (p *Point) calm(limit float64) bool {
	answered := p.Accepted + p.Repeated + p.Refused - p.Shed
	return p.Failed == 0 && p.Shed == 0 && (limit == 0 || p.AcceptedP99 <= limit) && (p.Orders == 0 || answered > 0)
}
