package control

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/policy"
)

// snapshot is the declared state of one version, ready for decisions. It is immutable, but for its cache.
type snapshot struct {
	version  int64
	index    *access.Index
	status   map[event.Pseudonym]event.IdentityStatus
	bundle   *policy.Bundle // nil before the first activation
	archive  []byte         // of the bundle
	pseudo   func(access.Ref) event.Pseudonym
	declared sync.Map // access.Ref → *access.Entity: what the catalog alone says of an entity
	overlaid sync.Map // access.Ref → *overlaid
	overlays atomic.Int64
}

// snapshot returns the state of the version that the view sees. Building one is rare; a version is built once.
func (c *Control) snapshot(v View) (*snapshot, error) {
	version, err := v.CatalogVersion()
	if err != nil {
		return nil, err
	}
	if s := c.current.Load(); s != nil && s.version == version {
		return s, nil
	}
	state, err := v.Catalog()
	if err != nil {
		return nil, err
	}
	s, err := newSnapshot(version, state, v.Pseudonym)
	if err != nil {
		return nil, fmt.Errorf("%w: the stored catalog or bundle cannot be read: %w", access.ErrUnavailable, err)
	}
	c.current.Store(s)
	return s, nil
}

func newSnapshot(version int64, state event.CatalogState, pseudo func(access.Ref) event.Pseudonym) (*snapshot, error) {
	objects := make([]catalog.Object, 0, len(state.Objects))
	for _, o := range state.Objects {
		objects = append(objects, catalog.Object{Kind: o.Kind, Name: o.Name, Doc: o.Doc})
	}
	declared, err := catalog.FromObjects(objects)
	if err != nil {
		return nil, err
	}
	s := &snapshot{version: version, index: access.NewIndex(declared), status: state.Statuses, pseudo: pseudo, archive: state.Bundle.Content}
	if state.Bundle.Hash != "" {
		if s.bundle, err = policy.LoadArchive(state.Bundle.Content, s.index); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Decide makes the snapshot an access.Evaluator that refuses everything while no bundle is active (I7).
func (s *snapshot) Decide(in *access.Input) access.Decided {
	if s.bundle == nil {
		return access.Decided{Outcome: access.Deny, Code: access.CodePolicyError, Problem: "no policy is active"}
	}
	return s.bundle.Decide(in)
}

func (s *snapshot) hash() string {
	if s.bundle == nil {
		return ""
	}
	return s.bundle.Hash()
}

// statusOf is where an identity stands; "" if the catalog does not have it.
func (s *snapshot) statusOf(id access.Ref) access.Status { return s.stands(id).Status }

// stands is statusOf with what was before; zero if the catalog does not have it.
func (s *snapshot) stands(id access.Ref) event.IdentityStatus {
	if _, ok := s.index.Identity(id); !ok {
		return event.IdentityStatus{}
	}
	return s.status[s.pseudo(id)]
}

// apart is the people as they are at a time, for a request that somebody has asked: whoever passed a request on is no more independent
// than its subject (I6).
func (s *snapshot) apart(asker access.Ref, now time.Time) access.People {
	behind := []access.Ref{asker}
	if identity, ok := s.index.Identity(asker); ok {
		behind = append(behind, identity.Owner, identity.Principal)
	}
	if point, ok := s.index.EnforcementPoint(asker); ok {
		behind = append(behind, point.Owner)
	}
	return apart{s, behind, now}
}

type apart struct {
	*snapshot
	behind []access.Ref
	now    time.Time
}

func (a apart) Behind() []access.Ref { return a.behind }

func (a apart) IsAway(id access.Ref) bool { return a.stands(id).Away.After(a.now) }

// asker finds who a decision's caller was, as far as it matters for whoever answers: an enforcement point, or the person themself.
func (s *snapshot) asker(name event.Pseudonym, answering Caller) access.Ref {
	if s.pseudo(answering.Identity) == name {
		return answering.Identity
	}
	points := s.index.Catalog().EnforcementPoints
	for i := range points {
		if s.pseudo(points[i].Identity) == name {
			return points[i].Identity
		}
	}
	return access.Ref{}
}

// maySpeakFor reports whether the caller may ask and report for a subject: for itself, or as an active enforcement point
// for those declared for it.
func (s *snapshot) maySpeakFor(caller Caller, subject access.Ref, now time.Time) bool {
	if subject == caller.Identity {
		return true
	}
	point, ok := s.index.EnforcementPoint(caller.Identity)
	return ok && s.holder(caller.Identity, now) == access.Active && s.index.Covers(point.Subjects, subject)
}

// Humans, Team, Identity, OwnerOf and IsActive make the snapshot an access.People.

func (s *snapshot) Humans(team string) []access.Ref { return s.index.Humans(team) }

func (s *snapshot) Team(name string) (*access.Team, bool) { return s.index.Team(name) }

func (s *snapshot) Identity(id access.Ref) (*access.Identity, bool) { return s.index.Identity(id) }

func (s *snapshot) IsActive(id access.Ref) bool { return s.statusOf(id) == access.Active }

func (s *snapshot) OwnerOf(resource access.Ref) (access.Ref, bool) {
	if r, ok := s.index.Resource(resource); ok {
		return r.Owner, true
	}
	if c, ok := s.index.Collection(resource.Type); ok {
		return c.Owner, true
	}
	if t, ok := s.index.TaskType(resource.ID); ok && resource.Type == access.TypeTaskType {
		return t.Owner, true
	}
	if i, ok := s.index.Identity(resource); ok {
		return i.Owner, true
	}
	return access.Ref{}, false
}

// target is the audience of credentials for a resource, and the labels that touching it leaves.
func (s *snapshot) target(resource access.Ref) (target string, labels []string) {
	if r, ok := s.index.Resource(resource); ok {
		return r.Target, r.Labels
	}
	if c, ok := s.index.Collection(resource.Type); ok {
		return c.Target, c.Labels
	}
	return "", nil
}

// entity is what is known of one entity, from the catalog or else from a fact source; nil if it does not exist or
// what was told of it is stale.
func (s *snapshot) entity(v View, ref access.Ref) (*access.Entity, error) {
	if known, ok := s.declared.Load(ref); ok {
		return known.(*access.Entity), nil //nolint:forcetypeassert // only entities are stored
	}
	if declared, ok := s.describe(ref); ok && s.index.Has(ref) {
		s.declared.Store(ref, &declared)
		return &declared, nil
	}
	source, ok := s.index.Provider(ref.Type)
	if !ok {
		return nil, nil
	}
	fact, err := v.Fact(ref)
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if source.Freshness > 0 && v.Now().Sub(fact.ObservedAt) > source.Freshness.Duration() || fact.Source != source.Name {
		return nil, nil
	}
	if laid, ok := s.overlaid.Load(ref); ok {
		if laid := laid.(*overlaid); bytes.Equal(laid.told.Attributes, fact.Attributes) && slices.Equal(laid.told.Parents, fact.Parents) { //nolint:forcetypeassert // only these are stored
			return &laid.whole, nil
		}
	}
	member, ok := s.describe(ref) // what the catalog says of every member of a collection
	if !ok {
		return &fact.Entity, nil
	}
	whole, err := policy.Overlay(fact.Entity, member)
	if err != nil {
		return nil, err
	}
	if s.overlays.Add(1) > maxOverlaid {
		s.overlaid.Clear()
		s.overlays.Store(0)
	}
	s.overlaid.Store(ref, &overlaid{fact.Entity, whole})
	return &whole, nil
}

// overlaid is what a source told of a member of a collection, and that with what the catalog says of every member.
type overlaid struct{ told, whole access.Entity }

// maxOverlaid bounds the memory of members that need not be put together again.
const maxOverlaid = 8192

// describe is an entity as the catalog alone declares it.
func (s *snapshot) describe(ref access.Ref) (access.Entity, bool) {
	if s.bundle == nil {
		return access.Entity{}, false
	}
	return s.bundle.Describe(s.index, ref, s.statusOf(ref))
}
