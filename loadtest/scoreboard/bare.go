package main

import (
	"context"
	"fmt"
	"net/http"

	labs "sluice/loadtest/lab"
)

// connections is how many buyers ask at the same time.
const connections = 128

// bare launches the bare handler and loads it with the same requests as the service.
func (l *lab) bare(ctx context.Context) (*target, error) {
	program, err := l.peer(ctx, "bare")
	if err != nil {
		return nil, err
	}
	address, err := l.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := l.Start("bare", program, "--listen", address)
	if err != nil {
		return nil, err
	}
	if err := accepts(ctx, address); err != nil {
		return nil, err
	}
	return &target{name: "bare 429", processes: []*labs.Process{p}, load: &load{
		addresses: []string{address}, connections: connections,
		request: func(b []byte, n int64) []byte { return orderRequest(b, address, saleID, n) },
		judge: func(_ int64, a answer) (string, error) {
			if a.status != http.StatusTooManyRequests {
				return "", wrongAnswer(a, "429")
			}
			return "429", nil
		},
	}}, nil
}

func wrongAnswer(a answer, want string) error {
	return fmt.Errorf("answered %d %.300s; want %s", a.status, a.body, want)
}
