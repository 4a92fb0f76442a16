package contract

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/go-yaml"
	"github.com/pb33f/libopenapi-validator/schema_validation"
	"github.com/pb33f/libopenapi/datamodel/high/base"
	"github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/pb33f/libopenapi/orderedmap"

	"sluice"
	"sluice/api"
)

var documents = map[string]string{"door": api.DoorDocument, "operations": api.OperationsDocument}

func TestDocuments_AreGood(t *testing.T) {
	for name, text := range documents {
		t.Run(name, func(t *testing.T) {
			l, err := lint(text)
			if err != nil {
				t.Error(err)
			}
			if l.examples < 20 || l.objects < 5 {
				t.Errorf("only %d examples and %d objects were looked at", l.examples, l.objects)
			}
			t.Logf("%d examples, %d objects", l.examples, l.objects)
		})
	}
}

// What the lint is for, planted.
func TestLint_FindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ what, old, new, want string }{
		{"a reference that leads nowhere", "schemas/SaleView'}", "schemas/SaleVeiw'}", "SaleVeiw"},
		{"an answer elsewhere that leads nowhere", "'404': {$ref: '#/components/responses/NotFound'}", "'404': {$ref: '#/components/responses/Nothing'}", "responses/Nothing"},
		{"a field that OpenAPI does not have", "summary: A sale as a buyer may see it", "sumary: A sale as a buyer may see it", "validation"},
		{"an example with an unknown field", "{sale: demo, open: true,", "{sale: demo, open: true, stock: 3,", "showSale 200"},
		{"an example that breaks a rule between fields", "status: held, version: 2, sale: spring, units: 1, pay_by: '2027-03-01T18:15:00Z',", "status: held, version: 2, sale: spring, units: 1,", "getOrder 200"},
		{"an example of a schema", "examples: [demo]", "examples: [Demo!]", "SaleID"},
		{"an example of a header", "example: /v1/orders/5a46", "example: /orders/5a46", "Location"},
		{"an object that is not closed", "description: A sale as a buyer may see it.\n      additionalProperties: false", "description: A sale as a buyer may see it.", "SaleView"},
		{"two calls of one name", "operationId: readyz", "operationId: livez", "operationId livez"},
		{"a component that nothing uses", "    BadOrigin:\n", "    Unused: {description: nothing}\n    BadOrigin:\n", "Unused"},
		{"a refusal under the wrong status", "reason: {enum: [ended]}", "reason: {enum: [sold-out]}", "sold-out"},
		{"a problem without its reason", "{properties: {status: {const: 410}, reason: {enum: [ended]}}}", "{properties: {status: {const: 410}}}", "no reasons"},
		{"a reason with a wrong title", "| The sale has ended |", "| The sale is over |", "ended"},
		{"a reason that does not exist", "enum: [sold-out]}}", "enum: [sold-out, sold-off]}}", "sold-off"},
		{"a reason that is missing", "        - blocked\n", "", "blocked"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if strings.Count(api.DoorDocument, c.old) == 0 {
				t.Fatalf("the document has no %q to spoil", c.old)
			}
			_, err := lint(strings.Replace(api.DoorDocument, c.old, c.new, 1))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("lint = %v; want something about %q", err, c.want)
			}
		})
	}
}

// Every refusal can be looked up, and nothing else can.
func TestDocuments_HaveEveryRefusal(t *testing.T) {
	documented := map[sluice.Refusal]bool{}
	for _, text := range documents {
		l, err := lint(text)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(documented, l.reasons)
	}
	for _, r := range sluice.Refusals() {
		if !documented[r] {
			t.Errorf("%s is documented nowhere", r)
		}
		delete(documented, r)
	}
	for r := range documented {
		t.Errorf("%s is documented, but there is no such refusal", r)
	}
}

// linter goes through a document once.
type linter struct {
	text     string
	model    *v3.Document
	schemas  schema_validation.SchemaValidator
	found    []error
	examples int // that were held against their schemas
	objects  int // that were found closed
	reasons  map[sluice.Refusal]bool
}

func lint(text string) (*linter, error) {
	d, err := Parse(text)
	if err != nil {
		return nil, err
	}
	l := &linter{text: text, model: d.model, schemas: schema_validation.NewSchemaValidator(assertions()...), reasons: map[sluice.Refusal]bool{}}
	if _, errs := d.validator.ValidateDocument(); len(errs) > 0 {
		l.found = append(l.found, joined(errs))
	}
	l.calls()
	l.components()
	l.responses("elsewhere", d.elsewhere.Get.Responses)
	l.reasonTable()
	return l, errors.Join(l.found...)
}

func (l *linter) fault(format string, args ...any) {
	l.found = append(l.found, fmt.Errorf(format, args...))
}

func (l *linter) calls() {
	var tags []string
	for _, t := range l.model.Tags {
		tags = append(tags, t.Name)
	}
	seen := map[string]bool{}
	for path, item := range l.model.Paths.PathItems.FromOldest() {
		l.parameters(path, item.Parameters)
		for method, op := range item.GetOperations().FromOldest() {
			where := method + " " + path
			if op.OperationId == "" || seen[op.OperationId] {
				l.fault("%s: operationId %s is empty or taken", where, op.OperationId)
			}
			seen[op.OperationId] = true
			if op.Summary == "" || len(op.Tags) != 1 || !slices.Contains(tags, op.Tags[0]) {
				l.fault("%s: want a summary and one of the tags %q", where, tags)
			}
			l.parameters(where, op.Parameters)
			if op.RequestBody != nil {
				l.content(op.OperationId+" request", op.RequestBody.Content)
			}
			l.responses(op.OperationId, op.Responses)
		}
	}
}

func (l *linter) parameters(where string, parameters []*v3.Parameter) {
	for _, p := range parameters {
		if p.Description == "" || p.Schema == nil {
			l.fault("%s: parameter %s: want a description and a schema", where, p.Name)
			continue
		}
		l.example(where+" "+p.Name, p.Schema, p.Example)
		l.named(where+" "+p.Name, p.Schema, p.Examples)
	}
}

func (l *linter) responses(where string, responses *v3.Responses) {
	for status, r := range responses.Codes.FromOldest() {
		where := where + " " + status
		for name, h := range r.Headers.FromOldest() {
			l.example(where+" "+name, h.Schema, h.Example)
		}
		l.content(where, r.Content)
		if status < "400" {
			continue
		}
		if r.Content == nil || r.Content.GetOrZero(api.ContentProblem) == nil {
			l.fault("%s: want a problem", where)
			continue
		}
		l.problem(where, status, r.Content.GetOrZero(api.ContentProblem))
	}
}

// problem notes the reasons that an answer may have. Each must go with its status.
func (l *linter) problem(where, status string, m *v3.MediaType) {
	n := 0
	for _, part := range m.Schema.Schema().AllOf {
		if part.IsReference() || part.Schema().Properties == nil {
			continue
		}
		reason := part.Schema().Properties.GetOrZero("reason")
		if reason == nil {
			continue
		}
		for _, node := range reason.Schema().Enum {
			r := sluice.Refusal(node.Value)
			if strconv.Itoa(r.Status()) != status || r.Title() == "" {
				l.fault("%s: reason %s belongs to %d", where, r, r.Status())
			}
			l.reasons[r] = true
			n++
		}
	}
	if n == 0 {
		l.fault("%s: the problem has no reasons", where)
	}
}

// reasonTable compares the schema Reason with what the calls may answer, and its table with the domain's words.
func (l *linter) reasonTable() {
	reason := l.model.Components.Schemas.GetOrZero("Reason").Schema()
	listed := map[sluice.Refusal]bool{}
	for _, node := range reason.Enum {
		r := sluice.Refusal(node.Value)
		listed[r] = true
		if row := fmt.Sprintf("| `%s` | %d | %s |\n", r, r.Status(), r.Title()); !strings.Contains(reason.Description+"\n", row) {
			l.fault("Reason: the table has no row %q", row)
		}
	}
	if rows := strings.Count(reason.Description, "\n| `"); rows != len(listed) {
		l.fault("Reason: %d rows for %d reasons", rows, len(listed))
	}
	for r := range l.reasons {
		if !listed[r] {
			l.fault("Reason: %s is missing", r)
		}
	}
	for r := range listed {
		if !l.reasons[r] {
			l.fault("Reason: no call answers %s", r)
		}
	}
}

var component = regexp.MustCompile(`(?m)^    ([A-Za-z]+):`)

func (l *linter) components() {
	for name, s := range l.model.Components.Schemas.FromOldest() {
		l.schema(name, s)
	}
	_, components, _ := strings.Cut(l.text, "\ncomponents:\n")
	for _, m := range component.FindAllStringSubmatch(components, -1) {
		name := m[1]
		_, scheme := l.model.Components.SecuritySchemes.Get(name)
		used := strings.Contains(l.text, "/"+name+"'") || scheme && strings.Contains(l.text, "{"+name+": []}")
		if !used {
			l.fault("component %s: nothing uses it", name)
		}
	}
}

// schema looks at one schema and its fields: described, closed, its examples good.
func (l *linter) schema(where string, p *base.SchemaProxy) {
	s := p.Schema()
	for _, e := range s.Examples {
		l.example(where, p, e)
	}
	if s.Default != nil {
		l.example(where+" default", p, s.Default)
	}
	if !slices.Contains(s.Type, "object") {
		return
	}
	if s.Description == "" {
		l.fault("%s: want a description", where)
	}
	if s.AdditionalProperties == nil {
		l.fault("%s: want additionalProperties, so that unknown fields are an error or expressly none", where)
	}
	l.objects++
	for name, field := range s.Properties.FromOldest() {
		l.schema(where+"."+name, field)
		if field.Schema().Description == "" {
			l.fault("%s.%s: want a description", where, name)
		}
	}
}

func (l *linter) content(where string, content *orderedmap.Map[string, *v3.MediaType]) {
	for mediaType, m := range content.FromOldest() {
		l.example(where+" "+mediaType, m.Schema, m.Example)
		l.named(where+" "+mediaType, m.Schema, m.Examples)
	}
}

func (l *linter) named(where string, schema *base.SchemaProxy, examples *orderedmap.Map[string, *base.Example]) {
	for name, e := range examples.FromOldest() {
		l.example(where+" "+name, schema, e.Value)
	}
}

func (l *linter) example(where string, schema *base.SchemaProxy, node *yaml.Node) {
	if node == nil {
		return
	}
	var value any
	if err := node.Decode(&value); err != nil {
		l.fault("%s: %w", where, err)
		return
	}
	l.examples++
	if _, errs := l.schemas.ValidateSchemaObjectWithVersion(schema.Schema(), value, 3.1); len(errs) > 0 {
		l.fault("example of %s: %w", where, joined(errs))
	}
}
