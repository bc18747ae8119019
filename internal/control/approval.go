package control

import (
	"context"
	"encoding/json"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Redeem asks again for what was approved: policy decides with the facts of this moment, the approval discharges
// exactly the policies it names, and is used up by the grant or task that results.
func (c *Control) Redeem(ctx context.Context, caller Caller, id string, key *Idempotency) (*Answer, error) {
	if err := c.beatBefore(ctx, caller, id); err != nil {
		return nil, err
	}
	answer, err := c.once(ctx, caller, key, func(v View, s *snapshot) (*Answer, event.Change, error) {
		approval, err := v.Approval(id)
		if err != nil {
			return nil, event.Change{}, notFound(err, "there is no approval %q for this identity to redeem", id)
		}
		return c.redeem(v, s, caller, &approval)
	})
	if err == nil && answer.Decided.Outcome == access.Allow {
		c.changed.wake(id)
	}
	return answer, err
}

func (c *Control) redeem(v View, s *snapshot, caller Caller, approval *access.Approval) (*Answer, event.Change, error) {
	made, err := v.DecisionEvent(approval.Decided)
	if err != nil {
		return nil, event.Change{}, err
	}
	if made.Caller != v.Pseudonym(caller.Identity) {
		return nil, event.Change{}, invalid(NotYours, "there is no approval %q for this identity to redeem", approval.ID)
	}
	if code := approval.Usable(v.Now()); code != "" {
		refusal := &Refusal{Code: code, Approval: approval.ID}
		if approval.Status == access.ApprovalConsumed {
			refusal.Detail = "the approval has been used, and counts once"
		}
		return nil, event.Change{}, refusal
	}
	before, err := v.Input(approval.Decided)
	if err != nil {
		return nil, event.Change{}, notFound(err, "what this approval was asked for has been erased")
	}
	request := before.Request
	if request.Action == access.Act(access.ActOpenTask) && approval.Task != "" {
		return c.resume(v, s, caller, approval.Task, approval)
	}
	if request.Action == access.Act(access.ActOpenTask) {
		opening := Opening{Type: request.Resource.ID, Principal: request.Principal, Duration: request.TTL}
		value, err := v.Value(approval.Decided, event.SlotPurpose)
		if err != nil {
			return nil, event.Change{}, notFound(err, "the purpose of this task has been erased")
		}
		var purpose event.Purpose
		if err := json.Unmarshal(value, &purpose); err != nil {
			return nil, event.Change{}, err
		}
		opening.Purpose, opening.Reference, opening.Trace = purpose.Words, purpose.Reference, purpose.Trace
		return c.openTask(v, s, caller, opening, approval)
	}
	if request.Action.Type == access.TypeWritAction {
		return nil, event.Change{}, invalid(WrongState, "repeat the call and name the approval there")
	}
	if err := s.check(caller, &request, v.Now()); err != nil {
		return nil, event.Change{}, err
	}
	return c.decide(v, s, caller, request, approval)
}

// beatBefore notes a sign of life of the task that an approval would resume, see beatPaused.
func (c *Control) beatBefore(ctx context.Context, caller Caller, id string) error {
	var task string
	err := c.ledger.Read(ctx, func(v View) error {
		approval, err := v.Approval(id)
		if err != nil || approval.Task == "" {
			return ignoreNotFound(err)
		}
		made, err := v.DecisionEvent(approval.Decided)
		if err == nil && made.Action == access.Act(access.ActOpenTask) && made.Caller == v.Pseudonym(caller.Identity) {
			task = approval.Task
		}
		return err
	})
	if err != nil || task == "" {
		return err
	}
	return c.beatPaused(ctx, caller, task)
}
