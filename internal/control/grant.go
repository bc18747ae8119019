package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

func ignoreNotFound(err error) error {
	if errors.Is(err, access.ErrNotFound) {
		return nil
	}
	return err
}

// recall reads the answer to a call that was made before; result is the decision's id, and the grant's if it was
// issued again.
func (c *Control) recall(v View, caller Caller, result string) (*Answer, error) {
	id, grantID, reissued := strings.Cut(result, " ")
	if !reissued {
		grantID = id
	}
	index, err := v.DecisionIndex(id)
	if err != nil {
		return nil, err
	}
	made, err := v.DecisionEvent(index)
	if err != nil {
		return nil, err
	}
	if made.Caller != v.Pseudonym(caller.Identity) {
		return nil, invalid(NotYours, "this idempotency key stands for a call of somebody else")
	}
	answer := &Answer{
		ID: id, Evidence: index, Repeated: true,
		Decided: access.Decided{Outcome: made.Outcome, Code: made.Code, Risk: access.Risk{Score: made.Risk}, Bounds: made.Bounds},
	}
	switch {
	case made.Grant != nil:
		grant, err := v.Grant(grantID)
		if err != nil {
			return nil, err
		}
		answer.Grant = &grant
	case made.Asked != nil:
		approval, err := v.Approval(id)
		if err != nil {
			return nil, err
		}
		answer.Approval = &approval
	case made.Action == access.Act(access.ActOpenTask) && made.Outcome == access.Allow:
		task, err := v.Task(id)
		if err != nil {
			return nil, err
		}
		answer.Task = &task
	}
	return answer, nil
}

// standingOf is where the parties of an existing grant stand now; whether it is alive follows from it (I5).
func (c *Control) standingOf(v View, s *snapshot, g *access.Grant) (*access.Input, error) {
	in := &access.Input{Request: requestOf(g), Now: v.Now(), Bundle: s.hash()}
	return in, c.standing(v, s, in)
}

// requestOf is the request that an existing grant would be.
func requestOf(g *access.Grant) access.Request {
	return access.Request{
		Subject: g.Subject, Action: g.Action, Resource: g.Resource, Args: g.Args, Constraints: g.Constraints, Mode: g.Mode, Deepest: g.Deepest,
		Task: g.Task, Parent: g.Parent,
	}
}

// GrantView is a grant and whether it is alive.
type GrantView struct {
	Grant     access.Grant
	Principal access.Ref     // the human it is for
	Trace     string         // of its task
	Chain     []access.Grant // those above it, parent first
	Live      bool
	Why       access.Code // why it is not, as far as its ancestors are the cause
	Evidence  int64       // index of the decision's entry
}

// ReadGrant reads a grant; whether it is alive is derived from all its ancestors at this moment.
func (c *Control) ReadGrant(ctx context.Context, caller Caller, id string) (*GrantView, error) {
	var out *GrantView
	lent := false // by the caller, who sees what became of it
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		grant, err := v.Grant(id)
		if err != nil {
			return notFound(err, "there is no grant %q", id)
		}
		out, err = c.viewGrant(v, s, grant)
		lent = err == nil && s.IsActive(caller.Identity) && access.HoldsAny(out.Chain, caller.Identity)
		return err
	})
	if err != nil || lent {
		return out, err
	}
	if err := c.mayRead(ctx, caller, out.Grant.Subject); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Control) viewGrant(v View, s *snapshot, grant access.Grant) (*GrantView, error) {
	out := &GrantView{Grant: grant, Evidence: grant.Decided}
	if s.statusOf(grant.Subject) == "" { // no longer in the catalog, or what it was for is erased
		out.Why = access.CodeIdentityUnknown
		return out, nil
	}
	in, err := c.standingOf(v, s, &grant)
	if err != nil {
		return nil, err
	}
	out.Principal, out.Trace, out.Chain = in.Request.Principal, in.Standing.Task.Trace, in.Standing.Chain
	out.Why = in.Standing.Dead(in)
	out.Live = out.Why == "" && grant.Live(in.Now)
	return out, nil
}

// Renew asks for a grant again for longer: a new decision on the same request. The former grant ends with it.
func (c *Control) Renew(ctx context.Context, caller Caller, id string, ttl access.Seconds, key *Idempotency) (*Answer, error) {
	if err := checkTTL(ttl); err != nil {
		return nil, err
	}
	return c.once(ctx, caller, key, func(v View, s *snapshot) (*Answer, event.Change, error) {
		grant, err := ownGrant(v, caller, id)
		if err != nil {
			return nil, event.Change{}, err
		}
		if grant.Status == access.GrantEnded {
			return nil, event.Change{}, invalid(WrongState, "the grant has ended (%s): request anew", grant.Reason)
		}
		if grant.Parent != "" {
			if parent, err := v.Grant(grant.Parent); err != nil || parent.Subject != grant.Subject {
				return nil, event.Change{}, cmp.Or(err, error(invalid(WrongState, "this right was lent: whoever lent it says for how long, and lends it anew")))
			}
		}
		request := requestOf(&grant)
		request.TTL, request.MaxUses = ttl, grant.MaxUses // as many uses again, and no more
		if err := s.check(caller, &request, v.Now()); err != nil {
			return nil, event.Change{}, err
		}
		answer, change, err := c.decide(v, s, caller, request, nil)
		if err != nil {
			return nil, event.Change{}, err
		}
		if made, ok := change.Drafts[0].Event.(*event.DecisionMade); ok && made.Grant != nil {
			made.Replaces = id
		}
		return answer, change, nil
	})
}

// ownGrant loads a grant of the caller; one of somebody else is as absent as one that is not there.
func ownGrant(v View, caller Caller, id string) (access.Grant, error) {
	grant, err := v.Grant(id)
	if err != nil {
		return grant, notFound(err, "there is no grant %q of this identity", id)
	}
	if grant.Subject != caller.Identity {
		return grant, invalid(NotYours, "there is no grant %q of this identity", id)
	}
	return grant, nil
}

// Done says what was done under a grant.
type Done struct {
	Status string // "succeeded" or "failed"
	Detail json.RawMessage
}

// ReportAction records what was done under a grant: reported when its subject says so, observed when an enforcement
// point that speaks for the subject or guards the target does.
func (c *Control) ReportAction(ctx context.Context, caller Caller, id string, done Done) (*Answer, error) {
	if done.Status != "succeeded" && done.Status != "failed" {
		return nil, invalid(InvalidArgument, "status must be succeeded or failed")
	}
	if err := checkObject(InvalidArgument, "detail", done.Detail); err != nil {
		return nil, err
	}
	answer := &Answer{}
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		grant, err := v.Grant(id)
		if err != nil {
			return event.Change{}, notFound(err, "there is no grant %q of this identity", id)
		}
		report := &event.ActionReported{Grant: id, Source: event.Reported, By: v.Pseudonym(caller.Identity), Status: done.Status}
		if grant.Subject != caller.Identity {
			if !s.mayObserve(caller, &grant, v.Now()) {
				return event.Change{}, invalid(NotYours, "there is no grant %q of this identity", id)
			}
			report.Source = event.Observed
		}
		draft := event.Draft{Task: grant.Task, Event: report}
		if len(done.Detail) > 0 {
			draft.Values = map[string]json.RawMessage{event.SlotDetail: done.Detail}
		}
		return event.Change{Drafts: []event.Draft{draft}}, c.sealedTask(v, grant.Task)
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

// sealedTask refuses to add to a task whose last entry has been written.
func (c *Control) sealedTask(v View, id string) error {
	task, err := v.Task(id)
	if err == nil && task.Status == access.TaskSealed {
		return &Refusal{Code: access.CodeTaskEnded, Detail: "the task is sealed"}
	}
	return err
}

// RevokeGrant ends a grant, and with it everything below it. Its subject may, and whoever lent it; for others policy decides.
func (c *Control) RevokeGrant(ctx context.Context, caller Caller, id string, on Grounds) (*Answer, error) {
	return c.revoke(ctx, caller, id, on, func(v View) (access.Ref, func(by event.By) []event.Draft, error) {
		grant, err := v.Grant(id)
		if err != nil {
			return access.Ref{}, nil, notFound(err, "there is no grant %q", id)
		}
		chain, err := chainOf(v, grant.Parent)
		if err != nil {
			return access.Ref{}, nil, err
		}
		of := grant.Subject
		if access.HoldsAny(chain, caller.Identity) {
			of = caller.Identity
		}
		return of, func(by event.By) []event.Draft {
			if grant.Status == access.GrantEnded {
				return nil
			}
			return []event.Draft{{Task: grant.Task, Event: &event.GrantEnded{ID: id, Reason: access.EndRevoked, By: by}}}
		}, c.sealedTask(v, grant.Task)
	})
}

// RevokeTask ends a task and everything granted for it. Its subject may; for others policy decides.
func (c *Control) RevokeTask(ctx context.Context, caller Caller, id string, on Grounds) (*Answer, error) {
	return c.revoke(ctx, caller, id, on, func(v View) (access.Ref, func(by event.By) []event.Draft, error) {
		task, err := v.Task(id)
		if err != nil {
			return access.Ref{}, nil, notFound(err, "there is no task %q", id)
		}
		return task.Subject, func(by event.By) []event.Draft {
			if !task.Status.CanBecome(access.TaskEnded) {
				return nil
			}
			return []event.Draft{{Task: id, Event: &event.TaskChanged{ID: id, Status: access.TaskEnded, Reason: access.EndRevoked, By: by}}}
		}, nil
	})
}

// revoke takes something away from a subject, as its own right or by a decision, on reserved space.
func (c *Control) revoke(ctx context.Context, caller Caller, id string, on Grounds, find func(View) (access.Ref, func(event.By) []event.Draft, error)) (*Answer, error) {
	if err := checkReason(on.Reason); err != nil {
		return nil, err
	}
	return c.lessen(ctx, caller, func(v View) (*Answer, event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return nil, event.Change{}, err
		}
		subject, end, err := find(v)
		if err != nil {
			return nil, event.Change{}, err
		}
		if subject == caller.Identity {
			drafts := end(event.By{Kind: event.BySelf, Identity: v.Pseudonym(caller.Identity)})
			return &Answer{Decided: access.Decided{Outcome: access.Allow}}, event.Change{Drafts: withReason(drafts, on.Reason)}, nil
		}
		answer, change, err := c.act(v, s, caller, act{name: access.ActRevoke, resource: subject, digest: digestOf(id), approval: on.Approval})
		if err == nil && answer.Decided.Outcome == access.Allow {
			change.Drafts = append(change.Drafts, withReason(end(event.By{Kind: event.ByDecision, Decision: answer.ID}), on.Reason)...)
		}
		return answer, change, err
	})
}

func withReason(drafts []event.Draft, reason string) []event.Draft {
	if reason == "" {
		return drafts
	}
	value, err := json.Marshal(reason)
	if err != nil {
		return drafts
	}
	for i := range drafts {
		drafts[i].Values = map[string]json.RawMessage{event.SlotReason: value}
	}
	return drafts
}
