package control

import (
	"context"
	"errors"
	"slices"
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
	return s.IsActive(identity.Owner) || now.Before(s.graceEnd(identity.Owner))
}

// graceEnd is when what a human owned who left is over; zero if there is no grace.
func (s *snapshot) graceEnd(owner access.Ref) time.Time {
	stands := s.stands(owner)
	if stands.Status != access.Retired || stands.Was != access.Active || s.bundle == nil {
		return time.Time{}
	}
	return stands.Since.Add(s.bundle.OwnerGrace())
}

// holder is where the holder of a grant stands at a moment: active only if it is owned.
func (s *snapshot) holder(id access.Ref, now time.Time) access.Status {
	if status := s.statusOf(id); status != access.Active || s.owned(id, now) {
		return status
	}
	return access.Suspended
}

// IdentityView is an identity of the catalog, and where it stands.
type IdentityView struct {
	Identity access.Identity
	Status   access.Status
	Since    time.Time     // of the status
	Owner    access.Status // where its owner stands; "" for humans, who answer for themselves
	GraceEnd time.Time     // of what an owner who left owned; zero if the owner did not leave, or there is no grace
	Overdue  bool          // the day by which it was to be looked at again is over, and it is not retired
}

// IdentityQuery says which identities are listed.
type IdentityQuery struct {
	Owner   access.Ref // only what this human owns; zero: of anybody
	Overdue bool       // only what should have been looked at again
	After   access.Ref // only those after it, in the order of ids
	Limit   int        // at most so many
}

// Identities lists what the caller may see, in the order of ids: itself, what it owns, and everything if it may read evidence.
// more tells whether there are others after the last one.
func (c *Control) Identities(ctx context.Context, caller Caller, q IdentityQuery) (list []IdentityView, more bool, err error) {
	all, err := c.readsEvidence(ctx, caller)
	if err != nil {
		return nil, false, err
	}
	err = c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		list, more = nil, false
		identities := s.index.Catalog().Identities // ordered
		from, found := slices.BinarySearchFunc(identities, q.After, func(i access.Identity, ref access.Ref) int { return i.ID.Compare(ref) })
		if found {
			from++
		}
		now := v.Now()
		for i := from; i < len(identities) && !more; i++ {
			identity := &identities[i]
			if !all && identity.ID != caller.Identity && identity.Owner != caller.Identity || !q.Owner.IsZero() && identity.Owner != q.Owner ||
				q.Overdue && !overdue(identity.ReviewBy, now) { // before the status, which costs a pseudonym
				continue
			}
			view := s.viewIdentity(identity, now)
			switch {
			case q.Overdue && !view.Overdue:
			case len(list) == q.Limit:
				more = true
			default:
				list = append(list, view)
			}
		}
		return nil
	})
	return list, more, err
}

// ReadIdentity reads one identity, for itself, its owner and whoever may read about it.
func (c *Control) ReadIdentity(ctx context.Context, caller Caller, id access.Ref) (*IdentityView, error) {
	if err := c.mayRead(ctx, caller, id); err != nil {
		return nil, err
	}
	var out IdentityView
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		identity, ok := s.index.Identity(id)
		if !ok {
			return invalid(NotYours, "there is no identity %s in the catalog", id)
		}
		out = s.viewIdentity(identity, v.Now())
		return nil
	})
	return &out, err
}

func (s *snapshot) viewIdentity(identity *access.Identity, now time.Time) IdentityView {
	stands := s.stands(identity.ID)
	return IdentityView{
		Identity: *identity, Status: stands.Status, Since: stands.Since,
		Owner: s.statusOf(identity.Owner), GraceEnd: s.graceEnd(identity.Owner),
		Overdue: stands.Status != access.Retired && overdue(identity.ReviewBy, now),
	}
}

// overdue reports whether a day, written as in 2027-06-30, is over in UTC.
func overdue(day string, now time.Time) bool {
	return day != "" && day < now.UTC().Format(time.DateOnly)
}

// readsEvidence reports whether the caller may read evidence. A no is no refusal here, so nothing is recorded of it.
func (c *Control) readsEvidence(ctx context.Context, caller Caller) (bool, error) {
	var would bool
	var refusal *Refusal
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		if s.statusOf(caller.Identity) != access.Active {
			would = true // and is told no, below
			return nil
		}
		answer, _, err := c.act(v, s, caller, act{name: access.ActReadEvidence, resource: access.Installation()})
		would = err == nil && answer.Decided.Outcome == access.Allow
		if errors.As(err, &refusal) {
			return nil
		}
		return err
	})
	if err != nil || !would {
		return false, err
	}
	return true, c.MayReadEvidence(ctx, caller)
}
