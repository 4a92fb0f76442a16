package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"
)

// What the driver says to nsqd itself, as anybody on its network can: with go-nsq's commands and frames over connections of its own.

// publisher puts messages into a topic, one after the other. One goroutine uses it.
type publisher struct {
	conn  net.Conn
	topic string
}

func (s *scene) publisher(ctx context.Context, topic string) (*publisher, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", s.parts["nsqd"].address)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(nsq.MagicV2); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &publisher{conn, topic}, nil
}

func (p *publisher) close() { _ = p.conn.Close() }

// publish waits until nsqd has the message, which it delivers after a delay.
func (p *publisher) publish(body []byte, delay time.Duration) error {
	cmd := nsq.Publish(p.topic, body)
	if delay > 0 {
		cmd = nsq.DeferredPublish(p.topic, delay, body)
	}
	if err := p.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := cmd.WriteTo(p.conn); err != nil {
		return err
	}
	for {
		kind, data, err := nsq.ReadUnpackedResponse(p.conn)
		switch {
		case err != nil:
			return err
		case kind == nsq.FrameTypeResponse && string(data) == "_heartbeat_":
			if _, err := nsq.Nop().WriteTo(p.conn); err != nil {
				return err
			}
		case kind == nsq.FrameTypeResponse && string(data) == "OK":
			return nil
		default:
			return fmt.Errorf("nsqd says %s", data)
		}
	}
}

// reader hears a channel of a topic, and again whenever its connection broke. hear answers what goes wrong with a message; one with which
// something does is not finished, and comes again.
type reader struct {
	at, topic, channel string
	hear               func(body []byte) error

	running sync.WaitGroup
	stop    context.CancelFunc

	mu  sync.Mutex // guards what follows
	err error      // the latest
}

// listen starts to hear; hush ends it.
func (r *reader) listen(ctx context.Context) {
	ctx, r.stop = context.WithCancel(ctx)
	r.running.Go(func() {
		for ctx.Err() == nil {
			err := r.session(ctx)
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
			pause(ctx, 50*time.Millisecond)
		}
	})
}

// hush ends what listen began, and waits.
func (r *reader) hush() {
	if r.stop != nil {
		r.stop()
	}
	r.running.Wait()
}

// trouble is what went wrong the latest time.
func (r *reader) trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *reader) session(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", r.at)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close() //nolint:errcheck // whatever was answered is answered
	_, err = conn.Write(nsq.MagicV2)
	for _, cmd := range []*nsq.Command{nsq.Subscribe(r.topic, r.channel), nsq.Ready(200)} {
		if err == nil {
			_, err = cmd.WriteTo(conn)
		}
	}
	for err == nil {
		var kind int32
		var data []byte
		if kind, data, err = nsq.ReadUnpackedResponse(conn); err != nil {
			return err
		}
		switch {
		case kind == nsq.FrameTypeMessage:
			var m *nsq.Message
			if m, err = nsq.DecodeMessage(data); err == nil {
				err = r.hear(m.Body)
			}
			if err == nil {
				_, err = nsq.Finish(m.ID).WriteTo(conn)
			}
		case string(data) == "_heartbeat_":
			_, err = nsq.Nop().WriteTo(conn)
		case kind == nsq.FrameTypeError:
			err = fmt.Errorf("nsqd says %s", data)
		}
	}
	return err
}
