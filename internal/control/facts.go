package control

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/policy"
)

// Told is what a fact source says of one entity.
type Told struct {
	Entity access.Entity
	Gone   bool
}

const (
	maxFacts    = evidence.MaxCommitments // per call: each is a value beside one entry
	maxFactSize = 64 << 10
)

// PushFacts records what a fact source tells. Each entity is told whole. Only the source of its type may.
func (c *Control) PushFacts(ctx context.Context, caller Caller, observedAt time.Time, told []Told) (*Answer, error) {
	if len(told) == 0 || len(told) > maxFacts {
		return nil, invalid(InvalidArgument, "tell of 1 to %d entities in one call", maxFacts)
	}
	answer := &Answer{}
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		drafts, err := s.factDrafts(v, caller, observedAt, told)
		return event.Change{Drafts: drafts}, err
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

// factDrafts checks every entity, names all that is wrong, and groups them by source.
func (s *snapshot) factDrafts(v View, caller Caller, observedAt time.Time, told []Told) ([]event.Draft, error) {
	if s.bundle == nil || s.holder(caller.Identity, v.Now()) != access.Active {
		return nil, invalid(NotFactSource, "this identity is not an active fact source")
	}
	now := v.Now()
	if observedAt.IsZero() {
		observedAt = now
	}
	var faults []error
	var kind InvalidKind
	fault := func(k InvalidKind, err error) { kind, faults = k, append(faults, err) }
	bySource := map[string]*event.Draft{}
	seen := map[access.Ref]bool{}
	for _, t := range told {
		ref := t.Entity.ID
		source, ok := s.index.SourceOf(caller.Identity, ref.Type)
		switch {
		case !ok:
			fault(NotFactSource, invalid(NotFactSource, "%s is not the source of facts about %s", caller.Identity, ref.Type))
			continue
		case observedAt.After(now.Add(time.Second)):
			fault(StaleFact, invalid(StaleFact, "observed_at is in the future"))
			continue
		case source.Freshness > 0 && now.Sub(observedAt) > source.Freshness.Duration():
			fault(StaleFact, invalid(StaleFact, "facts of %s count for %s; this one was observed %s ago: tell what is so now",
				source.Name, source.Freshness.Duration(), now.Sub(observedAt).Round(time.Second)))
			continue
		case seen[ref]:
			fault(InvalidArgument, invalid(InvalidArgument, "%s is told twice", ref))
			continue
		case len(t.Entity.Attributes) > maxFactSize:
			fault(InvalidArgument, invalid(InvalidArgument, "%s: the attributes have more than %d bytes", ref, maxFactSize))
			continue
		}
		seen[ref] = true
		known, err := v.LastTold(ref)
		if err != nil {
			return nil, err
		}
		if observedAt.Before(known) {
			fault(StaleFact, invalid(StaleFact, "%s: something newer is known, observed at %s", ref, known.Format(time.RFC3339)))
			continue
		}
		if !t.Gone {
			if err := s.checkFact(t.Entity); err != nil {
				fault(InvalidArgument, err)
				continue
			}
		}
		draft := bySource[source.Name]
		if draft == nil {
			draft = &event.Draft{
				Event:  &event.FactsReported{Source: source.Name, By: v.Pseudonym(caller.Identity), ObservedAt: observedAt},
				Values: map[string]json.RawMessage{},
			}
			bySource[source.Name] = draft
		}
		if err := addFact(v, draft, t); err != nil {
			return nil, err
		}
	}
	if len(faults) > 0 {
		return nil, &Invalid{Kind: kind, Detail: errors.Join(faults...).Error()}
	}
	drafts := make([]event.Draft, 0, len(bySource))
	for _, name := range slices.Sorted(maps.Keys(bySource)) {
		drafts = append(drafts, *bySource[name])
	}
	return drafts, nil
}

// checkFact checks what was told of an entity together with what the catalog says of its collection.
func (s *snapshot) checkFact(told access.Entity) error {
	var attributes map[string]json.RawMessage
	if len(told.Attributes) > 0 && json.Unmarshal(told.Attributes, &attributes) == nil {
		for _, name := range []string{"owner", "sensitivity", "environment", "labels"} {
			if _, ok := attributes[name]; ok {
				return invalid(InvalidArgument, "%s: %s is for the catalog to say, not for a fact source", told.ID, name)
			}
		}
	}
	if member, ok := s.describe(told.ID); ok {
		whole, err := policy.Overlay(told, member)
		if err != nil {
			return err
		}
		told = whole
	}
	return s.bundle.CheckEntity(told)
}

func addFact(v View, draft *event.Draft, t Told) error {
	reported, ok := draft.Event.(*event.FactsReported)
	if !ok {
		return errors.New("a draft of facts holds facts")
	}
	name := v.Pseudonym(t.Entity.ID)
	if t.Gone {
		reported.Gone = append(reported.Gone, name)
		return nil
	}
	value, err := json.Marshal(t.Entity)
	if err != nil {
		return invalid(InvalidArgument, "%s: %v", t.Entity.ID, err)
	}
	draft.Values[slot(len(reported.Entities))] = value
	reported.Entities = append(reported.Entities, name)
	return nil
}
