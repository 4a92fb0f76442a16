package knsq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/transport"

	"sluice/queue"
)

// ServerOption is an option of NewServer.
type ServerOption func(*Server)

// Address is where nsqd listens for TCP, as host:port; 127.0.0.1:4150 by default. With several, each subscription takes
// from all of them. nsqlookupd is not asked: the addresses are those of the nsqds themselves.
func Address(nsqds ...string) ServerOption {
	return func(s *Server) { s.addresses = nsqds }
}

// TLS has the server speak TLS to every nsqd, and nothing else: one that does not offer it is not spoken to. The server's
// name is the host of each address, unless cfg names another; authorities and a certificate of its own are cfg's.
func TLS(cfg *tls.Config) ServerOption {
	return func(s *Server) { s.secure = cfg }
}

// Endpoint is what the Registrar is told; nsq:// and the first address by default.
func Endpoint(endpoint *url.URL) ServerOption {
	return func(s *Server) { s.endpoint = endpoint }
}

// Middleware runs around every handler, in the order given: once a message, and once a batch where batches are handled.
func Middleware(m ...middleware.Middleware) ServerOption {
	return func(s *Server) { s.middleware = append(s.middleware, m...) }
}

// Timeout is how long a handler's context lasts: by default three quarters of the subscription's MsgTimeout. A longer
// one moves the MsgTimeout too, where that is not given.
func Timeout(d time.Duration) ServerOption {
	return func(s *Server) { s.timeout = d }
}

// Logger is where the server tells of connections, failures and dead letters; Kratos' global logger by default.
func Logger(l log.Logger) ServerOption {
	return func(s *Server) { s.log = slog.New(kratosHandler{to: l}) }
}

// Slog is Logger for those who have a slog.Logger.
func Slog(l *slog.Logger) ServerOption {
	return func(s *Server) { s.log = l }
}

// AfterStop adds a function that Stop calls when no handler runs any more, or when its time is up: to close what the
// handlers use. The last one added is called first. Its context is the one given to Stop.
func AfterStop(f func(context.Context) error) ServerOption {
	return func(s *Server) { s.afterStop = append(s.afterStop, f) }
}

// Server takes messages from nsqd and calls handlers with them. It is a transport.Server.
type Server struct {
	addresses  []string
	secure     *tls.Config // nil: plain text
	endpoint   *url.URL
	middleware []middleware.Middleware
	timeout    time.Duration
	log        *slog.Logger
	afterStop  []func(context.Context) error
	err        error // of an option
	nsqds      []*nsqd
	ended      chan struct{} // closed when Stop has done its work

	mu            sync.Mutex
	subscriptions []*Subscription
	started       bool
	stopped       bool
}

var (
	_ transport.Server     = (*Server)(nil)
	_ transport.Endpointer = (*Server)(nil)
)

// NewServer makes a server. It does nothing before Start, which also tells of options that can't be used.
func NewServer(opts ...ServerOption) *Server {
	s := &Server{
		addresses: []string{"127.0.0.1:4150"}, ended: make(chan struct{}),
		log: slog.New(kratosHandler{to: log.GetLogger()}),
	}
	for _, o := range opts {
		o(s)
	}
	if len(s.addresses) == 0 {
		s.err = errors.New("no address of an nsqd is given")
	}
	for _, addr := range s.addresses {
		if err := checkAddress(addr); err != nil {
			s.err = errors.Join(s.err, err)
		}
		s.nsqds = append(s.nsqds, &nsqd{addr: addr, secure: s.secure, endpoint: KindNSQ.String() + "://" + addr, log: s.log})
	}
	if s.endpoint == nil && s.err == nil {
		s.endpoint = &url.URL{Scheme: KindNSQ.String(), Host: s.addresses[0]}
	}
	return s
}

func checkAddress(addr string) error {
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return fmt.Errorf("nsqd address %.80q: want host:port", addr)
	}
	return nil
}

// Endpoint is what a Registrar is told.
func (s *Server) Endpoint() (*url.URL, error) {
	if s.err != nil {
		return nil, fmt.Errorf("knsq: %w", s.err)
	}
	return s.endpoint, nil
}

// Start begins to take messages, and returns when Stop has ended; before that only where an option or a registration
// can't be used. nsqd need not be there yet. The end of ctx changes nothing: Kratos calls Stop then.
func (s *Server) Start(ctx context.Context) error {
	if err := s.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-s.ended
	return nil
}

func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	for _, sub := range s.subscriptions {
		err = errors.Join(err, sub.err)
	}
	if err != nil {
		return fmt.Errorf("knsq: %w", err)
	}
	if s.started {
		return errors.New("knsq: the server was started before")
	}
	s.started = true
	if s.stopped {
		return nil
	}
	for _, sub := range s.subscriptions {
		sub.start(ctx)
	}
	return nil
}

// add keeps a subscription for Start.
func (s *Server) add(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.stopped {
		s.log.Error("registered after Start: it takes no messages", slog.String("operation", sub.operation))
	}
	s.subscriptions = append(s.subscriptions, sub)
}

// Stop takes no more messages, lets the handlers finish what they have, and calls the functions given to AfterStop. It
// returns with ctx at the latest, unless one of those takes longer.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	again := s.stopped
	s.stopped = true
	s.mu.Unlock()
	if again {
		select {
		case <-s.ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer close(s.ended)
	err := together(s.subscriptions, func(sub *Subscription) error { return sub.stop(ctx) })
	err = errors.Join(err, together(s.nsqds, func(n *nsqd) error { return n.stop(ctx) }))
	for _, f := range slices.Backward(s.afterStop) {
		err = errors.Join(err, f(ctx))
	}
	return err
}

// together calls do for all at the same time.
func together[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { errs[i] = do(all[i]) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// nsqd is one of those that a server takes from, and to which its dead letters go back.
type nsqd struct {
	addr     string
	secure   *tls.Config // nil: plain text
	endpoint string
	log      *slog.Logger

	mu      sync.Mutex
	sender  *queue.Sender // nil until the first dead letter
	stopped bool
}

var errStopped = errors.New("the server is stopped")

func (n *nsqd) publish(ctx context.Context, topic string, body []byte) error {
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return errStopped
	}
	if n.sender == nil {
		//nolint:contextcheck // it outlives ctx: stop ends it
		n.sender = queue.NewSender(queue.SenderConfig{Addr: n.addr, TLS: n.secure, Logger: n.log})
	}
	sender := n.sender
	n.mu.Unlock()
	return sender.Send(ctx, topic, body, 0)
}

func (n *nsqd) stop(ctx context.Context) error {
	n.mu.Lock()
	n.stopped = true
	sender := n.sender
	n.mu.Unlock()
	if sender == nil {
		return nil
	}
	return sender.Stop(ctx)
}
