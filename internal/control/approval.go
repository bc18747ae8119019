package control

import (
	"context"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

const maxReason = 2000 // bytes

func checkReason(reason string) error {
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return invalid(InvalidArgument, "the reason must be UTF-8 text of at most %d bytes", maxReason)
	}
	return nil
}

// Card is what an approver needs to judge a question.
type Card struct {
	Approval  access.Approval
	Request   access.Request // erased: zero
	Decided   access.Decided
	Purpose   event.Purpose
	Task      access.Task
	Precedent access.Precedent
	MayAnswer bool // the reader of the card
	Evidence  int64
}

// Approvals lists the questions that the caller may answer, oldest first.
func (c *Control) Approvals(ctx context.Context, caller Caller) ([]Card, error) {
	const most, mostCards = 5000, 100
	var cards []Card
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		if caller.Identity.Type != access.TypeHuman || !s.IsActive(caller.Identity) {
			return nil // nobody asks them anything
		}
		pending, err := v.PendingApprovals(most)
		if err != nil {
			return err
		}
		for i := range pending {
			in, err := v.Input(pending[i].Decided)
			if errors.Is(err, access.ErrNotFound) {
				continue // erased: nobody can judge it any more
			}
			if err != nil {
				return err
			}
			may, err := c.mayAnswer(v, s, caller, in, &pending[i])
			if err != nil {
				return err
			}
			if !may || pending[i].Usable(v.Now()) != access.CodeApprovalRequired {
				continue
			}
			card, err := c.card(v, s, caller, pending[i])
			if err != nil {
				return err
			}
			if cards = append(cards, *card); len(cards) == mostCards {
				return nil
			}
		}
		return nil
	})
	return cards, err
}

// mayAnswer reports whether the caller is eligible, without explaining the question.
func (c *Control) mayAnswer(v View, s *snapshot, caller Caller, in *access.Input, a *access.Approval) (bool, error) {
	if caller.Identity.Type != access.TypeHuman || !s.IsActive(caller.Identity) {
		return false, nil
	}
	made, err := v.DecisionEvent(a.Decided)
	if err != nil {
		return false, err
	}
	return a.MayAnswer(caller.Identity, in, s.apart(s.asker(made.Caller, caller))), nil
}

func (c *Control) card(v View, s *snapshot, caller Caller, approval access.Approval) (*Card, error) {
	card := &Card{Approval: approval, Evidence: approval.Decided}
	in, err := v.Input(approval.Decided)
	if errors.Is(err, access.ErrNotFound) {
		return card, nil // erased: nobody can judge it any more
	}
	if err != nil {
		return nil, err
	}
	card.Request, card.Precedent = in.Request, in.Facts.Precedent
	card.Decided, err = c.explain(v, in)
	if err != nil {
		return nil, err
	}
	card.Approval.Requires = card.Decided.Requires // with the policies' own words
	if in.Standing.Task != nil {
		card.Task = *in.Standing.Task
		task, err := v.Task(card.Task.ID)
		if err != nil {
			return nil, err
		}
		card.Task.Opened = task.Opened
	} else {
		card.Task.Opened = approval.Decided // what is asked is the opening
	}
	if card.Purpose, err = purposeOf(v, &card.Task); err != nil {
		return nil, err
	}
	card.MayAnswer, err = c.mayAnswer(v, s, caller, in, &approval)
	return card, err
}

// ReadApproval reads a question, for its subject, those who may answer it, and whoever may read about the subject. With a
// wait it returns when the answer changes, or after that time as it stands.
func (c *Control) ReadApproval(ctx context.Context, caller Caller, id string, wait time.Duration) (*Card, error) {
	card, err := c.readApproval(ctx, caller, id)
	if err != nil || wait <= 0 || card.Approval.Status != access.ApprovalPending {
		return card, err
	}
	changed, leave := c.changed.wait(id) // only of what exists; and then look again, for it may have changed in between
	defer leave()
	if card, err = c.readApproval(ctx, caller, id); err != nil || card.Approval.Status != access.ApprovalPending {
		return card, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return card, nil
	}
	return c.readApproval(ctx, caller, id)
}

func (c *Control) readApproval(ctx context.Context, caller Caller, id string) (*Card, error) {
	var card *Card
	asked := false
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		approval, err := v.Approval(id)
		if err != nil {
			return notFound(err, "there is no approval %q", id)
		}
		if approval.Usable(v.Now()) == access.CodeApprovalExpired && approval.Status != access.ApprovalConsumed {
			approval.Status = access.ApprovalExpired
		}
		made, err := v.DecisionEvent(approval.Decided)
		if err != nil {
			return err
		}
		asked = made.Caller == v.Pseudonym(caller.Identity) && s.IsActive(caller.Identity)
		card, err = c.card(v, s, caller, approval)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !asked && !card.MayAnswer {
		if err := c.mayRead(ctx, caller, card.Approval.Subject); err != nil {
			return nil, err
		}
	}
	if !card.MayAnswer && (asked || card.Approval.Subject == caller.Identity) {
		card.conceal()
	}
	return card, nil
}

// conceal takes away what whoever asked could probe policies with, and who answered.
func (c *Card) conceal() {
	c.Decided, c.Precedent = access.Decided{}, access.Precedent{}
	c.Approval.Requires, c.Approval.Risk, c.Approval.Answers = nil, 0, nil
}

// Reply is what a person says to a question.
type Reply struct {
	Approve bool
	TTL     access.Seconds // narrower than asked; 0: as asked
	MaxUses int64
	Reason  string
}

// AnswerApproval records a person's answer. Who the person is comes from their authentication, never from the call (I6).
func (c *Control) AnswerApproval(ctx context.Context, caller Caller, id string, reply Reply) (*access.Approval, int64, error) {
	if err := checkReason(reply.Reason); err != nil {
		return nil, 0, err
	}
	if err := checkTTL(reply.TTL); err != nil {
		return nil, 0, err
	}
	var after access.Approval
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		approval, err := v.Approval(id)
		if err != nil {
			return event.Change{}, notFound(err, "there is no approval %q", id)
		}
		in, err := v.Input(approval.Decided)
		if err != nil {
			return event.Change{}, notFound(err, "what this approval was asked for has been erased")
		}
		if caller.Identity.Type != access.TypeHuman || !s.IsActive(caller.Identity) {
			return event.Change{}, invalid(NotEligible, "only an active human may answer")
		}
		made, err := v.DecisionEvent(approval.Decided)
		if err != nil {
			return event.Change{}, err
		}
		answer := access.Answer{By: caller.Identity, Approve: reply.Approve, TTL: reply.TTL, MaxUses: reply.MaxUses, At: v.Now()}
		after, err = approval.Answered(answer, in, s.apart(s.asker(made.Caller, caller)))
		if err != nil {
			return event.Change{}, answerError(err)
		}
		return event.Change{Drafts: []event.Draft{answered(v, &after, in, reply)}}, nil
	})
	if err != nil {
		return nil, 0, err
	}
	c.changed.wake(id)
	return &after, receipt.Indexes[0], nil
}

func answerError(err error) error {
	kind := InvalidArgument
	switch {
	case errors.Is(err, access.ErrApprovalClosed):
		kind = WrongState
	case errors.Is(err, access.ErrNotEligible):
		kind = NotEligible
	case errors.Is(err, access.ErrAlreadyAnswered):
		kind = AlreadyAnswered
	}
	return &Invalid{Kind: kind, Detail: err.Error(), Cause: err}
}

func answered(v View, after *access.Approval, in *access.Input, reply Reply) event.Draft {
	last := after.Answers[len(after.Answers)-1]
	e := &event.ApprovalAnswered{
		Approval: after.ID, By: v.Pseudonym(last.By), Approve: last.Approve, TTL: last.TTL, MaxUses: last.MaxUses,
		Status: after.Status, ApprovedUntil: after.ApprovedUntil,
	}
	if after.Status != access.ApprovalPending && in.Standing.Task != nil && independent(after.Requires) {
		e.Precedent = &event.PrecedentOf{
			Subject: v.Pseudonym(in.Request.Subject), Action: in.Request.Action, Resource: in.Request.Resource.Type, TaskType: in.Standing.Task.Type,
		}
	}
	return withReason([]event.Draft{{Task: after.Task, Event: e}}, reply.Reason)[0]
}

// independent tells judgements from confirmations, which set no precedent.
func independent(requires []access.Requirement) bool {
	for _, r := range requires {
		if r.Form.Independent() {
			return true
		}
	}
	return false
}

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
