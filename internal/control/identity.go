package control

import (
	"context"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// SetStatus suspends an identity or retires it (everything it has is dead at that commit, I5), or makes a suspended one
// active again. Retired is for good.
func (c *Control) SetStatus(ctx context.Context, caller Caller, identity access.Ref, status access.Status, on Grounds) (*Answer, error) {
	name, ok := actOf(status)
	if !ok {
		return nil, invalid(InvalidArgument, "an identity is suspended, retired, or made active again")
	}
	if err := checkReason(on.Reason); err != nil {
		return nil, err
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
		if err != nil {
			return answer, change, err
		}
		stands := s.statusOf(identity)
		if answer.Decided.Outcome != access.Deny && stands == access.Retired && status != access.Retired {
			return nil, event.Change{}, invalid(WrongState, "%s is retired, and that is for good: declare another identity in the catalog", identity)
		}
		if answer.Decided.Outcome != access.Allow || stands == status {
			return answer, change, nil
		}
		by := event.By{Kind: event.ByDecision, Decision: answer.ID}
		changed := &event.IdentityChanged{Identity: v.Pseudonym(identity), Status: status, By: by}
		change.Drafts = append(change.Drafts, withReason([]event.Draft{{Event: changed}}, on.Reason)...)
		return answer, change, nil
	}
	if status != access.Active {
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

func actOf(status access.Status) (name string, ok bool) {
	switch status {
	case access.Active:
		return access.ActResume, true
	case access.Suspended:
		return access.ActSuspend, true
	case access.Retired:
		return access.ActRetire, true
	default:
		return "", false
	}
}

// owned reports whether somebody answers for the identity at a moment (I9): its owner is active, or has left and the grace
// that policy sets is not over. A suspended owner has no grace, nor one who is retired while suspended: retiring gives nothing back.
func (s *snapshot) owned(id access.Ref, now time.Time) bool {
	identity, ok := s.index.Identity(id)
	if !ok {
		return false
	}
	if id.Type == access.TypeHuman {
		return true
	}
	owner := s.stands(identity.Owner)
	if owner.Status == access.Retired && owner.Was == access.Active && s.bundle != nil {
		return now.Before(owner.Since.Add(s.bundle.OwnerGrace()))
	}
	return owner.Status == access.Active
}

// holder is where the holder of a grant stands at a moment: active only if it is owned, and the human it runs for is active.
func (s *snapshot) holder(id access.Ref, now time.Time) access.Status {
	identity, ok := s.index.Identity(id)
	if ok && (!s.owned(id, now) || !identity.Principal.IsZero() && !s.IsActive(identity.Principal)) {
		return access.Suspended
	}
	return s.statusOf(id)
}
