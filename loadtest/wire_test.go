package loadtest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
	"sluice/internal/calm"
	"sluice/loadtest/lab"
)

// net/http sends a request again, unasked, whose connection breaks and which has an idempotency key, or is a GET. Whoever lets it hides
// what failed, and sends more than was planned.
func TestAttack_SendsEachRequestOnceWhateverBecomesOfItsConnection(t *testing.T) {
	for _, keyed := range []float64{1, 0} {
		var seen, dropped, odd atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && (len(r.TransferEncoding) > 0 || r.ContentLength != 0 || r.Header.Get("Transfer-Encoding") != "") {
				odd.Add(1)
			}
			switch n := seen.Add(1); {
			case n%10 == 0: // without an answer
				dropped.Add(1)
				if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
					_ = conn.Close()
				}
			case r.Method == http.MethodGet:
				fmt.Fprint(w, `{"id":"rush","open":true}`)
			default:
				accept(int(n), w)
			}
		}))
		story := steady(200, 2*time.Second)
		story.Crowd.Keyed, story.Phases[0].Pages.Rate = keyed, 100
		books := play(t.Context(), t, story, s.URL)
		s.Close()
		f := books.all.figures("", 0, 2*time.Second, false)
		if f.Planned != 600 || f.Sent != 600 || seen.Load() != 600 || total(f.Failed) != dropped.Load() || dropped.Load() != 60 {
			t.Errorf("keyed %v: planned %d, sent %d, the server saw %d and dropped %d; failed %v", keyed, f.Planned, f.Sent, seen.Load(), dropped.Load(), f.Failed)
		}
		if odd.Load() > 0 {
			t.Errorf("keyed %v: %d GETs had a body", keyed, odd.Load())
		}
	}
}

// A connection that the server has closed while it was idle is nobody's failure: nothing was written to it.
func TestAttack_TakesAnotherConnectionWhereAnIdleOneWasClosed(t *testing.T) {
	calm.Play(t, 3*time.Millisecond, func(complain calm.Complain) {
		s := newShop(t, accept)
		s.Config.IdleTimeout = 5 * time.Millisecond
		story := steady(60, 2*time.Second)
		story.Connections, story.Phases[0].Pages.Rate = 4, 60
		books := play(t.Context(), t, story, s.URL)
		s.mu.Lock()
		defer s.mu.Unlock()
		if f := books.all; f.sent != 240 || s.n > 120 {
			t.Errorf("sent %d, %d orders came; want 240, and at most 120", f.sent, s.n)
		}
		if f := books.all; total(f.failed) > 12 { // a request may cross the closing
			complain("failed %v; want hardly any", f.failed)
		}
	})
}

func TestAttack_TellsTheCapOfConnectionsFromASlowService(t *testing.T) {
	calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) { tellTheCap(t, complain) })
}

func tellTheCap(t *testing.T, complain calm.Complain) {
	t.Helper()
	s := newShop(t, func(n int, w http.ResponseWriter) { time.Sleep(5 * time.Millisecond); accept(n, w) })
	story := steady(20_000, 20*time.Millisecond) // 400 at once, and 100 of them in time
	story.Connections, story.Timeout = 1, sluice.Duration(500*time.Millisecond)
	story.SLO.AcceptedP99 = sluice.Duration(100 * time.Millisecond)
	books := play(t.Context(), t, story, s.URL)
	f := books.all.figures("", 0, 20*time.Millisecond, false)
	s.mu.Lock()
	if f.Planned != 400 || f.Sent > 200 || f.Sent < 30 || int64(s.n) > f.Sent || f.Sent-f.Accepted-books.lost > 10 { // the last ones' answers come too late
		complain("planned %d, sent %d, accepted %d, unknown %d, the server saw %d; want those that had no connection to be unsent",
			f.Planned, f.Sent, f.Accepted, books.lost, s.n)
	}
	s.mu.Unlock()
	why := strings.Join(gate(&Round{Measured: f}, 1, 0), "\n")
	if !strings.Contains(why, "were never sent") || !strings.Contains(why, "the cap of 1 connections was reached") {
		complain("the gate says %q", why)
	}
	if l := f.Latency[Accepted]; l.P99 < 400 {
		complain("accepted p99 is %v ms: it does not contain the wait", l.P99)
	}

	slow := newShop(t, func(n int, w http.ResponseWriter) { time.Sleep(200 * time.Millisecond); accept(n, w) })
	story.Connections, story.Timeout = 20, sluice.Duration(10*time.Second)
	story.Phases[0] = Phase{Name: "only", For: sluice.Duration(time.Second), Orders: Arrivals{Rate: 200}}
	books = play(t.Context(), t, story, slow.URL)
	f = books.all.figures("", 0, time.Second, false)
	if why := strings.Join(gate(&Round{Measured: f}, 20, 0), "\n"); strings.Contains(why, "the cap") || f.Wait.P99 < 100 || f.Sent != 200 {
		complain("the service kept connections for 200 ms each; sent %d, wait %+v, and the gate says %q", f.Sent, f.Wait, why)
	}
}

// What is beyond the most workers leaves late, and that is seen.
func TestAttack_IsLateWhereItHasNoMoreWorkers(t *testing.T) {
	calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) { beLate(t, complain) })
}

func beLate(t *testing.T, complain calm.Complain) {
	t.Helper()
	s := newShop(t, accept)
	s.stall(500 * time.Millisecond)
	story := steady(400, time.Second)
	p := newPlan(story)
	a, err := newAttack(t.Context(), story, p, []string{s.URL}, []string{"rush"}, "warmup")
	if err != nil {
		t.Fatal(err)
	}
	a.workers = 10
	books := newTally(story, p, a.schedule)
	a.run(books.see)
	books.end(p.end)
	f := books.all.figures("", 0, time.Second, false)
	if why := gate(&Round{Measured: f}, 64, 0); len(why) != 1 || !strings.Contains(why[0], "could not keep up: it sent requests") {
		complain("lag %+v, and the gate says %q", f.Lag, why)
	}
	if late := books.at(0).Late; late < 100 {
		complain("%d of the first second are late, want about 190", late)
	}
}

func TestAttack_TakesRefusalsOfAWrongSetUpForFailures(t *testing.T) {
	reasons := []sluice.Refusal{
		sluice.BadTicket, sluice.NoSuchSale, sluice.NotStarted, sluice.RateLimited, sluice.UnsupportedMediaType, sluice.Blocked, sluice.BadRequest,
		sluice.IdempotencyMismatch, sluice.BadOrigin, sluice.NotFound, sluice.Unauthorized, sluice.TooLarge,
	}
	s := newShop(t, func(n int, w http.ResponseWriter) { refuse(string(reasons[n%len(reasons)]), 50)(n, w) })
	story := steady(240, time.Second)
	story.Crowd.Retry, story.Crowd.Tries = 1, 3
	books := play(t.Context(), t, story, s.URL)
	f := books.all.figures("", 0, time.Second, false)
	if total(f.Refused) != 0 || f.Sent != 240 || books.lost != 0 {
		t.Errorf("sent %d, refused %v, unknown %d; want all failed, nobody to come again, and nothing unknown", f.Sent, f.Refused, books.lost)
	}
	for _, reason := range reasons {
		if f.Failed[string(reason)] != 20 {
			t.Errorf("%s: %d failed, want 20", reason, f.Failed[string(reason)])
		}
	}
	if why := broken(SLO{Failed: 1}, f, Audit{Balanced: true}); !says(why, "no order of 240 was accepted") {
		t.Errorf("broken: %q", why)
	}
}

func TestAttack_MayBeToldThatASaleHasNotStartedBeforeItDoes(t *testing.T) {
	s := newShop(t, refuse("not-started", 0))
	story := steady(100, time.Second)
	story.Phases = append(story.Phases, Phase{Name: "sale", For: sluice.Duration(2 * time.Second), Orders: Arrivals{Rate: 100}})
	story.Sales[0].Opens = "sale"
	books := play(t.Context(), t, story, s.URL)
	if refused, failed := books.all.refused["not-started"], books.all.failed["not-started"]; refused != 200 || failed != 100 {
		t.Errorf("%d refused and %d failed; want 100 before the sale, 100 in its first second, and 100 failures after it", refused, failed)
	}
}

// What was due after Ctrl-C is nobody's fault, and no time was played after it.
func TestAttack_EndedEarlyIsOfTheTimeThatWasPlayed(t *testing.T) {
	calm.Play(t, 100*time.Millisecond, func(complain calm.Complain) {
		s := newShop(t, func(n int, w http.ResponseWriter) { time.Sleep(time.Second); accept(n, w) })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		story := steady(50, 30*time.Second)
		story.Phases = append(story.Phases, Phase{Name: "never", For: sluice.Duration(time.Minute), Orders: Arrivals{Rate: 50}})
		books := play(ctx, t, story, s.URL)
		length := books.played(-1)
		// The end is counted from a little earlier than the beginning of the play, and on a busy machine that takes a moment.
		if length < 1500*time.Millisecond || length > 2500*time.Millisecond {
			complain("played %v, want 2 s", length)
		}
		if books.played(0) != length || books.played(1) != 0 {
			t.Errorf("played %v, of the first phase %v, of the second %v; want as long, and nothing", length, books.played(0), books.played(1))
		}
		f := books.all.figures("", 0, length, false)
		// One may be due in the moment of the end.
		if f.Offered < 45 || f.Offered > 55 || f.Sent > f.Planned || f.Planned-f.Sent > 1 {
			complain("offered %v/s, planned %d, sent %d; want 50/s and all sent", f.Offered, f.Planned, f.Sent)
		}
	})
}

func TestUsed_CountsFromTheBorderOfTheWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sched := newSchedule(t.Context(), newPlan(steady(1, time.Second)))
		began := time.Now()
		used := usedSince(sched, 200*time.Millisecond, func() (reading, error) { return reading{cpu: time.Since(began).Seconds()}, nil })
		sched.began = began
		close(sched.begin)
		time.Sleep(500 * time.Millisecond)
		if got := used(); math.Abs(got-0.3) > 1e-9 {
			t.Errorf("%v s of a processor that was busy since the beginning; want 0.3 from the border on", got)
		}
	})
}

func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// nullDoor starts the null server.
func nullDoor(t *testing.T, args ...string) (door string) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	address, err := l.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Start("null", path, append([]string{"loadtest", "null", "--listen", address}, args...)...); err != nil {
		t.Fatal(err)
	}
	door = "http://" + address
	for end := time.Now().Add(10 * time.Second); get(t.Context(), door+"/readyz") != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the null server does not answer")
		}
	}
	return door
}

// The stall is in another process, as a service's is: 1,000 requests come while it stands still.
func TestAttack_SeesTheNullServersStall(t *testing.T) {
	calm.Play(t, 50*time.Millisecond, func(complain calm.Complain) {
		door := nullDoor(t, "--stall-after", "2s", "--stall", "1s")
		story := steady(1000, 5*time.Second)
		books := play(t.Context(), t, story, door)
		f := books.all.figures("", 0, 5*time.Second, false)
		if l := f.Latency[Accepted]; f.Accepted != 5000 || l.P99 < 900 || l.P99 > 1300 || l.P50 > 100 {
			complain("accepted %d, %+v; want 5000, half of them at once, and p99 about 950 ms", f.Accepted, l)
		}
	})
}

func TestMeasureCeiling_IsOfTheGeneratorAlone(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Lab: newLab(t), Program: path}
	if o.Scenario, err = Load("smoke"); err != nil {
		t.Fatal(err)
	}
	c, err := MeasureCeiling(t.Context(), o)
	if err != nil && strings.Contains(err.Error(), "keeps up with no rate") {
		t.Skipf("this machine is too busy now: %v", err)
	}
	if err != nil || c.Rate < 1 || c.LagP99 <= 0 || c.LagP99 > mostLag || c.P99 <= 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if whole := c.CPUEach * c.Rate / 1e6; c.CPUEach < 10 || whole > 64 {
		t.Errorf("%+v: %v processors for all of it", c, whole)
	}
}
