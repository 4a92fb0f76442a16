package worker

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/go-kratos/kratos/v2"
)

// giveUp is how long a worker may take to stop where Kratos has left it running.
const giveUp = 10 * time.Second

// Run runs w as a Kratos application until ctx ends. A kratos.Registrar among the options is told of both of the API's
// transports, and hears when they end, which it would not if ctx were given to Kratos.
func Run(ctx context.Context, w *Worker, opts ...kratos.Option) error {
	api, err := w.Endpoint()
	if err != nil {
		return err
	}
	var app *kratos.App
	disarm := func() bool { return true }
	app = kratos.New(append([]kratos.Option{
		kratos.Name("sluice-worker"), kratos.Server(w), kratos.Endpoint(api, &url.URL{Scheme: "grpc", Host: api.Host}),
		kratos.AfterStart(func(context.Context) error {
			disarm = context.AfterFunc(ctx, func() { _ = app.Stop() }) // Run tells what failed
			return nil
		}),
	}, opts...)...)
	err = app.Run()
	disarm()
	if err == nil {
		return nil
	}
	// Where it can't be registered Kratos returns at once and leaves its servers running.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUp)
	defer cancel()
	return errors.Join(err, app.Stop(), w.Stop(ctx))
}
