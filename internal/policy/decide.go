package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-project/writ/internal/access"
)

var (
	errNoType = errors.New("the schema has no entity type")
	errParent = errors.New("a parent of a type that the schema does not allow")
)

// decision is the work on one input.
type decision struct {
	bundle *Bundle
	in     *access.Input
	action *action
	facts  *facts
	every  bool // look at every policy, not only at the index's candidates: for tests
}

// Decide says what the bundle makes of an input. It is pure and safe for concurrent use; whatever goes wrong is
// a denial with the code policy_error, explained in Problem for owners and auditors.
func (b *Bundle) Decide(in *access.Input) access.Decided {
	return b.decide(in, false)
}

func (b *Bundle) decide(in *access.Input, every bool) access.Decided {
	d := decision{bundle: b, in: in, every: every}
	out, err := d.run()
	if err != nil {
		return access.Decided{Outcome: access.Deny, Code: access.CodePolicyError, Problem: clipProblem(err.Error())}
	}
	return out
}

func clipProblem(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func (d *decision) run() (access.Decided, error) {
	if d.in.Bundle != d.bundle.hash {
		return access.Decided{}, fmt.Errorf("the input names bundle %s, this is %s", clip(d.in.Bundle), d.bundle.hash)
	}
	action, err := d.bundle.schema.party(&d.in.Request)
	if err != nil {
		return access.Decided{}, err
	}
	d.action = action
	read := newReader()
	args, err := d.bundle.schema.argsOf(read, action, &d.in.Request)
	if err != nil {
		return access.Decided{}, err
	}
	d.facts = newFacts(d.bundle.schema, read, d.in.Facts.Entities)
	subject, resource := d.facts.parties(&d.in.Request)
	if err := d.facts.problem(); err != nil {
		return access.Decided{}, err
	}
	context, derived, err := d.context(args)
	if err != nil {
		return access.Decided{}, err
	}
	out, err := d.evaluate(d.candidates(subject, resource), context)
	out.Derived = derived
	return out, err
}

// context derives, makes sure that the counters can be counted, and builds what policies read.
func (d *decision) context(args tree) (types.RecordMap, json.RawMessage, error) {
	from := inputs{facts: d.facts, action: d.action, request: &d.in.Request, args: args}
	derived, err := from.derive()
	if err == nil && d.in.Request.Mode == access.Use {
		_, err = from.amounts()
	}
	if problem := d.facts.problem(); problem != nil {
		err = problem // what lies behind the other
	}
	if err != nil {
		return nil, nil, err
	}
	context, err := d.contextOf(args, derived)
	return context, derivedJSON(derived), err
}

// party finds the action and checks that the schema lets such entities ask for it.
func (s *schema) party(r *access.Request) (*action, error) {
	a := s.actions[r.Action]
	switch {
	case a == nil || a.context == nil:
		return nil, &RequestError{UnknownAction, fmt.Sprintf("the policy has no action %s that can be asked for", r.Action)}
	case !slices.Contains(a.principals, r.Subject.Type):
		return nil, &RequestError{UnknownType, fmt.Sprintf("%s cannot be asked for by %s, only by %s", r.Action, article(orUnknown(r.Subject.Type)), strings.Join(a.principals, ", "))}
	case !slices.Contains(a.resources, r.Resource.Type):
		return nil, &RequestError{UnknownType, fmt.Sprintf("%s cannot be asked for on %s, only on %s", r.Action, article(orUnknown(r.Resource.Type)), strings.Join(a.resources, ", "))}
	case !r.Principal.IsZero() && r.Principal.Type != access.TypeHuman:
		return nil, &RequestError{UnknownType, fmt.Sprintf("the principal is a Human, not %s", article(orUnknown(r.Principal.Type)))}
	case r.Mode != access.Use && r.Mode != access.Delegate:
		return nil, &RequestError{InvalidArgs, `mode: want "use" or "delegate"`}
	case r.TTL < 0:
		return nil, &RequestError{InvalidArgs, "ttl: want seconds from 0, which asks for as much as policy gives"}
	default:
		return a, nil
	}
}

func orUnknown(typ string) string {
	if typ == "" {
		return "entity without a type"
	}
	return typ
}

// argsOf reads the arguments of a request, of those that constraints leave open none: the schema must declare them optional.
func (s *schema) argsOf(read *reader, a *action, r *access.Request) (tree, error) {
	if len(r.Constraints) == 0 {
		return s.args(read, a, r.Args)
	}
	fixed, open := r.Constraints.Fixed()
	declared := a.args()
	for _, name := range open {
		if declared == nil || declared.field(name) < 0 {
			return tree{}, &RequestError{InvalidArgs, fmt.Sprintf("args.%s: %s has no such argument", clip(name), a.ref)}
		}
		if f := declared.fields[declared.field(name)]; !f.optional {
			return tree{}, &RequestError{InvalidArgs, fmt.Sprintf("args.%s is left open: a right to lend it needs a schema that declares %s?: %s", name, name, f.shape)}
		}
	}
	return s.args(read, a, fixed)
}

// args reads the arguments by the action's schema.
func (s *schema) args(read *reader, a *action, raw json.RawMessage) (tree, error) {
	if known, ok := s.readArgs.get(a, raw); ok {
		return known, nil
	}
	declared := a.args()
	if declared == nil {
		declared = &shape{kind: kindRecord}
	}
	args, err := read.readRecord(raw, declared, "args", MaxArgs)
	if err != nil {
		return tree{}, &RequestError{InvalidArgs, err.Error()}
	}
	s.readArgs.put(a, raw, args)
	return args, nil
}

// parties looks up the subject, the resource and the human, with everything above them.
func (f *facts) parties(r *access.Request) (subject, resource []types.EntityUID) {
	subject = f.closure(r.Subject)
	resource = f.closure(r.Resource)
	if !r.Principal.IsZero() && f.schema.types[access.TypeHuman] != nil {
		f.closure(r.Principal)
	}
	return subject, resource
}

func (d *decision) candidates(subject, resource []types.EntityUID) []*policy {
	if d.every {
		return d.bundle.policies
	}
	return d.action.candidates(subject, resource)
}

// byClass parts candidates by what they do. A permit past its end is none.
func (d *decision) byClass(candidates []*policy) (risks, permits, forbids batch) {
	permits, forbids = make(batch, 0, len(candidates)), make(batch, 0, len(candidates))
	for _, p := range candidates {
		switch p.class {
		case classRisk:
			risks = append(risks, p)
		case classPermit:
			if d.in.Now.Before(p.bounds.until) {
				permits = append(permits, p)
			}
		case classForbid, classApproval:
			forbids = append(forbids, p)
		}
	}
	return risks, permits, forbids
}

func (d *decision) evaluate(candidates []*policy, context types.RecordMap) (access.Decided, error) {
	risks, permits, forbids := d.byClass(candidates)
	var out access.Decided
	record := types.NewRecord(context)
	scored, err := d.matching(risks, record)
	if err != nil {
		return out, err
	}
	out.Risk = score(scored)
	if d.action.reads.Risk && d.action.context.get("risk") != nil {
		context["risk"] = types.Long(out.Risk.Score)
		record = types.NewRecord(context)
	}
	forbidden, err := d.matching(forbids, record)
	if err != nil {
		return out, err
	}
	permitted, err := d.matching(permits, record)
	if err != nil {
		return out, err
	}
	d.conclude(&out, permitted, forbidden)
	return out, nil
}

// matching evaluates a batch of one effect and lists the policies that match, in their order. Cedar passes over a
// policy that errs and over an entity that is absent; here either is an error.
func (d *decision) matching(policies batch, context types.Record) (batch, error) {
	if len(policies) == 0 {
		return nil, nil
	}
	request := &d.in.Request
	_, diagnostic := cedar.Authorize(policies, d.facts, cedar.Request{
		Principal: uidOf(request.Subject), Action: d.action.uid, Resource: uidOf(request.Resource), Context: context,
	})
	for _, e := range diagnostic.Errors {
		return nil, fmt.Errorf("policy %s: %s", e.PolicyID, e.Message)
	}
	if err := d.facts.problem(); err != nil {
		return nil, err
	}
	out := make(batch, 0, len(diagnostic.Reasons))
	for _, reason := range diagnostic.Reasons {
		out = append(out, d.bundle.byID[string(reason.PolicyID)])
	}
	return out, nil
}

func score(policies batch) access.Risk {
	var risk access.Risk
	for _, p := range policies {
		risk.Score += p.points
		risk.Factors = append(risk.Factors, access.Factor{Policy: p.id, Points: p.points, Because: p.because})
	}
	return risk
}

// conclude puts the three outcomes together from what matched.
func (d *decision) conclude(out *access.Decided, permitted, forbidden batch) {
	var asked, answered, plain batch
	for _, p := range forbidden {
		switch {
		case p.class == classForbid:
			plain = append(plain, p)
		case d.discharged(p, out.Risk.Score):
			answered = append(answered, p)
		default:
			asked = append(asked, p)
		}
	}
	switch {
	case len(plain) > 0:
		out.Outcome, out.Code, out.Policies = access.Deny, access.CodeForbidden, named(plain)
		return
	case len(permitted) == 0:
		out.Outcome, out.Code = access.Deny, access.CodeNotPermitted
		return
	}
	out.Bounds = tightest(permitted)
	if len(asked) > 0 {
		out.Outcome, out.Code, out.Policies = access.NeedsApproval, access.CodeApprovalRequired, named(asked)
		for _, p := range asked {
			out.Requires = append(out.Requires, access.Requirement{
				Policy: p.id, Hash: p.hash, Form: p.form, Because: p.because, Reason: p.reason, Fresh: p.fresh,
			})
		}
		return
	}
	out.Outcome, out.Policies = access.Allow, named(append(permitted, answered...))
}

// discharged reports whether an approval answers this very policy, for no less than this risk.
func (d *decision) discharged(p *policy, risk int64) bool {
	return slices.ContainsFunc(d.in.Discharges, func(x access.Discharge) bool { return x.Policy == p.hash && risk <= x.Risk })
}

func named(policies batch) []access.Policy {
	slices.SortFunc(policies, func(x, y *policy) int { return x.rank - y.rank })
	out := make([]access.Policy, len(policies))
	for i, p := range policies {
		out[i] = p.determined()
	}
	return out
}

// tightest takes the least of each bound; of equal ones the first by id is named.
func tightest(permits batch) access.Bounds {
	var b access.Bounds
	for _, p := range permits {
		if b.MaxTTL == 0 || p.bounds.ttl < b.MaxTTL {
			b.MaxTTL, b.MaxTTLPolicy = p.bounds.ttl, p.id
		}
		if b.Until.IsZero() || p.bounds.until.Before(b.Until) {
			b.Until, b.UntilPolicy = p.bounds.until, p.id
		}
		if p.bounds.uses > 0 && (b.MaxUses == 0 || p.bounds.uses < b.MaxUses) {
			b.MaxUses, b.MaxUsesPolicy = p.bounds.uses, p.id
		}
	}
	return b
}
