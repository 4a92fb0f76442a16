package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice"
	"sluice/api"
)

// lead is the time that doors have to learn of sales which open with a phase.
const lead = 3 * time.Second

// sell makes the round's sales and waits until every door knows them. It answers when the attack is to begin.
func (r *player) sell(ctx context.Context) (begin time.Time, err error) {
	begin = time.Now()
	for i := range r.Scenario.Sales {
		if r.Scenario.Sales[i].Opens != "" {
			begin = time.Now().Add(lead)
		}
	}
	c := api.NewClient(r.target.Admin, r.target.Token)
	defer c.Close()
	r.names = make([]string, len(r.Scenario.Sales))
	for i := range r.Scenario.Sales {
		sale := &r.Scenario.Sales[i]
		r.names[i] = r.name(sale.Name)
		n := api.NewSale{ID: r.names[i], SKU: sale.Name, Stock: sale.Stock, PaymentWindow: &sale.PaymentWindow}
		if sale.PerUserLimit > 0 {
			n.PerUserLimit = &sale.PerUserLimit
		}
		if sale.Opens != "" {
			n.StartsAt = begin.Add(r.opens(sale.Opens))
		}
		if err := r.create(ctx, c, n); err != nil {
			return begin, err
		}
	}
	if r.Scenario.Warmup.For > 0 {
		r.warmup = r.name("warmup")
		atOnce := sluice.Duration(0)
		if err := r.create(ctx, c, api.NewSale{ID: r.warmup, SKU: "warmup", Stock: 1e9, PaymentWindow: &atOnce}); err != nil {
			return begin, err
		}
	}
	return begin, r.known(ctx)
}

// name is a sale's name: on a foreign service one that nobody else has.
func (r *player) name(sale string) string {
	if r.Foreign == nil {
		return sale
	}
	return fmt.Sprintf("load-%s-%s", time.Now().UTC().Format("060102-150405"), sale)
}

// opens is when a phase begins, since the attack began.
func (r *player) opens(phase string) time.Duration {
	for i := range r.Scenario.Phases {
		if r.Scenario.Phases[i].Name == phase {
			return r.plan.borders[i]
		}
	}
	return 0
}

func (r *player) create(ctx context.Context, c *api.Client, n api.NewSale) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := c.CreateSale(ctx, n); err != nil {
		return fmt.Errorf("sale %s: %w", n.ID, err)
	}
	return nil
}

// known waits until every door knows every sale.
func (r *player) known(ctx context.Context) error {
	names := r.names
	if r.warmup != "" {
		names = append(slices.Clip(names), r.warmup)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("not within 20 s"))
	defer cancel()
	for _, door := range r.target.Doors {
		for _, name := range names {
			for err := get(ctx, door+"/v1/sales/"+name); err != nil; err = get(ctx, door+"/v1/sales/"+name) {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					return fmt.Errorf("the front door at %s does not know sale %s: %w (%w)", door, name, context.Cause(ctx), err)
				}
			}
		}
	}
	return nil
}

// questions are rare: they keep no connection.
var questions = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get asks for a page that must be there.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := questions.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
}

// descriptorLimit is how many files this process may have open.
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}
