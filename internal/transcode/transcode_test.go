package transcode

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/transport"
	khttp "github.com/go-kratos/kratos/v2/transport/http"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sluice"
	apiv1 "sluice/api/v1"
)

// echo answers what it was asked, as far as the messages allow.
type echo struct {
	apiv1.UnimplementedOperationsServer
	asked proto.Message
}

func (e *echo) CreateSale(_ context.Context, in *apiv1.NewSale) (*apiv1.Sale, error) {
	e.asked = in
	return &apiv1.Sale{Id: in.GetId(), Stock: in.GetStock()}, nil
}

func (e *echo) TopUpSale(_ context.Context, in *apiv1.TopUp) (*apiv1.Sale, error) {
	e.asked = in
	return &apiv1.Sale{Id: in.GetId()}, nil
}

func (e *echo) GetSale(_ context.Context, in *apiv1.SaleName) (*apiv1.Sale, error) {
	return nil, sluice.Refuse(sluice.NoSuchSale, "%q is no sale", in.GetId())
}

func (e *echo) ListEvents(_ context.Context, in *apiv1.EventQuery) (*apiv1.EventList, error) {
	e.asked = in
	return &apiv1.EventList{}, nil
}

func (e *echo) ListRefunds(_ context.Context, in *apiv1.Backlog) (*apiv1.RefundList, error) {
	e.asked = in
	return &apiv1.RefundList{}, nil
}

func (e *echo) GiveRefund(_ context.Context, in *apiv1.RefundName) (*apiv1.Refund, error) {
	e.asked = in
	return &apiv1.Refund{Id: in.GetId(), At: timestamppb.New(noon)}, nil
}

func (e *echo) ChangeLimits(_ context.Context, in *apiv1.MergePatch) (*apiv1.Limits, error) {
	e.asked = in
	return &apiv1.Limits{}, nil
}

// serve makes a server of echo, which notes the operations that its middleware sees.
func serve(t *testing.T, e *echo) (srv *khttp.Server, operations *[]string) {
	t.Helper()
	operations = new([]string)
	srv = khttp.NewServer(
		khttp.Middleware(func(next middleware.Handler) middleware.Handler {
			return func(ctx context.Context, in any) (any, error) {
				if tr, ok := transport.FromServerContext(ctx); ok {
					*operations = append(*operations, tr.Operation())
				}
				return next(ctx, in)
			}
		}),
		khttp.Filter(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
				r.Body = http.MaxBytesReader(res, r.Body, 1000)
				next.ServeHTTP(res, r)
			})
		}),
		khttp.ErrorEncoder(func(res http.ResponseWriter, _ *http.Request, err error) {
			res.WriteHeader(sluice.RefusalOf(err).Status())
			_, _ = io.WriteString(res, err.Error())
		}),
	)
	if err := Register(srv, apiv1.Operations_ServiceDesc, e); err != nil {
		t.Fatal(err)
	}
	return srv, operations
}

func call(srv http.Handler, method, path, body string) (int, string) {
	res := httptest.NewRecorder()
	srv.ServeHTTP(res, httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body)))
	return res.Code, strings.TrimSuffix(res.Body.String(), "\n")
}

func TestRegister_BindsPathQueryAndBody(t *testing.T) {
	e := &echo{}
	srv, _ := serve(t, e)
	for _, c := range []struct {
		method, path, body string
		status             int
		asked              string // as JSON; the answer where nobody was asked
	}{
		{"POST", "/v1/sales", `{"id":"s","stock":3,"max_age":"1m"}`, 201, `{"id":"s","stock":3,"max_age":"1m0s"}`},
		{"POST", "/v1/sales", ``, 201, `{"id":"","stock":0}`},
		{"POST", "/v1/sales/s%20t/topup", `{"units":-4}`, 200, `{"id":"s t","units":-4}`},
		{"POST", "/v1/sales/s/topup", ``, 200, `{"id":"s","units":0}`},
		{"POST", "/v1/sales/s/topup", `{"id":"other"}`, 400, `unknown field "id": want units`},
		{"POST", "/v1/sales/s/topup?units=4", ``, 400, `unknown parameter "units" in the query: want none`},
		{"POST", "/v1/sales/s/topup", `{"units":` + strings.Repeat("1", 1000) + `}`, 413, `the body is over 1000 bytes`},
		{"GET", "/v1/events", ``, 200, `{"after":0}`},
		{"GET", "/v1/events", `{}`, 200, `{"after":0}`},
		{"GET", "/v1/events", `{"after":1}`, 400, `unknown field "after": want none`},
		{"GET", "/v1/events?after=5&limit=2&wait=1m30s", ``, 200, `{"after":5,"limit":2,"wait":"1m30s"}`},
		{"GET", "/v1/events?after=", ``, 400, `after in the query: "": want a whole number`},
		{"GET", "/v1/events?after=1&after=2", ``, 400, `after in the query: comes twice`},
		{"GET", "/v1/events?limit=99999999999", ``, 400, `limit in the query: 99999999999 is out of range`},
		{"GET", "/v1/events?wait=long", ``, 400, `wait in the query: "long": want a duration`},
		{"GET", "/v1/events?befor=1", ``, 400, `unknown parameter "befor" in the query: want after, limit, wait`},
		{"GET", "/v1/events?after=%zz", ``, 400, `the query can't be read`},
		{"GET", "/v1/refunds?all=true", ``, 200, `{"after":0,"all":true}`},
		{"GET", "/v1/refunds?all=yes", ``, 400, `all in the query: "yes": want true or false`},
		{"POST", "/v1/refunds/12/given", ``, 200, `{"id":12}`},
		{"POST", "/v1/refunds/twelve/given", ``, 400, `id in the path: "twelve": want a whole number`},
		{"PATCH", "/v1/limits", ` {"max_wait": null}`, 200, `{"patch":{"max_wait":null}}`},
		{"PATCH", "/v1/limits", `{"max_wait":`, 400, `the body ends too early`},
		{"PATCH", "/v1/limits", `{} {}`, 400, `something follows`},
		{"GET", "/v1/sales/none", ``, 404, `"none" is no sale`},
	} {
		e.asked = nil
		status, answer := call(srv, c.method, c.path, c.body)
		got := answer
		if e.asked != nil {
			text, err := Marshal(e.asked)
			if err != nil {
				t.Fatal(err)
			}
			got = strings.TrimSuffix(string(text), "\n")
		}
		if status != c.status || (status < 300 && got != c.asked) || !strings.Contains(got, c.asked) {
			t.Errorf("%s %s %.80s = %d %s; want %d %s", c.method, c.path, c.body, status, got, c.status, c.asked)
		}
		if status < 300 && !json.Valid([]byte(answer)) {
			t.Errorf("%s %s answers %s", c.method, c.path, answer)
		}
	}
}

func TestRegister_RunsTheServersMiddlewareByGRPCsNames(t *testing.T) {
	srv, operations := serve(t, &echo{})
	call(srv, "POST", "/v1/sales", `{"id":"s"}`)
	call(srv, "GET", "/v1/events", "")
	want := apiv1.Operations_CreateSale_FullMethodName + " " + apiv1.Operations_ListEvents_FullMethodName
	if got := strings.Join(*operations, " "); got != want {
		t.Errorf("middleware saw %s, want %s", got, want)
	}
}

func TestRegister_FailsWithoutGeneratedCode(t *testing.T) {
	service := apiv1.Operations_ServiceDesc
	service.Methods = service.Methods[1:]
	if err := Register(khttp.NewServer(), service, &echo{}); err == nil || !strings.Contains(err.Error(), "CreateSale: was not generated") {
		t.Error(err)
	}
	if err := Register(khttp.NewServer(), grpc.ServiceDesc{ServiceName: "no.such.Service"}, nil); err == nil {
		t.Error("a service that nobody knows was served")
	}
}

// What can't be served is found when a program starts.
func TestRouteOf_RefusesWhatIsNotKnownHere(t *testing.T) {
	for _, c := range []struct{ method, fields, want string }{
		{`rpc M(In) returns (In);`, ``, "has no route"},
		{`rpc M(In) returns (stream In) { option (google.api.http) = {get: "/m"}; }`, ``, "streams"},
		{`rpc M(In) returns (In) { option (google.api.http) = {get: "/m" additional_bindings {get: "/n"}}; }`, ``, "more than one route"},
		{`rpc M(In) returns (In) { option (google.api.http) = {get: "/m" response_body: "id"}; }`, ``, "a part as the answer"},
		{`rpc M(In) returns (In) { option (google.api.http) = {get: "/m/{name}"}; }`, ``, "{name} is no plain field"},
		{`rpc M(In) returns (In) { option (google.api.http) = {get: "/m/{id=*}"}; }`, ``, "{id=*} is no plain field"},
		{`rpc M(In) returns (In) { option (google.api.http) = {put: "/m" body: "name"}; }`, ``, "has no field name"},
		{`rpc M(In) returns (In) { option (google.api.http) = {get: "/m"}; }`, `uint64 n = 2;`, "a uint64 is more than is known here"},
		{`rpc M(In) returns (In) { option (google.api.http) = {get: "/m"}; }`, `map<int32, string> n = 2;`, "want keys of text"},
		{`rpc M(In) returns (In) { option (google.api.http) = {get: "/m"}; }`, `repeated In n = 2;`, "inside itself"},
		{`rpc M(In) returns (In) { option (google.api.http) = {put: "/m/{id}" body: "*"}; }`, `map<string, double> n = 2;`, ""},
	} {
		_, err := routeOf(method(t, c.method, c.fields))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %q: %v; want %q", c.method, c.fields, err, c.want)
		}
	}
}

// method compiles a method of a service.
func method(t *testing.T, method, fields string) protoreflect.MethodDescriptor {
	t.Helper()
	source := `syntax = "proto3"; package t; import "google/api/annotations.proto"; service S { ` + method + ` } message In { string id = 1; ` + fields + ` }`
	compiler := protocompile.Compiler{Resolver: protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		if path == "t.proto" {
			return protocompile.SearchResult{Source: strings.NewReader(source)}, nil
		}
		known, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: known}, err
	})}
	files, err := compiler.Compile(t.Context(), "t.proto")
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(protodesc.ToFileDescriptorProto(files[0]))
	var read descriptorpb.FileDescriptorProto
	file, built := protoreflect.FileDescriptor(nil), proto.Unmarshal(b, &read) // so that options are of the types that they have here
	if built == nil {
		file, built = protodesc.NewFile(&read, protoregistry.GlobalFiles)
	}
	if err := errors.Join(err, built); err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0).Methods().Get(0)
}
