package loadtest

import (
	"maps"
	"math"
	"time"
)

// moment is what was known at one time of a service and of the generator, by process.
type moment struct {
	at     time.Duration // since the round began
	gap    bool          // somebody did not answer: what he told last stands for it
	doors  []endpoint
	told   map[string]reading
	cpu    map[string]count   // seconds
	gc     map[string]count   // seconds
	memory map[string]float64 // bytes; of those that were seen at this very moment
}

// count is a counter, and when it was read.
type count struct {
	value float64
	at    time.Duration
}

func newMoment(at time.Duration, doors []endpoint) moment {
	return moment{at: at, doors: doors, cpu: map[string]count{}, gc: map[string]count{}, memory: map[string]float64{}}
}

// uses notes what a process uses. What is 0 it does not tell.
func (m *moment) uses(name string, r reading) {
	if r.cpu > 0 {
		m.cpu[name] = count{r.cpu, m.at}
	}
	if r.memory > 0 {
		m.memory[name] = r.memory
	}
}

// after adds what is known from before of those that did not answer.
func (m moment) after(before moment) moment {
	m.told, m.cpu, m.gc = inherit(before.told, m.told), inherit(before.cpu, m.cpu), inherit(before.gc, m.gc)
	return m
}

func inherit[T any](old, present map[string]T) map[string]T {
	all := make(map[string]T, len(present))
	maps.Copy(all, old)
	maps.Copy(all, present)
	return all
}

// grown is how much a counter grew. One that began anew, with its process, grew from 0.
func grown(before, now float64) float64 {
	if now < before {
		return now
	}
	return now - before
}

// pointOf describes a moment, and the time since the one before. What began in between is counted from the next moment on.
func pointOf(before, now moment) Point {
	p := Point{At: now.at.Seconds(), Gap: now.gap, CPU: map[string]float64{}, Memory: map[string]float64{}, GC: map[string]float64{}}
	for _, door := range now.doors {
		r := now.told[door.process]
		p.Outstanding += r.outstanding
		p.Bound += r.bound
	}
	r := now.told[workerName]
	p.Window, p.InHand, p.DrainRate, p.Commit = r.window, r.inHand, r.rate, r.commit*1000
	if old, ok := before.told[workerName]; ok {
		p.Settled = grown(old.settled, r.settled)
	}
	for name, c := range now.cpu {
		old, ok := before.cpu[name]
		if length := c.at - old.at; ok && c.at == now.at && length > 0 {
			p.CPU[name] = grown(old.value, c.value) / length.Seconds()
		}
	}
	for name, c := range now.gc {
		if old, ok := before.gc[name]; ok && c.at == now.at {
			p.GC[name] = grown(old.value, c.value) * 1000
		}
	}
	for name, bytes := range now.memory {
		p.Memory[name] = bytes / 1e6
	}
	return p
}

// merge puts what was seen into points of one interval each, and adds points where it went on longer. An interval in which nobody looked
// has the levels of the one before. Orders that were outstanding when the round began are the warm-up's: as many that were settled first
// are not counted.
func merge(points, seen []Point, every time.Duration) []Point {
	byInterval := map[int]Point{}
	level, most := Point{}, len(points)
	var before float64 // orders of the warm-up
	for n, s := range seen {
		if n == 0 {
			level, before = s, s.Outstanding
			continue
		}
		warm := min(before, s.Settled)
		s.Settled, before = s.Settled-warm, before-warm
		i := intervalOf(s.At, every)
		if earlier, ok := byInterval[i]; ok {
			s.Settled += earlier.Settled
		}
		byInterval[i], most = s, max(most, i+1)
	}
	for i := range most {
		end := float64(i+1) * every.Seconds()
		s, ok := byInterval[i]
		if ok {
			level = s
		} else {
			s = Point{
				At: end, Gap: true, Outstanding: level.Outstanding, Bound: level.Bound, Window: level.Window, InHand: level.InHand,
				DrainRate: level.DrainRate, Commit: level.Commit, CPU: map[string]float64{}, Memory: map[string]float64{}, GC: map[string]float64{},
			}
		}
		if i == len(points) {
			points = append(points, Point{At: min(end, s.At)})
		}
		p := &points[i]
		p.Settled, p.Outstanding, p.Bound, p.Window, p.InHand = s.Settled, s.Outstanding, s.Bound, s.Window, s.InHand
		p.DrainRate, p.Commit, p.CPU, p.Memory, p.GC, p.Gap = s.DrainRate, s.Commit, s.CPU, s.Memory, s.GC, s.Gap
	}
	return points
}

// intervalOf is the interval that a look ends. A look that is a little late ends the one that is over.
func intervalOf(at float64, every time.Duration) int {
	return max(0, int(math.Ceil(at/every.Seconds()-0.2))-1)
}
