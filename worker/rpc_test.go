package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sluice"
	"sluice/api"
	apiv1 "sluice/api/v1"
	"sluice/internal/calm"
	"sluice/internal/contract"
	"sluice/internal/transcode"
	"sluice/inventory"
)

// dial makes a gRPC client of the shop, which has no token of its own.
func (s *shop) dial() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(s.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// operator is a context whose calls show the token.
func operator(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+testToken)
}

// reasonOf is the refusal in an error over gRPC.
func reasonOf(err error) sluice.Refusal {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return sluice.Refusal(info.GetReason())
		}
	}
	return ""
}

// requests has one request of every method, as JSON. WAY stands for the transport, so that each creates its own.
func requests(s *shop, d *desk) map[string][]string {
	record, letter := d.records[0].Order.ID.String(), `{"message":"`+d.letters[0].Message+`"}`
	held, unknown := s.order("a").ID.String(), s.order("nobody").ID.String()
	return map[string][]string{
		"CreateSale": {
			`{"id":"WAY","stock":5,"per_user_limit":2,"starts_at":"2020-03-01T18:00:00.5Z","ends_at":"2099-03-01T18:00:00Z","payment_window":"15m","max_age":"2m","checkout_url":"https://shop.example/pay?o={order}","over_admission":2,"reserved_for":"members","reserved_share":0.2}`,
			`{"id":"demo","stock":5}`, `{"id":"DEMO","stock":5}`, `{"id":"x","stock":-1}`,
		},
		"ListSales":          {`{}`, `{"after":"a","limit":1}`, `{"after":"zzz"}`, `{"limit":1001}`},
		"GetSale":            {`{"id":"demo"}`, `{"id":"none"}`, `{"id":"NO SALE"}`},
		"ChangeSale":         {`{"id":"demo","sku":"boots"}`, `{"id":"none","paused":true}`},
		"PauseSale":          {`{"id":"demo"}`, `{"id":"none"}`},
		"ResumeSale":         {`{"id":"demo"}`, `{"id":"none"}`},
		"TopUpSale":          {`{"id":"demo","units":1}`, `{"id":"demo","units":-1000}`, `{"id":"demo"}`, `{"id":"none","units":1}`},
		"EndSale":            {`{"id":"none"}`, `{"id":"WAY"}`},
		"ExtendHolds":        {`{"id":"demo","for":"15m"}`, `{"id":"demo"}`, `{"id":"none","for":"1m"}`},
		"ListOrders":         {`{"limit":2}`, `{"limit":2,"after":"` + record + `","state":"paid"}`, `{"state":"queued"}`, `{"after":"ffffffff-ffff-8fff-bfff-ffffffffffff"}`},
		"GetOrder":           {`{"id":"` + held + `"}`, `{"id":"` + unknown + `"}`, `{"id":"` + record + `"}`, `{"id":"x"}`},
		"TraceOrder":         {`{"id":"` + record + `"}`, `{"id":"` + unknown + `"}`, `{"id":"ffffffff-ffff-8fff-bfff-ffffffffffff"}`},
		"PayOrder":           {`{"id":"` + held + `","payment_ref":"visa-1"}`, `{"id":"` + held + `","payment_ref":"visa-2"}`, `{"id":"` + held + `"}`, `{"id":"` + unknown + `","payment_ref":"x"}`},
		"CancelOrder":        {`{"id":"` + held + `"}`, `{"id":"` + unknown + `"}`},
		"Audit":              {`{}`},
		"ListEvents":         {`{}`, `{"after":6}`, `{"after":2,"limit":2,"wait":"1s"}`, `{"wait":"1h"}`},
		"ListRefunds":        {`{"limit":2}`, `{"all":true,"after":2}`, `{"after":-1}`, `{"after":100}`},
		"GiveRefund":         {`{"id":1}`, `{"id":77}`},
		"ListDeadLetters":    {`{"limit":2}`, `{"all":true,"after":2,"limit":2}`, `{"after":100}`},
		"GetDeadLetter":      {letter, `{"message":"none"}`},
		"ReplayDeadLetter":   {letter, `{"message":"none"}`},
		"DropDeadLetter":     {`{"message":"none"}`, `{"message":"WAY"}`},
		"GetLimits":          {`{}`},
		"ChangeLimits":       {`{"patch":{"max_wait":"10s","bounds":{"north":5}}}`, `{"patch":{}}`, `{"patch":{"max_wait":5}}`, `{"patch":{"colour":1}}`, `{}`},
		"Block":              {`{"user":"WAY","for":"1h","note":"n"}`, `{"network":"10.0.0.0/8"}`, `{}`},
		"GetPools":           {`{}`},
		"ChangePools":        {`{"patch":{"pools":{"settle":{"rate":500}}}}`, `{"patch":{}}`, `{"patch":{"pools":{"none":{"rate":1}}}}`, `{"patch":{"pools":{"settle":{"colour":1}}}}`},
		"ListWebhooks":       {`{}`},
		"ResumeWebhook":      {`{"name":"none"}`},
		"ListDeadDeliveries": {`{"name":"none"}`, `{"name":"none","limit":1001}`, `{"name":"none","after":-1}`},
		"GetDeadDelivery":    {`{"name":"none","seq":1}`},
		"ReplayDeadDelivery": {`{"name":"none","seq":1}`},
		"DropDeadDelivery":   {`{"name":"none","seq":1}`},
		"Unblock":            {`{"user":"WAY"}`, `{"network":"1.2.3.4"}`, `{}`},
	}
}

// volatile is what two calls after each other may not agree in.
var volatile = regexp.MustCompile(`"version":[0-9]+|"topups":[0-9]+|"free":[0-9]+|"20[0-9-]+T[0-9:.]+Z"`)

// Every method, whichever way it is called: the same answer, the same reason. What HTTP answers is as documented.
func TestOperations_AreTheSameOverBothTransports(t *testing.T) {
	s, d, _ := newDesk(t)
	for _, way := range []string{"http", "grpc"} {
		d.letters = append(d.letters, inventory.Buried{ID: 50, Message: way, At: evening})
	}
	s.place("a")
	s.settled("a", sluice.Held)
	conn := s.dial()
	routes, err := transcode.Routes(apiv1.Operations_ServiceDesc)
	must(t, err)
	all := requests(s, d)
	const last = "CreateSale EndSale" // in this order
	slices.SortStableFunc(routes, func(a, b transcode.Route) int {
		return strings.Index(last, string(a.Method.Name())) - strings.Index(last, string(b.Method.Name()))
	})
	for _, r := range routes {
		name := string(r.Method.Name())
		if len(all[name]) == 0 {
			t.Errorf("%s: nobody asks for it here", name)
		}
		for _, request := range all[name] {
			overHTTP := s.overHTTP(r, strings.ReplaceAll(request, "WAY", "http"))
			overGRPC := s.overGRPC(conn, r, strings.ReplaceAll(request, "WAY", "grpc"))
			if a, b := volatile.ReplaceAllString(overHTTP, "~"), volatile.ReplaceAllString(strings.ReplaceAll(overGRPC, "grpc", "http"), "~"); a != b {
				t.Errorf("%s %s:\nHTTP %s\ngRPC %s", name, request, overHTTP, overGRPC)
			}
		}
	}
}

// overHTTP makes a call from a request as JSON, and answers what it was answered, or the refusal.
func (s *shop) overHTTP(r transcode.Route, request string) string {
	s.t.Helper()
	var in map[string]json.RawMessage
	must(s.t, json.Unmarshal([]byte(request), &in))
	text := func(v json.RawMessage) string { return strings.Trim(string(v), `"`) }
	path := regexp.MustCompile(`{[^}]*}`).ReplaceAllStringFunc(r.Path, func(v string) string {
		name := v[1 : len(v)-1]
		defer delete(in, name)
		return url.PathEscape(text(in[name]))
	})
	body := ""
	switch r.HTTPMethod {
	case http.MethodGet, http.MethodDelete:
		query := url.Values{}
		for name, v := range in {
			query.Set(name, text(v))
		}
		if path += "?" + query.Encode(); len(query) == 0 {
			path = strings.TrimSuffix(path, "?")
		}
	case http.MethodPatch:
		if patch, ok := in["patch"]; ok || r.Method.Name() == "ChangeLimits" {
			body = string(patch)
			break
		}
		fallthrough
	default:
		b, err := json.Marshal(in)
		must(s.t, err)
		body = string(b)
	}
	status, out := s.call(r.HTTPMethod, path, body, testToken)
	if status >= 400 {
		return fmt.Sprintf("%v: %v", out["reason"], out["detail"])
	}
	if status != r.Status {
		s.t.Errorf("%s %s = %d, want %d", r.HTTPMethod, path, status, r.Status)
	}
	answer, err := json.Marshal(out)
	must(s.t, err)
	return string(answer)
}

func (s *shop) overGRPC(conn *grpc.ClientConn, r transcode.Route, request string) string {
	s.t.Helper()
	message := func(name protoreflect.FullName) proto.Message {
		found, err := protoregistry.GlobalTypes.FindMessageByName(name)
		must(s.t, err)
		return found.New().Interface()
	}
	in, out := message(r.Method.Input().FullName()), message(r.Method.Output().FullName())
	must(s.t, transcode.Unmarshal([]byte(request), in))
	err := conn.Invoke(operator(s.t.Context()), "/sluice.v1.Operations/"+string(r.Method.Name()), in, out)
	if err != nil {
		refusal := reasonOf(err)
		if got, want := status.Code(err), codeOf(refusal); got != want {
			s.t.Errorf("%s %s: %v with reason %s, want %v", r.Method.Name(), request, got, refusal, want)
		}
		return fmt.Sprintf("%v: %v", refusal, status.Convert(err).Message())
	}
	text, err := transcode.Marshal(out)
	must(s.t, err)
	var sorted map[string]any
	must(s.t, json.Unmarshal(text, &sorted))
	text, err = json.Marshal(sorted)
	must(s.t, err)
	return string(text)
}

// The .proto file and the document have the same calls, but for those that are no business of gRPC's.
func TestContract_OfBothTransportsIsTheSame(t *testing.T) {
	routes, err := transcode.Routes(apiv1.Operations_ServiceDesc)
	must(t, err)
	var both []contract.Call
	for _, r := range routes {
		both = append(both, contract.Call{Method: r.HTTPMethod, Path: r.Path})
	}
	both = append(both, contract.Call{Method: "POST", Path: api.PathFacts}, contract.Call{Method: "POST", Path: api.PathStatuses},
		contract.Call{Method: "GET", Path: api.PathDocument}, contract.Call{Method: "GET", Path: api.PathDoorDocument})
	for _, path := range anyMethod {
		both = append(both, contract.Call{Method: "GET", Path: path})
	}
	documented := contract.Operations(t).Calls()
	sort := func(a, b contract.Call) int { return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method) }
	slices.SortFunc(both, sort)
	slices.SortFunc(documented, sort)
	if !slices.Equal(both, documented) {
		t.Errorf("the .proto file has %v\nthe document has %v", both, documented)
	}
}

// filled makes a value in which nothing is zero.
func filled(v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = evening
		return
	case *sluice.OrderID:
		*x = sluice.OrderID{1, 6: 0x80, 8: 0x80}
		return
	case *json.RawMessage:
		*x = json.RawMessage(`{"size":42}`)
		return
	case *sluice.Block:
		*x = sluice.Block{User: "u", Until: evening, Note: "n"} // a network has unexported fields
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			filled(field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		filled(v.Index(0))
		filled(v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		filled(key)
		filled(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Uint8:
		v.SetUint(7)
	default:
		panic("fill a " + v.Kind().String())
	}
}

// same fills an answer, and holds the JSON of its message against its own.
func same[M any, P interface {
	*M
	proto.Message
}, A any](t *testing.T) {
	t.Helper()
	var answer, read A
	filled(reflect.ValueOf(&answer).Elem())
	for range 2 { // the second time with nothing set
		want, err := json.Marshal(answer)
		must(t, err)
		m, err := reply[M, P](answer, nil)
		must(t, err)
		text, err := transcode.Marshal(m)
		must(t, err)
		read = *new(A)
		must(t, json.Unmarshal(text, &read))
		got, err := json.Marshal(read)
		must(t, err)
		if string(got) != string(want) {
			t.Errorf("%T:\nmessage %s\nanswer  %s", answer, got, want)
		}
		answer = *new(A)
		if v := reflect.ValueOf(&answer).Elem(); v.Kind() == reflect.Struct {
			for i := range v.NumField() { // lists that are always there
				if f := v.Field(i); f.Kind() == reflect.Slice && !strings.Contains(v.Type().Field(i).Tag.Get("json"), "omitempty") {
					f.Set(reflect.MakeSlice(f.Type(), 0, 0))
				}
			}
		}
	}
}

// No field of an answer is lost on the way through its message.
func TestReply_HasEveryFieldOfTheDomain(t *testing.T) {
	same[apiv1.Sale, *apiv1.Sale, sluice.Sale](t)
	same[apiv1.SaleList, *apiv1.SaleList, api.Sales](t)
	same[apiv1.Status, *apiv1.Status, sluice.Status](t)
	same[apiv1.Order, *apiv1.Order, api.Order](t)
	same[apiv1.OrderList, *apiv1.OrderList, api.Orders](t)
	same[apiv1.Trace, *apiv1.Trace, api.Trace](t)
	same[apiv1.Event, *apiv1.Event, sluice.Event](t)
	same[apiv1.EventList, *apiv1.EventList, sluice.Events](t)
	same[apiv1.Ledger, *apiv1.Ledger, sluice.Audit](t)
	same[apiv1.Refund, *apiv1.Refund, inventory.Refund](t)
	same[apiv1.RefundList, *apiv1.RefundList, api.Refunds](t)
	same[apiv1.DeadLetter, *apiv1.DeadLetter, api.DeadLetter](t)
	same[apiv1.DeadLetterList, *apiv1.DeadLetterList, api.DeadLetters](t)
	same[apiv1.Extended, *apiv1.Extended, api.Extended](t)
	same[apiv1.Limits, *apiv1.Limits, sluice.Limits](t)
	same[apiv1.BlockChange, *apiv1.BlockChange, api.BlockChange](t)
	same[apiv1.NewSale, *apiv1.NewSale, api.NewSale](t)
	same[apiv1.Pools, *apiv1.Pools, api.Pools](t)
	same[apiv1.Webhook, *apiv1.Webhook, sluice.Webhook](t)
	same[apiv1.WebhookList, *apiv1.WebhookList, api.Webhooks](t)
	same[apiv1.Delivery, *apiv1.Delivery, sluice.Delivery](t)
	same[apiv1.DeliveryList, *apiv1.DeliveryList, api.DeadDeliveries](t)
	same[apiv1.SalePatch, *apiv1.SalePatch, sluice.SalePatch](t)
}

// What an answer has and its message has not is a defect that the log tells, not the caller.
func TestReply_FailsRatherThanLeaveOut(t *testing.T) {
	_, err := reply[apiv1.Nothing](map[string]int{"more": 1}, nil)
	if _, refused := errors.AsType[*sluice.Error](err); err == nil || refused {
		t.Error(err)
	}
}

func TestRPC_AsksForAToken(t *testing.T) {
	s := newShop(t, nil)
	conn := s.dial()
	operations := apiv1.NewOperationsClient(conn)
	for _, token := range []string{"", "Bearer wrong", testToken} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", token)
		if _, err := operations.Audit(ctx, &apiv1.Nothing{}); status.Code(err) != codes.Unauthenticated || reasonOf(err) != sluice.Unauthorized || !strings.Contains(err.Error(), "want the header Authorization: Bearer TOKEN") {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if _, err := operations.Audit(operator(t.Context()), &apiv1.Nothing{}); err != nil {
		t.Error(err)
	}
	// Health checks are for everybody, to watch and to look around are not.
	health := grpc_health_v1.NewHealthClient(conn)
	if h, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", h, err)
	}
	watch, err := health.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	if _, err := watch.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("watched: %v", err)
	}
	if services, err := reflected(t.Context(), conn); status.Code(err) != codes.Unauthenticated {
		t.Errorf("looked around: %q, %v", services, err)
	}
	services, err := reflected(operator(t.Context()), conn)
	if err != nil || !slices.Contains(services, "sluice.v1.Operations") {
		t.Errorf("looked around: %q, %v", services, err)
	}
}

// reflected asks a server what it serves.
func reflected(ctx context.Context, conn *grpc.ClientConn) (services []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	_ = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	answer, err := stream.Recv()
	for _, s := range answer.GetListServicesResponse().GetService() {
		services = append(services, s.GetName())
	}
	return services, err
}

// Without tokens, only what calls this machine by its own name is served.
func TestRPC_WithoutTokensRefusesPages(t *testing.T) {
	s := newShop(t, func(c *Config) { c.Operators = nil })
	operations := apiv1.NewOperationsClient(s.dial())
	if _, err := operations.Audit(t.Context(), &apiv1.Nothing{}); err != nil {
		t.Error(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "origin", "https://evil.example")
	if _, err := operations.Audit(ctx, &apiv1.Nothing{}); status.Code(err) != codes.PermissionDenied || reasonOf(err) != sluice.BadOrigin {
		t.Error(err)
	}
}

func TestRPC_RefusesWhatIsTooLargeOrUnknown(t *testing.T) {
	s := newShop(t, nil)
	conn := s.dial()
	large := &apiv1.SaleName{Id: strings.Repeat("x", maxBodyBytes)}
	if _, err := apiv1.NewOperationsClient(conn).GetSale(operator(t.Context()), large); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if err := conn.Invoke(operator(t.Context()), "/sluice.v1.Operations/Brew", &apiv1.Nothing{}, &apiv1.Nothing{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	never := &apiv1.NewSale{Id: "s", StartsAt: &timestamppb.Timestamp{Seconds: 1 << 60}} // beyond every calendar
	if _, err := apiv1.NewOperationsClient(conn).CreateSale(operator(t.Context()), never); status.Code(err) != codes.InvalidArgument || reasonOf(err) != sluice.BadRequest {
		t.Error(err)
	}
}

func TestRPC_TellsAStoreThatFailsAsSuch(t *testing.T) {
	s := newShop(t, nil)
	operations := apiv1.NewOperationsClient(s.dial())
	s.store.set(func(s *troubled) { s.ill = fmt.Errorf("connect: %w", inventory.ErrUnavailable) })
	_, err := operations.GetSale(operator(t.Context()), &apiv1.SaleName{Id: "demo"})
	var retry *errdetails.RetryInfo
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			retry = r
		}
	}
	if status.Code(err) != codes.Unavailable || reasonOf(err) != sluice.Unavailable || retry.GetRetryDelay().AsDuration() != retryAfter {
		t.Errorf("%v, %v", err, retry)
	}
	s.store.set(func(s *troubled) { s.ill = errors.New("SELECT secret FROM orders") })
	_, err = operations.GetSale(operator(t.Context()), &apiv1.SaleName{Id: "demo"})
	if status.Code(err) != codes.Internal || reasonOf(err) != sluice.Internal || strings.Contains(err.Error(), "SELECT") {
		t.Error(err)
	}
	if e := s.log.events(t, "operations call failed"); len(e) != 1 || e[0]["operation"] != apiv1.Operations_GetSale_FullMethodName {
		t.Errorf("logged %v", e)
	}
}

func TestRPC_StoreThatIsWaitedForIsUnavailable(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	stop := ServeWaiting(l, 10, nil, nil)
	defer stop()
	s := &shop{t: t, url: "http://" + l.Addr().String()}
	_, err = apiv1.NewOperationsClient(s.dial()).Audit(t.Context(), &apiv1.Nothing{})
	if status.Code(err) != codes.Unavailable || reasonOf(err) != sluice.Unavailable {
		t.Error(err)
	}
}

// Who watches or waits is let go when the worker stops.
func TestRPC_WaitingCallersDoNotKeepTheWorker(t *testing.T) {
	calm.Play(t, 300*time.Millisecond, func(complain calm.Complain) { stopWhileTwoWait(t, complain) })
}

func stopWhileTwoWait(t *testing.T, complain calm.Complain) {
	t.Helper()
	s, _, c := newDesk(t)
	watch, err := grpc_health_v1.NewHealthClient(s.dial()).Watch(operator(t.Context()), &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	if h, err := watch.Recv(); err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatal(h, err)
	}
	waited := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Events(context.WithoutCancel(t.Context()), 6, 0, api.MaxEventWait)
		waited <- err
	})
	s.eventually("both are in their calls", func() bool { return s.figure("sluice_worker_calls") == 2 })
	if took := s.stopped(); took > stopPatience*2/3 {
		complain("the worker stopped after %v", took)
	}
	wg.Wait()
	if err := <-waited; err != nil {
		t.Errorf("who waited for events heard %v", err)
	}
	for err == nil { // that it is not serving any more may be told first
		_, err = watch.Recv()
	}
}

// Who does not read an answer keeps nobody else waiting, and the worker from stopping for stopPatience at most.
func TestRPC_DeafCallersKeepNobody(t *testing.T) {
	calm.Play(t, 300*time.Millisecond, func(complain calm.Complain) { stopWhileOneIsDeaf(t, complain) })
}

func stopWhileOneIsDeaf(t *testing.T, complain calm.Complain) {
	t.Helper()
	s, d, _ := newDesk(t)
	deaf := s.deaf("/sluice.v1.Operations/ListOrders")
	defer func() { _ = deaf.Close() }()
	s.eventually("the call has come", func() bool { defer d.locked()(); return len(d.queries) == 1 })
	if got := s.get("/v1/sales/demo"); got != 200 {
		t.Errorf("others are served %d", got)
	}
	if took := s.stopped(); took > stopPatience+2*time.Second {
		complain("the worker stopped after %v", took)
	}
}

// stopped stops the worker, and answers how long it took.
func (s *shop) stopped() time.Duration {
	began := time.Now()
	s.stop()
	<-s.done
	return time.Since(began)
}

// A call has the time that is its own, whichever way it comes.
func TestCalls_HaveTheTimeThatTheyNeed(t *testing.T) {
	s, d, c := newDesk(t)
	operations := apiv1.NewOperationsClient(s.dial())
	for _, way := range []struct {
		name string
		ask  func() error
	}{
		{"http", func() error {
			_, a := c.Events(t.Context(), 0, 1, 0)
			_, b := c.Orders(t.Context(), api.OrderQuery{})
			_, e := c.ExtendHolds(t.Context(), "demo", time.Minute)
			return errors.Join(a, b, e)
		}},
		{"grpc", func() error {
			_, a := operations.ListEvents(operator(t.Context()), &apiv1.EventQuery{})
			_, b := operations.ListOrders(operator(t.Context()), &apiv1.OrderQuery{})
			_, e := operations.ExtendHolds(operator(t.Context()), &apiv1.Extension{Id: "demo", For: durationpb.New(time.Minute)})
			return errors.Join(a, b, e)
		}},
	} {
		d.left = nil
		must(t, way.ask())
		for call, want := range map[string]time.Duration{"events": callTimeout + maxEventWait, "orders": callTimeout, "holds": auditTimeout} {
			if left := d.left[call]; left > want || left < want-10*time.Second {
				t.Errorf("%s over %s had %v, want %v", call, way.name, left, want)
			}
		}
	}
}

// deaf makes a call over a connection whose windows are closed: the answer can never be sent.
func (s *shop) deaf(method string) net.Conn {
	s.t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	must(s.t, err)
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(s.t, err)
	f := http2.NewFramer(conn, conn)
	must(s.t, f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", method},
		{":authority", "127.0.0.1"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"authorization", "Bearer " + testToken},
	} {
		must(s.t, e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
	}
	must(s.t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true}))
	must(s.t, f.WriteData(1, true, make([]byte, 5))) // an empty message
	return conn
}

func TestMethods_TellsWhichAreAllowed(t *testing.T) {
	s := newShop(t, nil)
	for path, want := range map[string]string{
		"/v1/sales": "GET, POST", "/v1/sales/demo": "GET, PATCH", "/v1/sales/demo/topup": "POST", "/v1/blocks": "DELETE, POST", "/v1/deadletters/x": "DELETE, GET",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.url+path, http.NoBody)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+testToken)
		res, err := http.DefaultClient.Do(req)
		must(t, err)
		must(t, res.Body.Close())
		if got := res.Header.Get("Allow"); res.StatusCode != 405 || got != want {
			t.Errorf("PUT %s = %d, Allow: %s; want %s", path, res.StatusCode, got, want)
		}
	}
}

// The way through the domain's JSON costs a page of the largest size some milliseconds.
func BenchmarkReply(b *testing.B) {
	var order api.Order
	filled(reflect.ValueOf(&order).Elem())
	page := api.Orders{Orders: slices.Repeat([]api.Order{order}, api.MaxPage)}
	for b.Loop() {
		if _, err := reply[apiv1.OrderList](page, nil); err != nil {
			b.Fatal(err)
		}
	}
}
