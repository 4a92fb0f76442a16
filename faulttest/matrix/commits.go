package main

import (
	"context"
	"fmt"
	"time"
)

// commits is the story of transactions whose end nobody heard of.
var commits = []story{
	{
		name:   "lost-commit",
		holds:  "The answer of a COMMIT is lost: the order ids tell what was settled, and the payment references what was paid.",
		stores: []string{"postgres"},
		length: 20 * time.Second,
		between: func(ctx context.Context, s *scene, l link, to string) (string, error) {
			if l != (link{"worker", "postgres"}) {
				return to, nil
			}
			listen, err := s.lab.FreeAddress()
			if err != nil {
				return "", err
			}
			if s.commits, err = newLosingProxy(ctx, listen, to); err != nil {
				return "", err
			}
			s.ends = append(s.ends, s.commits.end)
			return listen, nil
		},
		inject: func(ctx context.Context, s *scene) error {
			var rows int64
			for i := range 6 {
				s.wait(ctx, 300*time.Millisecond, 1500*time.Millisecond)
				kind, what := settles, "an order's settling"
				if i%3 == 2 {
					kind, what = moves, "a payment or an expiry"
				}
				fault := s.suffers(0, "postgres to worker", "the answer of a COMMIT is lost: "+what)
				lost, err := s.commits.lose(ctx, kind, 10*time.Second)
				s.healed(fault)
				if err != nil {
					return fmt.Errorf("%s: %w", what, err)
				}
				rows += lost.rows
			}
			there, err := s.rows(ctx)
			s.must(rows > 0 && there >= rows, "%d orders were committed without the worker's hearing of it, and %d are in the database", rows, there)
			return err
		},
	},
}
