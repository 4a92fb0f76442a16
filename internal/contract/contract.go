// Package contract holds live answers against the published documents, for tests. It knows nothing of who gave them, and
// believes nothing but the documents.
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/content"
	invalid "github.com/pb33f/libopenapi-validator/errors"
	"github.com/pb33f/libopenapi-validator/router"
	"github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/pb33f/libopenapi/orderedmap"

	"sluice/api"
)

// Document is one published document. It is safe for concurrent use.
type Document struct {
	model     *v3.Document
	routes    router.Router
	validator validator.Validator
	elsewhere *v3.PathItem // what answers a request that is none of the calls, as if it were the answers of one

	tellsMillis bool // problems tell the wait in milliseconds too
}

var (
	door       = sync.OnceValues(func() (*Document, error) { return Parse(api.DoorDocument) })
	operations = sync.OnceValues(func() (*Document, error) { return Parse(api.OperationsDocument) })
)

// Door is the document of the front door.
func Door(t testing.TB) *Document { t.Helper(); return must(t, door) }

// Operations is the document of the operations API.
func Operations(t testing.TB) *Document { t.Helper(); return must(t, operations) }

func must(t testing.TB, parse func() (*Document, error)) *Document {
	t.Helper()
	d, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Parse reads a document. It fails where a $ref leads nowhere.
func Parse(text string) (*Document, error) {
	parsed, err := libopenapi.NewDocument([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	built, err := parsed.BuildV3Model()
	if err != nil {
		return nil, fmt.Errorf("understand the document: %w", err)
	}
	d := &Document{model: &built.Model, routes: router.NewRouter(&built.Model, router.WithPathOnlyMatching())}
	var errs []error
	d.validator, errs = validator.NewValidator(parsed, assertions()...)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make a validator of the document: %w", err)
	}
	if d.elsewhere, err = answersElsewhere(d.model); err != nil {
		return nil, err
	}
	if problem := built.Model.Components.Schemas.GetOrZero("Problem"); problem != nil {
		_, d.tellsMillis = problem.Schema().Properties.Get("retry_after_ms")
	}
	return d, nil
}

// assertions make the validator look at everything: formats, texts, forms. Security is for the servers' own tests: what a
// ticket or token is worth can't be seen from outside.
func assertions() []config.Option {
	return []config.Option{
		config.WithFormatAssertions(), config.WithoutSecurityValidation(), config.WithURLEncodedBodyValidation(),
		config.WithBodyDecoder("text/plain", content.TextDecoder()),
	}
}

// answersElsewhere reads x-elsewhere: references to responses, by status.
func answersElsewhere(model *v3.Document) (*v3.PathItem, error) {
	codes := orderedmap.New[string, *v3.Response]()
	if node := model.Extensions.GetOrZero("x-elsewhere"); node != nil {
		var refs map[string]struct {
			Ref string `yaml:"$ref"`
		}
		if err := node.Decode(&refs); err != nil {
			return nil, fmt.Errorf("x-elsewhere: %w", err)
		}
		for status, r := range refs {
			name := strings.TrimPrefix(r.Ref, "#/components/responses/")
			response := model.Components.Responses.GetOrZero(name)
			if response == nil {
				return nil, fmt.Errorf("x-elsewhere: %s: %q leads nowhere", status, r.Ref)
			}
			codes.Set(status, response)
		}
	}
	return &v3.PathItem{Get: &v3.Operation{OperationId: "elsewhere", Responses: &v3.Responses{Codes: codes}}}, nil
}

// Check says what of an answer is not in the document, and what of a request that was accepted is not. A nil request is
// one that is no HTTP. The answer's body is read, and can be read again.
func (d *Document) Check(req *http.Request, res *http.Response) error {
	body, err := reread(res)
	if err != nil {
		return err
	}
	item, path, known := d.find(req)
	asked, what := req, "what is no HTTP"
	if req != nil {
		what = req.Method + " " + req.URL.String()
	}
	if !known {
		what += ", no call of the document,"
		item, path = d.elsewhere, "/"
		asked = &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}}
	}
	_, errs := d.validator.GetResponseBodyValidator().ValidateResponseBodyWithPathItem(asked, res, item, path)
	res.Body = io.NopCloser(bytes.NewReader(body))
	found := joined(errs)
	switch {
	case res.StatusCode >= http.StatusBadRequest:
		found = errors.Join(found, d.checkProblem(res, body))
	case known && res.StatusCode < http.StatusMultipleChoices:
		if _, errs := d.validator.ValidateHttpRequestSync(req); len(errs) > 0 {
			found = errors.Join(found, fmt.Errorf("the request was accepted but is not documented: %w", joined(errs)))
		}
	}
	if found == nil {
		return nil
	}
	return fmt.Errorf("%s = %d: %w\nbody: %.1000s", what, res.StatusCode, found, body)
}

// Call is one operation of a document.
type Call struct {
	Method, Path string
}

// Calls lists what can be asked.
func (d *Document) Calls() []Call {
	var calls []Call
	for path, item := range d.model.Paths.PathItems.FromOldest() {
		for method := range item.GetOperations().FromOldest() {
			calls = append(calls, Call{strings.ToUpper(method), path})
		}
	}
	return calls
}

func (d *Document) find(req *http.Request) (item *v3.PathItem, path string, known bool) {
	if req == nil {
		return nil, "", false
	}
	route, err := d.routes.FindRoute(req)
	if err != nil {
		return nil, "", false
	}
	return route.PathItem, route.Path, true
}

func reread(res *http.Response) ([]byte, error) {
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// checkProblem looks at what a problem must agree with besides its schema: the status line, its own reason and, where
// problems have retry_after_ms, the header Retry-After.
func (d *Document) checkProblem(res *http.Response, body []byte) error {
	if mediaType, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";"); mediaType != api.ContentProblem {
		return nil // a page; that it is documented is checked already
	}
	var p struct {
		Type, Reason string
		Status       int
		RetryAfterMS *int64 `json:"retry_after_ms"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("the problem can't be read: %w", err)
	}
	var found []error
	if p.Status != res.StatusCode {
		found = append(found, fmt.Errorf("the problem says status %d, the answer %d", p.Status, res.StatusCode))
	}
	if p.Type != "urn:sluice:refusal:"+p.Reason {
		found = append(found, fmt.Errorf("type %q is not that of reason %q", p.Type, p.Reason))
	}
	if header := res.Header.Get("Retry-After"); d.tellsMillis && !sameWait(header, p.RetryAfterMS) {
		found = append(found, fmt.Errorf("Retry-After %q and retry_after_ms do not agree", header))
	}
	return errors.Join(found...)
}

// sameWait reports whether the header is the field in seconds, rounded up, or both are absent.
func sameWait(header string, millis *int64) bool {
	if header == "" || millis == nil {
		return header == "" && millis == nil
	}
	seconds, err := strconv.ParseInt(header, 10, 64)
	more := seconds*1000 - *millis
	return err == nil && more >= 0 && more <= 1000
}

func joined(errs []*invalid.ValidationError) error {
	var found []error
	for _, e := range errs {
		found = append(found, fmt.Errorf("%s: %s", e.Message, e.Reason))
		for _, s := range e.SchemaValidationErrors {
			found = append(found, fmt.Errorf("  %s: %s", strings.Join(s.InstancePath, "."), s.Reason))
		}
	}
	return errors.Join(found...)
}
