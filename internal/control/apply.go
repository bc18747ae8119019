package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/policy"
)

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
		if caller != nil && plan.locksOut(s, caller.Identity) {
			return event.Change{}, invalid(InvalidConfiguration, "this catalog would no longer know you, %s, by the token that you are using: keep one of its matches, and drop it as somebody else", caller.Identity)
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

// locksOut reports whether the identity could no longer log in by any of the matches that it has now.
func (p *plan) locksOut(s *snapshot, identity access.Ref) bool {
	before, ok := s.index.Identity(identity)
	if !ok {
		return false
	}
	for i := range p.catalog.Identities {
		if after := &p.catalog.Identities[i]; after.ID == identity {
			return !slices.ContainsFunc(after.Match, func(m access.Match) bool {
				return slices.ContainsFunc(before.Match, func(old access.Match) bool { return reflect.DeepEqual(m, old) })
			})
		}
	}
	return true
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
	trial := &snapshot{index: index, bundle: p.bundle, status: map[event.Pseudonym]event.IdentityStatus{}, pseudo: func(access.Ref) event.Pseudonym { return "" }}
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
