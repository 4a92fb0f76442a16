package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-kratos/kratos/v2/middleware/recovery"
	khttp "github.com/go-kratos/kratos/v2/transport/http"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
	"sluice/internal/transcode"
)

const (
	callTimeout  = 15 * time.Second
	auditTimeout = 5 * time.Minute // it reads every order
	maxBodyBytes = 64 << 10
)

// operations is the API for operators and doors: HTTP, and gRPC on the same port.
func (w *Worker) operations(l net.Listener) (*khttp.Server, *rpc, error) {
	impl := &service{Worker: w}
	rpc := w.newRPC(impl)
	allowed := &methods{}
	// The two handlers below replace Kratos' default, http.DefaultServeMux, on which libraries register debug pages.
	var encrypted []khttp.ServerOption
	if w.TLS != nil {
		encrypted = append(encrypted, khttp.TLSConfig(w.TLS.Clone())) // net/http adds HTTP/2 to its protocols
	}
	srv := khttp.NewServer(append(encrypted,
		khttp.Listener(netutil.LimitListener(l, w.cfg.Connections)),
		khttp.Address(l.Addr().String()), // what a registrar is told
		khttp.Timeout(0),                 // each call has its own
		khttp.Middleware(recovery.Recovery(), within),
		khttp.Filter(named, w.guard, w.callers.filter, rpc.filter, limitBody),
		khttp.ErrorEncoder(w.writeError),
		khttp.NotFoundHandler(http.HandlerFunc(notFound)),
		khttp.MethodNotAllowedHandler(allowed),
	)...)
	srv.ConnState = w.callers.turned
	srv.ErrorLog = HTTPLog(w.Logger)
	srv.ReadHeaderTimeout = 10 * time.Second
	srv.ReadTimeout = 30 * time.Second
	srv.WriteTimeout = auditTimeout + callTimeout // for the longest call: who reads nothing is let go at last
	srv.IdleTimeout = 2 * time.Minute
	srv.Protocols = protocols(w.TLS != nil)
	srv.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: 100, SendPingTimeout: time.Minute, PingTimeout: 15 * time.Second, WriteByteTimeout: 30 * time.Second,
	}
	if err := w.routes(srv, impl); err != nil {
		return nil, nil, err
	}
	return srv, rpc, allowed.read(srv)
}

// protocols are HTTP/1.1 and 2: gRPC needs the second, and agrees on it within TLS where there is TLS.
func protocols(encrypted bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(encrypted)
	p.SetUnencryptedHTTP2(!encrypted)
	return p
}

func (w *Worker) routes(srv *khttp.Server, impl apiv1.OperationsServer) error {
	r := srv.Route("/")
	r.POST(api.PathFacts, handle(w.facts))
	r.POST(api.PathStatuses, handle(w.statuses))
	r.GET(api.PathDocument, document(api.OperationsDocument))
	r.GET(api.PathDoorDocument, document(api.DoorDocument))
	srv.Handle("/metrics", promhttp.HandlerFor(w.Registry, promhttp.HandlerOpts{}))
	srv.HandleFunc("/livez", func(res http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(res, "alive\n") })
	srv.HandleFunc("/readyz", w.readyz)
	if err := transcode.Register(srv, apiv1.Operations_ServiceDesc, impl); err != nil {
		return fmt.Errorf("serve the operations API: %w", err)
	}
	return nil
}

// named puts the API's name on every answer.
func named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
		res.Header().Set(api.HeaderAPI, api.Operations)
		next.ServeHTTP(res, r)
	})
}

func notFound(res http.ResponseWriter, r *http.Request) {
	writeProblem(res, sluice.Refuse(sluice.NotFound, "this worker has no %.100q; %s has what there is", r.URL.Path, api.PathDocument))
}

// methods answers requests with a method that their path has not, and says which ones it has.
type methods struct{ paths []pathMethods }

type pathMethods struct {
	path    *regexp.Regexp
	methods []string
}

var pathVariable = regexp.MustCompile(`\\{[^}]*\\}`)

func (m *methods) read(srv *khttp.Server) error {
	return srv.WalkRoute(func(r khttp.RouteInfo) error {
		pattern := "^" + pathVariable.ReplaceAllString(regexp.QuoteMeta(r.Path), "[^/]+") + "$"
		i := slices.IndexFunc(m.paths, func(p pathMethods) bool { return p.path.String() == pattern })
		if i < 0 {
			i = len(m.paths)
			m.paths = append(m.paths, pathMethods{path: regexp.MustCompile(pattern)})
		}
		m.paths[i].methods = append(m.paths[i].methods, r.Method)
		return nil
	})
}

func (m *methods) ServeHTTP(res http.ResponseWriter, r *http.Request) {
	i := slices.IndexFunc(m.paths, func(p pathMethods) bool { return p.path.MatchString(r.URL.Path) })
	if i < 0 { // by what was read from the router there is none
		notFound(res, r)
		return
	}
	allowed := strings.Join(slices.Sorted(slices.Values(m.paths[i].methods)), ", ")
	res.Header().Set("Allow", allowed)
	writeProblem(res, sluice.Refuse(sluice.MethodNotAllowed, "%.20s %.100s: want %s", r.Method, r.URL.Path, allowed))
}

// handle makes a Kratos handler of what only doors call, as often as they poll: it takes and answers the domain's own JSON.
func handle[In, Out any](do func(ctx context.Context, in *In) (Out, error)) khttp.HandlerFunc {
	return func(ctx khttp.Context) error {
		var in In
		if err := bind(ctx.Request(), &in); err != nil {
			return err
		}
		call := ctx.Middleware(func(c context.Context, _ any) (any, error) { return do(c, &in) })
		out, err := call(ctx, &in)
		if err != nil {
			return err
		}
		return ctx.JSON(http.StatusOK, out)
	}
}

// bind reads a body of known fields. An empty body leaves the defaults.
func bind(r *http.Request, in any) error {
	body, err := io.ReadAll(r.Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return sluice.Refuse(sluice.TooLarge, "the body is over %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return sluice.Refuse(sluice.BadRequest, "the body did not arrive whole")
	}
	if len(body) == 0 {
		return nil
	}
	return decode(body, in)
}

// decode reads one JSON value of known fields.
func decode(text []byte, in any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(in)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err == nil {
		return nil
	}
	detail := strings.TrimPrefix(err.Error(), "json: ")
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		detail = fmt.Sprintf("%s: %s is not what is wanted there", typed.Field, typed.Value)
	}
	return sluice.Refuse(sluice.BadRequest, "the body can't be read: %s", detail)
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
		w.complain.Do(func() { w.Logger.Warn("not ready: the store does not answer", "error", err) })
		writeProblem(res, sluice.Refuse(sluice.Unavailable, "the store does not answer"))
		return
	}
	_, _ = io.WriteString(res, "ready\n")
}
