package loadtest

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"time"
)

// plan is every request that a scenario has before it begins: equal for equal scenarios and seeds. What buyers do because of an
// answer comes on top while it is played.
type plan struct {
	requests []request       // by due
	start    time.Duration   // of the first phase; before is the warm-up
	end      time.Duration   // of the last phase
	borders  []time.Duration // where each phase begins, and where the last one ends
	quantity int             // units of an order
}

// request is one request of a buyer.
type request struct {
	due   time.Duration // since the attack began
	kind  kind
	sale  int    // index; warmupSale: the warm-up's
	buyer uint64 // number
	key   uint64 // number of the Idempotency-Key; 0: none
	stays bool   // the buyer comes again when refused and told to
	try   int    // from 1
}

type kind uint8

const (
	order kind = iota
	page
)

const warmupSale = -1

// newPlan plans a valid scenario. Each stream has random numbers of its own, so that a change of one leaves the others as they were.
func newPlan(s *Scenario) *plan {
	p := &plan{start: time.Duration(s.Warmup.For), quantity: s.Crowd.Quantity}
	warm := Arrivals{Rate: s.Warmup.Rate}
	for due := range warm.times(p.start, nil) {
		n := uint64(len(p.requests))
		p.requests = append(p.requests, request{due: due, sale: warmupSale, buyer: n, key: n + 1, try: 1})
	}
	p.end = p.start
	for i := range s.Phases {
		phase := &s.Phases[i]
		p.borders = append(p.borders, p.end)
		p.orders(s, phase, rand.New(rand.NewPCG(s.Seed, uint64(2*i+1))))
		p.pages(s, phase, rand.New(rand.NewPCG(s.Seed, uint64(2*i+2))))
		p.end += time.Duration(phase.For)
	}
	p.borders = append(p.borders, p.end)
	slices.SortStableFunc(p.requests, func(a, b request) int { return cmp.Compare(a.due, b.due) })
	return p
}

func (p *plan) orders(s *Scenario, phase *Phase, random *rand.Rand) {
	crowd, sales := s.Crowd, weights(s.Sales)
	for due := range phase.Orders.times(time.Duration(phase.For), random) {
		n := uint64(len(p.requests)) + 1 // different for each order
		r := request{due: p.end + due, sale: draw(sales, random), buyer: n, try: 1}
		if crowd.Buyers > 0 {
			r.buyer = random.Uint64N(uint64(crowd.Buyers))
		}
		if random.Float64() < crowd.Keyed {
			r.key = n
		}
		r.stays = random.Float64() < crowd.Retry
		p.requests = append(p.requests, r)
		if random.Float64() < crowd.DoubleClick {
			again := r
			again.due += time.Duration(random.Float64() * float64(crowd.ClickWithin))
			p.requests = append(p.requests, again)
		}
	}
}

func (p *plan) pages(s *Scenario, phase *Phase, random *rand.Rand) {
	sales := weights(s.Sales)
	for due := range phase.Pages.times(time.Duration(phase.For), random) {
		p.requests = append(p.requests, request{due: p.end + due, kind: page, sale: draw(sales, random), try: 1})
	}
}

// weights are the sales' shares, summed up to each of them.
func weights(sales []Sale) []float64 {
	sums, sum := make([]float64, len(sales)), 0.0
	for i := range sales {
		sum += cmp.Or(sales[i].Weight, 1)
		sums[i] = sum
	}
	return sums
}

func draw(sums []float64, random *rand.Rand) int {
	at, _ := slices.BinarySearch(sums, random.Float64()*sums[len(sums)-1])
	return min(at, len(sums)-1)
}

// hash names the planned requests: when they are due, what they ask for and how many units, whose they are, and who will come again.
func (p *plan) hash() string {
	h := sha256.New()
	b := binary.AppendVarint(nil, int64(p.quantity))
	_, _ = h.Write(b) // never fails (hash.Hash)
	for i := range p.requests {
		r := &p.requests[i]
		b = binary.AppendVarint(b[:0], int64(r.due))
		b = append(b, byte(r.kind))
		b = binary.AppendVarint(b, int64(r.sale))
		b = binary.AppendUvarint(b, r.buyer)
		b = binary.AppendUvarint(b, r.key)
		if r.stays {
			b = append(b, 's')
		}
		_, _ = h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// phase is the index of the phase in which something was due; -1: the warm-up.
func (p *plan) phase(due time.Duration) int {
	i, at := slices.BinarySearch(p.borders[:len(p.borders)-1], due)
	if at {
		return i
	}
	return i - 1
}
