package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/writ-project/writ/internal/access"
)

// Limits on a bundle.
const (
	MaxFile     = 1 << 20  // bytes of one file
	MaxBundle   = 16 << 20 // bytes of all files
	MaxFiles    = 1000
	MaxPolicies = 10000
	MaxPolicy   = 64 << 10 // bytes of one policy
)

// policy is one Cedar policy, read, checked and compiled.
type policy struct {
	notes
	place     place
	class     class
	annotated map[string]string
	text      string
	hash      string
	rank      int // in the order of ids
	cedar     *cedar.Policy
	ast       *ast.Policy
	uses      usage
}

// Info is a policy for display.
type Info struct {
	ID          string
	File        string
	Line        int
	Effect      string // permit or forbid
	Risk        bool   // a risk policy: it scores, it does not forbid
	Owner       access.Ref
	Annotations map[string]string
	Text        string
	Hash        string // sha256:<hex> of Text
}

func (p *policy) info() Info {
	effect := "forbid"
	if p.class == classPermit {
		effect = "permit"
	}
	return Info{
		ID: p.id, File: p.place.file, Line: p.place.line, Effect: effect, Risk: p.class == classRisk, Owner: p.owner,
		Annotations: maps.Clone(p.annotated), Text: p.text, Hash: p.hash,
	}
}

// determined is the policy as a decision names it.
func (p *policy) determined() access.Policy {
	return access.Policy{ID: p.id, Hash: p.hash, Owner: p.owner, Because: p.because, Control: p.control}
}

func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// parsePolicies reads one file of policies; risk tells which folder it is of.
func parsePolicies(file, text string, risk bool, faults *faultList) []*policy {
	pieces, line, column, err := split(text)
	if err != nil {
		faults.add(place{file, line, column}, "%v", err)
		return nil
	}
	var out []*policy
	for _, piece := range pieces {
		if p := parsePolicy(file, piece, risk, faults); p != nil {
			out = append(out, p)
		}
	}
	if len(out) == len(pieces) && !sameAsWhole(text, pieces) {
		faults.add(place{file: file}, "the file as a whole is not the sequence of its policies")
	}
	return out
}

// sameAsWhole makes sure that cutting the file at semicolons gives the policies that any Cedar tool sees in it.
func sameAsWhole(text string, pieces []piece) bool {
	whole, err := cedar.NewPolicyListFromBytes("", []byte(text))
	return err == nil && slices.EqualFunc(whole, pieces, func(p *cedar.Policy, cut piece) bool {
		return p.Position().Offset == cut.offset
	})
}

func parsePolicy(file string, from piece, risk bool, faults *faultList) *policy {
	at := place{file, from.line, from.column}
	if len(from.text) > MaxPolicy {
		faults.add(at, "this policy has more than %d bytes", MaxPolicy)
		return nil
	}
	if from.text == ";" {
		faults.add(at, "a semicolon stands here without a policy")
		return nil
	}
	one := new(cedar.Policy) // that no second one follows is sameAsWhole's to see
	if err := one.UnmarshalCedar([]byte(from.text)); err != nil {
		where, message := position(at, err)
		faults.add(where, "%s", message)
		return nil
	}
	p := &policy{
		place: at, text: from.text, hash: hashText(from.text), cedar: one, ast: (*ast.Policy)(one.AST()),
		annotated: map[string]string{},
	}
	for _, a := range p.ast.Annotations {
		p.annotated[string(a.Key)] = string(a.Value)
	}
	p.class = p.classify(risk, faults)
	p.readNotes(faults)
	p.uses = usageOf(p.ast)
	return p
}

func (p *policy) classify(risk bool, faults *faultList) class {
	permits := p.ast.Effect == ast.EffectPermit
	_, approval := p.annotated["approval"]
	switch {
	case risk && permits:
		faults.add(p.place, "a risk policy is a forbid with @points: it scores, it cannot permit")
		return classPermit
	case risk:
		return classRisk
	case permits:
		return classPermit
	case approval:
		return classApproval
	default:
		return classForbid
	}
}

// checker holds what policies are checked against.
type checker struct {
	schema  *schema
	catalog Catalog
	access  *validate.Validator
	risk    *validate.Validator // against contexts without risk
	faults  *faultList
}

func newChecker(s *schema, catalog Catalog, faults *faultList) *checker {
	return &checker{
		schema: s, catalog: catalog, faults: faults,
		access: validate.New(s.resolved, validate.WithStrict()),
		risk:   validate.New(withoutRisk(s.resolved), validate.WithStrict()),
	}
}

// withoutRisk is the schema that risk policies see: their sum becomes context.risk, so they cannot read it.
func withoutRisk(s *resolved.Schema) *resolved.Schema {
	out := *s
	out.Actions = make(map[types.EntityUID]resolved.Action, len(s.Actions))
	for uid, declared := range s.Actions {
		if declared.AppliesTo != nil {
			applies := *declared.AppliesTo
			applies.Context = maps.Clone(applies.Context)
			delete(applies.Context, "risk")
			declared.AppliesTo = &applies
		}
		out.Actions[uid] = declared
	}
	return &out
}

func (c *checker) check(p *policy) {
	before := len(c.faults.list)
	c.readable(p)
	if len(c.faults.list) == before {
		c.valid(p)
	}
	c.known(p)
	if len(c.faults.list) == before {
		c.counted(p)
		c.possible(p)
	}
}

// readable checks that the policy reads of the context only what it may.
func (c *checker) readable(p *policy) {
	switch {
	case p.class == classRisk && p.uses.reads.Risk:
		c.faults.add(p.place, "a risk policy cannot read context.risk, nor the context as a whole: the risk is what these policies add up to")
	case p.class != classRisk && p.uses.reads.Precedent && !p.uses.reads.Args:
		c.faults.add(p.place, "context.precedent may be read here only together with context.args: name the band of arguments it holds for, or score it in risk/")
	}
}

// valid runs Cedar's strict validator.
func (c *checker) valid(p *policy) {
	validator := c.access
	if p.class == classRisk {
		validator = c.risk
	}
	for _, err := range flat(validator.Policy("", p.ast)) {
		c.faults.add(p.place, "%v", err)
	}
}

func flat(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, flat(e)...)
		}
		return out
	default:
		return []error{err}
	}
}

// known checks that every entity the policy names exists: Cedar takes a misspelt id for one that never matches.
func (c *checker) known(p *policy) {
	for _, ref := range p.uses.entities {
		if problem := c.unknown(ref); problem != "" {
			c.faults.add(p.entityPlace(ref), "%s", problem)
		}
	}
	if owner := p.owner; !owner.IsZero() && !c.catalog.Has(owner) {
		c.faults.add(p.annotationPlace("owner"), "@owner: the catalog has no %s", owner)
	}
	if team := p.form.Team; p.class == classApproval && team != "" {
		if ref := (access.Ref{Type: access.TypeTeam, ID: team}); !c.catalog.Has(ref) {
			c.faults.add(p.annotationPlace("approval"), "@approval: the catalog has no %s", ref)
		}
	}
}

func (c *checker) unknown(ref access.Ref) string {
	if isActionType(ref.Type) {
		if c.schema.actions[ref] == nil {
			return fmt.Sprintf("the schema has no action %s", ref)
		}
		return ""
	}
	t := c.schema.types[ref.Type]
	switch {
	case t == nil:
		return fmt.Sprintf("the schema has no entity type %s", ref.Type)
	case t.enum:
		if _, ok := c.schema.enums[ref.Type][types.String(ref.ID)]; !ok {
			return fmt.Sprintf("the schema does not list %s", ref)
		}
		return ""
	case !c.catalog.Has(ref) && !c.catalog.External(ref.Type):
		return fmt.Sprintf("the catalog has no %s, and no fact source tells of %s", ref, ref.Type)
	default:
		return ""
	}
}

// entityPlace finds where an entity is named in the policy's text, if it is written the plain way.
func (p *policy) entityPlace(ref access.Ref) place {
	i := strings.Index(p.text, ref.String())
	if i < 0 {
		return p.place
	}
	s := splitter{text: p.text, line: p.place.line, column: p.place.column}
	s.advance(i)
	return place{file: p.place.file, line: s.line, column: s.column}
}

// counted checks that uses are bounded only where every use passes through Writ.
func (c *checker) counted(p *policy) {
	if p.bounds.uses == 0 {
		return
	}
	for _, a := range c.schema.sortedActions() {
		if a.context != nil && !a.counted && covers(p.ast.Action, a) {
			c.faults.add(p.annotationPlace("max_uses"), `@max_uses: the uses of %s do not pass through Writ; its schema would say @uses("counted")`, a.ref)
		}
	}
}

// covers reports whether an action is in a policy's action scope.
func covers(scope ast.IsActionScopeNode, a *action) bool {
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return scope.Entity == a.uid
	case ast.ScopeTypeIn:
		return a.in(scope.Entity)
	case ast.ScopeTypeInSet:
		return slices.ContainsFunc(scope.Entities, a.in)
	default:
		return true
	}
}

func (a *action) in(group types.EntityUID) bool {
	return group == a.uid || slices.Contains(a.above, group)
}
