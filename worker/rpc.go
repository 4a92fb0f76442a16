package worker

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/go-kratos/kratos/v2/transport"
	kgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"sluice"
	apiv1 "sluice/api/v1"
)

// rpc is the gRPC side of the operations API. It has no listener: calls come in on the HTTP server's, as HTTP/2, so
// that one guard, one set of bounds and one shutdown are for both.
type rpc struct {
	server *kgrpc.Server
	health *health.Server
	ctx    context.Context // ends when the worker stops: streams that would go on for ever end with it
	close  context.CancelCauseFunc
}

func (w *Worker) newRPC(impl apiv1.OperationsServer) *rpc {
	r := &rpc{health: health.NewServer()}
	r.ctx, r.close = context.WithCancelCause(context.Background())
	r.server = kgrpc.NewServer(
		kgrpc.Endpoint(grpcEndpoint(w.Listener.Addr().String(), w.TLS != nil)),
		kgrpc.Timeout(0), // each call has its own
		kgrpc.Middleware(w.asStatus, recovery.Recovery(), within),
		kgrpc.StreamInterceptor(r.stream),
		kgrpc.CustomHealth(),
		kgrpc.Options(grpc.MaxRecvMsgSize(maxBodyBytes)),
	)
	grpc_health_v1.RegisterHealthServer(r.server, r.health)
	apiv1.RegisterOperationsServer(r.server, impl)
	return r
}

// grpcEndpoint is what a registrar is told, in Kratos' words.
func grpcEndpoint(host string, encrypted bool) *url.URL {
	if encrypted {
		return &url.URL{Scheme: "grpcs", Host: host}
	}
	return &url.URL{Scheme: "grpc", Host: host}
}

// filter takes gRPC's requests out of all others.
func (r *rpc) filter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		if isGRPC(req) {
			r.server.ServeHTTP(res, req)
			return
		}
		next.ServeHTTP(res, req)
	})
}

// leave ends the streams, so that nobody who watches the health of a worker keeps it from stopping.
func (r *rpc) leave() {
	r.health.Shutdown()
	r.close(errStopped)
}

// stop ends what is left once the HTTP server has stopped. A graceful stop is the HTTP server's: gRPC's own does not know
// connections that are not its own.
func (r *rpc) stop() { r.server.Server.Stop() }

// stream ends a stream with the worker, and keeps a panic in one from ending the worker.
func (r *rpc) stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, do grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = statusOf(sluice.Refuse(sluice.Internal, "see the worker's log")).Err()
		}
	}()
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	defer context.AfterFunc(r.ctx, func() { cancel(errStopped) })()
	return do(srv, bound{s, ctx})
}

// bound is a stream with an end of its own.
type bound struct {
	grpc.ServerStream
	ctx context.Context
}

func (b bound) Context() context.Context { return b.ctx }

// asStatus puts errors into gRPC's words.
func (w *Worker) asStatus(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, in any) (any, error) {
		out, err := next(ctx, in)
		if err != nil {
			return nil, statusOf(w.refusalOf(ctx, operationOf(ctx), err)).Err()
		}
		return out, nil
	}
}

// longCalls may take longer than callTimeout.
var longCalls = map[string]time.Duration{
	apiv1.Operations_Audit_FullMethodName:       auditTimeout,
	apiv1.Operations_ExtendHolds_FullMethodName: auditTimeout,
	apiv1.Operations_ListEvents_FullMethodName:  maxEventWait + callTimeout,
}

// within ends a call that takes too long.
func within(next middleware.Handler) middleware.Handler {
	return func(ctx context.Context, in any) (any, error) {
		limit := callTimeout
		if longer, known := longCalls[operationOf(ctx)]; known {
			limit = longer
		}
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the call took %v", limit))
		defer cancel()
		return next(ctx, in)
	}
}

// operationOf is the name of the call that ctx belongs to, the same over HTTP and over gRPC.
func operationOf(ctx context.Context) string {
	if t, ok := transport.FromServerContext(ctx); ok {
		return t.Operation()
	}
	return ""
}
