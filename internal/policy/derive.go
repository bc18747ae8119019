package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/access"
)

// deriveFile is where a bundle's derived values and counters stand.
const deriveFile = "derive.yaml"

// operator says what a rule makes of the values that its path yields.
type operator string

const (
	opCount  operator = "count"
	opSum    operator = "sum"
	opMin    operator = "min"
	opMax    operator = "max"
	opSet    operator = "set"
	opUnique operator = "unique"
	opGet    operator = "get"
)

func operators() []operator {
	return []operator{opCount, opSum, opMin, opMax, opSet, opUnique, opGet}
}

// rule is one derived value of one action.
type rule struct {
	name    string
	op      operator
	path    *path
	equals  types.Value // of count: only values equal to it; nil takes all
	missing types.Value // instead of an absent one; nil makes it policy_error
	other   types.Value // when the path yields nothing; nil makes it policy_error where an operator needs a value
}

// counter counts the allowed requests of a subject, or sums up an argument of theirs.
type counter struct {
	name   string
	action *action // or a group
	window time.Duration
	sum    *path // nil counts
}

// Buckets is how many parts a counter's window has. The oldest is counted whole, so Buckets+1 are read.
const Buckets = 60

// The range of a counter's window.
const (
	minWindow = time.Minute
	maxWindow = 31 * 24 * time.Hour
)

// deriver reads derive.yaml.
type deriver struct {
	schema   *schema
	faults   *faultList
	counters []*counter
	named    map[string]bool // rules and counters that stand there, faulty ones too
}

// parseYAML reads one YAML document; it is nil if the text is empty or broken.
func parseYAML(file string, text []byte, faults *faultList) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if err = decoder.Decode(&more); errors.Is(err, io.EOF) {
			return doc.Content[0]
		}
		if err == nil {
			faults.add(place{file: file, line: more.Line, column: more.Column}, "one YAML document is read, this is a second")
			return nil
		}
	}
	faults.add(yamlPlace(file, err), "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	return nil
}

func yamlPlace(file string, err error) place {
	at := place{file: file}
	if _, after, ok := strings.Cut(err.Error(), "line "); ok {
		_, _ = fmt.Sscanf(after, "%d", &at.line)
	}
	return at
}

func placeOf(file string, n *yaml.Node) place { return place{file, n.Line, n.Column} }

// pairs lists the keys and values of a mapping, each key once.
func pairs(file string, n *yaml.Node, what string, faults *faultList) [][2]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		faults.add(placeOf(file, n), "%s: want keys and values", what)
		return nil
	}
	var out [][2]*yaml.Node
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		switch {
		case name.Kind != yaml.ScalarNode || name.Tag == "!!merge":
			faults.add(placeOf(file, name), "%s: want plain keys", what)
		case value.Kind == yaml.AliasNode:
			faults.add(placeOf(file, value), "%s: aliases are not read here", what)
		case seen[name.Value]:
			faults.add(placeOf(file, name), "%s: %s stands here twice", what, name.Value)
		default:
			seen[name.Value] = true
			out = append(out, [2]*yaml.Node{name, value})
		}
	}
	return out
}

func (d *deriver) load(text []byte) {
	before := len(d.faults.list)
	root := parseYAML(deriveFile, text, d.faults)
	if len(d.faults.list) > before {
		return // what is missing cannot be told
	}
	if root != nil {
		for _, pair := range pairs(deriveFile, root, deriveFile, d.faults) {
			switch pair[0].Value {
			case "actions":
				d.actions(pair[1])
			case "counters":
				d.loadCounters(pair[1])
			default:
				d.faults.add(placeOf(deriveFile, pair[0]), "unknown key %s: want actions or counters", pair[0].Value)
			}
		}
	}
	d.complete()
}

// actionNamed finds the action by its name, or by Type::"id".
func (s *schema) actionNamed(name string) (*action, error) {
	ref := access.Ref{Type: access.TypeAction, ID: name}
	if strings.Contains(name, `::"`) {
		parsed, err := access.ParseRef(name)
		if err != nil {
			return nil, err
		}
		ref = parsed
	}
	if a := s.actions[ref]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("the schema has no action %s", ref)
}

func (d *deriver) actions(n *yaml.Node) {
	for _, pair := range pairs(deriveFile, n, "actions", d.faults) {
		a, err := d.schema.actionNamed(pair[0].Value)
		if err == nil && a.context == nil {
			err = fmt.Errorf("%s is a group: derive for its actions", a.ref)
		}
		if err != nil {
			d.faults.add(placeOf(deriveFile, pair[0]), "%v", err)
			continue
		}
		for _, one := range pairs(deriveFile, pair[1], pair[0].Value, d.faults) {
			d.rule(a, one[0], one[1])
		}
	}
}

func (d *deriver) rule(a *action, name, body *yaml.Node) {
	here := placeOf(deriveFile, name)
	declared := a.derived().get(name.Value)
	if declared == nil {
		d.faults.add(here, "%s does not declare context.derived.%s", a.ref, name.Value)
		return
	}
	d.named[a.ref.String()+name.Value] = true
	r := &rule{name: name.Value}
	options := map[string]*yaml.Node{}
	for _, pair := range pairs(deriveFile, body, name.Value, d.faults) {
		key := pair[0].Value
		switch {
		case pair[1].Kind != yaml.ScalarNode:
			d.faults.add(placeOf(deriveFile, pair[1]), "%s: %s wants one value", name.Value, key)
			return
		case slices.Contains(operators(), operator(key)):
			if r.path != nil {
				d.faults.add(placeOf(deriveFile, pair[0]), "%s has two operators: %s and %s", name.Value, r.op, key)
				return
			}
			p, err := parsePath(pair[1].Value)
			if err != nil {
				d.faults.add(placeOf(deriveFile, pair[1]), "%s: %v", name.Value, err)
				return
			}
			r.op, r.path = operator(key), p
		case key == "equals" || key == "missing" || key == "else":
			options[key] = pair[1]
		default:
			d.faults.add(placeOf(deriveFile, pair[0]), "%s: unknown key %s: want one of count, sum, min, max, set, unique, get, and equals, missing, else", name.Value, key)
			return
		}
	}
	if r.path == nil {
		d.faults.add(here, "%s has no operator: want one of count, sum, min, max, set, unique, get", name.Value)
		return
	}
	if d.typed(a, r, declared, options, here) {
		a.rules = append(a.rules, r)
	}
}

// typed checks a rule against the schema and reads its options.
func (d *deriver) typed(a *action, r *rule, declared *shape, options map[string]*yaml.Node, here place) bool {
	found, err := typer{d.schema, a}.result(r.path)
	if err != nil {
		d.faults.add(here, "%s: %v", r.name, err)
		return false
	}
	if !found.scalar() && (r.op != opCount && r.op != opUnique || len(options) > 0) {
		d.faults.add(here, "%s: the path ends at %s: go on with [] or .key to single values", r.name, found)
		return false
	}
	if r.numeric() && found.kind != kindLong {
		d.faults.add(here, "%s: %s takes Long, the path yields %s", r.name, r.op, found)
		return false
	}
	if result := r.result(found); !result.same(declared) {
		d.faults.add(here, "%s: the schema declares %s, the rule gives %s", r.name, declared, result)
		return false
	}
	if options["equals"] != nil && r.op != opCount {
		d.faults.add(here, "%s: equals belongs to count", r.name)
		return false
	}
	if options["else"] != nil && r.op != opMin && r.op != opMax && r.op != opGet {
		d.faults.add(here, "%s: else belongs to min, max and get", r.name)
		return false
	}
	for name, into := range map[string]*types.Value{"equals": &r.equals, "missing": &r.missing, "else": &r.other} {
		if n := options[name]; n != nil {
			if *into, err = constantOf(n, found); err != nil {
				d.faults.add(placeOf(deriveFile, n), "%s: %s: %v", r.name, name, err)
				return false
			}
		}
	}
	return true
}

func (r *rule) numeric() bool { return r.op == opSum || r.op == opMin || r.op == opMax }

func (r *rule) result(found *shape) *shape {
	switch r.op {
	case opCount:
		return longShape()
	case opUnique:
		return boolShape()
	case opSet:
		return &shape{kind: kindSet, elem: found}
	case opSum, opMin, opMax, opGet:
	}
	return found
}

// constantOf reads a value written in YAML by a scalar shape.
func constantOf(n *yaml.Node, s *shape) (types.Value, error) {
	raw, err := jsonOf(n)
	if err != nil {
		return nil, err
	}
	list, err := newReader().readRecord(slices.Concat([]byte(`{"it":`), raw, []byte("}")), recordShape(map[string]*shape{"it": s}), "", MaxArgs)
	if wrong := (*ValueError)(nil); errors.As(err, &wrong) {
		return nil, fmt.Errorf("want %s, got %s", wrong.Want, wrong.Got)
	}
	return list.fields[0].value, nil
}

func (d *deriver) loadCounters(n *yaml.Node) {
	for _, pair := range pairs(deriveFile, n, "counters", d.faults) {
		c := &counter{name: pair[0].Value}
		d.named[c.name] = true
		if !identifier.MatchString(c.name) {
			d.faults.add(placeOf(deriveFile, pair[0]), "%q: a counter's name is letters, digits and _", clip(c.name))
			continue
		}
		sum := ""
		for _, one := range pairs(deriveFile, pair[1], c.name, d.faults) {
			if err := d.counterKey(c, one[0].Value, one[1].Value, &sum); err != nil {
				d.faults.add(placeOf(deriveFile, one[0]), "%s: %v", c.name, err)
			}
		}
		if c.action == nil || c.window == 0 {
			d.faults.add(placeOf(deriveFile, pair[0]), "%s: a counter needs action and window", c.name)
			continue
		}
		if err := d.counterSum(c, sum); err != nil {
			d.faults.add(placeOf(deriveFile, pair[0]), "%s: %v", c.name, err)
			continue
		}
		d.counters = append(d.counters, c)
	}
}

func (d *deriver) counterKey(c *counter, name, value string, sum *string) (err error) {
	switch name {
	case "action":
		c.action, err = d.schema.actionNamed(value)
	case "window":
		c.window, err = parseWindow(value)
	case "sum":
		*sum = value
	default:
		err = fmt.Errorf("unknown key %s: want action, window or sum", name)
	}
	return err
}

func parseWindow(text string) (time.Duration, error) {
	window, err := time.ParseDuration(text)
	if err != nil || window < minWindow || window > maxWindow || window%time.Minute != 0 {
		return 0, fmt.Errorf("window %q: want whole minutes from 1m to 744h", clip(text))
	}
	return window, nil
}

// counterSum checks what a counter sums up: arguments only, so that nothing needs to be looked up to count.
func (d *deriver) counterSum(c *counter, text string) error {
	if text == "" {
		return nil
	}
	p, err := parsePath(text)
	if err != nil {
		return err
	}
	if p.origin != fromArgs || len(p.hops) > 0 {
		return fmt.Errorf("a counter sums up arguments: a path from args, without hops")
	}
	for _, a := range d.schema.sortedActions() {
		if a.context == nil || !a.in(c.action.uid) {
			continue
		}
		found, err := typer{d.schema, a}.result(p)
		if err != nil {
			return err
		}
		if found.kind != kindLong {
			return fmt.Errorf("a counter sums up Long, the path yields %s", found)
		}
	}
	c.sum = p
	return nil
}

// complete checks that everything the schema declares is filled, and gives each action its counters.
func (d *deriver) complete() {
	slices.SortFunc(d.counters, func(x, y *counter) int { return strings.Compare(x.name, y.name) })
	for _, a := range d.schema.sortedActions() {
		if a.context == nil {
			continue
		}
		if derived := a.derived(); derived != nil {
			for _, f := range derived.fields {
				if !d.named[a.ref.String()+f.name] {
					d.faults.add(place{file: deriveFile}, "%s declares context.derived.%s, which no rule gives", a.ref, f.name)
				}
			}
		}
		d.numbers(a, "counts", func(c *counter) bool { return c.sum == nil })
		d.numbers(a, "sums", func(c *counter) bool { return c.sum != nil })
		slices.SortFunc(a.rules, func(x, y *rule) int { return strings.Compare(x.name, y.name) })
		for _, c := range d.counters {
			if a.in(c.action.uid) {
				a.counters = append(a.counters, c)
			}
		}
	}
}

func (d *deriver) numbers(a *action, kind string, of func(*counter) bool) {
	declared := a.context.get(kind)
	if declared == nil {
		return
	}
	for _, f := range declared.fields {
		i := slices.IndexFunc(d.counters, func(c *counter) bool { return c.name == f.name })
		switch {
		case i < 0 && !d.named[f.name]:
			d.faults.add(place{file: deriveFile}, "%s declares context.%s.%s, which no counter gives", a.ref, kind, f.name)
		case i >= 0 && !of(d.counters[i]):
			d.faults.add(place{file: deriveFile}, "%s declares context.%s.%s: a counter with sum belongs in sums, one without in counts", a.ref, kind, f.name)
		}
	}
}
