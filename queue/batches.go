package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Batches publishes batch after batch for one caller who waits until nsqd has taken each. A Publisher is for who does not
// wait, a Sender for single messages of many callers.
type Batches struct {
	link *link
}

// batchPatience bounds a dial with its handshake, and a batch from its first byte to nsqd's OK.
const batchPatience = 5 * time.Second

// DialBatches connects to nsqd. Close ends the connection.
func DialBatches(ctx context.Context, addr string) (*Batches, error) {
	w, err := dialWire(ctx, dialConfig{addr: addr, timeout: batchPatience, heartbeat: defaultHeartbeat})
	if err != nil {
		return nil, err
	}
	return &Batches{link: newLink(w)}, nil
}

// Send publishes bodies to topic in their order and waits for nsqd's OK: a few seconds at most. After an error the
// connection is of no more use, and it is not known which of the bodies nsqd took.
func (b *Batches) Send(ctx context.Context, topic string, bodies [][]byte) error {
	if len(bodies) == 0 {
		return nil
	}
	var frames []byte
	for _, body := range bodies {
		if len(body) == 0 || len(body) > MaxMessageBytes {
			return fmt.Errorf("publish to %s: a body of %d bytes; 1 to %d are taken", topic, len(body), MaxMessageBytes)
		}
		frames = binary.BigEndian.AppendUint32(frames, uint32(len(body)))
		frames = append(frames, body...)
	}
	defer context.AfterFunc(ctx, b.link.wire.close)()
	if err := b.link.multiPublish(topic, len(bodies), frames, batchPatience); err != nil {
		return fmt.Errorf("publish %d messages to %s: %w", len(bodies), topic, err)
	}
	return nil
}

// Broken is closed when the connection has ended.
func (b *Batches) Broken() <-chan struct{} { return b.link.dead }

// Err is why the connection has ended, once Broken is closed.
func (b *Batches) Err() error {
	select {
	case <-b.link.dead:
		return errors.Join(errors.New("the connection to nsqd has ended"), b.link.err)
	default:
		return nil
	}
}

// Close ends the connection.
func (b *Batches) Close() { b.link.close() }
