package queue

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	probeTimeout  = 2 * time.Second
	maxProbeBytes = 4 << 20
)

// Health is what nsqd says about itself. It feeds gauges and recovery; whether an order comes in is never decided by
// it, since after a crash nsqd's figures are wrong.
type Health struct {
	StartTime time.Time // whole seconds; another one than before: nsqd has restarted and forgotten
	Total     int64     // orders that it carries: waiting, in flight and deferred
	Settle    bool      // the channel that settles orders exists
}

// Probe asks an nsqd, ours or a stock one, at its HTTP address, or its HTTPS one where secure is not nil. It takes at most two seconds.
//
// Total is of topic orders and channel settle. Other channels of the topic hold copies for others (nsq_tail's, say),
// and counting those would let a forgotten one stop every repeat.
func Probe(ctx context.Context, httpAddr string, secure *tls.Config) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var body probedStats
	if err := fetchStats(ctx, httpAddr, secure, TopicOrders, &body); err != nil {
		return Health{}, fmt.Errorf("probe nsqd at %s: %w", httpAddr, err)
	}
	h := Health{StartTime: time.Unix(body.StartTime, 0)}
	for _, t := range body.Topics {
		if t.Name != TopicOrders {
			continue
		}
		h.Total += t.Depth
		for _, c := range t.Channels {
			if c.Name == ChannelSettle {
				h.Settle = true
				h.Total += c.Depth + c.InFlight + c.Deferred
			}
		}
	}
	return h, nil
}

// probedStats is the part of /stats that Probe reads.
type probedStats struct {
	StartTime int64 `json:"start_time"`
	Topics    []struct {
		Name     string `json:"topic_name"`
		Depth    int64  `json:"depth"`
		Channels []struct {
			Name     string `json:"channel_name"`
			Depth    int64  `json:"depth"`
			InFlight int64  `json:"in_flight_count"`
			Deferred int64  `json:"deferred_count"`
		} `json:"channels"`
	} `json:"topics"`
}

// probeClient keeps no connection: a probe is rare, and a kept one would have to be closed by somebody.
var probeClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func fetchStats(ctx context.Context, httpAddr string, secure *tls.Config, topic string, body *probedStats) error {
	query := url.Values{
		"format": {"json"}, "topic": {topic}, "include_clients": {"false"}, "include_mem": {"false"},
	}
	if err := fetch(ctx, httpAddr, secure, "/stats", query, body); err != nil {
		return err
	}
	if body.StartTime == 0 {
		return fmt.Errorf("it is no nsqd: its stats have no start_time")
	}
	return nil
}

// fetch reads what nsqd answers into body.
func fetch(ctx context.Context, httpAddr string, secure *tls.Config, path string, query url.Values, body any) error {
	scheme, client := "http", probeClient
	if secure != nil {
		scheme, client = "https", &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: secureFor(secure, hostOf(httpAddr))}}
	}
	if !strings.Contains(httpAddr, "://") {
		httpAddr = scheme + "://" + httpAddr
	}
	if secure != nil && !strings.HasPrefix(httpAddr, "https://") {
		return fmt.Errorf("%s: %w", httpAddr, ErrNoTLS)
	}
	url := strings.TrimSuffix(httpAddr, "/") + path + "?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProbeBytes)).Decode(body); err != nil {
		return fmt.Errorf("read its answer: %w", err)
	}
	return nil
}

// hostOf is the host and port of an address or a URL.
func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

// EnsureChannel makes topic and channel on any nsqd, so that what is published from now on waits for the channel's
// first consumer. An ephemeral channel would be gone again as soon as this returns; it is refused.
func EnsureChannel(ctx context.Context, tcpAddr string, secure *tls.Config, topic, channel string) error {
	if strings.HasSuffix(channel, ephemeralSuffix) {
		return fmt.Errorf("channel %s: an ephemeral channel lives only as long as its consumer", channel)
	}
	if err := validTopic(topic); err != nil {
		return err
	}
	if err := validChannel(channel); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(tcpAddr); err != nil {
		return fmt.Errorf("nsqd address %q: want host:port: %w", tcpAddr, err)
	}
	w, err := dialWire(ctx, dialConfig{addr: tcpAddr, tls: secure, timeout: consumerTimeout, heartbeat: defaultHeartbeat})
	if err != nil {
		return err
	}
	defer w.close()
	defer context.AfterFunc(ctx, w.close)()
	return w.subscribe(topic, channel, consumerTimeout)
}
