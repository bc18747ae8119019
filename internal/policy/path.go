package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/writ-project/writ/internal/access"
)

// origin is where a path begins.
type origin string

const (
	fromArgs      origin = "args"
	fromResource  origin = "resource"
	fromSubject   origin = "subject"
	fromPrincipal origin = "principal"
	fromElement   origin = "" // in a template: the value at hand
)

// path is a way through values: args.flights[] -> Flight('{flight_number}/{date}').status
type path struct {
	origin origin
	steps  []step
	hops   []hop
}

// step goes to a key of a record, or, without a name, to each item of a list.
type step struct{ name string }

func (s step) each() bool { return s.name == "" }

// hop goes to the entity whose id the template makes, and on into its attributes.
type hop struct {
	typ      string
	template []part
	steps    []step
}

// part is fixed text, or a value put in.
type part struct {
	text   string
	origin origin
	names  []string
	value  bool // put in a value
	id     bool // put in the id of the origin's entity
}

const (
	maxPath = 1000 // bytes
	maxHops = 4
)

var (
	headForm = regexp.MustCompile(`^(args|resource|subject|principal)((?:\.[A-Za-z_][A-Za-z0-9_]*|\[\])*)$`)
	hopForm  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)\('([^']*)'\)((?:\.[A-Za-z_][A-Za-z0-9_]*|\[\])+)$`)
	stepForm = regexp.MustCompile(`\.([A-Za-z_][A-Za-z0-9_]*)|\[\]`)
	partForm = regexp.MustCompile(`^(?:[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)?$`)
)

// parsePath reads a path; the shapes are not looked at yet.
func parsePath(text string) (*path, error) {
	if len(text) > maxPath {
		return nil, fmt.Errorf("a path has at most %d bytes", maxPath)
	}
	legs := strings.Split(text, "->")
	head := headForm.FindStringSubmatch(strings.TrimSpace(legs[0]))
	if head == nil {
		return nil, fmt.Errorf("%q is not a path: it begins with args, resource, subject or principal and goes on with .key or []", clip(text))
	}
	if len(legs)-1 > maxHops {
		return nil, fmt.Errorf("a path has at most %d hops", maxHops)
	}
	p := &path{origin: origin(head[1]), steps: parseSteps(head[2])}
	for _, leg := range legs[1:] {
		m := hopForm.FindStringSubmatch(strings.TrimSpace(leg))
		if m == nil {
			return nil, fmt.Errorf("%q is not a hop: write -> Type('{key}').attribute", clip(strings.TrimSpace(leg)))
		}
		template, err := parseTemplate(m[2])
		if err != nil {
			return nil, err
		}
		p.hops = append(p.hops, hop{m[1], template, parseSteps(m[3])})
	}
	return p, nil
}

func parseSteps(text string) []step {
	var out []step
	for _, m := range stepForm.FindAllStringSubmatch(text, -1) {
		out = append(out, step{name: m[1]})
	}
	return out
}

// parseTemplate reads fixed text with {key}, {} for the value itself, {args.key}, or {resource.id}.
func parseTemplate(text string) ([]part, error) {
	var out []part
	for text != "" {
		fixed, rest, open := strings.Cut(text, "{")
		if strings.Contains(fixed, "}") {
			return nil, fmt.Errorf("a } without its {")
		}
		if fixed != "" {
			out = append(out, part{text: fixed})
		}
		if !open {
			break
		}
		inside, after, closed := strings.Cut(rest, "}")
		if !closed || !partForm.MatchString(inside) {
			return nil, fmt.Errorf("{%s is not closed or holds no key", clip(inside))
		}
		if len(out) > 0 && out[len(out)-1].value {
			return nil, fmt.Errorf("two values need fixed text between them, or different values make the same id")
		}
		out = append(out, putIn(inside))
		text = after
	}
	if !slices.ContainsFunc(out, func(p part) bool { return p.value }) {
		return nil, fmt.Errorf("the id of a hop puts in at least one value, such as {key}")
	}
	return out, nil
}

func putIn(inside string) part {
	if inside == "" {
		return part{value: true}
	}
	names := strings.Split(inside, ".")
	first := origin(names[0])
	if !slices.Contains([]origin{fromArgs, fromResource, fromSubject, fromPrincipal}, first) {
		return part{value: true, names: names}
	}
	if first != fromArgs && len(names) == 2 && names[1] == "id" {
		return part{value: true, origin: first, id: true}
	}
	return part{value: true, origin: first, names: names[1:]}
}

// typer finds the types along a path for one action.
type typer struct {
	schema *schema
	action *action
}

// roots are the shapes that an origin can have: of an entity one for each type that the action takes.
func (t typer) roots(from origin) ([]*shape, error) {
	var names []string
	switch from {
	case fromArgs:
		if t.action.args() == nil {
			return nil, fmt.Errorf("%s declares no args", t.action.ref)
		}
		return []*shape{t.action.args()}, nil
	case fromResource:
		names = t.action.resources
	case fromSubject:
		names = t.action.principals
	case fromPrincipal, fromElement:
		names = []string{access.TypeHuman}
	}
	var out []*shape
	for _, name := range names {
		declared := t.schema.types[name]
		if declared == nil {
			return nil, fmt.Errorf("the schema has no entity type %s", name)
		}
		out = append(out, declared.attributes)
	}
	return out, nil
}

// result is the type of the values that the path yields.
func (t typer) result(p *path) (*shape, error) {
	if len(p.steps) == 0 {
		return nil, fmt.Errorf("a path goes on after %s, with .key", p.origin)
	}
	at, err := t.follow(p.origin, p.steps)
	if err != nil {
		return nil, err
	}
	for i := range p.hops {
		h := &p.hops[i]
		target := t.schema.types[h.typ]
		if target == nil || target.enum {
			return nil, fmt.Errorf("the schema has no entity type %s with attributes", h.typ)
		}
		for _, part := range h.template {
			if err := t.fill(part, at); err != nil {
				return nil, err
			}
		}
		if at, err = walkShape(target.attributes, h.steps, h.typ); err != nil {
			return nil, err
		}
	}
	return at, nil
}

// follow walks from a root; each type that the root can have must give the same.
func (t typer) follow(from origin, steps []step) (*shape, error) {
	roots, err := t.roots(from)
	if err != nil {
		return nil, err
	}
	var out *shape
	for _, root := range roots {
		at, err := walkShape(root, steps, string(from))
		if err != nil {
			return nil, err
		}
		if out != nil && !out.same(at) {
			return nil, fmt.Errorf("%s is %s or %s, by the type of the %s", steps[len(steps)-1].name, out, at, from)
		}
		out = at
	}
	return out, nil
}

func walkShape(at *shape, steps []step, where string) (*shape, error) {
	for _, s := range steps {
		if s.each() {
			if at.kind != kindSet {
				return nil, fmt.Errorf("%s is %s, not a list: leave [] out", where, at)
			}
			at, where = at.elem, where+"[]"
			continue
		}
		if at.kind == kindEntity {
			return nil, fmt.Errorf("%s is an entity: go on with a hop, -> %s('{}').%s", where, at.entity, s.name)
		}
		next := at.get(s.name)
		if next == nil {
			return nil, fmt.Errorf("%s has no key %s: it is %s", where, s.name, at)
		}
		at, where = next, where+"."+s.name
	}
	return at, nil
}

// fill checks that a value put into an id is one that can be.
func (t typer) fill(p part, element *shape) error {
	if !p.value {
		return nil
	}
	if p.id {
		_, err := t.roots(p.origin)
		return err
	}
	at := element
	steps := make([]step, len(p.names))
	for i, name := range p.names {
		steps[i] = step{name: name}
	}
	var err error
	if p.origin == fromElement {
		at, err = walkShape(at, steps, "the value at hand")
	} else {
		if len(steps) == 0 {
			return fmt.Errorf("{%s} goes on with .key", p.origin)
		}
		at, err = t.follow(p.origin, steps)
	}
	if err != nil {
		return err
	}
	if at.kind != kindString && at.kind != kindLong && at.kind != kindEntity {
		return fmt.Errorf("an id is made of String, Long or entity values, not of %s", at)
	}
	return nil
}
