package knsq

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The members of a message that are not the business's.
const (
	memberTrace   = "trace"
	memberVersion = "v"
)

// members is what the top level of a body holds beside the business fields.
type members struct {
	object, empty bool
	trace         jsontext.Value // nil: it has none
	version       jsontext.Value // likewise
}

// scan reads the top level of body. What is no JSON object has no members.
func scan(body []byte) (m members) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if d.PeekKind() != jsontext.KindBeginObject {
		return members{}
	}
	if _, err := d.ReadToken(); err != nil {
		return members{}
	}
	m.empty = true
	for d.PeekKind() == jsontext.KindString {
		m.empty = false
		name, err := d.ReadToken()
		if err != nil {
			return members{}
		}
		var into *jsontext.Value
		switch name.String() {
		case memberTrace:
			into = &m.trace
		case memberVersion:
			into = &m.version
		}
		value, err := d.ReadValue()
		if err != nil {
			return members{}
		}
		if into != nil {
			*into = value.Clone()
		}
	}
	if _, err := d.ReadToken(); err != nil { // its end
		return members{}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return members{}
	}
	m.object = true
	return m
}

// ReadHeader is the header of a message: its member "trace". It is empty where there is none, or not one that was made
// here. It is never nil.
func ReadHeader(body []byte) Header {
	if !bytes.Contains(body, []byte(`"`+memberTrace+`"`)) { // of most messages that others make
		return Header{}
	}
	return parseHeader(scan(body).trace)
}

// readHeader is ReadHeader of a body that must have that version; 0: any.
func readHeader(body []byte, version int) (Header, error) {
	if version == 0 {
		return ReadHeader(body), nil
	}
	m := scan(body)
	return parseHeader(m.trace), checkVersion(m.version, version)
}

func parseHeader(trace jsontext.Value) Header {
	h := Header{}
	if trace.Kind() != jsontext.KindBeginObject {
		return h
	}
	var values map[string]jsontext.Value
	if json.Unmarshal(trace, &values) != nil {
		return h
	}
	for name, value := range values {
		name = strings.ToLower(name)
		var one string
		var several []string
		switch {
		case json.Unmarshal(value, &one) == nil && one != "": // null is no error
			h[name] = append(h[name], one)
		case json.Unmarshal(value, &several) == nil && len(several) > 0:
			h[name] = append(h[name], several...)
		}
	}
	return h
}

// seal adds the header and the version to a body that is a JSON object and has no such member. All else stays as it
// is, byte for byte.
func seal(body []byte, h Header, version int) []byte {
	trace := appendHeader(nil, h)
	if trace == nil && version == 0 {
		return body
	}
	m := scan(body)
	if !m.object {
		return body
	}
	body = bytes.TrimSpace(body)
	dst := make([]byte, 0, len(body)+len(trace)+32)
	dst = append(dst, '{')
	comma := false
	if version != 0 && m.version == nil {
		dst = append(dst, `"`+memberVersion+`":`...)
		dst = strconv.AppendInt(dst, int64(version), 10)
		comma = true
	}
	if !m.empty {
		if comma {
			dst = append(dst, ',')
		}
		dst = append(dst, body[1:len(body)-1]...)
		comma = true
	}
	if trace != nil && m.trace == nil {
		if comma {
			dst = append(dst, ',')
		}
		dst = append(dst, `"`+memberTrace+`":`...)
		dst = append(dst, trace...)
	}
	return append(dst, '}')
}

// appendHeader writes h as JSON; nothing where it holds no value.
func appendHeader(dst []byte, h Header) []byte {
	for _, name := range h.Keys() {
		values := h[name]
		if len(values) == 0 || len(values) == 1 && values[0] == "" {
			continue
		}
		if len(dst) == 0 {
			dst = append(dst, '{')
		} else {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ':')
		if len(values) == 1 {
			dst = appendString(dst, values[0])
			continue
		}
		for i, value := range values {
			dst = append(dst, "[,"[min(i, 1)])
			dst = appendString(dst, value)
		}
		dst = append(dst, ']')
	}
	if len(dst) > 0 {
		dst = append(dst, '}')
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD")) // fails for what is not UTF-8 alone
	return dst
}

// checkVersion refuses a body whose "v" is another one.
func checkVersion(version jsontext.Value, want int) error {
	switch {
	case string(version) == strconv.Itoa(want):
		return nil
	case version == nil:
		return fmt.Errorf("it has no version; want \"v\":%d", want)
	}
	return fmt.Errorf("its version is %.20s; want \"v\":%d", version, want)
}
