package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/ast"
)

// Limits on what a schema grows to when its common types are put in: a few lines can name each other into billions.
const (
	MaxSchemaTypes   = 20_000 // types within types, all common types put in
	MaxActionParents = 2_000  // of all actions together
)

// expansion counts what resolving a schema would make of it, without making it.
type expansion struct {
	common map[types.Path]ast.IsType
	known  map[types.Path]int
}

// tooLarge reports whether a schema grows beyond the limits.
func tooLarge(s *ast.Schema) bool {
	e := &expansion{common: map[types.Path]ast.IsType{}, known: map[types.Path]int{}}
	whole := ast.Namespace{Entities: s.Entities, Actions: s.Actions, CommonTypes: s.CommonTypes}
	e.declare("", whole)
	for path, n := range s.Namespaces {
		e.declare(path, n)
	}
	size, parents := e.namespace("", whole)
	for path, n := range s.Namespaces {
		more, above := e.namespace(path, n)
		size, parents = clamp(size+more), parents+above
	}
	return size > MaxSchemaTypes || parents > MaxActionParents
}

// clamp keeps a count from overflowing once it is over the limit anyway.
func clamp(n int) int { return min(n, MaxSchemaTypes+1) }

func below(path types.Path, name string) types.Path {
	if path == "" {
		return types.Path(name)
	}
	return path + "::" + types.Path(name)
}

func (e *expansion) declare(path types.Path, n ast.Namespace) {
	for name, c := range n.CommonTypes {
		e.common[below(path, string(name))] = c.Type
	}
}

func (e *expansion) namespace(path types.Path, n ast.Namespace) (size, parents int) {
	for name := range n.CommonTypes {
		size = clamp(size + e.named(path, below(path, string(name))))
	}
	for _, entity := range n.Entities {
		size = clamp(size + e.size(path, entity.Shape) + e.size(path, entity.Tags))
	}
	for _, action := range n.Actions {
		parents += len(action.Parents)
		if action.AppliesTo != nil {
			size = clamp(size + e.size(path, action.AppliesTo.Context))
		}
	}
	return size, parents
}

// size is how many types a type is made of, written in the namespace at path.
func (e *expansion) size(path types.Path, t ast.IsType) int {
	switch t := t.(type) {
	case ast.RecordType:
		size := 1
		for _, attribute := range t {
			size = clamp(size + e.size(path, attribute.Type))
		}
		return size
	case ast.SetType:
		return clamp(1 + e.size(path, t.Element))
	case ast.TypeRef:
		if inside := below(path, string(t)); e.common[inside] != nil {
			return e.named(path, inside)
		}
		return e.named("", types.Path(t))
	default:
		return 1
	}
}

// named is the size of a common type; one that names itself is for the resolver to refuse.
func (e *expansion) named(path, name types.Path) int {
	t, ok := e.common[name]
	if !ok {
		return 1
	}
	if size, ok := e.known[name]; ok {
		return size
	}
	e.known[name] = 1
	e.known[name] = e.size(path, t)
	return e.known[name]
}
