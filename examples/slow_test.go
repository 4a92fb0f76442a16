package examples

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2/log"

	"sluice/internal/race"
	"sluice/knsq"
)

// Three subscribers that take 100 ms for each event lengthen neither a POST nor the time until an order is settled: their
// channels fill up meanwhile. One sluice has them, another one has no subscriber at all; both get the same orders in turn, in
// one run, and what counts are the medians of the rounds. SLUICE_SLOW_ROUNDS makes it longer: make slow.
//
// nsqd sends what it has every 25 ms, the order to the worker and the outcome to the door, so that on a busy machine, where either
// may miss one pulse, an order takes 25 or 50 ms more whether anybody subscribes or not: a ratio alone would tell which side missed
// more of them. A side that waits for one handler takes 100 ms more.
func TestSlowSubscribers_LengthenNeitherPOSTNorSettlement(t *testing.T) {
	if err := build(); err != nil {
		t.Fatal(err)
	}
	const orders = 300
	rounds := 5
	if text := os.Getenv("SLUICE_SLOW_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 3 || rounds > 1000 {
			t.Fatalf("SLUICE_SLOW_ROUNDS=%q: want 3 to 1000", text)
		}
	}
	without := newSide(t, "without")
	with := newSide(t, "with", "--events-channels", "slow-1,slow-2,slow-3")
	var handled [3]atomic.Int64
	for i := range handled {
		sleeper(t, with.nsqd, fmt.Sprintf("slow-%d", i+1), &handled[i])
	}

	next, emptiest := 0, int64(math.MaxInt64)
	play := func(until int) {
		for ; next <= until; next++ {
			sides := []*side{without, with}
			if next%2 == 1 {
				slices.Reverse(sides)
			}
			for _, s := range sides {
				got := s.round(t, next, orders)
				if next > 0 { // the first one warms up
					s.rounds = append(s.rounds, got)
				}
			}
			emptiest = min(emptiest, with.backlog(t, len(handled)))
		}
	}
	play(rounds)
	longer := compareAll(t, without, with, rounds)
	if len(longer) > 0 && rounds < mostRounds { // a few rounds may be unlucky ones
		t.Logf("so far: %s", strings.Join(longer, "; "))
		play(mostRounds)
		longer = compareAll(t, without, with, rounds)
	}
	t.Logf("%d rounds of %d orders each, 8 at a time; the slow subscribers have handled %d, %d and %d events",
		next-1, orders, handled[0].Load(), handled[1].Load(), handled[2].Load())
	t.Logf("told 503 and asked again, which counts as waiting: %d times without, %d with", without.refused.Load(), with.refused.Load())
	if !race.Enabled { // which slows every part, and not evenly
		for _, what := range longer {
			t.Error(what)
		}
	}
	if emptiest == 0 {
		t.Error("after a round no event waited for one of the subscribers: they were not slow")
	}
	for i := range handled {
		if handled[i].Load() == 0 {
			t.Errorf("slow-%d has handled nothing: it was not there", i+1)
		}
	}
}

// mostRounds are enough for medians that one unlucky minute does not move.
const mostRounds = 31

// compareAll says what takes longer with the subscribers, of what so many rounds let it judge.
func compareAll(t *testing.T, without, with *side, rounds int) (longer []string) {
	t.Helper()
	const most = 1.5
	t.Logf("| median of %d rounds | without | with three slow subscribers | ratio | median of the rounds' own ratios |\n|---|---:|---:|---:|---:|", len(with.rounds))
	for _, f := range figures {
		a, b, each := compare(without.rounds, with.rounds, f.of)
		ratio := float64(b) / float64(a)
		t.Logf("| %s | %v | %v | %.2f | %.2f |", f.name, a.Round(10*time.Microsecond), b.Round(10*time.Microsecond), ratio, each)
		if ratio > most && b-a > f.pulses && rounds >= f.fewest {
			longer = append(longer, fmt.Sprintf("%s: %.2f times as long with three slow subscribers, want %v at most, or %v longer", f.name, ratio, most, f.pulses))
		}
	}
	return longer
}

// pulse is how often nsqd sends what it has.
const pulse = 25 * time.Millisecond

// times are what one round took.
type times struct{ post50, post99, settle50, settle99 time.Duration }

// figures are judged where there are enough rounds: one hiccup of the disk makes a round's p99.
var figures = []struct {
	name   string
	fewest int
	pulses time.Duration // that it may take longer whoever subscribes
	of     func(times) time.Duration
}{
	{"POST to 202, p50", 3, 0, func(r times) time.Duration { return r.post50 }},
	{"POST to 202, p99", 15, 0, func(r times) time.Duration { return r.post99 }},
	{"POST to settled, p50", 3, 2 * pulse, func(r times) time.Duration { return r.settle50 }},
	{"POST to settled, p99", 15, 2 * pulse, func(r times) time.Duration { return r.settle99 }},
}

// compare answers the medians of both sides, and the median of the ratios of rounds that ran one after the other.
func compare(without, with []times, of func(times) time.Duration) (a, b time.Duration, each float64) {
	var as, bs []time.Duration
	var ratios []float64
	for i := range without {
		as, bs = append(as, of(without[i])), append(bs, of(with[i]))
		ratios = append(ratios, float64(of(with[i]))/float64(of(without[i])))
	}
	return percentile(as, 50), percentile(bs, 50), percentile(ratios, 50)
}

func percentile[T float64 | time.Duration](list []T, p int) T {
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)*p/100, len(list)-1)]
}

// side is one sluice, and how long its orders took.
type side struct {
	name, door, nsqd, nsqdHTTP string
	rounds                     []times
	refused                    atomic.Int64 // told 503, and asked again
}

func newSide(t *testing.T, name string, flags ...string) *side {
	t.Helper()
	stage, err := newStage(programs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			stage.logs(t.Output())
		}
		if err := stage.close(); err != nil {
			t.Error(err)
		}
		client.CloseIdleConnections()
	})
	door, admin, nsqd := address(t), address(t), address(t)
	s := &side{name: name, door: "http://" + door, nsqd: nsqd, nsqdHTTP: "http://" + next(t, nsqd)}
	args := append([]string{"up", "--listen", door, "--admin", admin, "--nsqd", nsqd, "--data", "data", "--buyer-rate", "0"}, flags...)
	if _, err := stage.start(name, "sluice", args...); err != nil {
		t.Fatal(err)
	}
	try := func(what string, try func(context.Context) error) {
		if err := eventually(t.Context(), 30*time.Second, what, try); err != nil {
			t.Fatal(err)
		}
	}
	try("the door is ready", func(ctx context.Context) error { return get(ctx, s.door+"/readyz", nil) })
	if _, err := post(t.Context(), "http://"+admin+"/v1/sales", map[string]any{"id": sale, "sku": "tulips", "stock": 1_000_000, "payment_window": "0s"}, nil); err != nil {
		t.Fatal(err)
	}
	try("the door knows the sale", func(ctx context.Context) error { return get(ctx, s.door+"/v1/sales/"+sale, nil) })
	return s
}

func address(t *testing.T) string {
	t.Helper()
	a, err := freeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// next is the port after an address', where nsqd's figures are.
func next(t *testing.T, address string) string {
	t.Helper()
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tcp.Port++
	return tcp.String()
}

// sleeper is a subscriber whose handler takes 100 ms.
func sleeper(t *testing.T, nsqd, channel string, handled *atomic.Int64) {
	t.Helper()
	srv := knsq.NewServer(knsq.Address(nsqd), knsq.Logger(log.NewFilter(log.DefaultLogger, log.FilterLevel(log.LevelError))))
	knsq.RegisterSubscriber(srv, "events", channel, func(context.Context, *[]byte) error {
		time.Sleep(100 * time.Millisecond)
		handled.Add(1)
		return nil
	})
	var running sync.WaitGroup
	running.Go(func() {
		if err := srv.Start(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := srv.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
}

// round places so many orders, eight at a time, and follows each until it is settled.
func (s *side) round(t *testing.T, round, orders int) times {
	t.Helper()
	var next atomic.Int64
	posts, settles := make([]time.Duration, orders), make([]time.Duration, orders)
	var buyers sync.WaitGroup
	for range 8 {
		buyers.Go(func() {
			for i := next.Add(1) - 1; i < int64(orders); i = next.Add(1) - 1 {
				var order struct{ Order, Status string }
				began := time.Now()
				status, err := s.place(t.Context(), fmt.Sprintf("%d-%d", round, i), &order)
				for status == http.StatusServiceUnavailable && time.Since(began) < 10*time.Second { // a disk that is stuck: a buyer's wait, too
					s.refused.Add(1)
					time.Sleep(100 * time.Millisecond)
					status, err = s.place(t.Context(), fmt.Sprintf("%d-%d", round, i), &order)
				}
				posts[i] = time.Since(began)
				if err == nil {
					err = get(t.Context(), s.door+"/v1/orders/"+order.Order+"?wait=10s", &order)
				}
				settles[i] = time.Since(began)
				if err != nil || order.Status != "paid" {
					t.Errorf("%s: order %d of round %d is %q: %v", s.name, i, round, order.Status, err)
				}
			}
		})
	}
	buyers.Wait()
	return times{percentile(posts, 50), percentile(posts, 99), percentile(settles, 50), percentile(settles, 99)}
}

func (s *side) place(ctx context.Context, user string, order any) (status int, err error) {
	return post(ctx, s.door+"/v1/sales/"+sale+"/orders", map[string]any{"user": user}, order)
}

// backlog is how many events wait in the emptiest of so many channels.
func (s *side) backlog(t *testing.T, channels int) (least int64) {
	t.Helper()
	var stats struct {
		Topics []struct {
			Name     string `json:"topic_name"`
			Channels []struct{ Depth int64 }
		}
	}
	if err := get(t.Context(), s.nsqdHTTP+"/stats?format=json&topic=events", &stats); err != nil {
		t.Fatal(err)
	}
	if len(stats.Topics) != 1 || len(stats.Topics[0].Channels) != channels {
		t.Fatalf("nsqd says %+v, want one topic with %d channels", stats, channels)
	}
	least = math.MaxInt64
	for _, channel := range stats.Topics[0].Channels {
		least = min(least, channel.Depth)
	}
	return least
}
