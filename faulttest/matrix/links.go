package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// connection is the address that a part uses to get somewhere.
func (s *scene) connection(ctx context.Context, l link, to string) (string, error) {
	if s.between == nil {
		return to, nil
	}
	return s.between(ctx, s, l, to)
}

func (s *scene) nsqdFor(ctx context.Context, part string) (tcp, http string, err error) {
	at := s.parts["nsqd"].address
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return "", "", err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", "", err
	}
	tcp, err = s.connection(ctx, link{part, "nsqd"}, at)
	if err != nil {
		return "", "", err
	}
	http, err = s.connection(ctx, link{part, "nsqd-http"}, net.JoinHostPort(host, strconv.Itoa(n+1)))
	return tcp, http, err
}

func (s *scene) postgresFor(ctx context.Context, part string) (string, error) {
	u, err := url.Parse(s.postgres.cluster.URL("postgres"))
	if err != nil {
		return "", err
	}
	u.Host, err = s.connection(ctx, link{part, "postgres"}, u.Host)
	return u.String(), err
}

// proxied is a between that puts a proxy into every connection of these kinds, in s.proxies by link.
func proxied(links ...link) func(ctx context.Context, s *scene, l link, to string) (string, error) {
	return func(_ context.Context, s *scene, l link, to string) (string, error) {
		if slices.Contains(links, l) {
			return s.proxy(l, to)
		}
		return to, nil
	}
}

// proxy starts a proxy, which the scene ends. It has no faults yet: the story gives it some.
func (s *scene) proxy(l link, to string) (string, error) {
	if p := s.proxies[l]; p != nil {
		return p.Listen, nil
	}
	listen, err := s.lab.FreeAddress()
	if err != nil {
		return "", err
	}
	quiet := zerolog.Nop()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), quiet), fmt.Sprint(l), listen, to)
	if err := p.Start(); err != nil {
		return "", fmt.Errorf("a proxy from %s to %s: %w", l.from, l.to, err)
	}
	s.proxies[l] = p
	return listen, nil
}

func (s *scene) closeProxies() {
	for _, p := range s.proxies {
		p.Stop()
	}
}

var errNoProxy = errors.New("there is no proxy in this connection")

// proxyOf is the proxy in a connection.
func (s *scene) proxyOf(l link) (*toxiproxy.Proxy, error) {
	p := s.proxies[l]
	if p == nil {
		return nil, fmt.Errorf("%v: %w", l, errNoProxy)
	}
	return p, nil
}
