package access

import (
	"encoding/json"
	"slices"
)

// Catalog is everything an installation declares: who exists, what can be asked for, and who answers for it.
// It is immutable once built; look-ups go through an Index.
type Catalog struct {
	Identities        []Identity         `json:"identities,omitempty"`
	Teams             []Team             `json:"teams,omitempty"`
	Resources         []Resource         `json:"resources,omitempty"`
	Collections       []Collection       `json:"collections,omitempty"`
	TaskTypes         []TaskType         `json:"task_types,omitempty"`
	FactSources       []FactSource       `json:"fact_sources,omitempty"`
	EnforcementPoints []EnforcementPoint `json:"enforcement_points,omitempty"`
}

// Identity is an agent, a workload or a human.
type Identity struct {
	ID         Ref             `json:"id"`
	Owner      Ref             `json:"owner,omitzero"` // a Human; humans answer for themselves
	Purpose    string          `json:"purpose,omitempty"`
	Principal  Ref             `json:"principal,omitzero"`  // the Human it runs for, set by its owner
	Substitute Ref             `json:"substitute,omitzero"` // of a Human: who is asked in their place while they are away
	Match      []Match         `json:"match,omitempty"`     // how it is known; none means it cannot call
	ReviewBy   string          `json:"review_by,omitempty"`
	Attributes json.RawMessage `json:"attributes,omitempty"`
}

// Match says by which verified token an identity is known: the issuer, and its subject or claims. All must hold.
type Match struct {
	Issuer  string           `json:"issuer"`
	Subject Claim            `json:"subject,omitzero"`
	Claims  map[string]Claim `json:"claims,omitempty"` // by name, or by JSON Pointer (RFC 6901) if that begins with a slash
}

// Team is a named set of humans, agents and workloads.
type Team struct {
	Name    string `json:"name"`
	Owner   Ref    `json:"owner"`
	Members []Ref  `json:"members,omitempty"` // identities or other teams
	// AskFirst is how many of those who may answer a question are asked at first, and NextAfter after how long one more is, each time.
	// 0: all are asked at once; nobody more is asked.
	AskFirst  int     `json:"ask_first,omitempty"`
	NextAfter Seconds `json:"next_after,omitempty"`
}

// Resource is one thing that access can be asked for.
type Resource struct {
	ID          Ref             `json:"id"`
	Owner       Ref             `json:"owner"`
	Sensitivity string          `json:"sensitivity,omitempty"`
	Environment string          `json:"environment,omitempty"`
	Labels      []string        `json:"labels,omitempty"`
	Parents     []Ref           `json:"parents,omitempty"`
	Target      string          `json:"target,omitempty"` // audience of the credential; empty: decisions only
	Attributes  json.RawMessage `json:"attributes,omitempty"`
}

// Collection is a type of resource whose members a fact source tells: every entity of the type that it has told exists.
// Its owner, labels and target hold for each member.
type Collection struct {
	Type        string   `json:"type"`
	Owner       Ref      `json:"owner"`
	Source      string   `json:"source"` // name of the fact source
	Sensitivity string   `json:"sensitivity,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Labels      []string `json:"labels,omitempty"`
	Target      string   `json:"target,omitempty"`
}

// TaskType says what a kind of task may be.
type TaskType struct {
	Name        string   `json:"name"`
	Owner       Ref      `json:"owner"`
	Openers     []Ref    `json:"openers"`           // identities or teams
	Actions     []Ref    `json:"actions,omitempty"` // what it is expected to do
	Labels      []string `json:"labels,omitempty"`  // what it is expected to touch
	MaxDuration Seconds  `json:"max_duration"`
	Heartbeat   Seconds  `json:"heartbeat,omitempty"` // the task ends when none came for so long; 0: not asked for
	MaxOpen     int      `json:"max_open,omitempty"`  // at once per identity; 0: no limit
}

// FactSource may tell Writ facts about entities of some types.
type FactSource struct {
	Name      string   `json:"name"`
	Identity  Ref      `json:"identity"`
	Owner     Ref      `json:"owner"`
	Provides  []string `json:"provides"`            // entity types
	Freshness Seconds  `json:"freshness,omitempty"` // an older fact counts as missing; 0: never stale
}

// EnforcementPoint is an identity that may ask on behalf of a declared set of subjects, and that guards targets: it checks the
// credentials that are shown there, and counts their uses.
type EnforcementPoint struct {
	Identity Ref      `json:"identity"`
	Owner    Ref      `json:"owner"`
	Subjects []Ref    `json:"subjects,omitempty"` // identities or teams
	Targets  []string `json:"targets,omitempty"`  // of resources
}

// Status is where an identity stands.
type Status string

// The statuses of an identity.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
	Retired   Status = "retired"
)

// Index answers questions about one catalog in constant time. It is immutable and safe for concurrent use.
type Index struct {
	catalog     Catalog
	identities  map[Ref]*Identity
	teams       map[string]*Team
	resources   map[Ref]*Resource
	collections map[string]*Collection
	taskTypes   map[string]*TaskType
	sources     map[string]*FactSource
	points      map[Ref]*EnforcementPoint
	memberOf    map[Ref][]string // direct teams of an identity or team
	byMatch     map[matchKey][]*Identity
}

type matchKey struct{ issuer, subject string }

// NewIndex prepares a catalog for look-ups. The catalog must not change afterwards.
func NewIndex(c Catalog) *Index {
	x := &Index{
		catalog:     c,
		identities:  byKey(c.Identities, func(v *Identity) Ref { return v.ID }),
		teams:       byKey(c.Teams, func(v *Team) string { return v.Name }),
		resources:   byKey(c.Resources, func(v *Resource) Ref { return v.ID }),
		collections: byKey(c.Collections, func(v *Collection) string { return v.Type }),
		taskTypes:   byKey(c.TaskTypes, func(v *TaskType) string { return v.Name }),
		sources:     byKey(c.FactSources, func(v *FactSource) string { return v.Name }),
		points:      byKey(c.EnforcementPoints, func(v *EnforcementPoint) Ref { return v.Identity }),
		memberOf:    map[Ref][]string{},
		byMatch:     map[matchKey][]*Identity{},
	}
	for i := range c.Teams {
		for _, member := range c.Teams[i].Members {
			x.memberOf[member] = append(x.memberOf[member], c.Teams[i].Name)
		}
	}
	for i := range c.Identities {
		for _, m := range c.Identities[i].Match {
			exact, _ := m.Subject.Exact()
			key := matchKey{m.Issuer, exact}
			x.byMatch[key] = append(x.byMatch[key], &c.Identities[i])
		}
	}
	return x
}

func byKey[K comparable, V any](list []V, key func(*V) K) map[K]*V {
	out := make(map[K]*V, len(list))
	for i := range list {
		out[key(&list[i])] = &list[i]
	}
	return out
}

// Catalog is the catalog that the index was built from.
func (x *Index) Catalog() Catalog { return x.catalog }

// Identity finds a registered identity.
func (x *Index) Identity(id Ref) (*Identity, bool) { v, ok := x.identities[id]; return v, ok }

// Team finds a team by name.
func (x *Index) Team(name string) (*Team, bool) { v, ok := x.teams[name]; return v, ok }

// Resource finds a declared resource.
func (x *Index) Resource(id Ref) (*Resource, bool) { v, ok := x.resources[id]; return v, ok }

// Collection finds the collection of a type.
func (x *Index) Collection(typ string) (*Collection, bool) { v, ok := x.collections[typ]; return v, ok }

// TaskType finds a task type by name.
func (x *Index) TaskType(name string) (*TaskType, bool) { v, ok := x.taskTypes[name]; return v, ok }

// FactSource finds a fact source by name.
func (x *Index) FactSource(name string) (*FactSource, bool) { v, ok := x.sources[name]; return v, ok }

// EnforcementPoint finds what an identity may enforce for.
func (x *Index) EnforcementPoint(id Ref) (*EnforcementPoint, bool) {
	v, ok := x.points[id]
	return v, ok
}

// SourceOf finds the fact source that an identity speaks for a type of entity.
func (x *Index) SourceOf(identity Ref, typ string) (*FactSource, bool) {
	for i := range x.catalog.FactSources {
		source := &x.catalog.FactSources[i]
		if source.Identity == identity && slices.Contains(source.Provides, typ) {
			return source, true
		}
	}
	return nil, false
}

// Provider finds the fact source that tells of a type of entity.
func (x *Index) Provider(typ string) (*FactSource, bool) {
	for i := range x.catalog.FactSources {
		if slices.Contains(x.catalog.FactSources[i].Provides, typ) {
			return &x.catalog.FactSources[i], true
		}
	}
	return nil, false
}

// Has reports whether the catalog declares the entity: an identity, a team, a resource, a task type.
func (x *Index) Has(id Ref) bool {
	switch id.Type {
	case TypeTeam:
		return x.teams[id.ID] != nil
	case TypeTaskType:
		return x.taskTypes[id.ID] != nil
	case TypeInstallation:
		return id == Installation()
	default:
		return x.identities[id] != nil || x.resources[id] != nil
	}
}

// External reports whether entities of the type are told by a fact source, so that ids need not be declared.
func (x *Index) External(typ string) bool {
	_, ok := x.Provider(typ)
	return ok
}

// TeamsOf lists the teams that an identity or team is directly in, in the catalog's order.
func (x *Index) TeamsOf(member Ref) []string { return x.memberOf[member] }

// InTeam reports whether the identity is in the team, directly or through other teams.
func (x *Index) InTeam(member Ref, team string) bool {
	return x.inTeam(member, team, map[string]bool{})
}

func (x *Index) inTeam(member Ref, team string, seen map[string]bool) bool {
	for _, name := range x.memberOf[member] {
		if name == team {
			return true
		}
		if !seen[name] {
			seen[name] = true
			if x.inTeam(Ref{Type: TypeTeam, ID: name}, team, seen) {
				return true
			}
		}
	}
	return false
}

// Covers reports whether a list of identities and teams names the identity.
func (x *Index) Covers(list []Ref, identity Ref) bool {
	return slices.ContainsFunc(list, func(ref Ref) bool {
		return ref == identity || ref.Type == TypeTeam && x.InTeam(identity, ref.ID)
	})
}

// Humans lists the humans of a team, directly or through other teams, ordered by id.
func (x *Index) Humans(team string) []Ref {
	var out []Ref
	for i := range x.catalog.Identities {
		id := x.catalog.Identities[i].ID
		if id.Type == TypeHuman && x.InTeam(id, team) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, Ref.Compare)
	return out
}

// Identify finds the one identity that a verified token belongs to. Claims are the token's string claims.
// Two identities that both match are none: an ambiguous caller must not be guessed.
func (x *Index) Identify(issuer, subject string, claims map[string]any) (*Identity, bool) {
	var found *Identity
	for _, key := range []matchKey{{issuer, subject}, {issuer, ""}} {
		for _, candidate := range x.byMatch[key] {
			if found == candidate || !candidate.matches(issuer, subject, claims) {
				continue
			}
			if found != nil {
				return nil, false
			}
			found = candidate
		}
	}
	return found, found != nil
}

func (i *Identity) matches(issuer, subject string, claims map[string]any) bool {
	return slices.ContainsFunc(i.Match, func(m Match) bool {
		if m.Issuer != issuer || !m.Subject.IsZero() && !m.Subject.Fits(subject) {
			return false
		}
		for name, want := range m.Claims {
			if got, ok := claimAt(claims, name).(string); !ok || !want.Fits(got) {
				return false
			}
		}
		return !m.Subject.IsZero() || len(m.Claims) > 0
	})
}
