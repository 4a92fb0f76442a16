package worker

import (
	"context"
	"errors"
	"sync"
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
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var app *kratos.App
	var left error // of taking the registration back
	stop := sync.OnceFunc(func() {
		left = app.Stop()
		end() // Kratos goes on where the registry does not answer
	})
	disarm := func() bool { return true }
	app = kratos.New(append([]kratos.Option{
		kratos.Name("sluice-worker"), kratos.Server(w), kratos.Endpoint(api, grpcEndpoint(api.Host, w.TLS != nil)),
		kratos.Context(running),
		kratos.AfterStart(func(context.Context) error {
			disarm = context.AfterFunc(ctx, stop)
			return nil
		}),
	}, opts...)...)
	err = app.Run()
	disarm()
	stop()
	if err == nil {
		return left
	}
	// Where it can't be registered Kratos returns at once and leaves its servers running.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUp)
	defer cancel()
	return errors.Join(err, left, w.Stop(ctx))
}
