package capacity

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// term is one cost: so many seconds of a core for each of its events.
type term struct {
	name  string
	kinds []kind
	each  float64
	err   float64 // standard error of each
}

// Fit is what a part of the service costs.
type Fit struct {
	part      string
	terms     []term
	r2        float64 // share of the processor time's variance that the costs explain
	points    int     // seconds it was fitted to; 0: from totals
	processes int     // of the part, when that was measured
	note      string  // why it has fewer costs than one would want
}

// cores is the processor time of events in all.
func (f *Fit) of(e events) (cpu float64) {
	for _, t := range f.terms {
		cpu += t.each * e.sum(t.kinds)
	}
	return cpu
}

// idle is what each of the part's processes costs by being there, in cores.
func (f *Fit) idle() float64 {
	for _, t := range f.terms {
		if t.kinds[0] == second {
			return t.each / float64(max(1, f.processes))
		}
	}
	return 0
}

// work is what events cost besides that processes are there.
func (f *Fit) work(e events) float64 {
	e[second] = 0
	return f.of(e)
}

const (
	fewestPoints = 8  // seconds; of fewer a fit says nothing
	worstIndex   = 30 // of condition, columns scaled alike: beyond it costs can't be told apart (Belsley, Kuh and Welsch, 1980)
)

// level is a way to split the cost. The first that the data carry is taken.
type level struct {
	terms []term
	note  string // where a better one was given up for it
}

// fit splits the processor time of a part, in seconds of a core, by what happened in each second. Where no level can be told apart the
// last one, of one term, is reckoned from the totals.
func fit(part string, levels []level, seen []events, cpu []float64, all events, allCPU float64) Fit {
	f := Fit{part: part}
	if len(seen) >= fewestPoints {
		for _, l := range levels {
			terms, r2, good := solve(present(l.terms, seen), seen, cpu)
			if good {
				f.terms, f.r2, f.points, f.note = terms, r2, len(seen), l.note
				return f
			}
		}
		f.note = "the load was so even that costs can't be told apart: one cost for all, from the totals"
	} else {
		f.note = "fewer than 8 seconds were measured: one cost for all, from the totals"
	}
	last := levels[len(levels)-1].terms
	one := last[len(last)-1]
	if n := all.sum(one.kinds); n > 0 {
		one.each = allCPU / n
		f.terms = []term{one}
	}
	return f
}

// present leaves out the terms that nothing was seen of.
func present(terms []term, seen []events) (some []term) {
	for _, t := range terms {
		var n float64
		for _, e := range seen {
			n += e.sum(t.kinds)
		}
		if n > 0 {
			some = append(some, t)
		}
	}
	return some
}

// solve is least squares with costs that are not negative. It is good where the costs could be told apart and each event costs something.
func solve(terms []term, seen []events, cpu []float64) (solved []term, r2 float64, good bool) {
	n, k := len(seen), len(terms)
	if k == 0 || n < k+2 || !slicesVary(cpu) {
		return nil, 0, false
	}
	x := mat.NewDense(n, k, nil)
	scale := make([]float64, k) // of the columns, so that seconds and orders weigh alike
	for j, t := range terms {
		column := make([]float64, n)
		for i, e := range seen {
			column[i] = e.sum(t.kinds)
		}
		scale[j] = floats.Norm(column, 2)
		floats.Scale(1/scale[j], column)
		x.SetCol(j, column)
	}
	if index := mat.Cond(x, 2); index > worstIndex {
		return nil, 0, false
	}
	y := mat.NewVecDense(n, cpu)
	b, errs := nonNegative(x, y)
	for j := range terms {
		if b[j] == 0 && terms[j].kinds[0] != second {
			return nil, 0, false
		}
		t := terms[j]
		t.each, t.err = b[j]/scale[j], errs[j]/scale[j]
		solved = append(solved, t)
	}
	var fitted mat.VecDense
	fitted.MulVec(x, mat.NewVecDense(k, b))
	return solved, stat.RSquaredFrom(fitted.RawVector().Data, cpu, nil), true
}

func slicesVary(v []float64) bool { return floats.Max(v) > floats.Min(v) }

// nonNegative minimises |xb - y| with no b below 0, and tells the standard errors. With as few columns as here the set of those above 0
// is found by trying all sets.
func nonNegative(x *mat.Dense, y *mat.VecDense) (best, errs []float64) {
	n, k := x.Dims()
	best, errs = make([]float64, k), make([]float64, k)
	least := mat.Dot(y, y)
	for set := 1; set < 1<<k; set++ {
		some := columns(x, set)
		var b, r mat.VecDense
		if b.SolveVec(some, y) != nil || mat.Min(&b) < 0 {
			continue
		}
		r.MulVec(some, &b)
		r.SubVec(&r, y)
		if rest := mat.Dot(&r, &r); rest < least {
			least = rest
			best, errs = spread(&b, standardErrors(some, rest/float64(n-b.Len())), set, k)
		}
	}
	return best, errs
}

// columns are those of x whose bits are set.
func columns(x *mat.Dense, set int) *mat.Dense {
	n, k := x.Dims()
	var some []int
	for j := range k {
		if set&(1<<j) != 0 {
			some = append(some, j)
		}
	}
	d := mat.NewDense(n, len(some), nil)
	for to, from := range some {
		d.SetCol(to, mat.Col(nil, from, x))
	}
	return d
}

// spread puts the values of a set's columns where the columns are among all.
func spread(b *mat.VecDense, errs []float64, set, k int) (all, allErrs []float64) {
	all, allErrs = make([]float64, k), make([]float64, k)
	i := 0
	for j := range k {
		if set&(1<<j) != 0 {
			all[j], allErrs[j] = b.AtVec(i), errs[i]
			i++
		}
	}
	return all, allErrs
}

// standardErrors are the roots of variance (x'x)⁻¹'s diagonal.
func standardErrors(x *mat.Dense, variance float64) []float64 {
	_, k := x.Dims()
	var square, inverse mat.Dense
	square.Mul(x.T(), x)
	errs := make([]float64, k)
	if inverse.Inverse(&square) != nil {
		return errs
	}
	for j := range errs {
		errs[j] = math.Sqrt(variance * inverse.At(j, j))
	}
	return errs
}
