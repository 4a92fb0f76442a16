package knsq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-kratos/kratos/v2/encoding"
	"github.com/go-kratos/kratos/v2/encoding/json"
	kerrors "github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/transport"

	"sluice/queue"
)

// What a Broker's errors are, by errors.Is. Each is a Kratos error too, with a code and a reason for middlewares: 400
// NSQ_INVALID, 503 NSQ_NOT_SENT and 504 NSQ_AMBIGUOUS.
var (
	ErrInvalid   = queue.ErrInvalid   // nsqd does not take such a message; it was not sent
	ErrNotSent   = queue.ErrNotSent   // it was not sent, and may be sent again
	ErrAmbiguous = queue.ErrAmbiguous // nsqd may have taken it: sent again, it may come twice
)

// MaxDefer is the longest deferral that nsqd takes with default settings.
const MaxDefer = queue.MaxDefer

// BrokerOption is an option of NewBroker.
type BrokerOption func(*Broker)

// WithEndpoint is where nsqd listens for TCP, as host:port; 127.0.0.1:4150 by default.
func WithEndpoint(nsqd string) BrokerOption { return func(b *Broker) { b.addr = nsqd } }

// WithTLS has the Broker speak TLS to nsqd, and nothing else: an nsqd that does not offer it is not spoken to. The
// server's name is the host of the endpoint, unless cfg names another; authorities and a certificate of its own are cfg's.
func WithTLS(cfg *tls.Config) BrokerOption { return func(b *Broker) { b.secure = cfg } }

// WithMiddleware runs around every Publish, in the order given. Its request is the value.
func WithMiddleware(m ...middleware.Middleware) BrokerOption {
	return func(b *Broker) { b.middleware = append(b.middleware, m...) }
}

// WithTimeout is how long a Publish lasts at the most; 3 s by default.
func WithTimeout(d time.Duration) BrokerOption { return func(b *Broker) { b.timeout = d } }

// WithVersion puts "v":n into messages that have no such member.
func WithVersion(n int) BrokerOption { return func(b *Broker) { b.version = n } }

// WithLogger is where the Broker tells of its connection; Kratos' global logger by default.
func WithLogger(l log.Logger) BrokerOption {
	return func(b *Broker) { b.log = slog.New(kratosHandler{to: l}) }
}

// Broker publishes to one nsqd over one connection that it keeps by itself. NSQ means every host to publish to an nsqd
// of its own. It is for the data layer of a service that publishes and does not subscribe; Close it in the clean-up.
type Broker struct {
	addr       string
	secure     *tls.Config // nil: plain text
	endpoint   string
	middleware []middleware.Middleware
	timeout    time.Duration
	version    int
	log        *slog.Logger
	codec      encoding.Codec
	sender     *queue.Sender
	send       middleware.Handler
}

// NewBroker makes a broker. nsqd need not be there yet.
func NewBroker(opts ...BrokerOption) (*Broker, error) {
	b := &Broker{
		addr: "127.0.0.1:4150", timeout: 3 * time.Second,
		log: slog.New(kratosHandler{to: log.GetLogger()}), codec: encoding.GetCodec(json.Name),
	}
	for _, o := range opts {
		o(b)
	}
	if err := checkAddress(b.addr); err != nil {
		return nil, fmt.Errorf("knsq: %w", err)
	}
	if b.timeout <= 0 {
		return nil, fmt.Errorf("knsq: timeout %v: want more than 0s", b.timeout)
	}
	b.endpoint = KindNSQ.String() + "://" + b.addr
	b.send = middleware.Chain(b.middleware...)(b.transmit)
	b.sender = queue.NewSender(queue.SenderConfig{Addr: b.addr, TLS: b.secure, Deadline: b.timeout, Logger: b.log})
	return b, nil
}

// Publish sends v to topic as JSON ([]byte and json.RawMessage as they are), and waits for nsqd's OK until ctx ends or
// the timeout has passed; without a connection it waits for one. What middlewares put into the header goes into v's
// member "trace", where v is a JSON object that has none. The OK is not durable: with kill -9 of nsqd the message is
// gone. What must not be lost belongs into a database first (an outbox).
func (b *Broker) Publish(ctx context.Context, topic string, v any) error {
	return b.publish(ctx, topic, v, 0)
}

// PublishDeferred is Publish of a message that is delivered after delay, at most MaxDefer. A deferral is no timer to
// rely on: nsqd keeps it in memory, delivers at once what was deferred when it restarts, and loses it with kill -9.
func (b *Broker) PublishDeferred(ctx context.Context, topic string, v any, delay time.Duration) error {
	return b.publish(ctx, topic, v, delay)
}

func (b *Broker) publish(ctx context.Context, topic string, v any, delay time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.send(transport.NewClientContext(ctx, &Transport{
		endpoint: b.endpoint, operation: "/" + topic + "/publish", request: Header{}, reply: Header{},
		topic: topic, delay: delay,
	}), v)
	return err
}

// transmit is what the middlewares are around.
func (b *Broker) transmit(ctx context.Context, v any) (any, error) {
	tr, _ := transport.FromClientContext(ctx)
	t, ok := tr.(*Transport)
	if !ok {
		return nil, fmt.Errorf("knsq: a middleware has put a %T in the place of the transport", tr)
	}
	body, err := b.encode(v)
	if err != nil {
		return nil, kratosError(fmt.Errorf("publish to %.80q: %w: encode a %T: %w", t.topic, ErrInvalid, v, err))
	}
	return nil, kratosError(b.sender.Send(ctx, t.topic, seal(body, t.request, b.version), t.delay))
}

func (b *Broker) encode(v any) ([]byte, error) {
	if raw, ok := v.([]byte); ok {
		return raw, nil
	}
	return b.codec.Marshal(v)
}

func kratosError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrInvalid):
		return kerrors.BadRequest("NSQ_INVALID", err.Error()).WithCause(err)
	case errors.Is(err, ErrNotSent):
		return kerrors.ServiceUnavailable("NSQ_NOT_SENT", err.Error()).WithCause(err)
	}
	return kerrors.GatewayTimeout("NSQ_AMBIGUOUS", err.Error()).WithCause(err)
}

// Connected reports whether there is a connection that looks alive.
func (b *Broker) Connected() bool { return b.sender.Connected() }

// Close takes no more messages, waits for nsqd's answers to what was sent, until ctx ends or the timeout has passed, and
// closes the connection.
func (b *Broker) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.sender.Stop(ctx)
}
