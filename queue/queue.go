// Package queue carries messages between doors and workers over NSQ. It may lose and it may repeat them; it never
// blocks a caller, and nothing in it grows without a bound (P9).
//
// What must not be lost is in the journal, and what must not happen twice is decided by the store: here a message is
// only on its way. Publisher and Consumer speak NSQ's protocol through go-nsq's commands, frames and messages, but
// over connections of their own, because go-nsq's Producer has no deadline and leaves goroutines behind when it is
// abandoned, and its Consumer writes one packet for each FIN and reconnects from a goroutine that nobody can wait for.
package queue

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nsqio/go-nsq"
)

// The topics and channels of the house.
//
// TopicOutcomes is ephemeral: nsqd keeps at most its mem-queue-size of messages for it and the same for each channel,
// drops the newest beyond that while still answering OK, and never writes them to disk. It deletes the topic when its
// last channel goes; a batch that arrives in that instant is refused, and the next one makes the topic anew.
const (
	TopicOrders   = "orders"
	ChannelSettle = "settle"
	TopicOutcomes = "outcomes#ephemeral"
)

const (
	doorPrefix      = "door-"
	ephemeralSuffix = Ephemeral
	maxNameBytes    = 64 // nsqd's limit, the suffix included

	// Ephemeral ends the name of a channel that lives only as long as it has a consumer.
	Ephemeral = "#ephemeral"

	// MaxDoorName is the longest name of a door, in bytes.
	MaxDoorName = maxNameBytes - len(doorPrefix) - len(ephemeralSuffix)
)

// MaxMessageBytes is the longest body of one message; the embedded nsqd and a stock one with default settings take it.
const MaxMessageBytes = 1 << 20

// DoorChannel is the channel on which the door of that name hears outcomes. It is ephemeral, so a dead door leaves
// nothing behind. The name must be 1 to MaxDoorName of a-z, A-Z, 0-9, dot, dash and underscore: two doors must never
// share a channel by being rewritten to the same name, so a bad one is refused.
func DoorChannel(name string) (string, error) {
	channel := doorPrefix + name + ephemeralSuffix
	if name == "" || len(name) > MaxDoorName || !nsq.IsValidChannelName(channel) {
		return "", fmt.Errorf("door name %.80q: want 1 to %d of a-z, A-Z, 0-9, '.', '-', '_'", name, MaxDoorName)
	}
	return channel, nil
}

// ValidTopic refuses what nsqd would not take as the name of a topic.
func ValidTopic(topic string) error { return validTopic(topic) }

func validTopic(topic string) error {
	if !nsq.IsValidTopicName(topic) {
		return fmt.Errorf("topic %.80q is not a name that nsqd takes", topic)
	}
	return nil
}

func validChannel(channel string) error {
	if !nsq.IsValidChannelName(channel) {
		return fmt.Errorf("channel %.80q is not a name that nsqd takes", channel)
	}
	return nil
}

// backoff spaces attempts exponentially between least and most. Each wait is drawn from its upper half, so that the
// doors of a shop do not all knock on a restarted nsqd in the same instant.
type backoff struct {
	least, most time.Duration
	next        time.Duration
}

func (b *backoff) reset() { b.next = 0 }

func (b *backoff) wait() time.Duration {
	b.next = min(max(b.next*2, b.least), b.most)
	return b.next/2 + rand.N(b.next/2+1)
}

// linkLog says once that a connection is down and once that it is back, however many attempts lie between.
// The goroutine that runs the connection owns it.
type linkLog struct {
	log  *slog.Logger
	down bool
}

func (l *linkLog) lost(err error) {
	if l.down {
		return
	}
	l.down = true
	l.log.Warn("queue connection down; retrying", slog.Any("error", err))
}

func (l *linkLog) restored() {
	l.down = false
	l.log.Info("queue connection up")
}

func loggerOr(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
