package control

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Delegation is part of a right, for somebody else. What is zero is as in the right that it is part of.
type Delegation struct {
	To          access.Ref
	Action      access.Ref
	Resource    access.Ref
	Args        json.RawMessage    // exactly
	Constraints access.Constraints // of a right to lend, instead of Args
	TTL         access.Seconds
	MaxUses     int64
	Mode        access.Mode // zero: to use
	Hops        int         // how often a right to lend may be passed on below; 0: as often as the right itself
	Idempotency *Idempotency
}

// Delegate asks, as the holder of a right to lend, for a grant of part of it to somebody else: one decision, with the chain in its
// context. The receiver fetches the credential, see IssueCredential.
func (c *Control) Delegate(ctx context.Context, caller Caller, grant string, part Delegation) (*Answer, error) {
	if part.To.IsZero() {
		return nil, invalid(InvalidArgument, "say to whom the right is passed on")
	}
	request := access.Request{
		Subject: part.To, Action: part.Action, Resource: part.Resource, Args: part.Args, Constraints: part.Constraints, TTL: part.TTL, MaxUses: part.MaxUses, Mode: cmp.Or(part.Mode, access.Use), Deepest: part.Hops,
		Parent: grant, Lender: caller.Identity,
	}
	if err := checkLimits(&request); err != nil {
		return nil, err
	}
	return c.once(ctx, caller, part.Idempotency, func(v View, s *snapshot) (*Answer, event.Change, error) {
		parent, err := v.Grant(grant)
		if err != nil {
			return nil, event.Change{}, notFound(err, "there is no grant %q", grant)
		}
		return c.lend(v, s, caller, request, &parent, part.Hops)
	})
}

// lend decides on part of a right. Of somebody else's right nothing goes into the decision: who tried reads it.
func (c *Control) lend(v View, s *snapshot, caller Caller, request access.Request, parent *access.Grant, hops int) (*Answer, event.Change, error) {
	if parent.Subject != caller.Identity {
		in := &access.Input{Request: access.Request{Subject: request.Subject, Mode: request.Mode, Parent: parent.ID, Lender: caller.Identity}, Now: v.Now(), Bundle: s.hash()}
		return c.conclude(v, s, caller, in, nil)
	}
	within(&request, parent, hops)
	if err := s.check(caller, &request, v.Now()); err != nil {
		return nil, event.Change{}, err
	}
	return c.decide(v, s, caller, request, nil)
}

// within takes from the parent what a request under it does not say.
func within(r *access.Request, parent *access.Grant, hops int) {
	r.Task, r.Deepest = parent.Task, deepest(parent, hops)
	if r.Action.IsZero() {
		r.Action = parent.Action
	}
	if r.Resource.IsZero() {
		r.Resource = parent.Resource
	}
	if r.Args == nil && r.Constraints == nil { // an empty object is not nothing: it is no arguments
		r.Args = parent.Args
		if r.Mode == access.Delegate {
			r.Constraints = parent.Constraints
		}
	}
}

// deepest is how deep below the root a right may be passed on that is one below the parent, so many hops further.
func deepest(parent *access.Grant, hops int) int {
	if hops == 0 {
		return parent.Deepest
	}
	return parent.Depth + 1 + hops
}

// IssueCredential makes a credential of a live grant for its holder: the first one of what was lent to it, or another one, as after
// a lost answer or when the certificate that the last one is bound to has been replaced. It is bound to what the caller proved.
func (c *Control) IssueCredential(ctx context.Context, caller Caller, id string) (*Answer, error) {
	var answer *Answer
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		grant, err := v.Grant(id)
		if err != nil {
			return event.Change{}, notFound(err, "there is no grant %q of this identity", id)
		}
		if !s.maySpeakFor(caller, grant.Subject, v.Now()) {
			return event.Change{}, invalid(NotYours, "there is no grant %q of this identity", id)
		}
		in, err := c.standingOf(v, s, &grant)
		if err != nil {
			return event.Change{}, err
		}
		if refused := over(in, &grant); refused != nil {
			return event.Change{}, refused
		}
		answer = &Answer{ID: id, Grant: &grant}
		credential, err := c.issue(s, caller, answer, in)
		if err != nil {
			return event.Change{}, err
		}
		if credential == nil {
			return event.Change{}, invalid(WrongState, "this grant has no credential: it is a right to lend, or its resource has no target")
		}
		issued := &event.CredentialIssued{Grant: id, By: v.Pseudonym(caller.Identity), Subject: v.Pseudonym(grant.Subject), Credential: credential}
		by := event.By{Kind: event.BySelf, Identity: v.Pseudonym(grant.Subject)}
		labels, ended, err := c.touch(v, s, in, true, by)
		issued.Labels = labels
		return event.Change{Drafts: append([]event.Draft{{Task: grant.Task, Event: issued}}, ended...)}, err
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

// over is why a grant is not alive, or nil.
func over(in *access.Input, g *access.Grant) *Refusal {
	switch code := in.Standing.Dead(in); {
	case code != "":
		return &Refusal{Code: code}
	case g.Cut:
		return &Refusal{Code: access.CodeIdentitySuspended, Detail: "this identity was suspended after this was granted"}
	case g.Status != access.GrantActive:
		return &Refusal{Code: access.CodeBoundsExceeded, Detail: "the grant has ended (" + string(g.Reason) + ")"}
	case g.Spent():
		return &Refusal{Code: access.CodeBoundsExceeded, Detail: "no use is left"}
	case !g.Live(in.Now):
		return &Refusal{Code: access.CodeBoundsExceeded, Detail: "the grant has expired"}
	default:
		return nil
	}
}

// CountUse asks for one use of a grant: whether it may happen now, at this grant and at all above it, and counts it there. Only who
// guards the use asks: an enforcement point that speaks for the subject, or one of the target. A refused use is recorded too.
func (c *Control) CountUse(ctx context.Context, caller Caller, id string) (*Answer, error) {
	var answer *Answer
	var refused *Refusal
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		grant, err := v.Grant(id)
		if err != nil {
			return event.Change{}, notFound(err, "there is no grant %q that this identity guards", id)
		}
		if grant.Subject == caller.Identity || !s.mayObserve(caller, &grant, v.Now()) {
			return event.Change{}, invalid(NotYours, "there is no grant %q that this identity guards", id)
		}
		in, err := c.standingOf(v, s, &grant)
		if err != nil {
			return event.Change{}, err
		}
		used := &event.UseDecided{Grant: id, By: v.Pseudonym(caller.Identity)}
		refused = over(in, &grant)
		switch {
		case grant.Mode != access.Use:
			return event.Change{}, invalid(WrongState, "this is a right to lend, not to use")
		case refused != nil && in.Standing.Task.Status == access.TaskSealed: // nothing comes after a seal
			return event.Change{}, refused
		case refused != nil:
			used.Code = refused.Code
		default:
			used.Counted = append(used.Counted, id)
			grant.Uses++
			for i := range in.Standing.Chain {
				if above := &in.Standing.Chain[i]; above.MaxUses > 0 {
					used.Counted = append(used.Counted, above.ID)
				}
			}
		}
		answer = &Answer{ID: id, Grant: &grant}
		return event.Change{Drafts: []event.Draft{{Task: grant.Task, Event: used}}}, nil
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	if refused != nil {
		refused.Evidence = answer.Evidence
		return nil, refused
	}
	return answer, nil
}

// mayObserve reports whether the caller sees what is done under a grant: it speaks for the subject, or guards the target.
func (s *snapshot) mayObserve(caller Caller, g *access.Grant, now time.Time) bool {
	target, _ := s.target(g.Resource)
	return s.maySpeakFor(caller, g.Subject, now) || s.guards(caller, target, now)
}

// guards reports whether the caller is an enforcement point of a target, and somebody answers for it.
func (s *snapshot) guards(caller Caller, target string, now time.Time) bool {
	point, ok := s.index.EnforcementPoint(caller.Identity)
	return ok && target != "" && s.holder(caller.Identity, now) == access.Active && slices.Contains(point.Targets, target)
}

// Introspect tells whether a credential is good at this moment, and what it says; nil if it is not, whatever the reason, or if the
// caller may not know (RFC 7662 section 2.2). Its holder may, whoever lent it, and who guards its target or speaks for its holder.
func (c *Control) Introspect(ctx context.Context, caller Caller, token string) (*Recognized, error) {
	var out *Recognized
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		known, ok := c.issuer.Recognize(token, v.Now())
		if !ok || s.holder(caller.Identity, v.Now()) != access.Active {
			return nil
		}
		grant, err := v.Grant(known.Grant)
		if err != nil {
			return ignoreNotFound(err)
		}
		if s.statusOf(grant.Subject) == "" { // no longer in the catalog, or what it was for is erased
			return nil
		}
		in, err := c.standingOf(v, s, &grant)
		if err != nil {
			return err
		}
		if over(in, &grant) == nil && (s.maySpeakFor(caller, grant.Subject, v.Now()) || s.guards(caller, known.Target, v.Now()) || access.HoldsAny(in.Standing.Chain, caller.Identity)) {
			out = &known
		}
		return nil
	})
	return out, err
}
