package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/go-kratos/kratos/v2/middleware/recovery"
	khttp "github.com/go-kratos/kratos/v2/transport/http"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice"
	"sluice/api"
	"sluice/inventory"
)

const (
	callTimeout  = 15 * time.Second
	auditTimeout = 5 * time.Minute // it reads every order
	maxBodyBytes = 64 << 10
)

// operations is the API for operators and doors.
func (w *Worker) operations(l net.Listener) *khttp.Server {
	notFound := func(r sluice.Refusal, detail string) http.Handler {
		return http.HandlerFunc(func(res http.ResponseWriter, _ *http.Request) {
			writeProblem(res, sluice.Refuse(r, "%s", detail))
		})
	}
	// The two handlers below replace Kratos' default, http.DefaultServeMux, on which libraries register debug pages.
	srv := khttp.NewServer(
		khttp.Listener(l),
		khttp.Timeout(0), // each call has its own
		khttp.Middleware(recovery.Recovery()),
		khttp.Filter(w.guard, limitBody),
		khttp.ErrorEncoder(w.writeError),
		khttp.NotFoundHandler(notFound(sluice.NotFound, "see the published API for what there is")),
		khttp.MethodNotAllowedHandler(notFound(sluice.MethodNotAllowed, "see the published API for what is allowed here")),
	)
	srv.ReadHeaderTimeout = 10 * time.Second
	srv.ReadTimeout = 30 * time.Second
	srv.IdleTimeout = 2 * time.Minute
	w.routes(srv)
	return srv
}

func (w *Worker) routes(srv *khttp.Server) {
	r := srv.Route("/")
	r.POST(api.PathSales, handle(http.StatusCreated, w.createSale))
	r.GET(api.PathSales, handle(http.StatusOK, w.listSales))
	r.GET(api.PathSales+"/{id}", handle(http.StatusOK, w.getSale))
	r.POST(api.PathSales+"/{id}/topup", handle(http.StatusOK, w.topUp))
	r.POST(api.PathSales+"/{id}/end", handle(http.StatusOK, w.endSale))
	r.GET(api.PathOrders+"/{id}", handle(http.StatusOK, w.getOrder))
	r.POST(api.PathOrders+"/{id}/pay", handle(http.StatusOK, w.payOrder))
	r.POST(api.PathOrders+"/{id}/cancel", handle(http.StatusOK, w.cancelOrder))
	r.GET(api.PathAudit, handleWithin(auditTimeout, http.StatusOK, w.audit))
	r.GET(api.PathLimits, handle(http.StatusOK, w.getLimits))
	r.PATCH(api.PathLimits, handle(http.StatusOK, w.patchLimits))
	r.POST(api.PathBlocks, handle(http.StatusOK, w.addBlock))
	r.DELETE(api.PathBlocks, handle(http.StatusOK, w.liftBlock))
	r.GET(api.PathPools, handle(http.StatusOK, w.getPools))
	r.PATCH(api.PathPools, handle(http.StatusOK, w.patchPools))
	r.POST(api.PathFacts, handle(http.StatusOK, w.facts))
	r.POST(api.PathStatuses, handle(http.StatusOK, w.statuses))
	w.webhookRoutes(r)
	r.GET(api.PathDocument, document(api.OperationsDocument))
	r.GET(api.PathDoorDocument, document(api.DoorDocument))
	srv.Handle("/metrics", promhttp.HandlerFor(w.Registry, promhttp.HandlerOpts{}))
	srv.HandleFunc("/livez", func(res http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(res, "alive\n") })
	srv.HandleFunc("/readyz", w.readyz)
}

// none is the body of a call that has none.
type none struct{}

// handle makes a Kratos handler: a strict body in, JSON out, errors as problems, the server's middleware around.
func handle[In, Out any](status int, do func(ctx context.Context, id string, in *In) (Out, error)) khttp.HandlerFunc {
	return handleWithin(callTimeout, status, do)
}

func handleWithin[In, Out any](
	limit time.Duration, status int, do func(ctx context.Context, id string, in *In) (Out, error),
) khttp.HandlerFunc {
	return func(ctx khttp.Context) error {
		var in In
		if err := bind(ctx.Request(), &in); err != nil {
			return err
		}
		call := ctx.Middleware(func(c context.Context, _ any) (any, error) {
			c, cancel := context.WithTimeout(c, limit)
			defer cancel()
			return do(c, ctx.Vars().Get("id"), &in)
		})
		out, err := call(ctx, &in)
		if err != nil {
			return err
		}
		return ctx.JSON(status, out)
	}
}

// bind reads a body of known fields. An empty body leaves the defaults.
func bind(r *http.Request, in any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(in)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return sluice.Refuse(sluice.TooLarge, "the body is over %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return sluice.Refuse(sluice.BadRequest, "the body can't be read: %v", err)
	}
	return nil
}

func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(res, r.Body, maxBodyBytes)
		next.ServeHTTP(res, r)
	})
}

// document serves one of the published contracts.
func document(text string) khttp.HandlerFunc {
	return func(ctx khttp.Context) error { return ctx.Blob(http.StatusOK, api.ContentYAML, []byte(text)) }
}

func (w *Worker) readyz(res http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := w.Store.Ping(ctx); err != nil {
		writeProblem(res, sluice.Refuse(sluice.Unavailable, "the store does not answer: %v", err))
		return
	}
	_, _ = io.WriteString(res, "ready\n")
}

// writeError answers with what went wrong. What is not the caller's fault is logged, and told without its inside.
func (w *Worker) writeError(res http.ResponseWriter, r *http.Request, err error) {
	refusal, ok := errors.AsType[*sluice.Error](err)
	switch {
	case ok:
	case errors.Is(err, inventory.ErrUnavailable):
		refusal = sluice.Refuse(sluice.Unavailable, "the store does not answer; try again")
	default:
		w.Logger.Error("operations call failed", "method", r.Method, "path", r.URL.Path, "error", err)
		refusal = sluice.Refuse(sluice.Internal, "see the worker's log")
	}
	writeProblem(res, refusal)
}

func writeProblem(res http.ResponseWriter, e *sluice.Error) {
	body, err := json.Marshal(api.ProblemOf(e))
	if err != nil {
		http.Error(res, e.Error(), http.StatusInternalServerError)
		return
	}
	res.Header().Set("Content-Type", api.ContentProblem)
	if e.Refusal == sluice.Unavailable {
		res.Header().Set("Retry-After", "1")
	}
	if e.Refusal == sluice.Unauthorized {
		res.Header().Set("WWW-Authenticate", "Bearer")
	}
	res.WriteHeader(e.Refusal.Status())
	_, _ = res.Write(body)
}
