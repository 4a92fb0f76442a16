package queue

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nsqio/nsq/nsqd"
)

// ServerConfig says where the embedded nsqd listens and what it may use. Zero fields take the default that is named
// with them.
type ServerConfig struct {
	Listen       string // TCP address, such as 127.0.0.1:4150; port 0 takes any
	HTTP         string // address of the read-only /ping, /info and /stats; empty: none
	TLSCert      string // PEM file with the certificate that both ports show; empty: plain text. Read at the start only
	TLSKey       string // PEM file with its key
	ClientCA     string // PEM file with the authorities of clients; empty: a client need not show a certificate
	DataDir      string // made if it does not exist
	MemQueueSize int    // messages that a topic or a channel keeps in memory before it goes to disk; 10,000

	MsgTimeout time.Duration // after which an unanswered message is delivered again; 60 s
	MaxRDY     int           // the largest window that a consumer may ask for; 2,500
	Channels   []Channel     // made before the first client is served, so that nothing is published past them
	Logger     *slog.Logger
}

// Channel names a channel of a topic.
type Channel struct{ Topic, Name string }

func (c ServerConfig) withDefaults() ServerConfig {
	setDefault(&c.MemQueueSize, 10_000)
	setDefault(&c.MsgTimeout, time.Minute)
	setDefault(&c.MaxRDY, 2500)
	c.Logger = loggerOr(c.Logger)
	return c
}

func (c ServerConfig) check() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen address %q: want host:port: %w", c.Listen, err)
	}
	if c.DataDir == "" {
		return errors.New("data directory is missing")
	}
	for _, ch := range c.Channels {
		if err := errors.Join(validTopic(ch.Topic), validChannel(ch.Name)); err != nil {
			return err
		}
	}
	return nil
}

// maxBodyBytes is the largest MPUB that the embedded nsqd takes: several of a Publisher's largest batches.
const maxBodyBytes = 16 << 20

// Server is an nsqd inside this process. Stock clients can use it, and everything here can use a stock nsqd.
type Server struct {
	nsqd    *nsqd.NSQD
	http    *statsServer // nil where it is off
	done    chan struct{}
	dead    sync.Once // closes done
	err     error     // set before done is closed
	exit    sync.Once
	exited  chan struct{}
	stopped chan struct{}
}

// StartServer starts an nsqd. Its errors name the address or the directory that could not be used.
//
// nsqd's own HTTP port stays off: whoever reaches it may empty topics and read the process's memory through pprof.
func StartServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("nsqd: %w", err)
	}
	cfg = cfg.withDefaults()
	secure, err := cfg.serverTLS()
	if err != nil {
		return nil, fmt.Errorf("nsqd: %w", err)
	}
	if err := prepare(cfg); err != nil {
		return nil, fmt.Errorf("nsqd: %w", err)
	}
	daemon, err := newDaemon(cfg)
	if err != nil {
		return nil, fmt.Errorf("nsqd: %w", err)
	}
	s := &Server{
		nsqd: daemon, done: make(chan struct{}), exited: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := s.load(cfg); err != nil {
		daemon.Exit()
		return nil, fmt.Errorf("nsqd: %w", err)
	}
	if cfg.HTTP != "" {
		if s.http, err = startStats(cfg.HTTP, secure, daemon, cfg.Logger); err != nil {
			daemon.Exit()
			return nil, fmt.Errorf("nsqd: %w", err)
		}
	}
	go s.run(cfg.Logger)
	go s.watchClock(wallClock, s.taken, cfg.Logger)
	if err := s.awaitReady(); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), consumerTimeout)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("nsqd: %w", err), s.Stop(ctx))
	}
	return s, nil
}

// awaitReady greets the nsqd as a client would, which also one that wants TLS answers in plain text. It also keeps an early Stop from overtaking nsqd's Main, which starts
// goroutines that Exit must wait for.
func (s *Server) awaitReady() error {
	w, err := dialWire(context.Background(), dialConfig{
		addr: s.Addr(), timeout: consumerTimeout, heartbeat: defaultHeartbeat,
	})
	if err != nil {
		return err
	}
	w.close()
	return nil
}

// prepare finds what would stop nsqd before it takes the directory's lock: a nsqd.New that fails afterwards does not
// give the lock back.
func prepare(cfg ServerConfig) error {
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return fmt.Errorf("data directory %s: %w", cfg.DataDir, err)
	}
	probe, err := os.CreateTemp(cfg.DataDir, ".writable-*")
	if err != nil {
		return fmt.Errorf("data directory %s cannot be written: %w", cfg.DataDir, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("data directory %s cannot be written: %w", cfg.DataDir, err)
	}
	if err := checkMetadata(filepath.Join(cfg.DataDir, "nsqd.dat")); err != nil {
		return err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("address %s cannot be used: %w", cfg.Listen, err)
	}
	return listener.Close()
}

// checkMetadata refuses a damaged list of topics, which nsqd would refuse too, but overwrite when it exits.
func checkMetadata(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the list of topics: %w", err)
	}
	if !json.Valid(data) {
		return fmt.Errorf("the list of topics in %s is damaged; remove it, and the topics in use are made anew", file)
	}
	return nil
}

func newDaemon(cfg ServerConfig) (*nsqd.NSQD, error) {
	opts := nsqd.NewOptions()
	opts.Logger = &nsqdLog{log: cfg.Logger}
	opts.LogLevel = nsqd.LOG_WARN
	opts.TCPAddress = cfg.Listen
	opts.HTTPAddress = ""
	opts.HTTPSAddress = ""
	if cfg.TLSCert != "" {
		opts.TLSCert, opts.TLSKey = cfg.TLSCert, cfg.TLSKey
		opts.TLSMinVersion, opts.TLSRequired = tls.VersionTLS12, nsqd.TLSRequired
	}
	if cfg.ClientCA != "" {
		opts.TLSRootCAFile, opts.TLSClientAuthPolicy = cfg.ClientCA, "require-verify"
	}
	opts.DataPath = cfg.DataDir
	opts.MemQueueSize = int64(cfg.MemQueueSize)
	opts.MaxMsgSize = MaxMessageBytes
	opts.MaxBodySize = maxBodyBytes
	opts.MsgTimeout = cfg.MsgTimeout
	opts.MaxMsgTimeout = max(opts.MaxMsgTimeout, cfg.MsgTimeout)
	opts.MaxRdyCount = int64(cfg.MaxRDY)
	// A channel's timeouts are looked after only once the scan has noticed the channel.
	opts.QueueScanRefreshInterval = time.Second

	daemon, err := nsqd.New(opts) // takes the directory's lock
	if err == nil {
		if err = salvage(cfg.DataDir, cfg.Logger); err == nil {
			return daemon, nil
		}
	}
	// The address was taken between the check and now, another nsqd has the directory, or its disk fails. What nsqd keeps of
	// the lock goes with the garbage: its Exit would write a list of no topics, because none are loaded yet.
	runtime.GC()
	return nil, fmt.Errorf("data directory %s, address %s: %w", cfg.DataDir, cfg.Listen, err)
}

// load does what apps/nsqd does between New and Main, and makes the channels.
func (s *Server) load(cfg ServerConfig) error {
	if err := s.nsqd.LoadMetadata(); err != nil {
		return fmt.Errorf("load the list of topics from %s: %w", cfg.DataDir, err)
	}
	for _, ch := range cfg.Channels {
		s.nsqd.GetTopic(ch.Topic).GetChannel(ch.Name)
	}
	s.nsqd.Lock()
	defer s.nsqd.Unlock()
	if err := s.nsqd.PersistMetadata(); err != nil {
		return fmt.Errorf("write the list of topics to %s: %w", cfg.DataDir, err)
	}
	return nil
}

// run serves until Stop, or until nsqd gives up by itself.
func (s *Server) run(log *slog.Logger) {
	err := s.nsqd.Main()
	if err == nil {
		err = errors.New("it stopped serving by itself")
	}
	s.die(err, log)
}

// Addr is where clients connect.
func (s *Server) Addr() string { return s.nsqd.RealTCPAddr().String() }

// HTTPAddr is where /ping, /info and /stats are served; empty where they are off.
func (s *Server) HTTPAddr() string {
	if s.http == nil {
		return ""
	}
	return s.http.addr
}

// Done is closed when nsqd serves no more.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why nsqd died by itself: nil while it serves, and after Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop closes all connections and writes what the topics hold to disk. It returns with an error when ctx ends first:
// nsqd waits for as long as a client that has connected and said nothing stays (its messages are on disk by then).
func (s *Server) Stop(ctx context.Context) error {
	s.exit.Do(func() {
		close(s.stopped)
		if s.http != nil {
			s.http.stop()
		}
		go func() {
			defer close(s.exited)
			s.nsqd.Exit()
			<-s.done
		}()
	})
	select {
	case <-s.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("nsqd: its clients have not gone yet: %w", context.Cause(ctx))
	}
}

// nsqdLog takes nsqd's lines, of which there can be one for each late FIN, and passes on a bounded number a second.
type nsqdLog struct {
	log *slog.Logger

	mu         sync.Mutex
	second     int64 // for which lines are counted
	lines      int
	suppressed int
}

const nsqdLinesPerSecond = 10

// Output is nsqd's logger interface. A line begins with its level.
func (l *nsqdLog) Output(_ int, line string) error {
	suppressed, ok := l.admit(time.Now())
	if !ok {
		return nil
	}
	level, text, _ := strings.Cut(line, ": ")
	attrs := []slog.Attr{slog.String("text", text)}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	l.log.LogAttrs(context.Background(), nsqdLevel(level), "nsqd", attrs...)
	return nil
}

// admit reports whether a line may pass now, and how many did not since the last one that did.
func (l *nsqdLog) admit(now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.second {
		l.second, l.lines = s, 0
	}
	if l.lines == nsqdLinesPerSecond {
		l.suppressed++
		return 0, false
	}
	l.lines++
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

func nsqdLevel(level string) slog.Level {
	switch level {
	case "ERROR", "FATAL":
		return slog.LevelError
	case "INFO":
		return slog.LevelInfo
	case "DEBUG":
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
