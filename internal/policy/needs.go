package policy

import (
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-project/writ/internal/access"
)

// RequestErrorKind says what is wrong with a request before anything is decided.
type RequestErrorKind string

// The kinds of RequestError.
const (
	UnknownAction RequestErrorKind = "unknown_action"
	UnknownType   RequestErrorKind = "unknown_type"
	InvalidArgs   RequestErrorKind = "invalid_args"
)

// RequestError is a request that the schema does not know: an answer 400, not a decision. Detail holds no values.
type RequestError struct {
	Kind   RequestErrorKind
	Detail string
}

// Error is the kind and the detail.
func (e *RequestError) Error() string { return string(e.Kind) + ": " + e.Detail }

// CheckRequest tells a malformed request, as a *RequestError, from one to decide on.
func (b *Bundle) CheckRequest(r *access.Request) error {
	a, err := b.schema.party(r)
	if err != nil {
		return err
	}
	_, err = b.schema.argsOf(newReader(), a, r)
	return err
}

// CheckEntity checks an entity's type, parents and attributes against the schema. A wrong attribute is a *ValueError.
func (b *Bundle) CheckEntity(e access.Entity) error {
	_, _, err := b.schema.entity(newReader(), &e)
	return err
}

// Needs lists entities that a decision on the request wants and have lacks, ordered. The caller loads them, puts them
// in have (nil for one that is not there) and calls again until nothing is left: then have holds what Decide needs.
// Together they are at most MaxEntities; a request that wants more is decided with policy_error.
func (b *Bundle) Needs(r *access.Request, have map[access.Ref]*access.Entity) []access.Ref {
	a, err := b.schema.party(r)
	if err != nil {
		return nil
	}
	read := newReader()
	args, err := b.schema.argsOf(read, a, r)
	if err != nil {
		return nil
	}
	var list []access.Entity
	for ref, e := range have {
		if e != nil && e.ID == ref {
			list = append(list, *e)
		}
	}
	f := newFacts(b.schema, read, list)
	subject, resource := f.parties(r)
	if wanted := f.wanted(have); len(wanted) > 0 {
		return wanted
	}
	in := inputs{facts: f, action: a, request: r, args: args}
	derived, _ := in.derive() // what fails here fails in Decide
	for _, p := range a.candidates(subject, resource) {
		for _, way := range p.uses.paths {
			in.reach(way, derived)
		}
	}
	return f.wanted(have)
}

// wanted are those that were looked for and that the caller has not looked up.
func (f *facts) wanted(have map[access.Ref]*access.Entity) []access.Ref {
	out := map[access.Ref]bool{}
	for _, ref := range slices.Concat(f.absent, f.lookup) {
		if _, known := have[ref]; !known && f.schema.types[ref.Type] != nil {
			out[ref] = true
		}
	}
	list := slices.SortedFunc(maps.Keys(out), access.Ref.Compare)
	if room := max(MaxEntities+1-len(have), 0); len(list) > room {
		list = list[:room]
	}
	return list
}

// reach follows the way to an entity that a policy looks at, so that it is wanted with everything above it.
func (in *inputs) reach(way reach, derived types.RecordMap) {
	var at types.Value
	names := way.names
	switch way.from {
	case "":
		at = uidOf(way.entity)
	case "principal":
		at = uidOf(in.request.Subject)
	case "resource":
		at = uidOf(in.request.Resource)
	case "context":
		if len(names) == 0 {
			return
		}
		at, names = in.contextValue(names[0], derived), names[1:]
	}
	for _, name := range names {
		at = in.attribute(at, name)
	}
	if uid, ok := at.(types.EntityUID); ok {
		in.facts.closure(refOf(uid))
	}
}

// contextValue is the part of the context that can hold entities.
func (in *inputs) contextValue(name types.String, derived types.RecordMap) types.Value {
	switch name {
	case "args":
		return in.args.value
	case "derived":
		return types.NewRecord(derived)
	case "principal":
		if !in.request.Principal.IsZero() {
			return uidOf(in.request.Principal)
		}
	}
	return nil
}

func (in *inputs) attribute(at types.Value, name types.String) types.Value {
	switch at := at.(type) {
	case types.Record:
		value, _ := at.Get(name)
		return value
	case types.EntityUID:
		if n, ok := in.facts.want(refOf(at)); ok {
			value, _ := n.entity.Attributes.Get(name)
			return value
		}
	}
	return nil
}
