package access

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	strictjson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits on constraints from outside.
const (
	MaxConstraints     = 16 << 10 // bytes of the constraints of one grant
	maxConstraintDepth = 8
	maxValueDepth      = 32  // of values inside constraints
	maxListed          = 256 // values of one list, and constraints inside one
)

// ConstraintKind says what a constraint asks of an argument (draft-niyikiza-oauth-attenuating-agent-tokens, constraint types).
type ConstraintKind string

// The kinds of constraints.
const (
	ConstraintExact    ConstraintKind = "exact"      // is Value
	ConstraintRange    ConstraintKind = "range"      // is a whole number from Min to Max, both included; nil: without that end
	ConstraintOneOf    ConstraintKind = "one_of"     // is one of Values
	ConstraintNotOneOf ConstraintKind = "not_one_of" // is none of Excluded
	ConstraintContains ConstraintKind = "contains"   // is a list that holds all of Required
	ConstraintSubset   ConstraintKind = "subset"     // is a list of nothing but Allowed
	ConstraintWildcard ConstraintKind = "wildcard"   // is there
	ConstraintAll      ConstraintKind = "all"        // fits all of Constraints
	ConstraintAny      ConstraintKind = "any"        // fits one of Constraints
)

// Constraint is what one argument of a grant must be. Values are compared as JSON: spacing and the order of keys do not matter, a
// number must be written the same.
type Constraint struct {
	Kind        ConstraintKind   `json:"type"`
	Value       jsontext.Value   `json:"value,omitzero"`
	Min         *int64           `json:"min,omitzero"`
	Max         *int64           `json:"max,omitzero"`
	Values      []jsontext.Value `json:"values,omitzero"`
	Excluded    []jsontext.Value `json:"excluded,omitzero"`
	Required    []jsontext.Value `json:"required,omitzero"`
	Allowed     []jsontext.Value `json:"allowed,omitzero"`
	Constraints []Constraint     `json:"constraints,omitzero"`
}

// Constraints are those of a grant by argument. They are closed: an argument that is not named may not be there, one that is named
// must be. So empty ones fit no arguments at all.
type Constraints map[string]Constraint

// ExactArgs are the constraints that only these arguments, a JSON object, fit. What is not one value in I-JSON (RFC 7493: UTF-8,
// unique names) means different things to different readers, and is an error.
func ExactArgs(args json.RawMessage) (Constraints, error) {
	values, err := members(args)
	if err != nil {
		return nil, err
	}
	out := make(Constraints, len(values))
	for name, value := range values {
		out[name] = Constraint{Kind: ConstraintExact, Value: value}
	}
	return out, nil
}

// Fixed are the arguments that have one value only, as a JSON object with sorted names, and the names of the others, sorted.
func (cs Constraints) Fixed() (args json.RawMessage, open []string) {
	fixed := map[string]jsontext.Value{}
	for name, c := range cs {
		if c.Kind == ConstraintExact {
			fixed[name] = c.Value
		} else {
			open = append(open, name)
		}
	}
	slices.Sort(open)
	args, _ = strictjson.Marshal(fixed, strictjson.Deterministic(true)) // they have been read from JSON
	return args, open
}

// members are the arguments by name, each in one form.
func members(args json.RawMessage) (map[string]jsontext.Value, error) {
	text, err := canonical(args)
	if err == nil && text.Kind() != '{' {
		err = errors.New("arguments are not a JSON object")
	}
	if err != nil {
		return nil, err
	}
	var values map[string]jsontext.Value
	return values, strictjson.Unmarshal(text, &values)
}

func canonical(args json.RawMessage) (jsontext.Value, error) {
	if len(args) == 0 {
		return jsontext.Value("{}"), nil
	}
	value := jsontext.Value(args).Clone()
	return value, value.Format(jsontext.ReorderRawObjects(true))
}

// ParseConstraints reads constraints, strictly: an unknown kind or member, a member that its kind does not have, or one that is
// missing is an error that says where.
func ParseConstraints(text []byte) (Constraints, error) {
	if len(text) > MaxConstraints {
		return nil, fmt.Errorf("constraints have %d bytes, the limit is %d", len(text), MaxConstraints)
	}
	if err := shallow(text); err != nil {
		return nil, err
	}
	var out Constraints
	if err := strictjson.Unmarshal(text, &out, strictjson.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("constraints: %w", err)
	}
	for name, c := range out {
		if err := c.check(maxConstraintDepth); err != nil {
			return nil, fmt.Errorf("the constraint on %.80q: %w", name, err)
		}
		out[name] = c
	}
	return out, nil
}

// shallow refuses what is deeper than anybody would read.
func shallow(text []byte) error {
	decoder := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := decoder.ReadToken(); err != nil {
			return nil //nolint:nilerr // what is no JSON, or over, is said elsewhere
		}
		if decoder.StackDepth() > maxValueDepth+2*maxConstraintDepth {
			return fmt.Errorf("constraints: values are more than %d deep", maxValueDepth)
		}
	}
}

// has are the members of a constraint that are there.
func (c *Constraint) has() (names []string) {
	for name, there := range map[string]bool{
		"value": c.Value != nil, "min or max": c.Min != nil || c.Max != nil, "values": c.Values != nil, "excluded": c.Excluded != nil,
		"required": c.Required != nil, "allowed": c.Allowed != nil, "constraints": c.Constraints != nil,
	} {
		if there {
			names = append(names, name)
		}
	}
	return names
}

// check makes sure that a constraint has what its kind has and nothing else, and puts its values into one form.
func (c *Constraint) check(depth int) error {
	want, known := map[ConstraintKind]string{
		ConstraintExact: "value", ConstraintRange: "min or max", ConstraintOneOf: "values", ConstraintNotOneOf: "excluded",
		ConstraintContains: "required", ConstraintSubset: "allowed", ConstraintWildcard: "", ConstraintAll: "constraints", ConstraintAny: "constraints",
	}[c.Kind]
	if !known {
		return fmt.Errorf("there is no type %.40q of constraints", c.Kind)
	}
	if got := c.has(); want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
		return fmt.Errorf("a constraint of type %s has %s beside it, and nothing else", c.Kind, cmp.Or(want, "nothing"))
	}
	if depth == 0 {
		return fmt.Errorf("constraints are inside each other more than %d deep", maxConstraintDepth)
	}
	for _, list := range [][]jsontext.Value{c.Values, c.Excluded, c.Required, c.Allowed} {
		if len(list) > maxListed {
			return fmt.Errorf("a constraint lists %d values, the limit is %d", len(list), maxListed)
		}
	}
	if len(c.Constraints) > maxListed {
		return fmt.Errorf("a constraint is made of %d, the limit is %d", len(c.Constraints), maxListed)
	}
	for i := range c.Constraints {
		if err := c.Constraints[i].check(depth - 1); err != nil {
			return err
		}
	}
	if c.Value != nil {
		c.Value = inOneForm(c.Value)
	}
	for _, list := range [][]jsontext.Value{c.Values, c.Excluded, c.Required, c.Allowed} {
		for i := range list {
			list[i] = inOneForm(list[i])
		}
	}
	return nil
}

func inOneForm(v jsontext.Value) jsontext.Value {
	v = v.Clone()
	_ = v.Format(jsontext.ReorderRawObjects(true)) // it has been read, so it can be
	return v
}

// Fit reports whether arguments, a JSON object, are as the constraints ask. What cannot be read does not fit.
func (cs Constraints) Fit(args json.RawMessage) bool {
	values, err := members(args)
	if err != nil || len(values) != len(cs) {
		return false
	}
	for name, value := range values {
		if c, named := cs[name]; !named || !c.fits(value) {
			return false
		}
	}
	return true
}

// fits reports whether one value, in its one form, is as the constraint asks.
func (c *Constraint) fits(v jsontext.Value) bool {
	switch c.Kind {
	case ConstraintExact:
		return bytes.Equal(v, c.Value)
	case ConstraintRange:
		n, err := strconv.ParseInt(string(v), 10, 64)
		return err == nil && c.least() <= n && n <= c.most()
	case ConstraintOneOf:
		return holds(c.Values, v)
	case ConstraintNotOneOf:
		return !holds(c.Excluded, v)
	case ConstraintContains:
		items, ok := itemsOf(v)
		return ok && within(c.Required, items)
	case ConstraintSubset:
		items, ok := itemsOf(v)
		return ok && within(items, c.Allowed)
	case ConstraintWildcard:
		return true
	case ConstraintAll:
		return !slices.ContainsFunc(c.Constraints, func(part Constraint) bool { return !part.fits(v) })
	case ConstraintAny:
		return slices.ContainsFunc(c.Constraints, func(part Constraint) bool { return part.fits(v) })
	default:
		return false
	}
}

func (c *Constraint) least() int64 {
	if c.Min == nil {
		return math.MinInt64
	}
	return *c.Min
}

func (c *Constraint) most() int64 {
	if c.Max == nil {
		return math.MaxInt64
	}
	return *c.Max
}

func itemsOf(v jsontext.Value) (items []jsontext.Value, ok bool) {
	if v.Kind() != '[' {
		return nil, false
	}
	return items, strictjson.Unmarshal(v, &items) == nil
}

func holds(list []jsontext.Value, v jsontext.Value) bool {
	return slices.ContainsFunc(list, func(item jsontext.Value) bool { return bytes.Equal(item, v) })
}

// within reports whether everything in part is in whole.
func within(part, whole []jsontext.Value) bool {
	known := make(map[string]bool, len(whole))
	for _, v := range whole {
		known[string(v)] = true
	}
	return !slices.ContainsFunc(part, func(v jsontext.Value) bool { return !known[string(v)] })
}

// ErrWider says that what is passed on is not within what is held.
var ErrWider = errors.New("wider than what it is passed on from")

// Narrower is nil if whatever fits the constraints fits the parent's, too, as far as their forms show it: a pair of kinds that is
// not known to hold is refused (I3). The error wraps [ErrWider] and names the argument.
func (cs Constraints) Narrower(parent Constraints) error {
	if len(cs) != len(parent) {
		return fmt.Errorf("%w: it constrains other arguments", ErrWider)
	}
	for name := range parent {
		child, named := cs[name]
		above := parent[name]
		if !named || !child.narrower(&above) {
			return fmt.Errorf("%w: the argument %.80q", ErrWider, name)
		}
	}
	return nil
}

// narrower follows the table of the draft.
func (c *Constraint) narrower(parent *Constraint) bool {
	switch {
	case parent.Kind == ConstraintWildcard:
		return true
	case parent.Kind == ConstraintAll && c.Kind == ConstraintAll:
		return !slices.ContainsFunc(parent.Constraints, func(clause Constraint) bool {
			return !slices.ContainsFunc(c.Constraints, func(own Constraint) bool { return own.narrower(&clause) })
		})
	case parent.Kind == ConstraintAny && c.Kind == ConstraintAny:
		return !slices.ContainsFunc(c.Constraints, func(own Constraint) bool {
			return !slices.ContainsFunc(parent.Constraints, func(clause Constraint) bool { return own.narrower(&clause) })
		})
	case c.Kind == ConstraintExact:
		return parent.fits(c.Value)
	case c.Kind != parent.Kind:
		return false
	}
	switch c.Kind {
	case ConstraintRange:
		return c.least() >= parent.least() && c.most() <= parent.most()
	case ConstraintOneOf:
		return within(c.Values, parent.Values)
	case ConstraintNotOneOf:
		return within(parent.Excluded, c.Excluded)
	case ConstraintContains:
		return within(parent.Required, c.Required)
	case ConstraintSubset:
		return within(c.Allowed, parent.Allowed)
	default: // the others are above
		return false
	}
}
