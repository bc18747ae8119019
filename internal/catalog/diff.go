package catalog

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/writ-project/writ/internal/access"
)

// Op is what happened to an object between two catalogs.
type Op string

// The operations of a Change.
const (
	Added   Op = "added"
	Changed Op = "changed"
	Removed Op = "removed"
)

// Change is one object that two catalogs do not share.
type Change struct {
	Kind   string          `json:"kind"` // one of the Kind constants
	Name   string          `json:"name"` // as in Object
	Op     Op              `json:"op"`
	Old    json.RawMessage `json:"old,omitempty"`    // absent if added
	New    json.RawMessage `json:"new,omitempty"`    // absent if removed
	Fields []string        `json:"fields,omitempty"` // of the document, that differ; ordered; only if changed
}

// String is one line for people: the sign of the operation, the object, the fields.
func (c Change) String() string {
	line := words(c.Kind) + " " + c.Name
	switch c.Op {
	case Added:
		return "+ " + line
	case Removed:
		return "- " + line
	case Changed:
		return "~ " + line + ": " + strings.Join(c.values(), ", ")
	default:
		return "? " + line
	}
}

// values are the fields that change, each with what it was and what it becomes.
func (c Change) values() []string {
	var old, now map[string]json.RawMessage
	if json.Unmarshal(c.Old, &old) != nil || json.Unmarshal(c.New, &now) != nil {
		return c.Fields
	}
	out := make([]string, 0, len(c.Fields))
	for _, field := range c.Fields {
		out = append(out, field+" "+brief(old[field])+" → "+brief(now[field]))
	}
	return out
}

// brief is a value short enough for a line.
func brief(value json.RawMessage) string {
	const most = 80 // characters
	if len(value) == 0 {
		return "(none)"
	}
	if text := []rune(string(value)); len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(value)
}

// Diff says what changes a catalog into another: ordered by kind, as the Kind constants are, then by name.
// The names of each catalog must be unique, as in what Parse and FromObjects return.
func Diff(before, after access.Catalog) []Change {
	var out []Change
	old, now := byKind(before), byKind(after)
	for _, kind := range []string{KindIdentity, KindTeam, KindResource, KindCollection, KindTaskType, KindFactSource, KindEnforcementPoint} {
		all := maps.Clone(now[kind])
		if all == nil {
			all = map[string]json.RawMessage{}
		}
		maps.Copy(all, old[kind])
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if c := change(old[kind][name], now[kind][name]); c.Op != "" {
				c.Kind, c.Name = kind, name
				out = append(out, c)
			}
		}
	}
	return out
}

func byKind(c access.Catalog) map[string]map[string]json.RawMessage {
	out := map[string]map[string]json.RawMessage{}
	for _, o := range Objects(c) {
		if out[o.Kind] == nil {
			out[o.Kind] = map[string]json.RawMessage{}
		}
		out[o.Kind][o.Name] = o.Doc
	}
	return out
}

// change compares two documents, of which a missing one is nil; no Op if they are equal.
func change(before, after json.RawMessage) Change {
	switch {
	case before == nil:
		return Change{Op: Added, New: after}
	case after == nil:
		return Change{Op: Removed, Old: before}
	case bytes.Equal(before, after):
		return Change{}
	default:
		return Change{Op: Changed, Old: before, New: after, Fields: differing(before, after)}
	}
}

func differing(before, after json.RawMessage) []string {
	old, now := fields(before), fields(after)
	all := maps.Clone(now)
	maps.Copy(all, old)
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(name string) bool {
		return bytes.Equal(old[name], now[name])
	})
}

func fields(doc json.RawMessage) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	if err := json.Unmarshal(doc, &out); err != nil {
		panic("catalog: a document of our own is not JSON: " + err.Error())
	}
	return out
}
