package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/writ-project/writ/internal/access"
)

// Limits on values from outside.
const (
	MaxArgs       = 64 << 10  // bytes of a request's arguments
	MaxAttributes = 256 << 10 // bytes of an entity's attributes
	MaxItems      = 1000      // items of one list
)

// ValueError says which value does not fit the schema. It never holds the value itself.
type ValueError struct {
	Path string // such as args.items[2].price
	Want string // the schema's type, or words
	Got  string // the kind of what came, in words
}

// Error names the path, what the schema wants and what came.
func (e *ValueError) Error() string {
	return fmt.Sprintf("%s: want %s, got %s", e.Path, e.Want, e.Got)
}

// tree is a value with the order and the repetitions of its lists, which Cedar's sets lose.
type tree struct {
	value  types.Value
	items  []tree // of a list
	fields []tree // of a record, as in its shape; one without a value is absent
}

// reader reads JSON values by their shapes. It may be used again, but not by two at once.
type reader struct {
	dec *jsontext.Decoder // made when there is something to read
	buf bytes.Buffer
}

func newReader() *reader { return &reader{} }

// readRecord reads one JSON object by a record's shape. Nothing at all is the empty object.
func (r *reader) readRecord(raw json.RawMessage, s *shape, root string, most int) (tree, error) {
	if len(raw) > most {
		return tree{}, &ValueError{root, fmt.Sprintf("at most %d bytes", most), fmt.Sprintf("%d", len(raw))}
	}
	if len(raw) == 0 || string(raw) == "{}" {
		return s.empty(root)
	}
	r.buf = *bytes.NewBuffer(raw)
	if r.dec == nil {
		r.dec = jsontext.NewDecoder(&r.buf)
	} else {
		r.dec.Reset(&r.buf)
	}
	out, err := r.value(s)
	if err == nil {
		err = r.end()
	}
	return out, under(err, root)
}

// empty is the record without a field, if that is one.
func (s *shape) empty(root string) (tree, error) {
	out := tree{fields: make([]tree, len(s.fields)), value: types.Record{}}
	return out, under(s.complete(&out), root)
}

// complete reports a field that must be there and is not.
func (s *shape) complete(record *tree) error {
	for i := range s.fields {
		if !s.fields[i].optional && record.fields[i].value == nil {
			return &ValueError{"." + s.fields[i].name, s.fields[i].shape.String(), "nothing"}
		}
	}
	return nil
}

func (r *reader) end() error {
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return &ValueError{"", "one JSON object", "more after its end"}
	}
	return nil
}

func (r *reader) token() (jsontext.Token, error) {
	token, err := r.dec.ReadToken()
	if err != nil {
		return token, r.broken(err)
	}
	return token, nil
}

// broken reports text that is no JSON, or JSON with a key twice.
func (r *reader) broken(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return &ValueError{"", "each key once", "a key twice"}
	}
	return &ValueError{"", "JSON", fmt.Sprintf("something else at byte %d", r.dec.InputOffset())}
}

func (r *reader) value(s *shape) (tree, error) {
	token, err := r.token()
	if err != nil {
		return tree{}, err
	}
	return r.valueFrom(token, s)
}

// valueFrom reads the value that begins with the token.
func (r *reader) valueFrom(token jsontext.Token, s *shape) (tree, error) {
	if s.kind == kindRecord {
		return r.record(s, token)
	}
	if s.kind == kindSet {
		return r.list(s, token)
	}
	value, err := scalar(s, token)
	return tree{value: value}, err
}

func (r *reader) record(s *shape, token jsontext.Token) (tree, error) {
	if token.Kind() != '{' {
		return tree{}, unfit(s, token)
	}
	out := tree{fields: make([]tree, len(s.fields))}
	record := make(types.RecordMap, len(s.fields))
	for {
		token, err := r.token()
		if err != nil {
			return tree{}, err
		}
		if token.Kind() == '}' {
			break
		}
		name := token.String()
		i := s.field(name)
		if i < 0 {
			return tree{}, &ValueError{"." + clip(name), "one of the declared keys " + s.String(), "an undeclared key"}
		}
		item, err := r.value(s.fields[i].shape)
		if err != nil {
			return tree{}, under(err, "."+name)
		}
		out.fields[i] = item
		record[types.String(name)] = item.value
	}
	if err := s.complete(&out); err != nil {
		return tree{}, err
	}
	out.value = types.NewRecord(record)
	return out, nil
}

func (r *reader) list(s *shape, token jsontext.Token) (tree, error) {
	if token.Kind() != '[' {
		return tree{}, unfit(s, token)
	}
	out := tree{items: []tree{}}
	for {
		token, err := r.token()
		if err == nil && token.Kind() == ']' {
			break
		}
		if len(out.items) == MaxItems {
			return tree{}, &ValueError{"", fmt.Sprintf("at most %d items", MaxItems), "more"}
		}
		var item tree
		if err == nil {
			item, err = r.valueFrom(token, s.elem)
		}
		if err != nil {
			return tree{}, under(err, "["+strconv.Itoa(len(out.items))+"]")
		}
		out.items = append(out.items, item)
	}
	out.value = setOf(out.items)
	return out, nil
}

func setOf(items []tree) types.Set {
	values := make([]types.Value, len(items))
	for i := range items {
		values[i] = items[i].value
	}
	return types.NewSet(values...)
}

func scalar(s *shape, token jsontext.Token) (types.Value, error) {
	switch kind := token.Kind(); {
	case s.kind == kindBool && (kind == 't' || kind == 'f'):
		return types.Boolean(kind == 't'), nil
	case s.kind == kindLong && kind == '0':
		return long(token)
	case kind == '"':
		return text(s, token.String())
	default:
		return nil, unfit(s, token)
	}
}

func long(token jsontext.Token) (types.Value, error) {
	n, err := strconv.ParseInt(token.String(), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return nil, &ValueError{"", "Long", "a number beyond 64 bits"}
	case err != nil:
		return nil, &ValueError{"", "Long", "a fraction or an exponent"}
	default:
		return types.Long(n), nil
	}
}

// text reads a value that is written as a string.
func text(s *shape, text string) (types.Value, error) {
	var value types.Value
	var err error
	switch s.kind {
	case kindString:
		return types.String(text), nil
	case kindEntity:
		return s.entityOf(text)
	case kindDatetime:
		value, err = types.ParseDatetime(text)
	case kindDuration:
		value, err = types.ParseDuration(text)
	case kindDecimal:
		value, err = types.ParseDecimal(text)
	case kindIPAddr:
		value, err = types.ParseIPAddr(text)
	case kindLong, kindBool, kindSet, kindRecord:
		return nil, &ValueError{"", s.String(), "a string"}
	}
	if err != nil || value == nil {
		return nil, &ValueError{"", s.String() + " in Cedar's syntax", "another string"}
	}
	return value, nil
}

func (s *shape) entityOf(id string) (types.Value, error) {
	if id == "" || len(id) > access.MaxIDLength {
		return nil, &ValueError{"", fmt.Sprintf("the id of %s, 1 to %d bytes", article(s.entity), access.MaxIDLength), fmt.Sprintf("%d bytes", len(id))}
	}
	if _, ok := s.ids[types.String(id)]; s.ids != nil && !ok {
		return nil, &ValueError{"", "one of the ids that the schema lists for " + s.entity, "another one"}
	}
	return types.EntityUID{Type: types.EntityType(s.entity), ID: types.String(id)}, nil
}

func article(noun string) string {
	switch noun[0] {
	case 'A', 'E', 'I', 'O':
		return "an " + noun
	default:
		return "a " + noun
	}
}

func unfit(s *shape, token jsontext.Token) error {
	got := map[jsontext.Kind]string{
		'n': "null", 't': "a boolean", 'f': "a boolean", '"': "a string", '0': "a number", '[': "a list", '{': "an object",
	}[token.Kind()]
	return &ValueError{"", s.String(), got}
}

// under says in which key or item of the enclosing value the fault is.
func under(err error, step string) error {
	if wrong := (*ValueError)(nil); errors.As(err, &wrong) {
		wrong.Path = step + wrong.Path
	}
	return err
}

func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
