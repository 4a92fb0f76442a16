package loadtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice"
	"sluice/api"
)

// mostSampled bounds how many orders are read one by one. They come in the order of their ids, which are keyed hashes: the first are as
// good a sample as any.
const mostSampled = 50_000

// auditPatience is the longest wait for the ledger: the store counts every order that it has.
const auditPatience = 2 * time.Minute

// audit asks the database what became of the orders for some sales; others are somebody else's. unknown is how many orders were sent
// whose answer nobody has: they may have been settled too. The time is of the last settlement among the orders that were sampled.
func audit(ctx context.Context, s *Service, sales []string, promised, unknown int64) (a Audit, last time.Time, err error) {
	client := s.operations()
	defer client.Close()
	limited, cancel := context.WithTimeout(ctx, auditPatience)
	ledger, err := client.Audit(limited)
	cancel()
	if err != nil {
		return a, last, fmt.Errorf("audit: %w", err)
	}
	lines := linesOf(ledger, sales)
	a = lines.audit(sales, promised, unknown)
	times := sojourns{known: newHistogram()}
	for _, line := range lines {
		latest, err := sample(ctx, client, line.ID, quota(ordersOf(line), lines.settled()), &times)
		if err != nil {
			return a, last, fmt.Errorf("audit: read orders of the sale %s: %w", line.ID, err)
		}
		if latest.After(last) {
			last = latest
		}
	}
	times.into(&a)
	return a, last, nil
}

// Failed reports whether a promise was broken. What was measured then is no good, however fast it was.
func (a *Audit) Failed() bool { return !a.Balanced || len(a.Wrong) > 0 }

// sojourns are the times from admission to settlement of orders that were read.
type sojourns struct {
	known          *hdrhistogram.Histogram
	read, negative int64
}

func (s *sojourns) add(o *api.Order) {
	s.read++
	if o.AcceptedAt.IsZero() { // its door did not know the store's time
		return
	}
	d := o.SettledAt.Sub(o.AcceptedAt)
	if d < 0 {
		s.negative++
	}
	record(s.known, d)
}

// into puts them into an audit. A percentile that leaves out as many as it is to tell of is none, and one of negative times neither.
func (s *sojourns) into(a *Audit) {
	const tail = 0.01 // of a p99
	a.Read, a.Sampled, a.Negative = s.read, s.known.TotalCount(), s.negative
	if share(s.read-a.Sampled+s.negative, s.read) <= tail {
		a.Sojourn = latencyOf(s.known, true)
	}
}

// quota is how many orders of a sale are sampled, so that all of them together are a fair sample.
func quota(ofSale, ofAll int64) int64 {
	if ofAll <= mostSampled {
		return ofSale
	}
	return int64(float64(ofSale) / float64(ofAll) * mostSampled)
}

// sample reads some orders of a sale, and answers when the last of them was settled.
func sample(ctx context.Context, client *api.Client, sale string, most int64, times *sojourns) (last time.Time, err error) {
	if most == 0 {
		return last, nil
	}
	query := api.OrderQuery{Sale: sale, Limit: int(min(most, api.MaxPage))}
	for o, err := range client.AllOrders(ctx, query) {
		if err != nil {
			return last, err
		}
		if o.SettledAt.After(last) {
			last = o.SettledAt
		}
		times.add(&o)
		if most--; most == 0 {
			break
		}
	}
	return last, nil
}

// ledgerLines are some sales' lines of the ledger.
type ledgerLines []sluice.SaleAudit

func linesOf(a sluice.Audit, sales []string) (lines ledgerLines) {
	for _, line := range a.Sales {
		if slices.Contains(sales, line.ID) {
			lines = append(lines, line)
		}
	}
	return lines
}

func ordersOf(line sluice.SaleAudit) (n int64) {
	for _, orders := range line.Orders {
		n += orders
	}
	return n
}

func (lines ledgerLines) settled() (n int64) {
	for _, line := range lines {
		n += ordersOf(line)
	}
	return n
}

// audit sums the lines up, and looks for promises that were not kept.
func (lines ledgerLines) audit(sales []string, promised, unknown int64) Audit {
	a := Audit{Balanced: true, Promised: promised, Settled: lines.settled(), States: map[string]int64{}, Wrong: []string{}}
	wrong := func(format string, args ...any) { a.Wrong = append(a.Wrong, fmt.Sprintf(format, args...)) }
	for _, id := range sales {
		if !slices.ContainsFunc(lines, func(line sluice.SaleAudit) bool { return line.ID == id }) {
			a.Balanced = false
			wrong("P8: the ledger has no sale %s", id)
		}
	}
	for _, line := range lines {
		for state, n := range line.Orders {
			a.States[string(state)] += n
		}
		sold, stock := line.Held+line.Sold, line.Stock+line.TopUps
		a.Sold, a.Stock = a.Sold+sold, a.Stock+stock
		if sold > stock {
			wrong("P1: %s has %d units held or sold, of %d", line.ID, sold, stock)
		}
		if len(line.Differences) > 0 {
			a.Balanced = false
			wrong("P8: %s does not balance: %s", line.ID, strings.Join(line.Differences, "; "))
		}
	}
	if missing := promised - a.Settled; missing > 0 {
		wrong("P3: %d of %d promised orders are not settled", missing, promised)
	}
	if more := a.Settled - promised - unknown; more > 0 {
		wrong("P5: %d orders were settled that nobody sent: %d were promised, and of %d the answer is unknown", more, promised, unknown)
	}
	return a
}
