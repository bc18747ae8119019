package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/policy"
)

// Grounds are what an administrative act rests on, besides the policy.
type Grounds struct {
	Reason   string // in words, for the record; may be empty
	Approval string // id of the approval that speaks for it, where policy asked for one before
}

// act is an administrative act: an action of the same policy as any other.
type act struct {
	name     string
	resource access.Ref
	digest   string // of what is applied, so that an approval covers exactly that; empty for acts without content
	approval string // id of the approval that speaks for it, if any
}

// act decides on an administrative act. Its answer is recorded whatever it is.
func (c *Control) act(v View, s *snapshot, caller Caller, a act) (*Answer, event.Change, error) {
	request := access.Request{Subject: caller.Identity, Action: access.Act(a.name), Resource: a.resource, Mode: access.Use}
	if a.digest != "" && s.bundle != nil && s.bundle.TakesArgument(request.Action, "digest") {
		request.Args = json.RawMessage(`{"digest":"` + a.digest + `"}`)
	}
	if err := s.checkRequest(&request); err != nil {
		var bad *Invalid
		if errors.As(err, &bad) && (bad.Kind == UnknownAction || bad.Kind == UnknownResource) {
			// A schema that does not know the act, or not for this kind of resource, refuses it.
			return nil, event.Change{}, &Refusal{Code: access.CodeNotPermitted, Detail: "the policy schema does not provide for this act"}
		}
		return nil, event.Change{}, err
	}
	approval, err := c.approved(v, a.approval, &request, a.digest != "")
	if err != nil {
		return nil, event.Change{}, err
	}
	return c.decide(v, s, caller, request, approval)
}

// digestOf names the content of an act.
func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// approved loads the approval that an act names, if it covers exactly this act of this caller.
func (c *Control) approved(v View, id string, r *access.Request, hasContent bool) (*access.Approval, error) {
	if id == "" {
		return nil, nil
	}
	approval, err := v.Approval(id)
	if err != nil {
		return nil, notFound(err, "there is no approval %q", id)
	}
	before, err := v.Input(approval.Decided)
	if err != nil {
		return nil, notFound(err, "what this approval was asked for has been erased")
	}
	was := before.Request
	switch {
	case hasContent && len(r.Args) == 0:
		return nil, invalid(WrongState, "declare args: { digest: String } for %s in the policy schema, so that an approval covers exactly what is applied", r.Action)
	case was.Subject != r.Subject || was.Action != r.Action || was.Resource != r.Resource || string(was.Args) != string(r.Args):
		return nil, invalid(NotYours, "the approval %q is for something else", id)
	}
	if code := approval.Usable(v.Now()); code != "" {
		return nil, &Refusal{Code: code, Approval: id}
	}
	return &approval, nil
}

// SetStatus suspends an identity (everything it has is dead at that commit, I5), or makes it active again.
func (c *Control) SetStatus(ctx context.Context, caller Caller, identity access.Ref, status access.Status, on Grounds) (*Answer, error) {
	if status != access.Active && status != access.Suspended {
		return nil, invalid(InvalidArgument, "an identity is suspended or made active; the catalog retires it")
	}
	if err := checkReason(on.Reason); err != nil {
		return nil, err
	}
	name := access.ActResume
	if status == access.Suspended {
		name = access.ActSuspend
	}
	decide := func(v View) (*Answer, event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return nil, event.Change{}, err
		}
		if _, ok := s.index.Identity(identity); !ok {
			return nil, event.Change{}, invalid(UnknownResource, "there is no identity %s in the catalog", identity)
		}
		answer, change, err := c.act(v, s, caller, act{name: name, resource: identity, approval: on.Approval})
		if err != nil || answer.Decided.Outcome != access.Allow || s.statusOf(identity) == status {
			return answer, change, err
		}
		by := event.By{Kind: event.ByDecision, Decision: answer.ID}
		change.Drafts = append(change.Drafts, withReason([]event.Draft{{Event: &event.IdentityChanged{Identity: v.Pseudonym(identity), Status: status, By: by}}}, on.Reason)...)
		return answer, change, nil
	}
	if status == access.Suspended {
		return c.lessen(ctx, caller, decide)
	}
	var answer *Answer
	receipt, err := c.update(ctx, caller, func(v View) (change event.Change, err error) {
		answer, change, err = decide(v)
		return change, err
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

// Applied is what applying a configuration changes, or would change.
type Applied struct {
	Changes []string // of the catalog, one readable line each
	Bundle  string   // hash of the bundle that is active afterwards, or would be
	Former  string   // hash of the one before, if it changes
	Answers []*Answer
	Dry     bool
}

// Configuration is a folder: catalog/*.yaml and policy/**, by path. A half that has no files stays as it is.
type Configuration map[string][]byte

// Catalog is the catalog's files, by path below catalog/.
func (f Configuration) Catalog() map[string][]byte { return f.part("catalog/") }

func (f Configuration) part(prefix string) map[string][]byte {
	out := map[string][]byte{}
	for path, content := range f {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			out[rest] = content
		}
	}
	return out
}

// Apply makes a configuration the declared state, as a whole or not at all. With no caller it is the operator's start of
// the process. approvals holds, by act (apply_catalog, activate_policy), the approval that speaks for it, if policy asked
// for one before. Faults of the files are *Invalid with the full list as its cause; then the former state stays active.
// Whoever may not apply learns neither faults nor changes, which would tell what the catalog holds; a dry run that is
// refused is recorded, any other leaves nothing.
func (c *Control) Apply(ctx context.Context, caller *Caller, files Configuration, approvals map[string]string, dry bool) (*Applied, error) {
	var applied *Applied
	decide := func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		applied = &Applied{Bundle: s.hash(), Dry: dry}
		if refused, err := c.barred(v, s, caller, files, applied); err != nil || applied.denied() {
			return refused, err
		}
		plan, err := s.plan(files)
		if err != nil {
			return event.Change{}, err
		}
		change, err := c.apply(v, s, caller, plan, approvals, applied)
		if err != nil || applied.denied() {
			return change, err
		}
		for _, change := range plan.changes {
			applied.Changes = append(applied.Changes, change.String())
		}
		if dry {
			applied.Answers, change = nil, event.Change{}
			applied.activates(s, plan)
		}
		return change, nil
	}
	var receipt event.Receipt
	var err error
	if caller == nil {
		receipt, err = c.ledger.Update(ctx, decide)
	} else {
		receipt, err = c.update(ctx, *caller, decide)
	}
	if err != nil {
		return nil, err
	}
	for i, answer := range applied.Answers { // their entries come first, in this order
		c.finish(answer, event.Receipt{Indexes: receipt.Indexes[i : i+1], Time: receipt.Time})
	}
	return applied, nil
}

func (a *Applied) denied() bool {
	return slices.ContainsFunc(a.Answers, func(answer *Answer) bool { return answer.Decided.Outcome == access.Deny })
}

func (a *Applied) activates(s *snapshot, p *plan) {
	a.Bundle = p.bundle.Hash()
	if p.newBundle {
		a.Former = s.hash()
	}
}

// rawDigest names files as they came.
func rawDigest(files map[string][]byte) string {
	hash := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(hash, "%d %s %d ", len(path), path, len(files[path]))
		hash.Write(files[path])
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}

// barred refuses, and records it, whoever may not apply what the files hold at all. It comes before the files are read:
// reading them costs, and their faults tell what the catalog holds.
func (c *Control) barred(v View, s *snapshot, caller *Caller, files Configuration, applied *Applied) (event.Change, error) {
	if caller == nil {
		return event.Change{}, nil
	}
	for _, half := range []struct{ prefix, act string }{{"catalog/", access.ActApplyCatalog}, {"policy/", access.ActActivatePolicy}} {
		part := files.part(half.prefix)
		digest := rawDigest(part)
		if half.act == access.ActActivatePolicy {
			digest = digestOf(string(policy.Archive(part)))
		}
		if len(part) == 0 || half.act == access.ActActivatePolicy && digest == s.hash() {
			continue
		}
		answer, change, err := c.act(v, s, *caller, act{name: half.act, resource: access.Installation(), digest: digest})
		if err != nil {
			return event.Change{}, err
		}
		if answer.Decided.Outcome == access.Deny {
			applied.Answers = []*Answer{answer}
			return change, nil
		}
	}
	return event.Change{}, nil
}

// plan is a configuration that holds as a whole, and what it changes.
type plan struct {
	catalog   access.Catalog
	changes   []catalog.Change
	bundle    *policy.Bundle
	archive   []byte
	newBundle bool
}

// catalogDigest names what the plan changes in the catalog.
func (p *plan) catalogDigest() string {
	hash := sha256.New()
	for _, change := range p.changes {
		fmt.Fprintf(hash, "%s %q %q %d ", change.Op, change.Kind, change.Name, len(change.New))
		hash.Write(change.New)
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}

func (s *snapshot) plan(files Configuration) (*plan, error) {
	p := &plan{catalog: s.index.Catalog()}
	if part := files.part("catalog/"); len(part) > 0 {
		parsed, err := catalog.Parse(part)
		if err != nil {
			return nil, &Invalid{Kind: InvalidConfiguration, Cause: err}
		}
		p.changes, p.catalog = catalog.Diff(p.catalog, parsed), parsed
	}
	index := access.NewIndex(p.catalog)
	var err error
	switch part := files.part("policy/"); {
	case len(part) > 0:
		p.archive = policy.Archive(part)
		p.bundle, err = policy.Load(part, index)
	case s.bundle != nil:
		p.archive = s.archive
		p.bundle, err = policy.LoadArchive(s.archive, index)
	default:
		return nil, invalid(InvalidConfiguration, "there is no policy: add a policy folder")
	}
	if err != nil {
		return nil, &Invalid{Kind: InvalidConfiguration, Cause: err}
	}
	p.newBundle = p.bundle.Hash() != s.hash()
	return p, p.checkAttributes(index)
}

// checkAttributes makes sure that what the catalog gives fits the schema, so that no decision fails on it later.
func (p *plan) checkAttributes(index *access.Index) error {
	trial := &snapshot{index: index, bundle: p.bundle, status: map[event.Pseudonym]access.Status{}, pseudo: func(access.Ref) event.Pseudonym { return "" }}
	var faults []error
	check := func(ref access.Ref) {
		if entity, ok := trial.describe(ref); ok {
			if err := p.bundle.CheckEntity(entity); err != nil {
				faults = append(faults, err)
			}
		}
	}
	for i := range p.catalog.Identities {
		check(p.catalog.Identities[i].ID)
	}
	for i := range p.catalog.Resources {
		check(p.catalog.Resources[i].ID)
	}
	if len(faults) > 0 {
		return &Invalid{Kind: InvalidConfiguration, Cause: errors.Join(faults...)}
	}
	return nil
}

func (c *Control) apply(v View, s *snapshot, caller *Caller, p *plan, approvals map[string]string, applied *Applied) (event.Change, error) {
	var change event.Change
	by := event.By{Kind: event.ByStartup}
	decideOn := func(name, digest string) (bool, error) {
		if caller == nil {
			return true, nil
		}
		answer, decided, err := c.act(v, s, *caller, act{name: name, resource: access.Installation(), digest: digest, approval: approvals[name]})
		if err != nil {
			return false, err
		}
		change.Drafts = append(change.Drafts, decided.Drafts...)
		applied.Answers = append(applied.Answers, answer)
		by = event.By{Kind: event.ByDecision, Decision: answer.ID}
		return answer.Decided.Outcome == access.Allow, nil
	}
	var effects []event.Draft
	if len(p.changes) > 0 {
		allowed, err := decideOn(access.ActApplyCatalog, p.catalogDigest())
		if err != nil || !allowed {
			return change, err
		}
		effects = append(effects, catalogDrafts(v, p.changes, by)...)
	}
	if p.newBundle {
		allowed, err := decideOn(access.ActActivatePolicy, p.bundle.Hash())
		if err != nil || !allowed {
			keepApprovals(change.Drafts)
			return change, err
		}
		change.Bundle = &event.Bundle{Hash: p.bundle.Hash(), Content: p.archive}
		effects = append(effects, event.Draft{Event: &event.PolicyActivated{Bundle: p.bundle.Hash(), By: by}})
	}
	applied.activates(s, p)
	change.Drafts = append(change.Drafts, effects...)
	return change, nil
}

// keepApprovals leaves unused what speaks for an act that does not come to be, because the other half is refused.
func keepApprovals(decisions []event.Draft) {
	for i := range decisions {
		if made, ok := decisions[i].Event.(*event.DecisionMade); ok {
			made.Consumed = ""
		}
	}
}

func catalogDrafts(v View, changes []catalog.Change, by event.By) []event.Draft {
	drafts := make([]event.Draft, 0, len(changes))
	for _, change := range changes {
		object := event.CatalogObject{Kind: change.Kind, Name: change.Name, Doc: change.New}
		draft := event.Draft{Event: &event.CatalogChanged{Kind: change.Kind, Object: objectPseudonym(v, change.Kind, change.Name), Op: string(change.Op), By: by}}
		if change.Op != catalog.Removed {
			value, err := json.Marshal(object)
			if err != nil {
				panic("a catalog document is JSON by construction: " + err.Error())
			}
			draft.Values = map[string]json.RawMessage{event.SlotDocument: value}
		}
		drafts = append(drafts, draft)
	}
	return drafts
}

// objectPseudonym is that of the entity an object describes, or of its kind and name.
func objectPseudonym(v View, kind, name string) event.Pseudonym {
	if ref, err := access.ParseRef(name); err == nil {
		return v.Pseudonym(ref)
	}
	return v.Pseudonym(access.Ref{Type: kind, ID: name})
}

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
	if s.bundle == nil || !s.IsActive(caller.Identity) {
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

// readCache remembers which reader may read about whom, until the catalog changes or the decision's bound is over.
type readCache struct {
	mu      *sync.Mutex
	allowed map[readKey]readRight
}

type readKey struct {
	reader, act, about access.Ref
}

type readRight struct {
	version int64
	until   time.Time
}

func newReadCache() readCache {
	return readCache{mu: new(sync.Mutex), allowed: map[readKey]readRight{}}
}

const maxReadRights = 10_000

func (r readCache) has(key readKey, version int64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	right, ok := r.allowed[key]
	return ok && right.version == version && now.Before(right.until)
}

func (r readCache) add(key readKey, right readRight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.allowed) >= maxReadRights {
		clear(r.allowed)
	}
	r.allowed[key] = right
}

// mayRead lets an identity read about itself, an owner about what it owns, and others as policy decides. Such a
// decision is recorded once and holds as long as its bounds say: reading the log must not fill it.
// What the catalog no longer declares is for auditors.
func (c *Control) mayRead(ctx context.Context, caller Caller, about access.Ref) error {
	known := false
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		known = s.index.Has(about)
		return nil
	})
	if err != nil {
		return err
	}
	if !known {
		return c.MayReadEvidence(ctx, caller)
	}
	return c.mayReadAs(ctx, caller, access.ActRead, about)
}

// MayReadEvidence decides whether the caller may read entries.
func (c *Control) MayReadEvidence(ctx context.Context, caller Caller) error {
	return c.mayReadAs(ctx, caller, access.ActReadEvidence, access.Installation())
}

func (c *Control) mayReadAs(ctx context.Context, caller Caller, name string, about access.Ref) error {
	key := readKey{caller.Identity, access.Act(name), about}
	known := false
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		switch s.statusOf(caller.Identity) {
		case access.Active:
		case "":
			return &Refusal{Code: access.CodeIdentityUnknown}
		default:
			return &Refusal{Code: access.CodeIdentitySuspended}
		}
		owner, ok := s.index.Identity(about)
		known = about == caller.Identity || ok && owner.Owner == caller.Identity || c.reads.has(key, s.version, v.Now())
		return nil
	})
	if err != nil || known {
		return err
	}
	var answer *Answer
	var right readRight
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		var change event.Change
		answer, change, err = c.act(v, s, caller, act{name: name, resource: about})
		if err != nil {
			return change, err
		}
		bounds := answer.Decided.Bounds
		right = readRight{version: s.version, until: v.Now().Add(bounds.MaxTTL.Duration())}
		if !bounds.Until.IsZero() && bounds.Until.Before(right.until) {
			right.until = bounds.Until
		}
		return change, nil
	})
	if err != nil {
		return err
	}
	c.finish(answer, receipt)
	if refusal := answer.Refusal(); refusal != nil {
		return refusal
	}
	c.reads.add(key, right)
	return nil
}
