package transcode

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sluice"
	apiv1 "sluice/api/v1"
)

const (
	timestamp protoreflect.FullName = "google.protobuf.Timestamp"
	duration  protoreflect.FullName = "google.protobuf.Duration"
)

// Marshal writes a message as one line of JSON. Unlike protojson, it keeps the names of the .proto file, 64-bit integers
// are numbers, and durations are text such as "30m0s". A field with presence is there where it is set; a list or a map
// where it is not empty, or always; any other field always.
func Marshal(m proto.Message) ([]byte, error) {
	var b bytes.Buffer
	e := jsontext.NewEncoder(&b, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err := writeMessage(e, m.ProtoReflect()); err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return b.Bytes(), nil
}

func writeMessage(e *jsontext.Encoder, m protoreflect.Message) error {
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !written(m, field) {
			continue
		}
		if err := e.WriteToken(jsontext.String(string(field.Name()))); err != nil {
			return err
		}
		if err := writeField(e, field, m.Get(field)); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}

func written(m protoreflect.Message, field protoreflect.FieldDescriptor) bool {
	if field.HasPresence() || field.IsList() || field.IsMap() {
		return m.Has(field) || option(field, apiv1.E_Always)
	}
	return true
}

func option(field protoreflect.FieldDescriptor, which protoreflect.ExtensionType) bool {
	set, _ := proto.GetExtension(field.Options(), which).(bool)
	return set
}

func writeField(e *jsontext.Encoder, field protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case field.IsList():
		if err := e.WriteToken(jsontext.BeginArray); err != nil {
			return err
		}
		for i := range v.List().Len() {
			if err := writeValue(e, field, v.List().Get(i)); err != nil {
				return err
			}
		}
		return e.WriteToken(jsontext.EndArray)
	case field.IsMap():
		return writeMap(e, field.MapValue(), v.Map())
	default:
		return writeValue(e, field, v)
	}
}

func writeMap(e *jsontext.Encoder, field protoreflect.FieldDescriptor, m protoreflect.Map) error {
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, key := range sortedKeys(m) {
		if err := e.WriteToken(jsontext.String(key.String())); err != nil {
			return err
		}
		if err := writeValue(e, field, m.Get(key)); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}

func writeValue(e *jsontext.Encoder, field protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return e.WriteToken(jsontext.Bool(v.Bool()))
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return e.WriteToken(jsontext.Int(v.Int()))
	case protoreflect.DoubleKind:
		return e.WriteToken(jsontext.Float(v.Float()))
	case protoreflect.StringKind:
		return e.WriteToken(jsontext.String(v.String()))
	case protoreflect.BytesKind:
		if option(field, apiv1.E_Raw) {
			return e.WriteValue(v.Bytes())
		}
		return e.WriteToken(jsontext.String(base64.StdEncoding.EncodeToString(v.Bytes())))
	default: // a message, or Register would have refused it
	}
	switch m := v.Message().Interface().(type) {
	case *timestamppb.Timestamp:
		return e.WriteToken(jsontext.String(m.AsTime().Format(time.RFC3339Nano)))
	case *durationpb.Duration:
		return e.WriteToken(jsontext.String(m.AsDuration().String()))
	default:
		return writeMessage(e, v.Message())
	}
}

// Unmarshal reads what Marshal writes, in any order and layout, into a message that is empty. It is strict: it refuses
// names that the message does not have or that come twice, values of another type, null, and whatever follows the object.
// Only a time may be null or "": that is the zero time. Errors are BadRequest, and name the field.
func Unmarshal(body []byte, m proto.Message) error { return unmarshal(body, m.ProtoReflect(), nil) }

// unmarshal takes no field whose name is taken already.
func unmarshal(body []byte, m protoreflect.Message, taken map[protoreflect.Name]bool) error {
	return whole(body, func(d *decoder) error { return d.message(m, taken) })
}

// whole has read read all of the body, and puts errors into words that a caller of the API understands.
func whole(body []byte, read func(*decoder) error) error {
	// Names that come twice are looked for here: JSON that is carried unread may have them.
	d := &decoder{jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))}
	err := read(d)
	if err == nil {
		switch _, err = d.ReadToken(); {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil:
			err = errors.New("something follows the value")
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return sluice.Refuse(sluice.BadRequest, "the body ends too early")
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return sluice.Refuse(sluice.BadRequest, "the body is no JSON at byte %d: %v", syntax.ByteOffset, syntax.Err)
	}
	return sluice.Refuse(sluice.BadRequest, "the body can't be read: %v", err)
}

type decoder struct{ *jsontext.Decoder }

// expect reads a token of a kind.
func (d *decoder) expect(want jsontext.Kind) error {
	switch kind := d.PeekKind(); kind {
	case want, jsontext.KindInvalid: // what is invalid says so when it is read
		_, err := d.ReadToken()
		return err
	default:
		return fmt.Errorf("want %s, not %s", nameOf(want), nameOf(kind))
	}
}

func nameOf(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "true or false"
	case jsontext.KindString:
		return "text"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginArray:
		return "a list"
	default:
		return "an object"
	}
}

func (d *decoder) message(m protoreflect.Message, taken map[protoreflect.Name]bool) error {
	if err := d.expect(jsontext.KindBeginObject); err != nil {
		return err
	}
	fields := m.Descriptor().Fields()
	seen := make([]bool, fields.Len())
	for d.PeekKind() != jsontext.KindEndObject {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		field := fields.ByName(protoreflect.Name(name))
		switch {
		case field == nil || taken[field.Name()]:
			return fmt.Errorf("unknown field %.80q: want %s", name, list(fields, taken))
		case seen[field.Index()]:
			return fmt.Errorf("field %q comes twice", name)
		}
		seen[field.Index()] = true
		if err := d.field(m, field); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	_, err := d.ReadToken()
	return err
}

// list names the fields that a caller may use.
func list(fields protoreflect.FieldDescriptors, taken map[protoreflect.Name]bool) string {
	var names []string
	for i := range fields.Len() {
		if name := fields.Get(i).Name(); !taken[name] {
			names = append(names, string(name))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (d *decoder) field(m protoreflect.Message, field protoreflect.FieldDescriptor) error {
	switch {
	case field.IsList():
		return d.list(m.Mutable(field).List(), field)
	case field.IsMap():
		return d.mapping(m.Mutable(field).Map(), field.MapValue())
	}
	v, err := d.value(field, func() protoreflect.Value { return m.NewField(field) })
	if err == nil {
		m.Set(field, v)
	}
	return err
}

func (d *decoder) list(l protoreflect.List, field protoreflect.FieldDescriptor) error {
	if err := d.expect(jsontext.KindBeginArray); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndArray {
		v, err := d.value(field, l.NewElement)
		if err != nil {
			return fmt.Errorf("number %d: %w", l.Len()+1, err)
		}
		l.Append(v)
	}
	_, err := d.ReadToken()
	return err
}

func (d *decoder) mapping(m protoreflect.Map, field protoreflect.FieldDescriptor) error {
	if err := d.expect(jsontext.KindBeginObject); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndObject {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		key := protoreflect.ValueOfString(name).MapKey()
		if m.Has(key) {
			return fmt.Errorf("%.80q comes twice", name)
		}
		v, err := d.value(field, m.NewValue)
		if err != nil {
			return fmt.Errorf("%.80q: %w", name, err)
		}
		m.Set(key, v)
	}
	_, err := d.ReadToken()
	return err
}

// value reads one value that is no list and no map. empty makes an empty one of the field's type.
func (d *decoder) value(field protoreflect.FieldDescriptor, empty func() protoreflect.Value) (protoreflect.Value, error) {
	switch {
	case field.Kind() == protoreflect.BytesKind && option(field, apiv1.E_Raw):
		raw, err := d.ReadValue()
		return protoreflect.ValueOfBytes(bytes.Clone(raw)), err
	case field.Kind() == protoreflect.MessageKind && !isText(field):
		v := empty()
		return v, d.message(v.Message(), nil)
	}
	switch got, name := d.PeekKind(), wanted(field); {
	case got == jsontext.KindNull && isTime(field):
		_, err := d.ReadToken()
		return protoreflect.ValueOfMessage(timestamppb.New(time.Time{}).ProtoReflect()), err
	case got != jsontext.KindInvalid && nameOf(got) != name:
		return protoreflect.Value{}, fmt.Errorf("want %s, not %s", name, nameOf(got))
	}
	token, err := d.ReadToken()
	if err != nil {
		return protoreflect.Value{}, err
	}
	return parse(field, token.String())
}

func isTime(field protoreflect.FieldDescriptor) bool {
	return field.Kind() == protoreflect.MessageKind && field.Message().FullName() == timestamp
}

// isText reports whether a field is a message that is text in JSON.
func isText(field protoreflect.FieldDescriptor) bool {
	return isTime(field) || field.Kind() == protoreflect.MessageKind && field.Message().FullName() == duration
}

// wanted is the kind of value that a field takes, in the words of nameOf.
func wanted(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return nameOf(jsontext.KindTrue)
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.DoubleKind:
		return nameOf(jsontext.KindNumber)
	default:
		return nameOf(jsontext.KindString)
	}
}

// parse reads a value from its text, as it stands in a path, in a query and, without the quotes, in JSON.
func parse(field protoreflect.FieldDescriptor, text string) (v protoreflect.Value, err error) {
	switch field.Kind() {
	case protoreflect.BoolKind:
		if text != "true" && text != "false" {
			return v, fmt.Errorf("%.80q: want true or false", text)
		}
		return protoreflect.ValueOfBool(text == "true"), nil
	case protoreflect.Int32Kind:
		n, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfInt32(int32(n)), wholeNumber(text, err)
	case protoreflect.Int64Kind:
		n, err := strconv.ParseInt(text, 10, 64)
		return protoreflect.ValueOfInt64(n), wholeNumber(text, err)
	case protoreflect.DoubleKind:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return v, fmt.Errorf("%.80q: want a number", text)
		}
		return protoreflect.ValueOfFloat64(f), nil
	case protoreflect.StringKind:
		if !utf8.ValidString(text) {
			return v, errors.New("want UTF-8")
		}
		return protoreflect.ValueOfString(text), nil
	case protoreflect.BytesKind:
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return v, errors.New("want base64")
		}
		return protoreflect.ValueOfBytes(b), nil
	default:
		if isTime(field) {
			return parseTime(text)
		}
		return parseDuration(text)
	}
}

func wholeNumber(text string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%.80s is out of range", text)
	}
	return fmt.Errorf("%.80q: want a whole number", text)
}

func parseTime(text string) (v protoreflect.Value, err error) {
	var t time.Time
	if text != "" {
		t, err = time.Parse(time.RFC3339, text)
	}
	m := timestamppb.New(t)
	if err != nil || !m.IsValid() {
		return v, fmt.Errorf("%.80q: want a time such as 2027-03-01T18:00:00Z", text)
	}
	return protoreflect.ValueOfMessage(m.ProtoReflect()), nil
}

func parseDuration(text string) (v protoreflect.Value, err error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return v, fmt.Errorf(`%.80q: want a duration such as "90s" or "1h30m"`, text)
	}
	return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), nil
}
