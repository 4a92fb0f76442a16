package faulttest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/pgcluster"
)

// Stories of a database that is away for ten seconds while buyers keep coming. Each has a PostgreSQL of its own.

// P3, P1, P4, P7: PostgreSQL crashes and stays away. The door goes on to promise up to its bound and then refuses; when
// the database is back, all that was promised is settled.
func TestOutage_PostgreSQLCrashes(t *testing.T) {
	outage(t, func(_ context.Context, c *pgcluster.Cluster) error { return c.Crash() }, (*pgcluster.Cluster).Restart)
}

// The same with one that is frozen: its connections stay open, its transactions keep their locks, and nothing answers.
func TestOutage_PostgreSQLFreezes(t *testing.T) {
	outage(t, func(_ context.Context, c *pgcluster.Cluster) error { return c.Freeze() },
		func(c *pgcluster.Cluster, _ context.Context) error { return c.Thaw() })
}

func outage(t *testing.T, begin func(context.Context, *pgcluster.Cluster) error, end func(*pgcluster.Cluster, context.Context) error) {
	t.Helper()
	t.Parallel()
	const perSecond, bound = 300, 1000
	const before, away, after = 3 * time.Second, 10 * time.Second, 5 * time.Second
	cluster, err := pgcluster.Start(t.Context())
	if errors.Is(err, pgcluster.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	dir := workDir(t)
	s := scene{t: t, dir: dir, store: store{name: "postgres", flag: cluster.URL("postgres"), dir: filepath.Join(dir, "store")}}
	p := launchBehind(t, s)
	p.door, p.ingress = p.launchDoor(t, s.dir, "door-1", fmt.Sprint(bound), "--max-wait", "0s")
	openSale(t, p.door, p.admin, saleID, 100_000)

	b := newBuyers(p.door, saleID, int((before+away+after)/time.Second)*perSecond, 64, perSecond)
	defer b.keep(t, s.dir)
	b.each = func(ctx context.Context, n int64) {
		user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
		if a := b.place(ctx, user, key); a.code == http.StatusAccepted {
			b.accept(Event{User: user, Key: key, Order: a.Order})
		}
	}
	began := time.Now()
	var gone, back time.Duration
	rushWith(t, b, func(ctx context.Context) {
		pause(ctx, before)
		if err := begin(ctx, cluster); err != nil {
			t.Errorf("the outage: %v", err)
		}
		gone = time.Since(began)
		pause(ctx, away)
		back = time.Since(began)
		if err := end(cluster, context.WithoutCancel(ctx)); err != nil {
			t.Errorf("the end of the outage: %v", err)
		}
	})
	b.count = len(b.orders) // the others were turned away for good
	outageWasFelt(t, b.history.Events(), gone, back, bound)
	judge(t, b, p.admin, s.store)
}

// outageWasFelt: during the outage the door promised what its bound leaves and no more, refused the rest at once, and
// within three seconds after it promised again.
func outageWasFelt(t *testing.T, history []Event, gone, back time.Duration, bound int) {
	t.Helper()
	var during, after, refused int
	for _, e := range history {
		switch at := time.Duration(e.At); {
		case e.Call != Place || e.Event != Answer || at < gone+time.Second:
		case at < back && e.Accepted():
			during++
		case at < back:
			refused++
		case e.Accepted():
			after++
		}
	}
	t.Logf("while the database was away %d were accepted and %d refused; %d accepted after", during, refused, after)
	if during > bound || during < bound/2 {
		t.Errorf("%d were accepted during the outage; the bound is %d", during, bound)
	}
	if refused == 0 {
		t.Error("nobody was refused during the outage: the story tests less than it says")
	}
	if after == 0 {
		t.Error("nobody was accepted after the outage")
	}
}
