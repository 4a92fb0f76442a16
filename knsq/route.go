package knsq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-kratos/kratos/v2/encoding"
	"github.com/go-kratos/kratos/v2/encoding/json"
	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/transport"
	"golang.org/x/time/rate"

	"sluice/queue"
)

// RegisterSubscriber has handler called with each message of topic that comes to channel, decoded as JSON; with T
// []byte or json.RawMessage it gets the body as it is. What handler returns answers the message, unless it has done so
// itself (MessageFromContext). Register before Start.
func RegisterSubscriber[T any](
	s *Server, topic, channel string, handler func(ctx context.Context, v *T) error, opts ...SubscribeOption,
) *Subscription {
	r := newRoute(s, topic, channel, newSettings(s, opts, 1))
	r.set.batch = 1
	decode := decoder[T](r.set.version)
	call := r.chain(func(ctx context.Context, v any) error { return handler(ctx, v.(*T)) })
	one := func(ctx context.Context, from *nsqd, m *Message) {
		v, header, err := decode(m.Body)
		if err != nil {
			r.bury(ctx, from, m, err)
			return
		}
		tr := &Transport{endpoint: from.endpoint, operation: r.operation, request: header, reply: Header{}, message: m}
		r.freshen(m)
		r.settle(ctx, from, m, r.within(ctx, tr, func(ctx context.Context) error { return call(ctx, v) }))
	}
	return subscribe(s, r, func(ctx context.Context, from *nsqd, batch []*Message) {
		for _, m := range batch {
			one(ctx, from, m)
		}
	})
}

// Delivery is one message of a batch.
type Delivery[T any] struct {
	*Message        // which may be answered by Finish or Requeue
	Value    *T     // its body, decoded
	Header   Header // its member "trace"; a carrier for OpenTelemetry's propagators
}

// deliveries is a batch as middlewares see it.
type deliveries[T any] []*Delivery[T]

func (d deliveries[T]) String() string { return fmt.Sprintf("batch of %d messages", len(d)) }

// RegisterBatch has handler called with the messages that have come to channel, at most Batch of them. It may answer
// each by itself; what it returns answers the others. A message that can't be decoded is not part of a batch.
func RegisterBatch[T any](
	s *Server, topic, channel string, handler func(ctx context.Context, batch []*Delivery[T]) error, opts ...SubscribeOption,
) *Subscription {
	r := newRoute(s, topic, channel, newSettings(s, opts, defaultBatch))
	decode := decoder[T](r.set.version)
	call := r.chain(func(ctx context.Context, v any) error { return handler(ctx, v.(deliveries[T])) })
	return subscribe(s, r, func(ctx context.Context, from *nsqd, batch []*Message) {
		decoded := make(deliveries[T], 0, len(batch))
		rest := batch[:0:len(batch)]
		for _, m := range batch {
			v, header, err := decode(m.Body)
			if err != nil {
				r.bury(ctx, from, m, err)
				continue
			}
			rest = append(rest, m)
			decoded = append(decoded, &Delivery[T]{Message: m, Value: v, Header: header})
		}
		if len(decoded) == 0 {
			return
		}
		r.settleBatch(ctx, from, rest, func(ctx context.Context) error { return call(ctx, decoded) })
	})
}

// messages is a raw batch as middlewares see it.
type messages []*Message

func (m messages) String() string { return fmt.Sprintf("batch of %d messages", len(m)) }

// RegisterRawBatch is RegisterBatch for bodies that nobody is to read: neither decoded nor searched for a header
// (ReadHeader does that). Version has no meaning here.
func RegisterRawBatch(
	s *Server, topic, channel string, handler func(ctx context.Context, batch []*Message) error, opts ...SubscribeOption,
) *Subscription {
	r := newRoute(s, topic, channel, newSettings(s, opts, defaultBatch))
	call := r.chain(func(ctx context.Context, v any) error { return handler(ctx, v.(messages)) })
	return subscribe(s, r, func(ctx context.Context, from *nsqd, batch []*Message) {
		r.settleBatch(ctx, from, batch, func(ctx context.Context) error { return call(ctx, messages(batch)) })
	})
}

// decoder returns how bodies become values.
func decoder[T any](version int) func(body []byte) (*T, Header, error) {
	codec := encoding.GetCodec(json.Name)
	unmarshal := func(body []byte, v *T) error { return codec.Unmarshal(body, v) }
	if _, raw := any(new(T)).(*[]byte); raw {
		unmarshal = func(body []byte, v *T) error {
			*any(v).(*[]byte) = body
			return nil
		}
	}
	return func(body []byte) (*T, Header, error) {
		header, err := readHeader(body, version)
		if err != nil {
			return nil, nil, err
		}
		v := new(T)
		if err := unmarshal(body, v); err != nil {
			return nil, nil, fmt.Errorf("decode it as %T: %w", v, err)
		}
		return v, header, nil
	}
}

// route is what a topic and channel lead to.
type route struct {
	topic, channel string
	operation      string
	set            settings
	middleware     middleware.Middleware // nil: none
	log            *slog.Logger
	complain       rate.Sometimes // keeps what every message may meet from filling the log
}

func newRoute(s *Server, topic, channel string, set settings) *route {
	r := &route{
		topic: topic, channel: channel, operation: "/" + topic + "/" + channel, set: set,
		log:      s.log.With(slog.String("topic", topic), slog.String("channel", channel)),
		complain: rate.Sometimes{First: 10, Interval: time.Second},
	}
	if len(s.middleware) > 0 {
		r.middleware = middleware.Chain(s.middleware...)
	}
	if r.set.deadTopic == "" {
		r.set.deadTopic = topic + "." + strings.TrimSuffix(channel, "#ephemeral") + ".dead"
	}
	return r
}

func (r *route) check() error {
	if err := r.set.check(); err != nil {
		return err
	}
	if r.set.deadLetter != nil {
		return nil
	}
	if err := queue.ValidTopic(r.set.deadTopic); err != nil {
		return fmt.Errorf("dead letters: %w; DeadTopic names another", err)
	}
	if r.set.deadTopic == r.topic {
		return errors.New("dead letters: their topic is the one that they come from")
	}
	return nil
}

// chain puts the middlewares around call.
func (r *route) chain(call func(ctx context.Context, v any) error) func(ctx context.Context, v any) error {
	if r.middleware == nil {
		return call
	}
	handler := r.middleware(func(ctx context.Context, v any) (any, error) { return nil, call(ctx, v) })
	return func(ctx context.Context, v any) error {
		_, err := handler(ctx, v)
		return err
	}
}

// within calls do with a context that ends in time and that has tr.
func (r *route) within(ctx context.Context, tr *Transport, do func(context.Context) error) error {
	if r.set.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.set.timeout)
		defer cancel()
	}
	return guard(func() error { return do(transport.NewServerContext(ctx, tr)) })
}

// freshen starts the clocks of messages anew that have waited for their handler, so that it has its whole timeout. The
// first one is the oldest.
func (r *route) freshen(batch ...*Message) {
	if time.Since(batch[0].Received) < r.set.msgTimeout/8 {
		return
	}
	for _, m := range batch {
		m.Touch()
	}
}

func (r *route) settleBatch(ctx context.Context, from *nsqd, batch []*Message, do func(context.Context) error) {
	tr := &Transport{endpoint: from.endpoint, operation: r.operation, request: Header{}, reply: Header{}}
	r.freshen(batch...)
	err := r.within(ctx, tr, do)
	for _, m := range batch {
		r.settle(ctx, from, m, err)
	}
}
