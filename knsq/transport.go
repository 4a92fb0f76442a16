package knsq

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-kratos/kratos/v2/transport"

	"sluice/queue"
)

// KindNSQ is the kind of transport that middlewares see.
const KindNSQ transport.Kind = "nsq"

// Message is one delivery of NSQ. A handler may answer it by Finish or Requeue; where it does not, what it returns
// answers.
type Message = queue.Message

// Transport is what middlewares and handlers learn from transport.FromServerContext, or from FromClientContext around
// a Broker.
type Transport struct {
	endpoint  string
	operation string
	request   Header
	reply     Header
	message   *Message

	// Of a Broker.
	topic string
	delay time.Duration
}

var _ transport.Transporter = (*Transport)(nil)

// Kind is KindNSQ.
func (t *Transport) Kind() transport.Kind { return KindNSQ }

// Endpoint is the nsqd, such as nsq://127.0.0.1:4150.
func (t *Transport) Endpoint() string { return t.endpoint }

// Operation is /TOPIC/CHANNEL of a subscription, and /TOPIC/publish of a Broker.
func (t *Transport) Operation() string { return t.operation }

// RequestHeader is the member "trace" of the message. It is empty for a batch, of which each Delivery has its own.
func (t *Transport) RequestHeader() transport.Header { return t.request }

// ReplyHeader goes nowhere: a message has no reply.
func (t *Transport) ReplyHeader() transport.Header { return t.reply }

// MessageFromContext is the message for which a RegisterSubscriber handler was called.
func MessageFromContext(ctx context.Context) (*Message, bool) {
	tr, ok := transport.FromServerContext(ctx)
	if !ok {
		return nil, false
	}
	t, ok := tr.(*Transport)
	if !ok || t.message == nil {
		return nil, false
	}
	return t.message, true
}

// Header is what travels with a message beside its fields. Names are lower case. It is a carrier for OpenTelemetry's
// propagators too.
type Header map[string][]string

var _ transport.Header = Header{}

// Get is the first value of that name, or empty.
func (h Header) Get(name string) string {
	if values := h.Values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set replaces the values of that name.
func (h Header) Set(name, value string) { h[strings.ToLower(name)] = []string{value} }

// Add adds a value to those of that name.
func (h Header) Add(name, value string) {
	name = strings.ToLower(name)
	h[name] = append(h[name], value)
}

// Keys are the names, sorted.
func (h Header) Keys() []string { return slices.Sorted(maps.Keys(h)) }

// Values are all values of that name.
func (h Header) Values(name string) []string { return h[strings.ToLower(name)] }
