package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Topic is what nsqd says of one of its topics.
type Topic struct {
	Depth    int64            // messages that no channel has taken yet
	Channels map[string]int64 // messages of each channel: waiting, in flight and deferred
}

// Deepest is the channel with the most messages, those included that it is still to get.
func (t Topic) Deepest() (channel string, messages int64) {
	messages = t.Depth
	for name, n := range t.Channels {
		if n += t.Depth; channel == "" || n > messages || (n == messages && name < channel) {
			channel, messages = name, n
		}
	}
	return channel, messages
}

// ProbeTopic asks an nsqd, ours or a stock one, at its HTTP address, or its HTTPS one where secure is not nil, for a topic. It takes at most two seconds. One that
// does not exist has no channels.
func ProbeTopic(ctx context.Context, httpAddr string, secure *tls.Config, topic string) (Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var body probedStats
	if err := fetchStats(ctx, httpAddr, secure, topic, &body); err != nil {
		return Topic{}, fmt.Errorf("probe nsqd at %s: %w", httpAddr, err)
	}
	found := Topic{Channels: map[string]int64{}}
	for _, t := range body.Topics {
		if t.Name != topic {
			continue
		}
		found.Depth = t.Depth
		for _, c := range t.Channels {
			found.Channels[c.Name] = c.Depth + c.InFlight + c.Deferred
		}
	}
	return found, nil
}

// Identify asks an nsqd, ours or a stock one, at its HTTP address who it is. Its name is another one after each start that
// is a second after the one before. It takes at most two seconds.
func Identify(ctx context.Context, httpAddr string, secure *tls.Config) (name string, started time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var body infoBody
	if err := fetch(ctx, httpAddr, secure, "/info", nil, &body); err != nil {
		return "", time.Time{}, fmt.Errorf("ask nsqd at %s who it is: %w", httpAddr, err)
	}
	if body.StartTime == 0 {
		return "", time.Time{}, fmt.Errorf("ask nsqd at %s who it is: it is no nsqd: it has no start_time", httpAddr)
	}
	return fmt.Sprintf("%.200s:%d@%d", body.Hostname, body.TCPPort, body.StartTime), time.Unix(body.StartTime, 0), nil
}

// HoldChannel makes topic and channel, and is the channel's consumer that takes nothing, until release is called, so that
// an ephemeral channel lives while its own consumers are away. It stays gone where the connection breaks.
func HoldChannel(ctx context.Context, tcpAddr string, secure *tls.Config, topic, channel string) (release func(), err error) {
	if err := errors.Join(validTopic(topic), validChannel(channel)); err != nil {
		return nil, err
	}
	w, err := dialWire(ctx, dialConfig{addr: tcpAddr, tls: secure, timeout: consumerTimeout, heartbeat: defaultHeartbeat})
	if err != nil {
		return nil, err
	}
	if err := w.subscribe(topic, channel, consumerTimeout); err != nil {
		w.close()
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { // answers heartbeats
		defer w.close()
		for {
			if _, _, err := w.readFrame(); err != nil {
				return
			}
		}
	})
	return func() {
		w.close()
		wg.Wait()
	}, nil
}
