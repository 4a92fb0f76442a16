package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"

	"sluice"
)

// maxBodyBytes is the largest order: a kilobyte of attributes, a user and a key, all of it escaped.
const maxBodyBytes = 8 << 10

// request is one parsed order. Its bytes live until it goes back to the pool.
type request struct {
	user       []byte // empty: none was named
	key        []byte // empty: none was sent
	quantity   int
	attributes []byte // a raw JSON object, or empty

	in   bytes.Buffer
	json *jsontext.Decoder
	form fasthttp.Args
	name []byte

	began time.Time // when its turn came
}

var requests = sync.Pool{New: func() any { return &request{json: jsontext.NewDecoder(new(bytes.Buffer))} }}

var (
	contentJSON = []byte("application/json")
	keyHeader   = []byte("Idempotency-Key")
	traceHeader = []byte("Traceparent")
)

// parse reads an order from the request. The error is a *sluice.Error that says what was wrong and what is allowed.
func (r *request) parse(ctx *fasthttp.RequestCtx) *sluice.Error {
	r.user, r.key, r.attributes, r.quantity = r.user[:0], r.key[:0], r.attributes[:0], 1
	h := &ctx.Request.Header
	form := isForm(h)
	if !form && !bytes.EqualFold(mediaType(h), contentJSON) {
		return sluice.Refuse(sluice.UnsupportedMediaType, "the content type is %.80q; want application/json, or %s", h.ContentType(), contentForm)
	}
	if len(h.ContentEncoding()) > 0 {
		return sluice.Refuse(sluice.UnsupportedMediaType, "the content encoding is %.80q; send the order without one", h.ContentEncoding())
	}
	if key := h.PeekBytes(keyHeader); key != nil {
		if err := r.setKey(key); err != nil {
			return err
		}
	}
	if form {
		return r.parseForm(ctx.Request.Body())
	}
	if err := r.parseBody(ctx.Request.Body()); err != nil {
		if refusal, ok := errors.AsType[*sluice.Error](err); ok {
			return refusal
		}
		return sluice.Refuse(sluice.BadRequest, "the body is not an order: %v; want {\"user\":\"u1\",\"quantity\":1}", err)
	}
	return nil
}

// mediaType is the content type without its parameters.
func mediaType(h *fasthttp.RequestHeader) []byte {
	t, _, _ := bytes.Cut(h.ContentType(), []byte(";"))
	return bytes.TrimSpace(t)
}

// parseBody reads strict JSON (RFC 8259, no repeated names, valid UTF-8): one object with known names.
func (r *request) parseBody(body []byte) error {
	r.in = *bytes.NewBuffer(body)
	r.json.Reset(&r.in)
	if kind := r.json.PeekKind(); kind != '{' {
		if _, err := r.json.ReadToken(); err != nil {
			return emptyBody(err)
		}
		return errors.New("it is not an object")
	}
	if _, err := r.json.ReadToken(); err != nil {
		return err
	}
	for r.json.PeekKind() != '}' {
		if err := r.parseMember(); err != nil {
			return err
		}
	}
	if _, err := r.json.ReadToken(); err != nil {
		return err
	}
	if _, err := r.json.ReadToken(); err != io.EOF { //nolint:errorlint // jsontext documents a bare io.EOF at the end
		return errors.New("something follows the object")
	}
	return nil
}

func emptyBody(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty")
	}
	return err
}

func (r *request) parseMember() error {
	name, err := r.json.ReadValue()
	if err != nil {
		return err
	}
	if r.name, err = jsontext.AppendUnquote(r.name[:0], name); err != nil {
		return err
	}
	value, err := r.json.ReadValue()
	if err != nil {
		return err
	}
	switch string(r.name) {
	case "user":
		return r.parseUser(value)
	case "quantity":
		return r.parseQuantity(value)
	case "attributes":
		return r.parseAttributes(value)
	}
	return sluice.Refuse(sluice.BadRequest, "%.40q is not a field of an order; want user, quantity, attributes", r.name)
}

func (r *request) parseUser(value jsontext.Value) error {
	var err error
	if value.Kind() == '"' {
		r.name, err = jsontext.AppendUnquote(r.name[:0], value)
	}
	if err != nil || value.Kind() != '"' || !r.setUser(r.name) {
		return sluice.Refuse(sluice.BadRequest, "user: want a string of 1 to %d bytes of UTF-8 without control characters", sluice.MaxUserBytes)
	}
	return nil
}

func (r *request) setUser(user []byte) bool {
	r.user = append(r.user[:0], user...)
	return sluice.PlainText(r.user, sluice.MaxUserBytes)
}

func noUser() *sluice.Error {
	return sluice.Refuse(sluice.BadRequest, "user: it is missing; want 1 to %d bytes of UTF-8 without control characters", sluice.MaxUserBytes)
}

func (r *request) setKey(key []byte) *sluice.Error {
	if !sluice.PlainText(key, sluice.MaxKeyBytes) {
		return sluice.Refuse(sluice.BadRequest, "Idempotency-Key: want 1 to %d bytes of UTF-8 without control characters", sluice.MaxKeyBytes)
	}
	r.key = append(r.key[:0], key...)
	return nil
}

func (r *request) parseQuantity(value jsontext.Value) error {
	if err := r.setQuantity(value); err != nil {
		return err
	}
	return nil
}

func (r *request) setQuantity(digits []byte) *sluice.Error {
	n, ok := wholeNumber(digits)
	if !ok || n < 1 || n > sluice.MaxQuantity {
		return sluice.Refuse(sluice.BadRequest, "quantity %.40s: want a whole number from 1 to %d", digits, sluice.MaxQuantity)
	}
	r.quantity = n
	return nil
}

// wholeNumber reads plain digits. A leading minus is left to the range check.
func wholeNumber(value []byte) (int, bool) {
	if len(value) == 0 || len(value) > 10 {
		return 0, false
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

func (r *request) parseAttributes(value jsontext.Value) error {
	if value.Kind() != '{' || len(value) > sluice.MaxAttributesBytes {
		return sluice.Refuse(sluice.BadRequest, "attributes: want a JSON object of at most %d bytes", sluice.MaxAttributesBytes)
	}
	r.attributes = append(r.attributes[:0], value...)
	return nil
}

// waitOf reads the wait parameter of a status read: a duration such as 20s or 1m.
func waitOf(ctx *fasthttp.RequestCtx) (time.Duration, error) {
	raw := ctx.QueryArgs().Peek("wait")
	if len(raw) == 0 {
		return 0, nil
	}
	wait, err := time.ParseDuration(string(raw))
	if err != nil || wait < 0 || wait > maxWait {
		return 0, fmt.Errorf("wait=%.40s: want a duration from 0s to %v, such as 20s", raw, maxWait)
	}
	return wait, nil
}
