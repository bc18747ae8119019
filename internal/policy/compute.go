package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-project/writ/internal/access"
)

// maxValues is how many values one path may yield.
const maxValues = 10000

// inputs are what paths begin at.
type inputs struct {
	facts   *facts
	action  *action
	request *access.Request
	args    tree
}

// walker follows one path and gathers what it yields. It goes on after a fault, so that Needs learns every look-up.
type walker struct {
	*inputs
	rule   *rule // may be without missing
	values []types.Value
	err    error
}

func (w *walker) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// root is where a path begins, with its shape.
func (in *inputs) root(from origin) (tree, *shape, error) {
	ref := in.request.Resource
	switch from {
	case fromArgs:
		return in.args, in.action.args(), nil
	case fromSubject:
		ref = in.request.Subject
	case fromPrincipal:
		ref = in.request.Principal
		if ref.IsZero() {
			return tree{}, nil, errors.New("the request has no principal")
		}
	case fromResource, fromElement:
	}
	n, ok := in.facts.want(ref)
	if !ok {
		return tree{}, nil, fmt.Errorf("%s is not known", ref)
	}
	return n.tree, in.facts.schema.types[ref.Type].attributes, nil
}

func (in *inputs) id(from origin) string {
	switch from {
	case fromSubject:
		return in.request.Subject.ID
	case fromPrincipal:
		return in.request.Principal.ID
	case fromResource, fromArgs, fromElement:
	}
	return in.request.Resource.ID
}

// collect lists the values that a path yields, in the order of the lists it goes through.
func (in *inputs) collect(p *path, r *rule) ([]types.Value, error) {
	w := walker{inputs: in, rule: r}
	at, s, err := in.root(p.origin)
	if err != nil {
		return nil, err
	}
	w.walk(at, s, p.steps, p.hops)
	return w.values, w.err
}

func (w *walker) walk(at tree, s *shape, steps []step, hops []hop) {
	for i, next := range steps {
		if next.each() {
			for _, item := range at.items {
				w.walk(item, s.elem, steps[i+1:], hops)
			}
			return
		}
		j := s.field(next.name)
		if j < 0 || len(at.fields) != len(s.fields) {
			w.fail("there is no %s", next.name)
			return
		}
		if at.fields[j].value == nil {
			w.absent(next.name, steps[i+1:])
			return
		}
		at, s = at.fields[j], s.fields[j].shape
	}
	if len(hops) > 0 {
		w.hop(at, s, hops)
		return
	}
	w.yield(at.value)
}

func (w *walker) yield(value types.Value) {
	if len(w.values) == maxValues {
		w.fail("the path yields more than %d values", maxValues)
		return
	}
	w.values = append(w.values, value)
}

// absent is reached at an optional key without a value: an absent list has no items, another value is missing.
func (w *walker) absent(name string, rest []step) {
	switch {
	case slices.ContainsFunc(rest, step.each):
	case w.rule != nil && w.rule.missing != nil:
		w.yield(w.rule.missing)
	default:
		w.fail("%s is absent, and the rule has no missing", name)
	}
}

func (w *walker) hop(at tree, s *shape, hops []hop) {
	h := hops[0]
	id, err := w.fill(h.template, at, s)
	if err != nil {
		w.fail("%w", err)
		return
	}
	ref := access.Ref{Type: h.typ, ID: id}
	n, ok := w.facts.ask(ref)
	switch {
	case ok:
		w.walk(n.tree, w.facts.schema.types[h.typ].attributes, h.steps, hops[1:])
	case w.rule != nil && w.rule.missing != nil:
		w.yield(w.rule.missing)
	default:
		w.fail("%s is not known, and the rule has no missing", ref)
	}
}

// fill makes an entity's id. A value that holds the fixed text beside it is refused: it could pass for two other values.
func (w *walker) fill(template []part, at tree, s *shape) (string, error) {
	var out strings.Builder
	values := 0
	for _, p := range template {
		if p.value {
			values++
		}
	}
	for _, p := range template {
		if !p.value {
			out.WriteString(p.text)
			continue
		}
		text, err := w.put(p, at, s)
		if err != nil {
			return "", err
		}
		if values > 1 && slices.ContainsFunc(template, func(fixed part) bool { return !fixed.value && strings.Contains(text, fixed.text) }) {
			return "", errors.New("a value put into the id of a hop holds the text that separates it from another")
		}
		out.WriteString(text)
	}
	if out.Len() > access.MaxIDLength {
		return "", fmt.Errorf("an id has more than %d bytes", access.MaxIDLength)
	}
	return out.String(), nil
}

func (w *walker) put(p part, at tree, s *shape) (string, error) {
	if p.id {
		return w.id(p.origin), nil
	}
	if p.origin != fromElement {
		var err error
		if at, s, err = w.root(p.origin); err != nil {
			return "", err
		}
	}
	for _, name := range p.names {
		j := s.field(name)
		if j < 0 || len(at.fields) != len(s.fields) || at.fields[j].value == nil {
			return "", fmt.Errorf("%s is absent, so no id can be made of it", name)
		}
		at, s = at.fields[j], s.fields[j].shape
	}
	switch value := at.value.(type) {
	case types.String:
		return string(value), nil
	case types.Long:
		return strconv.FormatInt(int64(value), 10), nil
	case types.EntityUID:
		return string(value.ID), nil
	default:
		return "", fmt.Errorf("an id cannot be made of this value")
	}
}

// apply works one rule out.
func (in *inputs) apply(r *rule) (types.Value, error) {
	values, err := in.collect(r.path, r)
	if err != nil {
		return nil, err
	}
	switch r.op {
	case opCount:
		return r.count(values), nil
	case opSum:
		return sum(values)
	case opSet:
		return types.NewSet(values...), nil
	case opUnique:
		return types.Boolean(types.NewSet(values...).Len() == len(values)), nil
	case opGet:
		if len(values) > 1 {
			return nil, fmt.Errorf("get: the path yields %d values, not one", len(values))
		}
		return r.pick(values)
	case opMin, opMax:
		return r.pick(values)
	default:
		return nil, fmt.Errorf("unknown operator %s", r.op)
	}
}

func (r *rule) count(values []types.Value) types.Value {
	var n types.Long
	for _, value := range values {
		if r.equals == nil || value.Equal(r.equals) {
			n++
		}
	}
	return n
}

// long64 is a value whose type was checked when the bundle was loaded.
func long64(value types.Value) types.Long {
	n, _ := value.(types.Long)
	return n
}

func sum(values []types.Value) (types.Long, error) {
	var total types.Long
	for _, value := range values {
		n := long64(value)
		next := total + n
		if (next > total) != (n > 0) {
			return 0, errors.New("the sum is beyond 64 bits")
		}
		total = next
	}
	return total, nil
}

// pick is the least, the greatest or the only value.
func (r *rule) pick(values []types.Value) (types.Value, error) {
	if len(values) == 0 {
		if r.other == nil {
			return nil, fmt.Errorf("%s: the path yields nothing, and the rule has no else", r.op)
		}
		return r.other, nil
	}
	best := values[0]
	for _, value := range values[1:] {
		if a, b := long64(value), long64(best); r.op == opMin && a < b || r.op == opMax && a > b {
			best = value
		}
	}
	return best, nil
}

// derive works all rules of the action out; the first fault is by the order of names.
func (in *inputs) derive() (types.RecordMap, error) {
	out := make(types.RecordMap, len(in.action.rules))
	var first error
	for _, r := range in.action.rules {
		value, err := in.apply(r)
		if err != nil {
			if first == nil {
				first = fmt.Errorf("derived.%s: %w", r.name, err)
			}
			continue
		}
		out[types.String(r.name)] = value
	}
	return out, first
}

// amounts are what an allowed request adds to each counter of its action. A negative amount would lower the sum, so it is refused.
func (in *inputs) amounts() ([]int64, error) {
	out := make([]int64, len(in.action.counters))
	for i, c := range in.action.counters {
		out[i] = 1
		if c.sum == nil {
			continue
		}
		values, err := in.collect(c.sum, nil)
		if err != nil {
			return nil, fmt.Errorf("counter %s: %w", c.name, err)
		}
		if slices.ContainsFunc(values, func(v types.Value) bool { return long64(v) < 0 }) {
			return nil, fmt.Errorf("counter %s: an amount below zero would lower the sum", c.name)
		}
		total, err := sum(values)
		if err != nil {
			return nil, fmt.Errorf("counter %s: %w", c.name, err)
		}
		out[i] = int64(total)
	}
	return out, nil
}

// derivedJSON writes derived values for people and evidence: sets in order, entities by their names.
func derivedJSON(values types.RecordMap) json.RawMessage {
	if len(values) == 0 {
		return nil
	}
	plain := make(map[string]any, len(values))
	for name, value := range values {
		plain[string(name)] = plainOf(value)
	}
	out, _ := json.Marshal(plain) // maps of strings, numbers, booleans and lists of them
	return out
}

func plainOf(value types.Value) any {
	switch value := value.(type) {
	case types.Long:
		return int64(value)
	case types.Boolean:
		return bool(value)
	case types.String:
		return string(value)
	case types.EntityUID:
		return refOf(value).String()
	case types.Set:
		return plainSet(value)
	default:
		return value.String()
	}
}

func plainSet(set types.Set) []json.RawMessage {
	out := []json.RawMessage{}
	for item := range set.All() {
		text, _ := json.Marshal(plainOf(item))
		out = append(out, text)
	}
	slices.SortFunc(out, func(a, b json.RawMessage) int { return strings.Compare(string(a), string(b)) })
	return out
}
