package replay_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/writ-project/writ/examples/airline"
	"github.com/writ-project/writ/examples/airline/replay"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/policy"
)

// house decides in process what a server would decide: the example's bundle, its catalog, and the facts told so far.
type house struct {
	index  *access.Index
	bundle *policy.Bundle
	facts  map[access.Ref]access.Entity
}

func newHouse(t *testing.T) *house {
	t.Helper()
	files, err := airline.Catalog("http://127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	declared, err := catalog.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	source, err := airline.Policy()
	if err != nil {
		t.Fatal(err)
	}
	index := access.NewIndex(declared)
	bundle, err := policy.Load(source, index)
	if err != nil {
		t.Fatal(err)
	}
	return &house{index: index, bundle: bundle, facts: map[access.Ref]access.Entity{}}
}

// hear takes facts in, as a server does from the fact source: each must fit the schema and be of a type it provides.
func (h *house) hear(t *testing.T, step *replay.Step) {
	t.Helper()
	for _, e := range step.Facts {
		if source, ok := h.index.Provider(e.ID.Type); !ok || source.Name != replay.FactSource || source.Identity != replay.ReservationSystem() {
			t.Fatalf("%s: the fact source does not provide the type", e.ID)
		}
		if err := h.bundle.CheckEntity(e); err != nil {
			t.Fatal(err)
		}
		h.facts[e.ID] = e
	}
	for _, ref := range step.Gone {
		delete(h.facts, ref)
	}
}

func (h *house) lookup(ref access.Ref) *access.Entity {
	if e, ok := h.facts[ref]; ok {
		return &e
	}
	e := access.Entity{ID: ref}
	if ref.Type == access.TypeTeam || ref.IsIdentity() {
		member := ref
		for _, team := range h.index.TeamsOf(member) {
			e.Parents = append(e.Parents, access.Ref{Type: access.TypeTeam, ID: team})
		}
	}
	if resource, ok := h.index.Resource(ref); ok {
		e.Attributes = resource.Attributes
	}
	if taskType, ok := h.index.TaskType(ref.ID); ok && ref.Type == access.TypeTaskType {
		e.Attributes, _ = json.Marshal(map[string]any{"max_duration": taskType.MaxDuration})
	}
	if !h.index.Has(ref) {
		return nil
	}
	return &e
}

func (h *house) decide(request access.Request) access.Decided {
	have := map[access.Ref]*access.Entity{}
	for {
		needs := h.bundle.Needs(&request, have)
		if len(needs) == 0 {
			break
		}
		for _, ref := range needs {
			have[ref] = h.lookup(ref)
		}
	}
	request.Task = "t"
	in := access.Input{
		Request: request,
		Standing: access.Standing{Subject: access.Active, Owned: true, Task: &access.Task{
			Status: access.TaskOpen, OpenedAt: replay.Now(), ExpiresAt: replay.Now().Add(1e9),
		}},
		Facts:  access.Facts{Task: &access.TaskFacts{Type: replay.TaskType, Expected: true}},
		Now:    replay.Now(),
		Bundle: h.bundle.Hash(),
	}
	for _, e := range have {
		if e != nil {
			in.Facts.Entities = append(in.Facts.Entities, *e)
		}
	}
	slices.SortFunc(in.Facts.Entities, func(a, b access.Entity) int { return a.ID.Compare(b.ID) })
	return access.Decide(&in, h.bundle)
}

func ids(policies []access.Policy) []string {
	var out []string
	for _, p := range policies {
		out = append(out, p.ID)
	}
	return out
}
