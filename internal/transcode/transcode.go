// Package transcode serves a protobuf service as JSON over a Kratos HTTP server: at the routes that the .proto file's
// google.api.http annotations name, through the handlers that were generated for gRPC, inside the server's middleware. It
// knows no service, and takes nothing that the messages do not have.
package transcode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	khttp "github.com/go-kratos/kratos/v2/transport/http"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"sluice"
	apiv1 "sluice/api/v1"
)

// Route is where a method is served.
type Route struct {
	HTTPMethod, Path string
	Method           protoreflect.MethodDescriptor
	Status           int // of a good answer

	body  string                     // the field that is the body, "*" for every field that the path has not, or none
	taken map[protoreflect.Name]bool // the fields that are in the path
}

// Routes lists the routes of a service. It fails where the service asks for what this package can't do: that is found at
// the start of a program, not by a call.
func Routes(service grpc.ServiceDesc) ([]Route, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service.ServiceName))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", service.ServiceName, err)
	}
	methods := found.(protoreflect.ServiceDescriptor).Methods()
	routes := make([]Route, 0, methods.Len())
	for i := range methods.Len() {
		r, err := routeOf(methods.Get(i))
		if err != nil {
			return nil, fmt.Errorf("method %s: %w", methods.Get(i).FullName(), err)
		}
		routes = append(routes, r)
	}
	return routes, nil
}

func routeOf(m protoreflect.MethodDescriptor) (Route, error) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	r := Route{Method: m, Status: http.StatusOK, body: rule.GetBody(), taken: map[protoreflect.Name]bool{}}
	if status, _ := proto.GetExtension(m.Options(), apiv1.E_Status).(int32); status != 0 {
		r.Status = int(status)
	}
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		r.HTTPMethod, r.Path = http.MethodGet, pattern.Get
	case *annotations.HttpRule_Post:
		r.HTTPMethod, r.Path = http.MethodPost, pattern.Post
	case *annotations.HttpRule_Put:
		r.HTTPMethod, r.Path = http.MethodPut, pattern.Put
	case *annotations.HttpRule_Patch:
		r.HTTPMethod, r.Path = http.MethodPatch, pattern.Patch
	case *annotations.HttpRule_Delete:
		r.HTTPMethod, r.Path = http.MethodDelete, pattern.Delete
	default:
		return r, errors.New("has no route")
	}
	if m.IsStreamingClient() || m.IsStreamingServer() || len(rule.GetAdditionalBindings()) > 0 || rule.GetResponseBody() != "" {
		return r, errors.New("streams, more than one route, and a part as the answer are more than is known here")
	}
	return r, cmp.Or(r.bindPath(), check(m.Input(), nil), check(m.Output(), nil))
}

var variable = regexp.MustCompile(`{[^}]*}`)

// bindPath notes the fields that the path and the body name.
func (r *Route) bindPath() error {
	fields := r.Method.Input().Fields()
	for _, v := range variable.FindAllString(r.Path, -1) {
		field := fields.ByName(protoreflect.Name(v[1 : len(v)-1]))
		if field == nil || field.Kind() == protoreflect.MessageKind || field.IsList() {
			return fmt.Errorf("path %s: %s is no plain field of %s", r.Path, v, r.Method.Input().Name())
		}
		r.taken[field.Name()] = true
	}
	if r.body != "" && r.body != "*" && fields.ByName(protoreflect.Name(r.body)) == nil {
		return fmt.Errorf("body: %s has no field %s", r.Method.Input().Name(), r.body)
	}
	return nil
}

// check looks for fields that could not be written or read.
func check(m protoreflect.MessageDescriptor, above []protoreflect.FullName) error {
	if m.FullName() == timestamp || m.FullName() == duration {
		return nil
	}
	if slices.Contains(above, m.FullName()) {
		return fmt.Errorf("message %s is inside itself", m.FullName())
	}
	above = append(above, m.FullName())
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		value := field
		if field.IsMap() {
			value = field.MapValue()
			if field.MapKey().Kind() != protoreflect.StringKind {
				return fmt.Errorf("field %s: want keys of text", field.FullName())
			}
		}
		switch value.Kind() {
		case protoreflect.BoolKind, protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.DoubleKind,
			protoreflect.StringKind, protoreflect.BytesKind:
		case protoreflect.MessageKind:
			if err := check(value.Message(), above); err != nil {
				return err
			}
		default:
			return fmt.Errorf("field %s: a %s is more than is known here", field.FullName(), value.Kind())
		}
	}
	return nil
}

// Register serves impl on srv. Errors of its methods, and a *sluice.Error for a request that does not fit, go to the
// server's error encoder.
func Register(srv *khttp.Server, service grpc.ServiceDesc, impl any) error {
	routes, err := Routes(service)
	if err != nil {
		return err
	}
	router := srv.Route("/")
	for _, r := range routes {
		i := slices.IndexFunc(service.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == string(r.Method.Name()) })
		if i < 0 {
			return fmt.Errorf("method %s: was not generated", r.Method.FullName())
		}
		router.Handle(r.HTTPMethod, r.Path, r.handler("/"+service.ServiceName+"/"+service.Methods[i].MethodName, service.Methods[i], impl))
	}
	return nil
}

// handler calls a method as gRPC would: operation is its full name, by which middleware knows it over both.
func (r Route) handler(operation string, method grpc.MethodDesc, impl any) khttp.HandlerFunc {
	return func(ctx khttp.Context) error {
		khttp.SetOperation(ctx, operation)
		read := func(in any) error { return r.bind(ctx, in.(proto.Message).ProtoReflect()) }
		around := func(c context.Context, in any, _ *grpc.UnaryServerInfo, do grpc.UnaryHandler) (any, error) {
			return ctx.Middleware(func(c context.Context, in any) (any, error) { return do(c, in) })(c, in)
		}
		out, err := method.Handler(impl, ctx, read, around)
		if err != nil {
			return err
		}
		body, err := Marshal(out.(proto.Message))
		if err != nil {
			return err
		}
		return ctx.Blob(r.Status, "application/json", body)
	}
}

// bind fills the request message from the body, the query and the path.
func (r Route) bind(ctx khttp.Context, m protoreflect.Message) error {
	body, err := io.ReadAll(ctx.Request().Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return sluice.Refuse(sluice.TooLarge, "the body is over %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return sluice.Refuse(sluice.BadRequest, "the body did not arrive whole")
	}
	if err := r.bindBody(body, m); err != nil {
		return err
	}
	if err := r.bindQuery(ctx.Request().URL.RawQuery, m); err != nil {
		return err
	}
	for name := range r.taken {
		field := m.Descriptor().Fields().ByName(name)
		v, err := parse(field, ctx.Vars().Get(string(name)))
		if err != nil {
			return sluice.Refuse(sluice.BadRequest, "%s in the path: %v", name, err)
		}
		m.Set(field, v)
	}
	return nil
}

// bindBody reads the body. An empty one leaves everything at its default.
func (r Route) bindBody(body []byte, m protoreflect.Message) error {
	if len(body) == 0 {
		return nil
	}
	switch r.body {
	case "*":
		return unmarshal(body, m, r.taken)
	case "": // an object without fields is as good as none
		return unmarshal(body, m, everything(m.Descriptor()))
	default:
		field := m.Descriptor().Fields().ByName(protoreflect.Name(r.body))
		return whole(body, func(d *decoder) error { return d.field(m, field) })
	}
}

func everything(m protoreflect.MessageDescriptor) map[protoreflect.Name]bool {
	all := make(map[protoreflect.Name]bool, m.Fields().Len())
	for i := range m.Fields().Len() {
		all[m.Fields().Get(i).Name()] = true
	}
	return all
}

// bindQuery reads the query of a call without a body. Like the body it may have known fields only, each once.
func (r Route) bindQuery(raw string, m protoreflect.Message) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return sluice.Refuse(sluice.BadRequest, "the query can't be read: want ?name=value&name=value, with %% before the hexadecimal code of other bytes")
	}
	fields, taken := m.Descriptor().Fields(), r.taken
	if r.body != "" {
		taken = everything(m.Descriptor())
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		field := fields.ByName(protoreflect.Name(name))
		switch {
		case field == nil || taken[field.Name()]:
			return sluice.Refuse(sluice.BadRequest, "unknown parameter %.80q in the query: want %s", name, list(fields, taken))
		case len(query[name]) > 1:
			return sluice.Refuse(sluice.BadRequest, "%s in the query: comes twice", name)
		case field.IsList() || field.IsMap() || field.Kind() == protoreflect.MessageKind && !isText(field):
			return sluice.Refuse(sluice.BadRequest, "%s in the query: is no plain value", name)
		}
		v, err := parse(field, query[name][0])
		if err != nil {
			return sluice.Refuse(sluice.BadRequest, "%s in the query: %v", name, err)
		}
		m.Set(field, v)
	}
	return nil
}

func sortedKeys(m protoreflect.Map) []protoreflect.MapKey {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}
