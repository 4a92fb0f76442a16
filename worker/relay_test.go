package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice"
	"sluice/internal/calm"
	"sluice/inventory"
	"sluice/inventory/sqlite"
	"sluice/queue"
)

func (r *relaying) has(n int) func() bool {
	return func() bool { return r.confirmed.Load() >= int64(n) }
}

func TestRelay_SendsEveryEventInOrderToEveryChannel(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	store.add(1700)
	r := startRelay(t, store, relayConfig(nsqd, "points", "mail"))
	soon(t, "it has relayed them", r.has(1700))
	points, mail := subscribe(t, nsqd, "points"), subscribe(t, nsqd, "mail") // their channels were there before the first event
	store.add(1)
	r.nudge()
	for name, s := range map[string]*subscriber{"points": points, "mail": mail} {
		soon(t, name+" has all", func() bool { return s.has(1701) })
		if came := s.order(); !slices.IsSorted(came) || len(came) != 1701 {
			t.Errorf("%s got %d events, in order: %v", name, len(came), slices.IsSorted(came))
		}
	}
	soon(t, "it has counted them", func() bool { return r.metric(t, "relayed_total") == 1701 }) // after nsqd's OK, as the subscribers hear of them
	if held := r.metric(t, "relay_held"); held != 1 {
		t.Errorf("relay_held %v; want 1", held)
	}
	if n := r.metric(t, "resent_total"); n != 0 {
		t.Errorf("resent_total %v: nsqd did not restart", n)
	}
}

// nsqd's OK is not durable. Whatever it took and forgot comes again, to every subscriber.
func TestRelay_EverySubscriberHasEveryEventAfterNsqdWasKilled(t *testing.T) {
	for name, c := range map[string]struct{ forget, http, away bool }{
		"its data kept":                   {http: true},
		"its data lost":                   {http: true, forget: true},
		"its data lost, without its HTTP": {forget: true},
		"while no worker ran":             {http: true, forget: true, away: true},
		"while no worker ran, no HTTP":    {forget: true, away: true},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			nsqd := startNSQD(t)
			cfg := relayConfig(nsqd, "points", "mail")
			if !c.http {
				cfg.NSQDHTTP = ""
			}
			store := &shelf{}
			store.add(1200)
			r := startRelay(t, store, cfg)
			soon(t, "nsqd has confirmed them", r.has(1200))
			if c.away {
				r.end()
			}
			if nsqd.kill(); c.forget {
				nsqd.forget()
			}
			store.add(300)
			nsqd.start()
			if c.away {
				r = startRelay(t, store, cfg)
			}
			points, mail := subscribe(t, nsqd, "points"), subscribe(t, nsqd, "mail")
			soon(t, "points has all", func() bool { return points.has(1500) })
			soon(t, "mail has all", func() bool { return mail.has(1500) })
			soon(t, "all that nsqd had is sent again", func() bool { return r.metric(t, "resent_total") >= 1200 })
			soon(t, "nothing is left to send again", func() bool { return r.metric(t, "resend_events") == 0 })
		})
	}
}

// P9, and P3 for events: a second kill in the middle of sending again loses nothing either.
func TestRelay_IsKilledNsqdAfterNsqd(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	store.add(60_000)
	r := startRelay(t, store, relayConfig(nsqd, "points"))
	soon(t, "nsqd has confirmed them", r.has(60_000))
	for range 3 {
		nsqd.forget()
		before := r.metric(t, "resent_total")
		nsqd.start()
		store.add(10)
		soon(t, "some are sent again", func() bool { return r.metric(t, "resent_total") > before+1000 })
	}
	points := subscribe(t, nsqd, "points")
	soon(t, "points has all", func() bool { return points.has(60_030) })
}

// What nsqd has not confirmed is sent again, whatever became of it; and nothing else, since nsqd did not restart.
func TestRelay_SendsAgainWhatWasNotConfirmed(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	leak := startLeak(t, nsqd.addr)
	cfg := relayConfig(nsqd, "points")
	cfg.NSQD = leak.addr
	time.Sleep(relayNewborn) // so that nsqd's start is out of doubt
	store := &shelf{}
	r := startRelay(t, store, cfg)
	points := subscribe(t, nsqd, "points")
	for n := 100; n <= 500; n += 100 {
		leak.lose.Store(n%200 == 0)
		store.add(100)
		soon(t, "points has them", func() bool { return points.has(n) })
	}
	if came, again := len(points.order()), r.metric(t, "resent_total"); leak.lost.Load() != 2 || came != 500 || again != 0 {
		t.Errorf("%d pages were lost, %d events came, %v of them sent again after a restart; want 2, 500, 0", leak.lost.Load(), came, again)
	}
}

// Two nsqds that start within one second have one name. The second one is found out also where it is met when it is none so young any more.
func TestRelay_SendsAgainToANamesakeThatItMeetsLate(t *testing.T) {
	noLeaks(t)
	calm.Play(t, time.Second, func(complain calm.Complain) { relayToNamesakes(t, complain) })
}

func relayToNamesakes(t *testing.T, complain calm.Complain) {
	t.Helper()
	nsqd := startNSQD(t)
	cfg := relayConfig(nsqd, "points")
	born := time.Now().Truncate(time.Second)
	cfg.NSQDHTTP = bornAt(t, nsqd, born)
	store := &shelf{}
	store.add(100)
	r := startRelay(t, store, cfg)
	soon(t, "nsqd has confirmed them", r.has(100))
	if time.Since(born) > relayNewborn {
		complain("the first one was met late")
		return
	}
	nsqd.forget()
	time.Sleep(time.Until(born.Add(relayNewborn + time.Second)))
	nsqd.start()
	points := subscribe(t, nsqd, "points")
	soon(t, "points has all", func() bool { return points.has(100) })
}

// bornAt has every nsqd at an address say that it started then.
func bornAt(t *testing.T, nsqd *nsqdProcess, born time.Time) (addr string) {
	t.Helper()
	onward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: nsqd.http})
	onward.Transport = &http.Transport{DisableKeepAlives: true}
	onward.ErrorLog = log.New(io.Discard, "", 0)
	mux := http.NewServeMux()
	mux.Handle("/", onward)
	mux.HandleFunc("/info", func(res http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(res, `{"hostname":"a","tcp_port":1,"start_time":%d}`, born.Unix())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestRelay_NewEventsDoNotWaitForThoseThatAreSentAgain(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	store.add(30_000)
	r := startRelay(t, store, relayConfig(nsqd, "points"))
	soon(t, "nsqd has confirmed them", r.has(30_000))
	nsqd.forget()
	store.add(1)
	nsqd.start()
	points := subscribe(t, nsqd, "points")
	soon(t, "points has all", func() bool { return points.has(30_001) })
	if at := slices.Index(points.order(), 30_001); at > 3*relayPage {
		t.Errorf("the new event came after %d old ones; want at most %d", at, 3*relayPage)
	}
}

func TestRelay_WaitsForNsqdAndSaysSoOnce(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	nsqd.kill()
	store := &shelf{}
	store.add(10)
	r := startRelay(t, store, relayConfig(nsqd, "points"))
	soon(t, "the lag shows", func() bool { return r.metric(t, "relay_lag_events") == 10 && r.metric(t, "relay_lag_seconds") > 1 })
	nsqd.start()
	points := subscribe(t, nsqd, "points")
	soon(t, "points has all", func() bool { return points.has(10) })
	soon(t, "the lag is gone", func() bool { return r.metric(t, "relay_lag_events") == 0 && r.metric(t, "relay_lag_seconds") == 0 })
	if n, back := r.says("can't be relayed"), r.says("works again"); n != 1 || back != 1 {
		t.Errorf("it says %d times that it can't, and %d times that it can: %s", n, back, r.logged)
	}
}

// The store's troubles are not nsqd's: the connection stays, and so nothing counts as a restart.
func TestRelay_WaitsForTheStoreAndSendsNothingAgain(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	cfg := relayConfig(nsqd, "points")
	cfg.NSQDHTTP = ""
	store := &shelf{}
	store.add(10)
	r := startRelay(t, store, cfg)
	points := subscribe(t, nsqd, "points")
	soon(t, "its position is stored", func() bool { at, err := store.Readers(t.Context()); return err == nil && at[nameless] == 10 })
	store.set(func(s *shelf) { s.down = true })
	soon(t, "it says so", func() bool { return r.says("the store does not answer") == 1 })
	store.add(5)
	store.set(func(s *shelf) { s.down = false })
	soon(t, "points has all", func() bool { return points.has(15) })
	if n, again := len(points.order()), r.metric(t, "resent_total"); n != 15 || again != 0 {
		t.Errorf("%d events came, %v were sent again; want 15, 0", n, again)
	}
}

// stuck is the outbox as a frozen worker has it: every call waits.
type stuck struct {
	*shelf
	gate chan struct{}
}

func (s stuck) Events(ctx context.Context, after int64, limit int) (sluice.Events, error) {
	<-s.gate
	return s.shelf.Events(ctx, after, limit)
}

func TestRelay_AnotherWorkerTakesOverFromAFrozenOne(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	gate := make(chan struct{})
	open := make(chan struct{})
	close(open)
	frozen := startRelay(t, stuck{store, gate}, relayConfig(nsqd, "points"))
	soon(t, "it has the lease", func() bool { return slices.Contains(store.holders(), frozen.owner) })
	other := startRelay(t, stuck{store, open}, relayConfig(nsqd, "points"))
	points := subscribe(t, nsqd, "points")
	store.add(2000)
	soon(t, "the other has asked in vain", func() bool { return other.metric(t, "relay_held") == 0 && len(store.holders()) == 1 })
	store.set(func(s *shelf) { s.ahead = 2 * relayLease })
	soon(t, "points has all", func() bool { return points.has(2000) })
	if !slices.Contains(store.holders(), other.owner) {
		t.Error("the other worker has not taken over")
	}
	store.set(func(s *shelf) { s.ahead = 0 }) // the lease of the other holds for long
	close(gate)
	store.add(1000)
	soon(t, "points has all", func() bool { return points.has(3000) })
	soon(t, "the frozen one stands by", func() bool { return frozen.metric(t, "relay_held") == 0 })
	other.end() // gives the lease back
	store.add(1000)
	soon(t, "points has all", func() bool { return points.has(4000) })
}

func TestRelay_SendsNothingWhereNobodyListens(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	store.add(100)
	r := startRelay(t, store, relayConfig(nsqd))
	time.Sleep(2 * relayLook)
	if topic, err := queue.ProbeTopic(t.Context(), nsqd.http, nil, queue.TopicEvents); err != nil || topic.Depth != 0 || len(store.holders()) != 0 {
		t.Errorf("the topic has %d messages without a channel, %v have the lease, %v", topic.Depth, store.holders(), err)
	}
	if lag := r.metric(t, "relay_lag_events"); lag != 0 {
		t.Errorf("a lag of %v, with nobody who could lag", lag)
	}
	late := subscribe(t, nsqd, "late")
	soon(t, "who makes a channel has all", func() bool { return late.has(100) })
}

func TestRelay_SendsNothingWhileAChannelCanNotBeMade(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	store.add(100)
	r := startRelay(t, store, relayConfig(nsqd, "points", "no name"))
	points := subscribe(t, nsqd, "points")
	soon(t, "it says why", func() bool { return r.says("a channel can't be made") > 0 })
	time.Sleep(3 * relayRetry)
	if n := r.says("a channel can't be made"); n != 1 || r.says("no name") == 0 || len(points.order()) != 0 {
		t.Errorf("it says so %d times, and relayed %d events", n, len(points.order()))
	}
}

func TestRelay_KeepsAnEphemeralChannelWhileItsSubscriberIsAway(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	r := startRelay(t, store, relayConfig(nsqd, "screen#ephemeral"))
	store.add(100)
	soon(t, "they are relayed", r.has(100))
	screen := subscribe(t, nsqd, "screen#ephemeral")
	soon(t, "its subscriber has all", func() bool { return screen.has(100) })
}

// P9: a dead subscriber's channel does not fill nsqd's disk, and the store does not wait for the relay meanwhile.
func TestRelay_PausesWhileAChannelIsTooDeep(t *testing.T) {
	noLeaks(t)
	calm.Play(t, time.Second, func(complain calm.Complain) { relayBesideTheDead(t, complain) })
}

func relayBesideTheDead(t *testing.T, complain calm.Complain) {
	t.Helper()
	nsqd := startNSQD(t)
	store := &shelf{}
	cfg := relayConfig(nsqd, "dead", "alive")
	cfg.EventBacklog = 3000
	r := startRelay(t, store, cfg)
	alive := subscribe(t, nsqd, "alive")
	all := 0
	for _, n := range []int{1, 2998, 1} { // when the dead one's channel is full, the living one's is there and nearly empty
		store.add(n)
		all += n
		soon(t, "alive has what came", func() bool { return alive.has(all) })
	}
	soon(t, "it pauses", func() bool { return r.metric(t, "relay_paused") == 1 })
	store.add(1000)
	began := time.Now()
	soon(t, "it has given the lease back", func() bool { return len(store.holders()) == 0 })
	if took := time.Since(began); took > relayLease/2 {
		complain("it gave the lease back after %v", took)
	}
	soon(t, "the lag shows", func() bool { return r.metric(t, "relay_lag_events") == 1000 })
	if r.says(`"channel":"dead"`) != 1 || len(alive.order()) != 3000 {
		t.Errorf("it relayed %d events, and says %s", len(alive.order()), r.logged)
	}
	dead := subscribe(t, nsqd, "dead") // it has come back
	soon(t, "it has all", func() bool { return dead.has(4000) })
	soon(t, "the other one too", func() bool { return alive.has(4000) })
	if r.metric(t, "relay_paused") != 0 {
		t.Error("it says that it pauses")
	}
}

func TestRelay_BringsWhatWasCommittedLastBeforeItStops(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	r := startRelay(t, store, relayConfig(nsqd, "points"), func(r *relay) { r.grace = time.Minute })
	soon(t, "it has the lease", func() bool { return r.metric(t, "relay_held") == 1 })
	store.add(5000)
	r.end()
	if at, err := store.Readers(t.Context()); err != nil || len(at) != 1 || !slices.Contains(values(at), 5000) {
		t.Errorf("it stopped at %v, %v", at, err)
	}
	if holders := store.holders(); len(holders) != 0 {
		t.Errorf("%v still have the lease", holders)
	}
	points := subscribe(t, nsqd, "points")
	soon(t, "points has all", func() bool { return points.has(5000) })
}

func values(m map[string]int64) (list []int64) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

func TestRelay_SaysWhatWasForgottenBeforeItCouldBeRelayed(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	store.add(10)
	r := startRelay(t, store, relayConfig(nsqd, "points"))
	soon(t, "they are relayed", r.has(10))
	store.set(func(s *shelf) { s.events, s.forgotten = nil, 20 })
	store.add(1)
	soon(t, "the next one is relayed", r.has(21))
	if n := r.metric(t, "forgotten_total"); n != 10 || r.says(`"from":11,"to":20`) != 1 {
		t.Errorf("forgotten_total %v; it says %s", n, r.logged)
	}
}

// A database that was put back numbers its next events as before; none of them is passed over.
func TestRelay_GoesBackWithADatabaseThatWasPutBack(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	store.add(100)
	r := startRelay(t, store, relayConfig(nsqd, "points"))
	soon(t, "they are relayed", r.has(100))
	var reads int
	store.set(func(s *shelf) {
		s.events, reads = s.events[:50], s.reads
		for _, reader := range s.readers {
			reader.position = 50
		}
	})
	points := subscribe(t, nsqd, "points")
	soon(t, "points has what was relayed", func() bool { return points.has(100) })
	soon(t, "the relay has looked, and looked again from where it went back to", func() (looked bool) {
		store.set(func(s *shelf) { looked = s.reads >= reads+2 })
		return looked
	})
	store.add(50)
	soon(t, "what was written again has come again", func() bool { return len(points.order()) >= 150 })
}

// stored is the worker's store with an outbox that keeps its contract.
type stored struct {
	inventory.Store
	*shelf
}

func (s stored) Events(ctx context.Context, after int64, limit int) (sluice.Events, error) {
	return s.shelf.Events(ctx, after, limit)
}

func (s stored) Claim(ctx context.Context, reader, owner string, ttl time.Duration) (int64, bool, error) {
	return s.shelf.Claim(ctx, reader, owner, ttl)
}

func (s stored) Advance(ctx context.Context, reader, owner string, position int64) (bool, error) {
	return s.shelf.Advance(ctx, reader, owner, position)
}

func (s stored) Readers(ctx context.Context) (map[string]int64, error) { return s.shelf.Readers(ctx) }

// Tick is called by the sweep, PruneEvents too.
func (s stored) Tick(context.Context) (sluice.Changes, error) {
	s.add(1)
	return sluice.Changes{}, nil
}

func (s stored) PruneEvents(_ context.Context, age time.Duration, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pruned = append(s.pruned, age)
	if len(s.pruned) < 3 {
		return limit, nil // there is more
	}
	return 0, nil
}

func TestWorker_RelaysAnnouncesAndForgetsEvents(t *testing.T) {
	noLeaks(t)
	calm.Play(t, 200*time.Millisecond, func(complain calm.Complain) { relayAndPrune(t, complain) })
}

func relayAndPrune(t *testing.T, complain calm.Complain) {
	t.Helper()
	nsqd := startNSQD(t)
	outbox := &shelf{}
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inventory.db"))
	must(t, err)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	cfg := relayConfig(nsqd, "points")
	cfg.EventRetention = time.Hour
	w, err := New(cfg, Parts{Store: stored{db, outbox}, Listener: l, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	must(t, err)
	var running sync.WaitGroup
	running.Go(func() { must(t, w.Start(t.Context())) })
	points := subscribe(t, nsqd, "points")
	soon(t, "what the sweep announces comes", func() bool { return len(points.order()) >= 2 })
	outbox.set(func(s *shelf) {
		if len(s.pruned) != 3 || s.pruned[0] != time.Hour { // until nothing was left; the next time is seconds away
			complain("pruned %v; want three times what is older than an hour", s.pruned)
		}
	})
	must(t, w.Stop(t.Context()))
	running.Wait()
	must(t, db.Close())
	if holders := outbox.holders(); len(holders) != 0 {
		t.Errorf("%v still have the lease", holders)
	}
}

func TestRelay_EndsWhereTheStoreKeepsNoEvents(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	r := startRelay(t, unsupported{}, relayConfig(nsqd, "points"))
	soon(t, "it says so", func() bool { return r.says("keeps no events") == 1 })
	time.Sleep(3 * relayRetry)
	if n := r.says("keeps no events"); n != 1 {
		t.Errorf("it says so %d times", n)
	}
}

type unsupported struct{}

func (unsupported) Events(context.Context, int64, int) (sluice.Events, error) {
	return sluice.Events{}, errors.ErrUnsupported
}

func (unsupported) Claim(context.Context, string, string, time.Duration) (int64, bool, error) {
	return 0, false, errors.ErrUnsupported
}

func (unsupported) Advance(context.Context, string, string, int64) (bool, error) {
	return false, errors.ErrUnsupported
}

func (unsupported) Readers(context.Context) (map[string]int64, error) {
	return nil, errors.ErrUnsupported
}

// An idle relay reads a few times a second, however many nudges come it does not read for each.
func TestRelay_GathersWhatIsCommittedTogether(t *testing.T) {
	noLeaks(t)
	nsqd := startNSQD(t)
	store := &shelf{}
	r := startRelay(t, store, relayConfig(nsqd, "points"))
	soon(t, "it has the lease", func() bool { return r.metric(t, "relay_held") == 1 })
	const commits = 500
	store.set(func(s *shelf) { s.reads = 0 })
	began := time.Now()
	for range commits {
		store.add(1)
		r.nudge()
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	soon(t, "they are relayed", r.has(commits))
	var reads int
	store.set(func(s *shelf) { reads = s.reads })
	if most := int(took/relayGather) + 20; reads > most {
		t.Errorf("%d commits within %v made %d reads; want at most %d", commits, took, reads, most)
	}
}
