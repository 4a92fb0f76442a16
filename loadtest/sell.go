package loadtest

import (
	"context"
	"crypto/rand"
	"encoding/json"
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

// lead is the time that doors have to learn when sales open; distant is when they do until that is known.
const (
	lead    = 3 * time.Second
	distant = time.Hour
)

// sell makes the round's sales and waits until every door knows them. It answers when the attack is to begin. Sales that open with a phase are
// made closed, and told when they open once everybody knows them: however long that took, none opens before its phase.
func (r *player) sell(ctx context.Context) (begin time.Time, err error) {
	c := r.target.operations()
	defer c.Close()
	r.names = make([]string, len(r.Scenario.Sales))
	for i := range r.Scenario.Sales {
		sale := &r.Scenario.Sales[i]
		n := api.NewSale{ID: r.name(sale.Name), SKU: sale.Name, Stock: sale.Stock, PaymentWindow: &sale.PaymentWindow}
		if sale.PerUserLimit > 0 {
			n.PerUserLimit = &sale.PerUserLimit
		}
		if sale.Opens != "" {
			n.StartsAt = time.Now().Add(distant)
		}
		if err := r.create(ctx, c, n); err != nil {
			return begin, err
		}
		r.names[i] = n.ID
	}
	if r.Scenario.Warmup.For > 0 {
		atOnce := sluice.Duration(0)
		name := r.name("warmup")
		if err := r.create(ctx, c, api.NewSale{ID: name, SKU: "warmup", Stock: 1e9, PaymentWindow: &atOnce}); err != nil {
			return begin, err
		}
		r.warmup = name
	}
	if err := r.known(ctx, func(_ string, v saleView) bool { return v.Open || v.Reason == string(sluice.NotStarted) }); err != nil {
		return begin, err
	}
	return r.open(ctx, c)
}

// open sets when sales open, by the store's clock, and waits until every door knows it.
func (r *player) open(ctx context.Context, c *api.Client) (begin time.Time, err error) {
	opening := map[string]time.Time{}
	begin = time.Now().Add(100 * time.Millisecond)
	if slices.ContainsFunc(r.Scenario.Sales, func(s Sale) bool { return s.Opens != "" }) {
		begin = begin.Add(lead)
	}
	for i := range r.Scenario.Sales {
		if phase := r.Scenario.Sales[i].Opens; phase != "" {
			name := r.names[i]
			at := begin.Add(r.opens(phase) + r.ahead).Round(time.Millisecond)
			opening[name] = at
			asked, cancel := context.WithTimeout(ctx, 30*time.Second)
			_, err := c.PatchSale(asked, name, sluice.SalePatch{StartsAt: &at})
			cancel()
			if err != nil {
				return begin, fmt.Errorf("when the sale %s opens: %w", name, err)
			}
		}
	}
	err = r.known(ctx, func(name string, v saleView) bool { return opening[name].IsZero() || v.StartsAt.Equal(opening[name]) })
	if err == nil && len(opening) > 0 && time.Now().After(begin) {
		err = fmt.Errorf("the doors took longer than %v to learn when their sales open: the machine is too busy", lead)
	}
	return begin, err
}

// end ends what was sold on a foreign service, so that nothing of it stays open. Nobody waits for more than a few seconds.
func (r *player) end(ctx context.Context) error {
	if r.Foreign == nil {
		return nil // it is gone with its parts
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	c := r.target.operations()
	defer c.Close()
	var err error
	for _, name := range append(slices.Clip(r.names), r.warmup) {
		if name == "" {
			continue
		}
		if _, e := c.EndSale(ctx, name); e != nil {
			err = errors.Join(err, fmt.Errorf("the sale %s stays open: %w", name, e))
		}
	}
	return err
}

// name is a sale's name: on a foreign service one that nobody else has.
func (r *player) name(sale string) string {
	if r.Foreign == nil {
		return sale
	}
	return fmt.Sprintf("load-%s-%s", strings.ToLower(rand.Text()[:10]), sale)
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

// saleView is a sale as a door tells it.
type saleView struct {
	Open     bool      `json:"open"`
	Reason   string    `json:"reason"`
	StartsAt time.Time `json:"starts_at"`
	Now      time.Time `json:"now"`
}

// known waits until every door tells of every sale what is wanted, and notes how far the store's clock is ahead.
func (r *player) known(ctx context.Context, wanted func(name string, v saleView) bool) error {
	names := r.names
	if r.warmup != "" {
		names = append(slices.Clip(names), r.warmup)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("not within 20 s"))
	defer cancel()
	for _, door := range r.target.Doors {
		for _, name := range names {
			for {
				v, err := r.look(ctx, door, name)
				if err == nil && wanted(name, v) {
					break
				}
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					return fmt.Errorf("the front door at %s does not know the sale %s as it is: %w (%+v, %w)", door, name, context.Cause(ctx), v, err)
				}
			}
		}
	}
	return nil
}

// look is a sale at a door.
func (r *player) look(ctx context.Context, door, name string) (v saleView, err error) {
	text, err := fetch(ctx, door+"/v1/sales/"+name)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err == nil && !v.Now.IsZero() {
		r.ahead = ahead(time.Until(v.Now))
	}
	return v, err
}

// ahead is how far the store's clock is ahead of ours. What a door tells of it lags by its own way and by the answer's: so little says nothing,
// and would open a sale before its phase.
func ahead(seen time.Duration) time.Duration {
	if seen.Abs() < time.Second {
		return 0
	}
	return seen
}

// questions are rare: they keep no connection.
var questions = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get asks for a page that must be there.
func get(ctx context.Context, url string) error {
	_, err := fetch(ctx, url)
	return err
}

// fetch is a short page that must be there.
func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := questions.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %.200s", resp.Status, strings.TrimSpace(string(text)))
	}
	return text, err
}

// openFiles is how many files this process may have open.
func openFiles() (limit syscall.Rlimit) {
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) // it has no way to fail: the resource and the address are good
	return limit
}
