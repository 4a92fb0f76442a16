package main

import (
	"context"

	"github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/transport/http"
)

// Report is how a visit went. Its id is the page's own: a page that got no answer sends the same report again.
type Report struct {
	ID      string `json:"id"`
	User    string `json:"user"`
	Outcome string `json:"outcome"` // bought, cancelled, turned-away
	TookMS  int64  `json:"took_ms"`
}

// repo is what the service needs of the data layer.
type repo interface {
	// Publish has the report stored, sooner or later. After an error it may have been taken or not: send it again.
	Publish(ctx context.Context, r *Report) error
	List(ctx context.Context) ([]Report, error)
}

type service struct{ repo repo }

func (s *service) register(web *http.Server) {
	route := web.Route("/v1")
	route.POST("/reports", func(ctx http.Context) error {
		var in Report
		if err := ctx.Bind(&in); err != nil {
			return err
		}
		http.SetOperation(ctx, "/report/Submit")
		_, err := ctx.Middleware(func(ctx context.Context, in any) (any, error) { return nil, s.submit(ctx, in.(*Report)) })(ctx, &in)
		if err != nil {
			return err
		}
		return ctx.Result(202, map[string]string{"id": in.ID})
	})
	route.GET("/reports", func(ctx http.Context) error {
		reports, err := s.repo.List(ctx)
		if err != nil {
			return err
		}
		return ctx.Result(200, reports)
	})
}

func (s *service) submit(ctx context.Context, r *Report) error {
	if r.ID == "" || len(r.ID) > 100 {
		return errors.BadRequest("BAD_ID", "id: want 1 to 100 bytes, the same when the report is sent again")
	}
	return s.repo.Publish(ctx, r)
}
