package simulate

import (
	"encoding/json"
	"fmt"
	"net"

	"github.com/valyala/fasthttp"

	"sluice"
)

// request is one that a buyer makes.
type request struct {
	wish
	buyer string
	read  sluice.OrderID // zero: it places an order
	wait  bool           // for news of it
	door  *door
	life  *doorLife

	hold   *hold // nil: nothing holds it up
	before shown // what was seen of the order when it was asked for

	settles int // requests with its key that were left in doubt at this door before, if none was under way

	done   bool
	cut    bool // the door died before it answered
	status int
	answer struct {
		Order    sluice.OrderID `json:"order"`
		Status   any            `json:"status"` // a state or, of a problem, a number
		Version  int64          `json:"version"`
		Units    int            `json:"units"`
		Position int64          `json:"position"`
		Reason   string         `json:"reason"`
	}
}

// wish is what a buyer can ask for.
type wish struct {
	sale  int
	key   string // empty: none
	units int
}

// wishes are all that buyers ask for: without a key, with some, the same key with another quantity.
var wishes = [...]wish{
	{0, "", 1},
	{0, "", 1},
	{0, "k1", 1},
	{0, "k2", 1},
	{1, "k1", 1},
	{1, "k2", 2},
	{1, "k3", 3},
	{1, "k2", 1},
}

var remote = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}

// send has a buyer make a request.
func (l *doorLife) send(r *request) {
	r.door, r.life = l.door, l
	l.requests = append(l.requests, r)
	l.running.Go(func() {
		var ctx fasthttp.RequestCtx
		if r.hold != nil {
			ctx.Init2(r.hold, nil, false)
		}
		r.write(&ctx.Request)
		ctx.SetRemoteAddr(remote)
		l.real.Handle(&ctx)
		l.door.w.mu.Lock()
		defer l.door.w.mu.Unlock()
		r.status = ctx.Response.StatusCode()
		if err := json.Unmarshal(ctx.Response.Body(), &r.answer); err != nil {
			panic(fmt.Sprintf("simulate: an answer is no JSON: %v: %s", err, ctx.Response.Body()))
		}
		r.done = true
	})
}

// hold is a made-up connection that holds its request up: the door asks what is below it, to see whether the client has hung up, when it
// has found nothing of the order and is about to take the credit.
type hold struct {
	net.Conn
	gate  chan struct{} // closed when the request goes on; by the driver
	let   bool          // it is closed
	bound int64         // of the door when the request began: it goes by that to its end
}

// NetConn waits until the request may go on. There is no socket below.
func (h *hold) NetConn() net.Conn {
	<-h.gate
	return nil
}

func (h *hold) holds() bool { return h != nil && !h.let }

func (h *hold) release() {
	if h.holds() {
		h.let = true
		close(h.gate)
	}
}

func (r *request) write(to *fasthttp.Request) {
	if r.read != (sluice.OrderID{}) {
		to.Header.SetMethod(fasthttp.MethodGet)
		uri := "/v1/orders/" + r.read.String()
		if r.wait {
			uri += "?wait=3s"
		}
		to.SetRequestURI(uri)
		return
	}
	to.Header.SetMethod(fasthttp.MethodPost)
	to.SetRequestURI("/v1/sales/" + saleIDs[r.sale] + "/orders")
	to.Header.SetContentType("application/json")
	if r.key != "" {
		to.Header.Set("Idempotency-Key", r.key)
	}
	to.SetBodyString(fmt.Sprintf(`{"user":%q,"quantity":%d}`, r.buyer, r.units))
}

// state is the state that the answer tells; empty where it is a refusal.
func (r *request) state() sluice.State {
	s, _ := r.answer.Status.(string)
	return sluice.State(s)
}

// refused reports whether the answer is a definite refusal: nothing will come of this request.
func (r *request) refused() bool {
	return r.status >= 400 && r.answer.Reason != string(sluice.Unavailable) && r.answer.Reason != string(sluice.Internal)
}
