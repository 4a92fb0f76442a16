package loadtest

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// maxWorkers bounds the requests under way at a time. Nobody waits for them, so a service that answers nothing would otherwise fill the
// memory; a run that comes so far is not valid, since what it could not send is counted.
const maxWorkers = 50_000

// attack sends planned requests when they are due, whatever the answers are.
type attack struct {
	schedule *schedule
	client   *http.Client
	targets  *targets
}

// targets makes HTTP requests of planned ones.
type targets struct {
	doors    []*url.URL
	sales    []string // names, by index
	warmup   string
	quantity int
	schedule *schedule
	next     atomic.Uint64 // door
	through  *http.Transport
}

// newAttack aims at the doors in turn.
func newAttack(ctx context.Context, s *Scenario, p *plan, doors, sales []string, warmup string) (*attack, error) {
	t := &targets{
		sales: sales, warmup: warmup, quantity: s.Crowd.Quantity, schedule: newSchedule(ctx, p),
		through: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Duration(s.Timeout), KeepAlive: 30 * time.Second}).DialContext,
			MaxConnsPerHost:     max(1, s.Connections/len(doors)),
			MaxIdleConnsPerHost: max(1, s.Connections/len(doors)),
			DisableCompression:  true,
		},
	}
	for _, door := range doors {
		u, err := url.Parse(door)
		if err != nil {
			return nil, fmt.Errorf("front door %s: %w", door, err)
		}
		t.doors = append(t.doors, u)
	}
	client := &http.Client{
		Transport: t, Timeout: time.Duration(s.Timeout),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &attack{schedule: t.schedule, client: client, targets: t}, nil
}

// run sends everything, and gives each result to see, which one goroutine calls. It returns when the last answer has come.
func (a *attack) run(see func(request, *vegeta.Result)) {
	attacker := vegeta.NewAttacker(vegeta.Client(a.client), vegeta.Workers(64), vegeta.MaxWorkers(maxWorkers), vegeta.MaxBody(maxAnswer))
	defer a.targets.through.CloseIdleConnections()
	blank := vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: a.targets.doors[0].String()})
	for result := range attacker.Attack(blank, a.schedule, 0, "") {
		see(a.schedule.request(result.Seq), result)
	}
}

// maxAnswer is what is kept of an answer's body.
const maxAnswer = 4 << 10

// RoundTrip sends the request that the sequence number stands for; it implements http.RoundTripper. vegeta asks for targets in no
// certain order, but numbers its requests in the order in which the schedule lets them go.
func (t *targets) RoundTrip(blank *http.Request) (*http.Response, error) {
	n, err := strconv.ParseUint(blank.Header.Get("X-Vegeta-Seq"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("a request without number: %w", err)
	}
	return t.through.RoundTrip(t.make(blank.Context(), t.schedule.request(n)))
}

var (
	pageHeader  = http.Header{"Accept": {"application/json"}, "User-Agent": {userAgent}}
	contentType = []string{"application/json"}
	agent       = []string{userAgent}
)

const userAgent = "sluice-loadtest"

func (t *targets) make(ctx context.Context, r request) *http.Request {
	u := *t.doors[t.next.Add(1)%uint64(len(t.doors))]
	u.Path = "/v1/sales/" + t.sale(r)
	if r.kind == page {
		return (&http.Request{Method: http.MethodGet, URL: &u, Host: u.Host, Header: pageHeader}).WithContext(ctx)
	}
	u.Path += "/orders"
	body := fmt.Sprintf(`{"user":"buyer-%d","quantity":%d}`, r.buyer, t.quantity)
	header := http.Header{"Content-Type": contentType, "Accept": pageHeader["Accept"], "User-Agent": agent}
	if r.key > 0 {
		header["Idempotency-Key"] = []string{"key-" + strconv.FormatUint(r.key, 10)}
	}
	return (&http.Request{
		Method: http.MethodPost, URL: &u, Host: u.Host, Header: header,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil },
	}).WithContext(ctx)
}

func (t *targets) sale(r request) string {
	if r.sale == warmupSale {
		return t.warmup
	}
	return t.sales[r.sale]
}

// checkDescriptors says whether so many connections can be opened.
func checkDescriptors(connections int, limit uint64) error {
	const others = 100 // files, the listeners of parts and what the runtime has
	if need := uint64(connections) + others; need > limit && limit != math.MaxUint64 {
		return fmt.Errorf("this process may open %d files, and %d connections need %d: run `ulimit -n %d` first, or set connections in the scenario",
			limit, connections, need, need)
	}
	return nil
}
