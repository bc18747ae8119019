package policy

import (
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-project/writ/internal/access"
)

// MaxEntities is how many entities one decision may depend on, present or absent.
const MaxEntities = 256

// facts are the entities of one decision. Whatever is looked for and not there is written down: Cedar would pass over it.
type facts struct {
	schema *schema
	reader *reader
	list   []access.Entity // ordered by id
	nodes  []node          // of list, made when first looked at
	absent []access.Ref    // looked for in vain by Cedar or among ancestors
	lookup []access.Ref    // looked for in vain by derived values
	err    error           // the first entity that stands there twice or does not fit the schema
}

type node struct {
	made   bool
	entity types.Entity
	above  []types.EntityUID // its parents
	tree   tree
}

func newFacts(s *schema, read *reader, entities []access.Entity) *facts {
	byID := func(a, b access.Entity) int { return a.ID.Compare(b.ID) }
	if !slices.IsSortedFunc(entities, byID) {
		entities = slices.SortedFunc(slices.Values(entities), byID)
	}
	f := &facts{schema: s, reader: read, list: entities, nodes: make([]node, len(entities))}
	for i := 1; i < len(entities) && f.err == nil; i++ {
		if entities[i].ID == entities[i-1].ID {
			f.err = fmt.Errorf("the facts hold %s twice", entities[i].ID)
		}
	}
	return f
}

// find looks an entity up; enumerated ones exist because the schema lists them.
func (f *facts) find(ref access.Ref) (*node, bool) {
	i := f.position(ref)
	if i < 0 {
		return f.listed(ref)
	}
	n := &f.nodes[i]
	if !n.made {
		n.made = true
		if err := f.make(n, &f.list[i]); err != nil && f.err == nil {
			f.err = err
		}
	}
	return n, true
}

// position finds an entity in the list, or -1. Few are found faster one by one.
func (f *facts) position(ref access.Ref) int {
	const few = 16
	from, to := 0, len(f.list)
	for to-from > few {
		if middle := (from + to) / 2; f.list[middle].ID.Compare(ref) <= 0 {
			from = middle
		} else {
			to = middle
		}
	}
	for i := from; i < to; i++ {
		if f.list[i].ID == ref {
			return i
		}
	}
	return -1
}

func (f *facts) listed(ref access.Ref) (*node, bool) {
	if _, ok := f.schema.enums[ref.Type][types.String(ref.ID)]; !ok {
		return nil, false
	}
	return &node{made: true, entity: types.Entity{UID: uidOf(ref)}}, true
}

func (f *facts) make(n *node, e *access.Entity) error {
	if known, ok := f.schema.readEntities.get(e); ok {
		*n = known
		return nil
	}
	var err error
	if n.tree, n.above, err = f.schema.entity(f.reader, e); err != nil {
		return err
	}
	n.entity.UID = uidOf(e.ID)
	n.entity.Attributes, _ = n.tree.value.(types.Record)
	if len(n.above) > 0 {
		n.entity.Parents = cedar.NewEntityUIDSet(n.above...)
	}
	f.schema.readEntities.put(e, n)
	return nil
}

// entity reads an entity by the schema's type for it: its attributes and its parents.
func (s *schema) entity(read *reader, e *access.Entity) (tree, []types.EntityUID, error) {
	t := s.types[e.ID.Type]
	if t == nil {
		return tree{}, nil, fmt.Errorf("%w %s", errNoType, e.ID.Type)
	}
	above := make([]types.EntityUID, len(e.Parents))
	for i, parent := range e.Parents {
		if !slices.Contains(t.parents, parent.Type) {
			return tree{}, nil, fmt.Errorf("%s: %w: the schema lets no %s be in a %s", e.ID, errParent, t.name, parent.Type)
		}
		above[i] = uidOf(parent)
	}
	attributes, err := read.readRecord(e.Attributes, t.attributes, "attributes", MaxAttributes)
	if err != nil {
		return tree{}, nil, fmt.Errorf("%s: %w", e.ID, err)
	}
	return attributes, above, nil
}

// Get is what Cedar asks for an entity by.
func (f *facts) Get(uid types.EntityUID) (types.Entity, bool) {
	if isActionType(string(uid.Type)) {
		e, ok := f.schema.entities[uid]
		return e, ok
	}
	n, ok := f.want(refOf(uid))
	if !ok {
		return types.Entity{}, false
	}
	return n.entity, true
}

// want is find for an entity that must be there.
func (f *facts) want(ref access.Ref) (*node, bool) {
	n, ok := f.find(ref)
	if !ok {
		f.absent = include(f.absent, ref)
	}
	return n, ok
}

// ask is find for an entity that derived values look up, and that may be missing.
func (f *facts) ask(ref access.Ref) (*node, bool) {
	n, ok := f.find(ref)
	if !ok {
		f.lookup = include(f.lookup, ref)
	}
	return n, ok
}

// include adds a reference once.
func include(list []access.Ref, ref access.Ref) []access.Ref {
	if slices.Contains(list, ref) {
		return list
	}
	return append(list, ref)
}

// closure is an entity with everything above it.
func (f *facts) closure(ref access.Ref) []types.EntityUID {
	out := []types.EntityUID{uidOf(ref)}
	for i := 0; i < len(out) && i <= MaxEntities; i++ {
		n, ok := f.want(refOf(out[i]))
		if !ok {
			continue
		}
		for _, parent := range n.above {
			if !slices.Contains(out, parent) {
				out = append(out, parent)
			}
		}
	}
	return out
}

// problem is the first reason why these facts cannot carry a decision.
func (f *facts) problem() error {
	switch {
	case f.err != nil:
		return f.err
	case len(f.list)+len(f.absent)+len(f.lookup) > MaxEntities:
		return fmt.Errorf("the decision depends on more than %d entities", MaxEntities)
	case len(f.absent) > 0:
		slices.SortFunc(f.absent, access.Ref.Compare)
		return fmt.Errorf("%s is not known: without it policies could be passed over", f.absent[0])
	default:
		return nil
	}
}
