package queue

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nsqio/nsq/nsqd"
)

// statsServer answers the three questions that are asked of an nsqd over HTTP, in a stock nsqd's shapes, and can
// change nothing.
type statsServer struct {
	daemon  *nsqd.NSQD
	addr    string
	version string
	server  *http.Server
	wg      sync.WaitGroup
}

func startStats(addr string, secure *tls.Config, daemon *nsqd.NSQD, logger *slog.Logger) (*statsServer, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("HTTP address %s cannot be used: %w", addr, err)
	}
	addr = listener.Addr().String()
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	daemon.RLock()
	version := daemon.GetMetadata(false).Version
	daemon.RUnlock()
	s := &statsServer{daemon: daemon, addr: addr, version: version}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", s.ping)
	mux.HandleFunc("GET /info", s.info)
	mux.HandleFunc("GET /stats", s.stats)
	s.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(httpLog{&nsqdLog{log: logger}}, "", 0),
	}
	s.wg.Go(func() { _ = s.server.Serve(listener) }) // always an error, and always after stop
	return s, nil
}

// httpLog passes net/http's lines through the same bound as nsqd's.
type httpLog struct{ to *nsqdLog }

func (l httpLog) Write(line []byte) (int, error) {
	return len(line), l.to.Output(0, "WARNING: "+string(line))
}

func (s *statsServer) stop() {
	_ = s.server.Close()
	s.wg.Wait()
}

func (s *statsServer) ping(w http.ResponseWriter, _ *http.Request) {
	if !s.daemon.IsHealthy() {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = w.Write([]byte(s.daemon.GetHealth()))
}

type infoBody struct {
	Version          string `json:"version"`
	BroadcastAddress string `json:"broadcast_address"`
	Hostname         string `json:"hostname"`
	HTTPPort         int    `json:"http_port"`
	TCPPort          int    `json:"tcp_port"`
	StartTime        int64  `json:"start_time"` // Unix seconds
}

func (s *statsServer) info(w http.ResponseWriter, _ *http.Request) {
	hostname, _ := os.Hostname()
	writeJSON(w, infoBody{
		Version: s.version, BroadcastAddress: hostname, Hostname: hostname,
		HTTPPort: portOf(s.addr), TCPPort: portOf(s.daemon.RealTCPAddr().String()),
		StartTime: s.daemon.GetStartTime().Unix(),
	})
}

func portOf(addr string) int {
	if a, err := net.ResolveTCPAddr("tcp", addr); err == nil {
		return a.Port
	}
	return -1
}

type statsBody struct {
	Version   string            `json:"version"`
	Health    string            `json:"health"`
	StartTime int64             `json:"start_time"` // Unix seconds
	Topics    []nsqd.TopicStats `json:"topics"`
}

// stats takes nsqd's parameters topic and channel, and always answers as to format=json.
func (s *statsServer) stats(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	topics := s.daemon.GetStats(query.Get("topic"), query.Get("channel"), false).Topics
	if topics == nil {
		topics = []nsqd.TopicStats{}
	}
	writeJSON(w, statsBody{
		Version: s.version, Health: s.daemon.GetHealth(), StartTime: s.daemon.GetStartTime().Unix(), Topics: topics,
	})
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-NSQ-Content-Type", "nsq; version=1.0")
	_ = json.NewEncoder(w).Encode(body) // fails only where the client has gone
}
