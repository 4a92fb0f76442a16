package faulttest

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Stories of buyers who come at a steady pace. They spend their time waiting, and so run side by side.

// onSQLite is a scene of its own.
func onSQLite(t *testing.T) scene {
	t.Helper()
	dir := workDir(t)
	return scene{t: t, dir: dir, store: store{name: "sqlite", flag: "sqlite", dir: filepath.Join(dir, "store")}}
}

// P3, and the bound by time: a worker that is stopped for ten seconds does not close the door for good. Buyers come all the
// while, each asks once; seconds after the worker goes on they come in at the pace of the drain, and everybody who was told
// 202, before, during or after the pause, is settled.
func TestSteady_AWorkerThatPausesDoesNotCloseTheDoor(t *testing.T) {
	t.Parallel()
	const drain, perSecond = 200, 300
	const before, pauses, after = 4 * time.Second, 10 * time.Second, 6 * time.Second
	s := onSQLite(t)
	p := launchBehind(t, s, "--drain-rate", fmt.Sprint(drain))
	p.door, p.ingress = p.launchDoor(t, s.dir, "door-1", "5000", "--max-wait", "2s")
	openSale(t, p.door, p.admin, saleID, 100_000)

	b := newBuyers(p.door, saleID, int((before+pauses+after)/time.Second)*perSecond, 64, perSecond)
	defer b.keep(t, s.dir)
	b.each = func(ctx context.Context, n int64) {
		user, key := fmt.Sprintf("buyer-%06d", n), fmt.Sprintf("key-%06d", n)
		if a := b.place(ctx, user, key); a.code == http.StatusAccepted {
			b.accept(Event{User: user, Key: key, Order: a.Order})
		}
	}
	began, since := time.Now(), time.Duration(0)
	rushWith(t, b, func(ctx context.Context) {
		pause(ctx, before)
		p.worker.signal(t, syscall.SIGSTOP)
		pause(ctx, pauses)
		p.worker.signal(t, syscall.SIGCONT)
		since = time.Since(began)
	})

	accepted := make([]int, 30) // by second after the pause
	for _, e := range b.history.Events() {
		if at := time.Duration(e.At) - since; e.Call == Place && e.Accepted() && at >= 0 && int(at/time.Second) < len(accepted) {
			accepted[at/time.Second]++
		}
	}
	t.Logf("accepted in the seconds after the pause: %v", accepted[:after/time.Second])
	for second := 1; second < 5; second++ {
		if n := accepted[second]; n < drain*6/10 {
			t.Errorf("%d came in from %d s after the pause on within a second; the drain takes %d", n, second, drain)
		}
	}
	b.count = len(b.orders) // the others were turned away for good
	judge(t, b, p.admin, s.store)
}

// P7: what a buyer is told of the wait is right within a fifth, for half of the buyers at least, where the drain's rate is set.
func TestSteady_TheETAIsRightWhereTheRateIsSet(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	p := launchParts(t, s, "5000", "--drain-rate", "300")
	openSale(t, p.door, p.admin, saleID, 100_000)
	etaIsRight(t, s, p, 450)
}

// And where nobody knows how fast the database is, so that only what was measured counts: three milliseconds an order, most
// of a second for a batch.
func TestSteady_TheETAIsRightWhereTheRateIsMeasured(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	s.store.name, s.store.flag = "postgres", postgres(t)
	p := launchParts(t, s, "5000")
	openSale(t, p.door, p.admin, saleID, 100_000)
	slowDown(t, s.store.flag, "0.003")
	etaIsRight(t, s, p, 450)
}

// slowDown makes the database need so many seconds for each order.
func slowDown(t *testing.T, url, seconds string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // it was used, or the test has failed
	_, err = db.ExecContext(t.Context(), `
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(`+seconds+`); RETURN NEW; END $$;
		CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()`)
	if err != nil {
		t.Fatalf("make the database slow: %v", err)
	}
}

// etaIsRight lets buyers in faster than the drain, so that the queue grows, and follows one in eight from its 202 to its
// outcome. Those of the first three seconds
// may find no measured rate.
func etaIsRight(t *testing.T, s scene, p parts, perSecond int) {
	t.Helper()
	const seconds, warm = 6, 3
	b := newBuyers(p.door, saleID, seconds*perSecond, 512, perSecond)
	defer b.keep(t, s.dir)
	type forecast struct {
		position    int64
		eta, actual time.Duration
	}
	var mu sync.Mutex // guards forecasts
	var forecasts []forecast
	b.each = func(ctx context.Context, n int64) {
		e := Event{User: fmt.Sprintf("buyer-%06d", n), Key: fmt.Sprintf("key-%06d", n)}
		a := b.place(ctx, e.User, e.Key)
		told := time.Now()
		if a.code != http.StatusAccepted {
			t.Errorf("%s was told %d %s", e.User, a.code, a.Reason)
			return
		}
		e.Order = a.Order
		b.accept(e)
		if n%8 != 0 || n < int64(warm*perSecond) || !b.until(ctx, b.doors[0], e, Status.Final).Final() {
			return
		}
		actual := time.Since(told)
		mu.Lock()
		defer mu.Unlock()
		forecasts = append(forecasts, forecast{a.Position, time.Duration(a.ETA) * time.Millisecond, actual})
	}
	rushWith(t, b, func(context.Context) {})

	var errs, signed []float64
	for _, f := range forecasts {
		signed = append(signed, float64(f.eta-f.actual)/float64(f.actual))
		errs = append(errs, math.Abs(signed[len(signed)-1]))
	}
	if want := (seconds - warm) * perSecond / 8 * 9 / 10; len(errs) < want {
		t.Fatalf("%d forecasts, want %d", len(errs), want)
	}
	slices.Sort(errs)
	slices.Sort(signed)
	first, last := forecasts[0], forecasts[len(forecasts)-1]
	t.Logf("%d forecasts; error: median %.1f %%, 9 of 10 within %.1f %%; signed median %+.1f %%; first %+v, last %+v", len(errs),
		100*errs[len(errs)/2], 100*errs[len(errs)*9/10], 100*signed[len(signed)/2], first, last)
	if median := errs[len(errs)/2]; median > 0.2 && !raceDetector { // which slows every part, and not evenly
		t.Errorf("the median error of the ETA is %.1f %%, want 20 %% at most", 100*median)
	}
	judge(t, b, p.admin, s.store)
}
