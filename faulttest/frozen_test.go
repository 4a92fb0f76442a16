package faulttest

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// P1, P3: one of two workers is stopped for longer than nsqd waits for an answer (15 s), with orders in hand. The other one is
// given these and settles them; the first, when it goes on, goes on with what it had, and sells nothing twice.
func TestFrozen_AWorkerThatGoesOnSellsNothingTwice(t *testing.T) {
	t.Parallel()
	const stock, count, stopped = 700, 1000, 20 * time.Second
	dir := workDir(t)
	s := scene{t: t, dir: dir, store: store{name: "postgres", flag: postgres(t), dir: filepath.Join(dir, "store")}}
	p := launchParts(t, s, "5000", "--drain-rate", "100")
	frozen := launch(t, dir, "frozen", "worker", "--nsqd", p.nsqdAddress, "--admin", freeAddress(t), "--store", s.store.flag,
		"--data", filepath.Join(dir, "frozen"), "--id-key", p.key, "--drain-rate", "100")
	openSaleWith(t, p.admin, saleID, stock, 1, 0, p.door)

	b := newBuyers(p.door, saleID, count, 64, 500)
	defer b.keep(t, dir)
	b.each = func(ctx context.Context, n int64) {
		user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
		if a := b.place(ctx, user, key); a.code == http.StatusAccepted {
			b.accept(Event{User: user, Key: key, Order: a.Order})
		}
	}
	mark := b.whenAccepted(400)
	rushWith(t, b, func(ctx context.Context) {
		await(ctx, t, b, mark)
		frozen.freeze(t)
		since := time.Now()
		unsettled := func() int64 { //nolint:contextcheck // views takes the one of its test
			orders, _ := s.store.views(t)
			return b.accepted.Load() - int64(len(orders))
		}
		pause(ctx, 12*time.Second)
		held := unsettled()
		t.Logf("12 s after it was stopped %d orders are not settled", held)
		if held == 0 {
			t.Error("it had nothing in hand: the story tests less than it says")
		}
		eventually(t, time.Minute, "the other worker settles everything", func() error {
			if n := unsettled(); n != 0 {
				return fmt.Errorf("%d orders are not settled", n)
			}
			return nil
		})
		t.Logf("after %v all are", time.Since(since).Round(time.Second))
		pause(ctx, time.Until(since.Add(stopped)))
		frozen.signal(t, syscall.SIGCONT)
		pause(ctx, 3*time.Second) // for what it had in hand
	})
	b.count = len(b.orders) // the others were turned away for good
	judge(t, b, p.admin, s.store)
}
