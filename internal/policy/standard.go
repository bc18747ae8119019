package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-project/writ/internal/access"
)

// The shapes of what Writ fills.
func stringShape() *shape { return &shape{kind: kindString} }
func longShape() *shape   { return &shape{kind: kindLong} }
func boolShape() *shape   { return &shape{kind: kindBool} }
func humanShape() *shape  { return &shape{kind: kindEntity, entity: access.TypeHuman} }
func stringsShape() *shape {
	return &shape{kind: kindSet, elem: stringShape()}
}

func recordShape(fields map[string]*shape) *shape {
	out := &shape{kind: kindRecord}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		out.fields = append(out.fields, field{name: name, shape: fields[name]})
	}
	return out
}

// standardContext is what Writ fills in an action's context; nil stands for a record of the bundle's own.
func standardContext() map[string]*shape {
	return map[string]*shape{
		"args":    nil,
		"derived": nil,
		"counts":  nil,
		"sums":    nil,
		"task": recordShape(map[string]*shape{
			"type": stringShape(), "age": longShape(), "heartbeat": longShape(), "expected": boolShape(),
		}),
		"labels": recordShape(map[string]*shape{
			"task": stringsShape(), "chain": stringsShape(), "identity": stringsShape(),
		}),
		"chain":     recordShape(map[string]*shape{"depth": longShape(), "root": stringShape(), "actors": stringsShape()}),
		"precedent": recordShape(map[string]*shape{"approvals": longShape(), "denials": longShape(), "reversals": longShape()}),
		"ttl":       longShape(),
		"mode":      stringShape(),
		"risk":      longShape(),
		"now":       {kind: kindDatetime},
		"principal": humanShape(),
	}
}

// standardAttributes is what Writ fills in entities of a type.
func standardAttributes(typ string) map[string]*shape {
	switch typ {
	case access.TypeAgent, access.TypeWorkload:
		return map[string]*shape{"owner": humanShape(), "purpose": stringShape(), "status": stringShape(), "review_by": {kind: kindDatetime}}
	case access.TypeHuman:
		return map[string]*shape{"owner": humanShape(), "purpose": stringShape(), "status": stringShape()}
	case access.TypeTaskType:
		return map[string]*shape{"max_duration": longShape()}
	case access.TypeTeam, access.TypeInstallation:
		return nil
	default:
		return map[string]*shape{"owner": humanShape(), "sensitivity": stringShape(), "environment": stringShape(), "labels": stringsShape()}
	}
}

// closedType reports whether nothing but Writ fills the type's attributes.
func closedType(typ string) bool {
	return typ == access.TypeTeam || typ == access.TypeTaskType || typ == access.TypeInstallation
}

// standardParents are the parents that Writ fills, and whether these are all that the type can have.
func standardParents(typ string) (parents []string, closed bool) {
	switch typ {
	case access.TypeAgent, access.TypeWorkload, access.TypeHuman, access.TypeTeam:
		return []string{access.TypeTeam}, true
	case access.TypeTaskType, access.TypeInstallation:
		return nil, true
	default:
		return nil, false
	}
}

func (s *schema) checkTypes(faults *faultList, at place) {
	for _, name := range slices.Sorted(maps.Keys(s.types)) {
		t := s.types[name]
		if s.resolved.Entities[types.EntityType(name)].Tags != nil {
			faults.add(at, "entity %s declares tags, which nothing fills: declare attributes", name)
		}
		s.checkParents(t, faults, at)
		standard := standardAttributes(name)
		for _, f := range t.attributes.fields {
			want, known := standard[f.name]
			switch {
			case known && !f.shape.same(want):
				faults.add(at, "entity %s: attribute %s is filled by Writ as %s: declare it so, not as %s", name, f.name, want, f.shape)
			case !known && closedType(name):
				faults.add(at, "entity %s: nothing fills the attribute %s; Writ knows %s", name, f.name, namesOf(standard))
			}
		}
	}
}

func (s *schema) checkParents(t *entityType, faults *faultList, at place) {
	allowed, closed := standardParents(t.name)
	for _, parent := range t.parents {
		if closed && !slices.Contains(allowed, parent) {
			faults.add(at, "entity %s: Writ fills no parents of type %s, only %s", t.name, parent, orNone(allowed))
		}
		if p := s.types[parent]; p != nil && p.enum {
			faults.add(at, "entity %s: the enumerated type %s cannot be a parent", t.name, parent)
		}
	}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func namesOf(shapes map[string]*shape) string {
	return orNone(slices.Sorted(maps.Keys(shapes)))
}

func (s *schema) checkActions(faults *faultList, at place) {
	standard := standardContext()
	for _, a := range s.sortedActions() {
		if uses, ok := s.resolved.Actions[a.uid].Annotations["uses"]; ok && uses != "counted" {
			faults.add(at, `action %s: @uses(%q) is unknown: write @uses("counted") or leave it out`, a.ref, string(uses))
		}
		if a.context == nil {
			continue
		}
		for _, f := range a.context.fields {
			want, known := standard[f.name]
			if !known {
				faults.add(at, "action %s: nothing fills context.%s: take it into args or derived; Writ knows %s", a.ref, f.name, namesOf(standard))
				continue
			}
			checkContext(a, f, want, faults, at)
		}
	}
}

func checkContext(a *action, f field, want *shape, faults *faultList, at place) {
	switch {
	case f.name == "principal" && !f.optional:
		faults.add(at, "action %s: context.principal must be optional (principal?: Human): not every identity runs for somebody", a.ref)
	case f.name == "counts" || f.name == "sums":
		checkNumbers(a, f, faults, at)
	case want == nil && f.shape.kind != kindRecord:
		faults.add(at, "action %s: context.%s is a record, not %s", a.ref, f.name, f.shape)
	case want != nil && !fits(f.shape, want):
		faults.add(at, "action %s: context.%s is filled by Writ as %s: declare it so, or part of it, not as %s", a.ref, f.name, want, f.shape)
	}
}

func checkNumbers(a *action, f field, faults *faultList, at place) {
	if f.shape.kind != kindRecord {
		faults.add(at, "action %s: context.%s is a record of Long, not %s", a.ref, f.name, f.shape)
		return
	}
	for _, number := range f.shape.fields {
		if number.shape.kind != kindLong {
			faults.add(at, "action %s: context.%s.%s is filled by Writ as Long: declare it so, not as %s", a.ref, f.name, number.name, number.shape)
		}
	}
}

// fits reports whether what is declared is the standard shape, or for a record some of its fields.
func fits(declared, standard *shape) bool {
	if standard.kind != kindRecord || declared.kind != kindRecord {
		return declared.same(standard)
	}
	for _, f := range declared.fields {
		want := standard.get(f.name)
		if want == nil || !f.shape.same(want) {
			return false
		}
	}
	return true
}
