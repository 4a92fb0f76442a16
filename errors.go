package sluice

import (
	"errors"
	"fmt"
	"time"
)

// Refusal is the machine-readable reason of a request that was turned away. The set is closed:
// metric labels and problem types are made of it.
type Refusal string

// The refusals, as design and contract name them.
const (
	BadRequest           Refusal = "bad-request"
	TooLarge             Refusal = "too-large"
	UnsupportedMediaType Refusal = "unsupported-media-type"
	TooSlowRequest       Refusal = "too-slow-request"
	IdempotencyMismatch  Refusal = "idempotency-mismatch"
	NoSuchSale           Refusal = "unknown-sale"
	NoSuchOrder          Refusal = "unknown-order"
	NotFound             Refusal = "not-found"
	MethodNotAllowed     Refusal = "method-not-allowed"
	NotStarted           Refusal = "not-started"
	Ended                Refusal = "ended"
	SalePaused           Refusal = "paused"
	AllSold              Refusal = "sold-out"
	NoneFree             Refusal = "none-free"
	RateLimited          Refusal = "rate-limited"
	BadTicket            Refusal = "bad-ticket"
	BadOrigin            Refusal = "bad-origin"
	Blocked              Refusal = "blocked"
	QueueFull            Refusal = "queue-full"
	TooSlow              Refusal = "too-slow"
	Unavailable          Refusal = "unavailable"
	Unauthorized         Refusal = "unauthorized"
	SaleExists           Refusal = "sale-exists"
	AlreadyPaid          Refusal = "already-paid"
	TooLate              Refusal = "too-late"
	NotHeld              Refusal = "not-held"
	NotFree              Refusal = "not-free"
	NameTaken            Refusal = "name-taken"
	WrongKey             Refusal = "wrong-key"
	Internal             Refusal = "internal"
)

// refusalText is what goes with a refusal for everybody alike.
type refusalText struct {
	status int
	title  string
}

var refusals = map[Refusal]refusalText{
	BadRequest:           {400, "The request is malformed"},
	TooLarge:             {413, "The request is too large"},
	UnsupportedMediaType: {415, "The content type is not supported"},
	TooSlowRequest:       {408, "The request took too long to arrive"},
	IdempotencyMismatch:  {422, "The key was used for a different quantity"},
	NoSuchSale:           {404, "There is no such sale"},
	NoSuchOrder:          {404, "There is no such order"},
	NotFound:             {404, "There is nothing here"},
	MethodNotAllowed:     {405, "The method is not allowed here"},
	NotStarted:           {403, "The sale has not started"},
	Ended:                {410, "The sale has ended"},
	SalePaused:           {503, "The sale is paused"},
	AllSold:              {409, "All units are sold"},
	NoneFree:             {503, "All units are held or spoken for"},
	BadTicket:            {401, "The ticket is missing or not good"},
	BadOrigin:            {403, "The request comes from a page that may not order here"},
	Blocked:              {403, "The buyer or the network is blocked"},
	RateLimited:          {429, "Too many requests"},
	QueueFull:            {503, "The queue is full"},
	TooSlow:              {503, "The wait would be too long"},
	Unavailable:          {503, "The service cannot promise anything now"},
	Unauthorized:         {401, "The operator's token is missing or wrong"},
	SaleExists:           {409, "The sale exists already"},
	AlreadyPaid:          {409, "The order was paid by another payment"},
	TooLate:              {409, "The order can no longer be paid"},
	NotHeld:              {409, "The order holds no units"},
	NotFree:              {409, "So many units are not free"},
	NameTaken:            {409, "Another door has the name"},
	WrongKey:             {409, "The door's id key is not the worker's"},
	Internal:             {500, "Something went wrong inside"},
}

// Status is the HTTP status that goes with the refusal.
func (r Refusal) Status() int {
	if t, ok := refusals[r]; ok {
		return t.status
	}
	return 500
}

// Title is one sentence that is the same for every request with this refusal.
func (r Refusal) Title() string { return refusals[r].title }

// Refusals lists every refusal, for metrics and documentation.
func Refusals() []Refusal {
	all := make([]Refusal, 0, len(refusals))
	for r := range refusals {
		all = append(all, r)
	}
	return all
}

// Error is a refusal with what was wrong and what is allowed.
type Error struct {
	Refusal Refusal
	Detail  string
}

func (e *Error) Error() string { return string(e.Refusal) + ": " + e.Detail }

// Refuse makes an Error.
func Refuse(r Refusal, format string, args ...any) *Error {
	return &Error{Refusal: r, Detail: fmt.Sprintf(format, args...)}
}

// RefusalOf finds the refusal inside err; Internal where err carries none.
func RefusalOf(err error) Refusal {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Refusal
	}
	return Internal
}

// Verdict is a limiter's answer. The zero Verdict admits; any other says why not and when to come back.
type Verdict struct {
	Refusal    Refusal
	RetryAfter time.Duration // zero: coming back does not help
}

// Admitted reports whether nothing speaks against the request.
func (v Verdict) Admitted() bool { return v.Refusal == "" }
