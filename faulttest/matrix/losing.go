package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// losingProxy stands between a worker and PostgreSQL and reads along, so far as to know a COMMIT's answer when the server gives it. When it
// is told to lose one, it cuts the connection instead of passing it on: the server has committed, and the worker can't know.
type losingProxy struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[net.Conn]bool
	ended  bool
	loses  transaction // whose answer is to be lost next; 0: none
	losses []loss
}

// transaction is what one does, in two kinds.
type transaction int32

const (
	reads    transaction = iota // or what does not write
	settles                     // it inserts orders
	moves                       // it writes otherwise: payments, expiries
	settling = "INSERT INTO orders"
)

// loss is a COMMIT whose answer was lost.
type loss struct {
	kind transaction
	rows int64 // orders that were inserted
}

func newLosingProxy(ctx context.Context, listen, to string) (*losingProxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &losingProxy{listener: listener, to: to, open: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	return p, nil
}

// end closes everything and waits.
func (p *losingProxy) end() {
	p.mu.Lock()
	p.ended = true
	_ = p.listener.Close()
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *losingProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		s := &session{proxy: p, client: client, server: server, inserts: map[string]bool{}}
		p.running.Go(func() { s.closing(s.questions) })
		p.running.Go(func() { s.closing(s.answers) })
	}
}

func (p *losingProxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.ended {
			_ = c.Close()
		}
		p.open[c] = true
	}
	return !p.ended
}

// lose has the answer of the next COMMIT of that kind lost, and waits for it.
func (p *losingProxy) lose(ctx context.Context, kind transaction, within time.Duration) (loss, error) {
	p.mu.Lock()
	before := len(p.losses)
	p.loses = kind
	p.mu.Unlock()
	for end := time.Now().Add(within); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 5*time.Millisecond) {
		p.mu.Lock()
		losses := p.losses
		p.mu.Unlock()
		if len(losses) > before {
			return losses[before], nil
		}
	}
	return loss{}, errors.New("no such transaction was committed")
}

// committed says whether the answer of a COMMIT is to be lost, and notes that it is.
func (p *losingProxy) committed(kind transaction, rows int64) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kind == reads || p.loses != kind || kind == settles && rows == 0 {
		return false
	}
	p.loses, p.losses = reads, append(p.losses, loss{kind, rows})
	return true
}

// session is one connection.
type session struct {
	proxy          *losingProxy
	client, server net.Conn
	inserts        map[string]bool // prepared statements that insert orders; the goroutine of questions owns it

	mu      sync.Mutex // guards what follows
	waiting []bool     // statements that have no answer yet: whether they insert orders
	kind    transaction
	rows    int64
}

func (s *session) closing(pass func() error) {
	_ = pass() // however it ended: both sides are closed
	_, _ = s.client.Close(), s.server.Close()
	s.proxy.mu.Lock()
	defer s.proxy.mu.Unlock()
	delete(s.proxy.open, s.client)
	delete(s.proxy.open, s.server)
}

// questions passes on what the worker says. What comes first has no kind.
func (s *session) questions() error {
	in, out := bufio.NewReader(s.client), bufio.NewWriter(s.server)
	first, err := readFrame(in, 0)
	for frame := first; err == nil; frame, err = readFrame(in, 1) {
		if len(frame) != len(first) || &frame[0] != &first[0] {
			s.asked(frame[0], frame[5:])
		}
		if err = passOn(in, out, frame); err != nil {
			return err
		}
	}
	return err
}

// asked notes a statement.
func (s *session) asked(kind byte, body []byte) {
	switch kind {
	case 'P': // a statement gets a name
		name, rest, _ := strings.Cut(string(body), "\x00")
		text, _, _ := strings.Cut(rest, "\x00")
		s.inserts[name] = strings.Contains(text, settling)
	case 'B': // and is run under it
		_, rest, _ := strings.Cut(string(body), "\x00")
		name, _, _ := strings.Cut(rest, "\x00")
		s.wait(s.inserts[name])
	case 'Q':
		s.wait(strings.Contains(string(body), settling))
	}
}

func (s *session) wait(inserts bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, inserts)
}

// answers passes on what the server says, unless it is to be lost.
func (s *session) answers() error {
	in, out := bufio.NewReader(s.server), bufio.NewWriter(s.client)
	for {
		frame, err := readFrame(in, 1)
		if err != nil {
			return err
		}
		if s.answered(frame[0], frame[5:]) {
			return nil
		}
		if err := passOn(in, out, frame); err != nil {
			return err
		}
	}
}

// answered notes what a statement did, and says whether its answer is lost.
func (s *session) answered(kind byte, body []byte) (lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case 'C':
		inserts := len(s.waiting) > 0 && s.waiting[0]
		s.waiting = s.waiting[min(1, len(s.waiting)):]
		return s.did(strings.TrimRight(string(body), "\x00"), inserts)
	case 'Z': // the server waits for the next question; I: no transaction is open
		s.waiting = nil
		if len(body) > 0 && body[0] == 'I' {
			s.kind, s.rows = reads, 0
		}
	}
	return false
}

// did is told by a statement's tag, such as INSERT 0 20.
func (s *session) did(tag string, inserts bool) (lost bool) {
	if tag == "COMMIT" {
		return s.proxy.committed(s.kind, s.rows)
	}
	rows, _ := strconv.ParseInt(tag[strings.LastIndexByte(tag, ' ')+1:], 10, 64) // other tags have none
	switch {
	case inserts:
		s.kind, s.rows = settles, s.rows+rows
	case s.kind == reads && rows > 0 && (strings.HasPrefix(tag, "UPDATE") || strings.HasPrefix(tag, "INSERT")):
		s.kind = moves
	}
	return false
}

// passOn sends a frame, at once where no other is there yet.
func passOn(in *bufio.Reader, out *bufio.Writer, frame []byte) error {
	if _, err := out.Write(frame); err != nil {
		return err
	}
	if in.Buffered() > 0 {
		return nil
	}
	return out.Flush()
}

// readFrame reads a message with its head: kind bytes, and four of length, which count themselves.
func readFrame(in *bufio.Reader, kind int) ([]byte, error) {
	head, err := in.Peek(kind + 4)
	if err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[kind:])
	if length < 4 || length > 64<<20 {
		return nil, fmt.Errorf("a message of %d bytes", length)
	}
	frame := make([]byte, kind+int(length))
	_, err = io.ReadFull(in, frame)
	return frame, err
}
