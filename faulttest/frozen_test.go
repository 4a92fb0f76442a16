package faulttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// P1, P3: a worker is stopped for longer than nsqd waits for an answer (10 s), with orders in hand. Another one takes over, is
// given these too and settles them; the first, when it goes on, goes on with what it had, and sells nothing twice.
func TestFrozen_AWorkerThatGoesOnSellsNothingTwice(t *testing.T) {
	t.Parallel()
	const stock, count, stopped = 700, 1000, 20 * time.Second
	dir := workDir(t)
	s := scene{t: t, dir: dir, store: store{name: "postgres", flag: postgres(t), dir: filepath.Join(dir, "store")}}
	p := launchParts(t, s, "5000", "--drain-rate", "250")
	openSaleWith(t, p.admin, saleID, stock, 1, 0, p.door)

	b := newBuyers(p.door, saleID, count, 64, 500)
	defer b.keep(t, dir)
	b.each = func(ctx context.Context, n int64) {
		user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
		if a := b.place(ctx, user, key); a.code == http.StatusAccepted {
			b.accept(Event{User: user, Key: key, Order: a.Order})
		}
	}
	spare := freeAddress(t)
	mark, db := b.whenAccepted(400), s.store.open(t)
	rushWith(t, b, func(ctx context.Context) {
		await(ctx, t, b, mark)
		release := lockOrders(ctx, t, db)
		eventually(t, 20*time.Second, "the worker is settling orders", func() (err error) {
			var n int
			const settling = `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO orders%'`
			if err = db.QueryRowContext(ctx, settling).Scan(&n); err == nil && n == 0 {
				err = errors.New("it waits for no lock")
			}
			return err
		})
		p.worker.freeze(t)
		launch(t, dir, "other", "worker", "--nsqd", p.nsqdAddress, "--admin", spare, "--store", s.store.flag,
			"--data", filepath.Join(dir, "other"), "--id-key", p.key, "--drain-rate", "250")
		release()
		since := time.Now()
		unsettled := func() (n int64) {
			if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sluice_orders").Scan(&n); err != nil {
				t.Errorf("counting the orders: %v", err)
			}
			return b.accepted.Load() - n
		}
		pause(ctx, 8*time.Second) // nsqd takes back what a silent worker had in hand after 10 s
		inHand := inFlight(ctx, t, p.nsqdAddress)
		t.Logf("8 s after it was stopped it has %d orders in hand, and %d are not settled", inHand, unsettled())
		if inHand == 0 {
			t.Error("it has nothing in hand: the story tests less than it says")
		}
		eventually(t, time.Minute, "the other worker settles everything", func() error {
			if n := unsettled(); n != 0 {
				return fmt.Errorf("%d orders are not settled", n)
			}
			return nil
		})
		t.Logf("after %v all are", time.Since(since).Round(time.Second))
		pause(ctx, time.Until(since.Add(stopped)))
		p.worker.signal(t, syscall.SIGCONT)
		pause(ctx, 3*time.Second) // for what it had in hand
	})
	b.count = len(b.orders) // the others were turned away for good
	judge(t, b, p.admin, s.store)
}

// inFlight is how many orders nsqd has given to workers without an answer so far.
func inFlight(ctx context.Context, t *testing.T, nsqd string) (n int) {
	t.Helper()
	type channel struct {
		InFlight int `json:"in_flight_count"`
	}
	var stats struct {
		Topics []struct{ Channels []channel }
	}
	at, err := netip.ParseAddrPort(nsqd)
	if err == nil { // HTTP is one port above
		http := netip.AddrPortFrom(at.Addr(), at.Port()+1)
		err = get(ctx, fmt.Sprintf("http://%v/stats?format=json&topic=orders&channel=settle", http), &stats)
	}
	if err != nil || len(stats.Topics) != 1 || len(stats.Topics[0].Channels) != 1 {
		t.Fatalf("the channel's figures: %+v (%v)", stats, err)
	}
	return stats.Topics[0].Channels[0].InFlight
}

// lockOrders lets nobody write an order until release is called: who settles some has these in hand.
func lockOrders(ctx context.Context, t *testing.T, db *sql.DB) (release func()) {
	t.Helper()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "LOCK TABLE sluice.orders IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}
