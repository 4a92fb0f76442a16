package ingress

import (
	"bytes"
	"time"

	"github.com/valyala/fasthttp"

	"sluice"
)

// Identity is how a door knows who a buyer is.
type Identity string

// The ways to know a buyer.
const (
	IdentityOpen   Identity = "open"   // whoever the order says: only where everybody who reaches the door is trusted
	IdentityHeader Identity = "header" // whoever a trusted proxy says in a header
	IdentityTicket Identity = "ticket" // whoever a ticket says that the shop has signed
)

// Tickets verifies tickets. The error of a ticket that is not good says why, in words that the buyer may read and that
// hold nothing of the ticket.
type Tickets interface {
	Verify(ticket []byte, now time.Time) (sluice.Ticket, error)
}

// identify answers who asks; an empty Ticket where everybody may say who they are. A nil answer means that the request
// was refused: nobody proved who is asking, or too many of that address did not.
func (d *Door) identify(ctx *fasthttp.RequestCtx, limits *limits) *sluice.Ticket {
	switch d.cfg.Identity {
	case IdentityHeader:
		// A second line may be the client's own: a proxy that adds its line does not take that one away.
		users := ctx.Request.Header.PeekAll(d.cfg.IdentityHeader)
		if len(users) == 1 && d.cfg.Proxies.Trust(peer(ctx)) && sluice.PlainText(users[0], sluice.MaxUserBytes) {
			return &sluice.Ticket{Buyer: string(users[0])}
		}
		d.refuseTicket(ctx, limits, "no trusted proxy says who is asking, in one line of the identity header")
		return nil
	case IdentityTicket:
		t, err := d.Tickets.Verify(d.ticketOf(ctx), time.Now())
		if err != nil {
			d.refuseTicket(ctx, limits, err.Error())
			return nil
		}
		return &t
	case IdentityOpen:
	}
	return &anybody
}

var anybody sluice.Ticket

var bearer = []byte("Bearer ")

// ticketOf finds the ticket of a request: in the Authorization header, else in the cookie.
func (d *Door) ticketOf(ctx *fasthttp.RequestCtx) []byte {
	if h := ctx.Request.Header.Peek(fasthttp.HeaderAuthorization); len(h) > len(bearer) && bytes.EqualFold(h[:len(bearer)], bearer) {
		return bytes.TrimSpace(h[len(bearer):])
	}
	return ctx.Request.Header.Cookie(d.cfg.TicketCookie)
}

// refuseTicket says that nobody knows who is asking. An address that does so too often is told that instead.
func (d *Door) refuseTicket(ctx *fasthttp.RequestCtx, limits *limits, why string) {
	if wait := d.tooFastAddress(ctx, limits); wait > 0 {
		d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.RateLimited, RetryAfter: wait}})
		return
	}
	d.refuse(ctx, refusal{Verdict: sluice.Verdict{Refusal: sluice.BadTicket}, detail: why})
}

// sign puts the buyer's name under an order, or says what is wrong: with a ticket the order need not name the buyer, and
// must not name somebody else.
func (r *request) sign(t *sluice.Ticket, sale []byte) *sluice.Error {
	switch {
	case t.Buyer == "" && len(r.user) == 0:
		return noUser()
	case t.Buyer == "":
		return nil
	case len(r.user) > 0 && string(r.user) != t.Buyer:
		return sluice.Refuse(sluice.BadTicket, "the order is in the name of another buyer than the ticket")
	case t.Sale != "" && t.Sale != string(sale):
		return sluice.Refuse(sluice.BadTicket, "the ticket is for another sale")
	}
	r.user = append(r.user[:0], t.Buyer...)
	return nil
}

// mayRead reports whether whoever holds a ticket may see an order: with an identity only its buyer may. An order that
// nobody knows anything of is nobody's.
func mayRead(t *sluice.Ticket, s *sluice.Status) bool {
	return t.Buyer == "" || s.User == "" || s.User == t.Buyer
}
