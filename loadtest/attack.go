package loadtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// maxWorkers bounds the requests under way at a time, those that wait for a connection among them. Nobody waits for them, so a service
// that answers nothing would otherwise fill the memory. The next one leaves late, which the gate sees.
const maxWorkers = 50_000

// attack sends planned requests when they are due, whatever the answers are.
type attack struct {
	schedule *schedule
	client   *http.Client
	targets  *targets
	workers  uint64 // most of them
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
			DialContext:         dialWires(&net.Dialer{Timeout: time.Duration(s.Timeout), KeepAlive: 30 * time.Second}),
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
	return &attack{schedule: t.schedule, client: client, targets: t, workers: maxWorkers}, nil
}

// run sends everything, and gives each result to see, which one goroutine calls. It returns when the last answer has come.
func (a *attack) run(see func(issued, *vegeta.Result)) {
	attacker := vegeta.NewAttacker(vegeta.Client(a.client), vegeta.Workers(min(64, a.workers)), vegeta.MaxWorkers(a.workers), vegeta.MaxBody(maxAnswer))
	defer a.targets.through.CloseIdleConnections()
	defer context.AfterFunc(a.schedule.ctx, a.schedule.stop)()
	blank := vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: a.targets.doors[0].String()})
	for result := range attacker.Attack(blank, a.schedule, 0, "") {
		see(a.schedule.issue(result.Seq), result)
	}
}

// maxAnswer is what is kept of an answer's body.
const maxAnswer = 4 << 10

// RoundTrip sends the request that the sequence number stands for, once; it implements http.RoundTripper. vegeta asks for targets in no
// certain order, but numbers its requests in the order in which the schedule lets them go.
//
// A request that breaks is a failure, even where net/http would send it again unasked: what failed would be hidden, and the service
// would see more than was sent. Only one of which nothing was written, because its connection had been closed meanwhile, goes again.
func (t *targets) RoundTrip(blank *http.Request) (*http.Response, error) {
	n, err := strconv.ParseUint(blank.Header.Get("X-Vegeta-Seq"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("a request without number: %w", err)
	}
	r := t.schedule.issue(n).request
	way := &trip{Context: blank.Context(), began: t.schedule.start()}
	defer func() { t.schedule.passed(n, way.passage()) }()
	ctx := way.traced()
	for stale := 0; ; stale++ {
		resp, err := t.through.RoundTrip(t.make(ctx, r)) //nolint:contextcheck // ctx is the request's own
		if err == nil || way.got.Load() == 0 || way.written.Load() > 0 || stale == mostStale || ctx.Err() != nil {
			return resp, err
		}
	}
}

// mostStale bounds how many connections may turn out to be closed before a request fails.
const mostStale = 3

var (
	pageHeader  = http.Header{"Accept": {"application/json"}, "User-Agent": {userAgent}}
	contentType = []string{"application/json"}
	agent       = []string{userAgent}
	identity    = []string{"identity"}
)

const userAgent = "sluice-loadtest"

func (t *targets) make(ctx context.Context, r request) *http.Request {
	u := *t.doors[t.next.Add(1)%uint64(len(t.doors))]
	u.Path = "/v1/sales/" + t.sale(r)
	if r.kind == page {
		// With a body of its own, though an empty one, net/http does not take it for one that may be sent again; identity keeps it
		// from looking for the body's first byte.
		return (&http.Request{
			Method: http.MethodGet, URL: &u, Host: u.Host, Header: pageHeader,
			Body: io.NopCloser(strings.NewReader("")), TransferEncoding: identity,
		}).WithContext(ctx)
	}
	u.Path += "/orders"
	body := fmt.Sprintf(`{"user":"buyer-%d","quantity":%d}`, r.buyer, t.quantity)
	header := http.Header{"Content-Type": contentType, "Accept": pageHeader["Accept"], "User-Agent": agent}
	if r.key > 0 {
		header["Idempotency-Key"] = []string{"key-" + strconv.FormatUint(r.key, 10)}
	}
	return (&http.Request{
		Method: http.MethodPost, URL: &u, Host: u.Host, Header: header,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), // and no GetBody, or net/http would send it again
	}).WithContext(ctx)
}

func (t *targets) sale(r request) string {
	if r.sale == warmupSale {
		return t.warmup
	}
	return t.sales[r.sale]
}

// checkDescriptors says whether so many connections can be opened.
func checkDescriptors(connections int, limit syscall.Rlimit) error {
	const others = 100 // files, the listeners of parts and what the runtime has
	need := uint64(connections) + others
	if need <= limit.Cur {
		return nil
	}
	who := ""
	if need > limit.Max {
		who = " as root"
	}
	return fmt.Errorf("the limit of open files (RLIMIT_NOFILE) is %d, the hard one %d, and %d connections need %d: run `ulimit -n %d`%s first, "+
		"or set connections in the scenario", limit.Cur, limit.Max, connections, need, need, who)
}
