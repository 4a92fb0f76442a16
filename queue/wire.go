package queue

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"
)

const (
	// maxFrameBytes bounds what a peer can make us allocate with one length field.
	maxFrameBytes = 8 << 20
	readBuffer    = 64 << 10

	// defaultHeartbeat is how often nsqd speaks up on an idle connection. nsqd in turn cuts a client that is silent
	// for two of them, so it must be longer than any pause of a loaded process.
	defaultHeartbeat = 5 * time.Second

	// flushInterval is how long nsqd may hold back a message to fill its output buffer: the least that it permits
	// (its default of 250 ms would be the latency of every lone order).
	flushInterval = 25 * time.Millisecond
)

// wire is one connection to nsqd past its handshake. Every read and write on it has a deadline.
type wire struct {
	conn    net.Conn // the one below TLS until the handshake is done
	secured bool     // conn is TLS
	maxRDY  int
	silence time.Duration // longest wait for a byte; 0 during the handshake, where the dial's deadline holds

	reader *bufio.Reader // owned by the one goroutine that reads
	head   [8]byte       // owned by the same

	writeMu sync.Mutex // one command at a time
}

// dialConfig is what a connection tells nsqd about itself, and how long that may take.
type dialConfig struct {
	addr       string
	timeout    time.Duration
	heartbeat  time.Duration
	msgTimeout time.Duration // 0: nsqd's own
	tls        *tls.Config   // nil: plain text
}

// dialWire connects and identifies. When it fails, nothing but the handshake was sent.
func dialWire(ctx context.Context, cfg dialConfig) (*wire, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", cfg.addr)
	if err != nil {
		return nil, fmt.Errorf("dial nsqd: %w", err)
	}
	w := &wire{conn: conn}
	w.reader = bufio.NewReaderSize(patientReader{w}, readBuffer)

	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = w.identify(ctx, cfg)
	if !stop() { // the deadline is being pulled, so nothing that follows could be trusted
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("greet nsqd at %s: %w", cfg.addr, err)
	}
	w.silence = 3 * cfg.heartbeat
	return w, nil
}

// identify greets nsqd. The greeting is in plain text even where TLS follows, and tells no more than this host's name.
func (w *wire) identify(ctx context.Context, cfg dialConfig) error {
	hostname, _ := os.Hostname()
	cmd, err := nsq.Identify(map[string]any{
		"client_id": hostname, "hostname": hostname, "user_agent": "sluice",
		"feature_negotiation":   true,
		"heartbeat_interval":    cfg.heartbeat.Milliseconds(),
		"msg_timeout":           cfg.msgTimeout.Milliseconds(),
		"output_buffer_timeout": flushInterval.Milliseconds(),
		"tls_v1":                cfg.tls != nil,
	})
	if err != nil {
		return err
	}
	if err := w.command(cfg.timeout, nsq.MagicV2, cmd); err != nil {
		return err
	}
	answer, err := w.readResponse()
	if err != nil {
		return err
	}
	var features nsq.IdentifyResponse
	if err := json.Unmarshal(answer, &features); err != nil {
		return fmt.Errorf("it is no nsqd: it answered IDENTIFY with %.40q", answer)
	}
	if features.AuthRequired {
		return errors.New("it asks for AUTH, which is not supported")
	}
	w.maxRDY = int(features.MaxRdyCount)
	if cfg.tls == nil {
		return nil
	}
	if !features.TLSv1 {
		return ErrNoTLS
	}
	return w.upgrade(ctx, cfg)
}

// subscribe makes topic and channel where they do not exist, and the connection a consumer with RDY 0.
func (w *wire) subscribe(topic, channel string, timeout time.Duration) error {
	_ = w.conn.SetReadDeadline(time.Now().Add(timeout))
	if err := w.command(timeout, nil, nsq.Subscribe(topic, channel)); err != nil {
		return fmt.Errorf("subscribe to %s/%s: %w", topic, channel, err)
	}
	if _, err := w.readResponse(); err != nil {
		return fmt.Errorf("subscribe to %s/%s: %w", topic, channel, err)
	}
	return nil
}

// command writes prefix and cmd.
func (w *wire) command(timeout time.Duration, prefix []byte, cmd *nsq.Command) error {
	buf := bytes.NewBuffer(slices.Clip(prefix)) // MagicV2 is go-nsq's: it must not be written to
	if _, err := cmd.WriteTo(buf); err != nil {
		return err
	}
	return w.write(timeout, buf.Bytes())
}

// write sends the parts as one piece, or fails within timeout.
func (w *wire) write(timeout time.Duration, parts ...[]byte) error {
	w.writeMu.Lock()
	defer w.writeMu.Unlock()
	if err := w.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if w.secured && len(parts) > 1 { // each write is a record of its own there, and a packet
		parts = [][]byte{bytes.Join(parts, nil)}
	}
	buffers := net.Buffers(parts)
	_, err := buffers.WriteTo(w.conn)
	return err
}

var nop = []byte("NOP\n")

// readFrame returns the next frame that is not a heartbeat; those it answers itself.
func (w *wire) readFrame() (kind int32, data []byte, err error) {
	for {
		if _, err := io.ReadFull(w.reader, w.head[:]); err != nil {
			return 0, nil, err
		}
		size := binary.BigEndian.Uint32(w.head[:4]) // the kind's four bytes included
		if size < 4 || size > maxFrameBytes {
			return 0, nil, fmt.Errorf("nsqd sent a frame of %d bytes; at most %d are taken", size, maxFrameBytes)
		}
		data = make([]byte, size-4)
		if _, err := io.ReadFull(w.reader, data); err != nil {
			return 0, nil, err
		}
		kind = int32(binary.BigEndian.Uint32(w.head[4:]))
		if kind != nsq.FrameTypeResponse || string(data) != "_heartbeat_" {
			return kind, data, nil
		}
		if err := w.write(w.patience(), nop); err != nil {
			return 0, nil, err
		}
	}
}

// readResponse is readFrame where only an answer can come.
func (w *wire) readResponse() ([]byte, error) {
	kind, data, err := w.readFrame()
	switch {
	case err != nil:
		return nil, err
	case kind == nsq.FrameTypeError:
		return nil, protocolError(data)
	case kind != nsq.FrameTypeResponse:
		return nil, fmt.Errorf("nsqd sent a frame of kind %d instead of an answer", kind)
	}
	return data, nil
}

func (w *wire) patience() time.Duration {
	if w.silence > 0 {
		return w.silence
	}
	return defaultHeartbeat
}

// closeWrite tells nsqd that nothing follows. It reads what was sent before, then hangs up.
func (w *wire) closeWrite() {
	if half, ok := w.conn.(interface{ CloseWrite() error }); ok { // TCP's end, or TLS' word of it
		_ = half.CloseWrite()
	}
}

// close frees whoever reads or writes. It may be called from anywhere, and more than once.
func (w *wire) close() { _ = w.conn.Close() }

// patientReader gives each read of the socket the silence that a live nsqd never exceeds: it sends heartbeats.
type patientReader struct{ w *wire }

func (r patientReader) Read(p []byte) (int, error) {
	if r.w.silence > 0 {
		if err := r.w.conn.SetReadDeadline(time.Now().Add(r.w.silence)); err != nil {
			return 0, err
		}
	}
	return r.w.conn.Read(p)
}
