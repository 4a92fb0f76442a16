package worker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice"
	"sluice/api"
	"sluice/inventory"
)

// retryAfter is when to ask again where the store does not answer.
const retryAfter = time.Second

// refusalOf is what a caller hears of an error. What is not the caller's fault is logged, and told without its inside.
func (w *Worker) refusalOf(ctx context.Context, operation string, err error) *sluice.Error {
	if refusal, ok := errors.AsType[*sluice.Error](err); ok {
		return refusal
	}
	switch {
	case errors.Is(err, inventory.ErrUnavailable):
		return sluice.Refuse(sluice.Unavailable, "the store does not answer; try again")
	case errors.Is(err, context.DeadlineExceeded):
		return sluice.Refuse(sluice.Unavailable, "the store takes too long; try again")
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return sluice.Refuse(sluice.Unavailable, "the caller has gone, or the worker is stopping")
	default:
		w.Logger.Error("operations call failed", "operation", operation, "error", err)
		return sluice.Refuse(sluice.Internal, "see the worker's log")
	}
}

// writeError answers a call over HTTP with what went wrong.
func (w *Worker) writeError(res http.ResponseWriter, r *http.Request, err error) {
	writeProblem(res, w.refusalOf(r.Context(), r.Method+" "+r.URL.Path, err))
}

func writeProblem(res http.ResponseWriter, e *sluice.Error) {
	problem := api.ProblemOf(e)
	if e.Refusal == sluice.Unavailable {
		problem.RetryAfterMS = retryAfter.Milliseconds()
		res.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	if e.Refusal == sluice.Unauthorized {
		res.Header().Set("WWW-Authenticate", "Bearer")
	}
	body, err := json.Marshal(problem)
	if err != nil {
		http.Error(res, e.Error(), http.StatusInternalServerError)
		return
	}
	res.Header().Set("Content-Type", api.ContentProblem)
	res.WriteHeader(e.Refusal.Status())
	_, _ = res.Write(body)
}

// isGRPC reports whether a request is a call over gRPC.
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// refuse turns a request away before it is a call, in the way that the caller understands.
func refuse(res http.ResponseWriter, r *http.Request, e *sluice.Error) {
	if !isGRPC(r) {
		writeProblem(res, e)
		return
	}
	s := statusOf(e) // and so an answer of headers alone, as gRPC over HTTP/2 has it
	h := res.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(int(s.Code())))
	h.Set("Grpc-Message", url.PathEscape(s.Message()))
	if details, err := proto.Marshal(s.Proto()); err == nil {
		h.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
	}
	res.WriteHeader(http.StatusOK)
}

// errorDomain says whose the reasons in an ErrorInfo are.
const errorDomain = "sluice"

// statusOf is a refusal as gRPC has it: its reason is in an ErrorInfo.
func statusOf(e *sluice.Error) *status.Status {
	s := status.New(codeOf(e.Refusal), e.Detail)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: string(e.Refusal), Domain: errorDomain}}
	if e.Refusal == sluice.Unavailable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	if detailed, err := s.WithDetails(details...); err == nil {
		return detailed
	}
	return s
}

func codeOf(r sluice.Refusal) codes.Code {
	if r == sluice.SaleExists {
		return codes.AlreadyExists
	}
	switch r.Status() {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict:
		return codes.FailedPrecondition
	case http.StatusRequestEntityTooLarge:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	default:
		return codes.Internal
	}
}
