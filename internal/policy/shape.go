package policy

import (
	"slices"
	"sort"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

// kind is one kind of Cedar value.
type kind uint8

const (
	kindString kind = iota + 1
	kindLong
	kindBool
	kindSet
	kindRecord
	kindEntity
	kindDatetime
	kindDuration
	kindDecimal
	kindIPAddr
)

// shape is a type of the schema, in the form that values are read by.
type shape struct {
	kind   kind
	elem   *shape                    // of a set
	fields []field                   // of a record, ordered by name
	entity string                    // type of an entity
	ids    map[types.String]struct{} // of an enumerated entity type; nil means any
}

type field struct {
	name     string
	shape    *shape
	optional bool
}

// field finds a field of a record, or -1.
func (s *shape) field(name string) int {
	i := sort.Search(len(s.fields), func(i int) bool { return s.fields[i].name >= name })
	if i < len(s.fields) && s.fields[i].name == name {
		return i
	}
	return -1
}

// get is the shape of a field of a record, or nil.
func (s *shape) get(name string) *shape {
	if s == nil {
		return nil
	}
	if i := s.field(name); i >= 0 {
		return s.fields[i].shape
	}
	return nil
}

// String is the type as a Cedar schema writes it.
func (s *shape) String() string {
	switch s.kind {
	case kindString:
		return "String"
	case kindLong:
		return "Long"
	case kindBool:
		return "Bool"
	case kindSet:
		return "Set<" + s.elem.String() + ">"
	case kindRecord:
		return s.recordString()
	case kindEntity:
		return s.entity
	case kindDatetime:
		return "datetime"
	case kindDuration:
		return "duration"
	case kindDecimal:
		return "decimal"
	case kindIPAddr:
		return "ipaddr"
	default:
		return "nothing"
	}
}

func (s *shape) recordString() string {
	parts := make([]string, len(s.fields))
	for i, f := range s.fields {
		mark := ""
		if f.optional {
			mark = "?"
		}
		parts[i] = f.name + mark + ": " + f.shape.String()
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// same reports whether two shapes are the same type.
func (s *shape) same(other *shape) bool {
	return s.kind == other.kind && s.String() == other.String()
}

// scalar reports whether the value is neither a set nor a record.
func (s *shape) scalar() bool { return s.kind != kindSet && s.kind != kindRecord }

func (s *schema) shapeOf(t resolved.IsType) *shape {
	switch t := t.(type) {
	case resolved.StringType:
		return &shape{kind: kindString}
	case resolved.LongType:
		return &shape{kind: kindLong}
	case resolved.BoolType:
		return &shape{kind: kindBool}
	case resolved.SetType:
		return &shape{kind: kindSet, elem: s.shapeOf(t.Element)}
	case resolved.RecordType:
		return s.recordOf(t)
	case resolved.EntityType:
		return &shape{kind: kindEntity, entity: string(t), ids: s.enums[string(t)]}
	case resolved.ExtensionType:
		return extensionShape(t)
	default:
		return &shape{}
	}
}

func extensionShape(t resolved.ExtensionType) *shape {
	switch t {
	case "datetime":
		return &shape{kind: kindDatetime}
	case "duration":
		return &shape{kind: kindDuration}
	case "decimal":
		return &shape{kind: kindDecimal}
	case "ipaddr":
		return &shape{kind: kindIPAddr}
	default:
		return &shape{}
	}
}

func (s *schema) recordOf(t resolved.RecordType) *shape {
	out := &shape{kind: kindRecord, fields: make([]field, 0, len(t))}
	for name, attribute := range t {
		out.fields = append(out.fields, field{string(name), s.shapeOf(attribute.Type), attribute.Optional})
	}
	slices.SortFunc(out.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return out
}
