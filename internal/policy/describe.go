package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/writ-project/writ/internal/access"
)

// Describe is the entity that the catalog makes of an id, with the standard attributes and parents that the schema
// declares. The status holds for identities. It is false for an id or a type that catalog or schema do not know. Of a
// collection it describes any id: whether the member exists is for the fact source to say.
func (b *Bundle) Describe(x *access.Index, id access.Ref, status access.Status) (access.Entity, bool) {
	t := b.schema.types[id.Type]
	if t == nil {
		return access.Entity{}, false
	}
	d := describer{t: t, values: map[string]any{}}
	e := access.Entity{ID: id}
	known := d.fill(x, &e, status)
	e.Attributes = d.merge(e.Attributes)
	slices.SortFunc(e.Parents, access.Ref.Compare)
	return e, known
}

// endOfDay makes a date the last moment of that day, as Cedar counts: context.now is beyond it once the day is over.
const endOfDay = "T23:59:59.999Z"

type describer struct {
	t      *entityType
	values map[string]any
}

// set takes a standard attribute if the schema declares it. An empty text stands for none.
func (d *describer) set(name string, value any) {
	if text, ok := value.(string); ok && text == "" {
		return
	}
	if d.t.attributes.get(name) != nil {
		d.values[name] = value
	}
}

func (d *describer) fill(x *access.Index, e *access.Entity, status access.Status) bool {
	switch e.ID.Type {
	case access.TypeTeam:
		d.teams(x, e)
		return x.Has(e.ID)
	case access.TypeInstallation:
		return x.Has(e.ID)
	case access.TypeTaskType:
		taskType, ok := x.TaskType(e.ID.ID)
		if ok {
			d.set("max_duration", int64(taskType.MaxDuration))
		}
		return ok
	}
	if identity, ok := x.Identity(e.ID); ok {
		owner := identity.Owner
		if owner.IsZero() && e.ID.Type == access.TypeHuman {
			owner = e.ID // humans answer for themselves
		}
		d.set("owner", owner.ID)
		d.set("purpose", identity.Purpose)
		d.set("status", string(status))
		if e.ID.Type != access.TypeHuman && identity.ReviewBy != "" {
			d.set("review_by", identity.ReviewBy+endOfDay)
		}
		d.teams(x, e)
		e.Attributes = identity.Attributes
		return true
	}
	if r, ok := x.Resource(e.ID); ok {
		d.resource(r.Owner, r.Sensitivity, r.Environment, r.Labels)
		e.Parents = slices.Clone(r.Parents)
		e.Attributes = r.Attributes
		return true
	}
	if c, ok := x.Collection(e.ID.Type); ok {
		d.resource(c.Owner, c.Sensitivity, c.Environment, c.Labels)
		return true
	}
	return false
}

func (d *describer) resource(owner access.Ref, sensitivity, environment string, labels []string) {
	d.set("owner", owner.ID)
	d.set("sensitivity", sensitivity)
	d.set("environment", environment)
	if labels == nil {
		labels = []string{}
	}
	if d.t.attributes.get("labels") != nil {
		d.values["labels"] = labels
	}
}

func (d *describer) teams(x *access.Index, e *access.Entity) {
	if !slices.Contains(d.t.parents, access.TypeTeam) {
		return
	}
	for _, team := range x.TeamsOf(e.ID) {
		e.Parents = append(e.Parents, access.Ref{Type: access.TypeTeam, ID: team})
	}
}

// merge puts the standard attributes before the catalog's own; a name in both is refused when the entity is read.
func (d *describer) merge(own json.RawMessage) json.RawMessage {
	if len(d.values) == 0 {
		return own
	}
	standard, _ := json.Marshal(d.values) // texts, numbers and lists of texts
	own = bytes.TrimSpace(own)
	rest := bytes.TrimSpace(bytes.TrimPrefix(own, []byte("{")))
	if len(own) == 0 || string(rest) == "}" {
		return standard
	}
	return slices.Concat(standard[:len(standard)-1], []byte(","), rest)
}

// Overlay lays an entity over another of the same id: its attributes win, its parents are added.
func Overlay(base, over access.Entity) (access.Entity, error) {
	attributes := map[string]json.RawMessage{}
	for _, from := range []json.RawMessage{base.Attributes, over.Attributes} {
		if len(from) == 0 {
			continue
		}
		next := map[string]json.RawMessage{}
		if err := json.Unmarshal(from, &next); err != nil {
			return access.Entity{}, fmt.Errorf("%s: attributes: want a JSON object", base.ID)
		}
		maps.Copy(attributes, next)
	}
	out := access.Entity{ID: base.ID, Parents: slices.Concat(base.Parents, over.Parents)}
	slices.SortFunc(out.Parents, access.Ref.Compare)
	out.Parents = slices.Compact(out.Parents)
	if len(attributes) > 0 {
		out.Attributes, _ = json.Marshal(attributes) // raw values that were just read
	}
	return out, nil
}
