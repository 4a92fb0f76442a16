package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"sluice"
)

// Batches is one connection to nsqd for one caller who publishes batch after batch and waits for nsqd's word on each. Once
// broken it stays so: nsqd may have restarted and forgotten, so its caller must know of every new connection, and dials it.
type Batches struct {
	link     *link
	deadline time.Duration
	batch    outbox
}

const (
	batchesMost  = 1000
	batchesBytes = 2 << 20 // as a stock nsqd takes 5 MiB
)

// DialBatches connects, over TLS where secure is not nil. The deadline is that of the dial and handshake, and of each batch to be written and acknowledged.
func DialBatches(ctx context.Context, addr string, secure *tls.Config, deadline time.Duration) (*Batches, error) {
	w, err := dialWire(ctx, dialConfig{addr: addr, tls: secure, timeout: deadline, heartbeat: defaultHeartbeat})
	if err != nil {
		return nil, err
	}
	return &Batches{link: newLink(w), deadline: deadline}, nil
}

// Publish sends the messages in their order, in as few MPUBs as nsqd takes, and returns when it has said OK to all of them.
// That is not durable: nsqd forgets. After an error, which breaks the connection, any of them may or may not have landed.
func (b *Batches) Publish(ctx context.Context, topic string, bodies [][]byte) error {
	err := b.publish(ctx, topic, bodies)
	if err != nil {
		b.link.close()
		return fmt.Errorf("publish %d messages to %s: %w", len(bodies), topic, err)
	}
	return nil
}

func (b *Batches) publish(ctx context.Context, topic string, bodies [][]byte) error {
	if err := validTopic(topic); err != nil {
		return err
	}
	b.batch.reset()
	for _, body := range bodies {
		if len(body) == 0 || len(body) > MaxMessageBytes {
			return fmt.Errorf("a body has %d bytes; 1 to %d are taken", len(body), MaxMessageBytes)
		}
		b.batch.add(sluice.OrderID{}, body)
	}
	stop := context.AfterFunc(ctx, b.link.wire.close)
	defer stop()
	for from := 0; from < len(bodies); {
		select {
		case <-b.link.dead:
			return b.link.err
		default:
		}
		to := b.batch.batch(from, batchesMost, batchesBytes)
		frames := b.batch.frames[b.batch.start(from):b.batch.ends[to-1]]
		if err := b.link.multiPublish(topic, to-from, frames, b.deadline); err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		from = to
	}
	return nil
}

// Broken is closed when the connection is of no more use.
func (b *Batches) Broken() <-chan struct{} { return b.link.dead }

// Close ends the connection.
func (b *Batches) Close() { b.link.close() }
