package control

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/policy"
)

func slot(i int) string { return strconv.Itoa(i) }

// Identify finds who a verified token belongs to. Every call comes by here, so this is where calls of any kind are
// limited. Refusals: identity_unknown, limit_exceeded.
func (c *Control) Identify(ctx context.Context, issuer, subject string, claims map[string]any) (access.Ref, error) {
	var id access.Ref
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		identity, ok := s.index.Identify(issuer, subject, claims)
		if !ok {
			c.strangers.saw(issuer, subject, v.Now())
			return &Refusal{Code: access.CodeIdentityUnknown}
		}
		id = identity.ID
		if !c.limits.of(id, v.Now()).calls.AllowN(v.Now(), 1) {
			return &Refusal{Code: access.CodeLimitExceeded, Detail: "too many calls of this identity"}
		}
		return nil
	})
	return id, err
}

// explain computes a decision again from its input, under the bundle that made it: the full account of it, in the
// policies' own words.
func (c *Control) explain(v View, in *access.Input) (access.Decided, error) {
	if in.Bundle == "" {
		return access.Decide(in, &snapshot{}), nil
	}
	bundle, err := c.bundle(v, in.Bundle)
	if err != nil {
		return access.Decided{}, err
	}
	decided, _ := access.Settle(in, access.Decide(in, bundle))
	return decided, nil
}

// bundle is the bundle of a hash, the active one without loading it again.
func (c *Control) bundle(v View, hash string) (*policy.Bundle, error) {
	if s := c.current.Load(); s != nil && s.bundle != nil && s.bundle.Hash() == hash {
		return s.bundle, nil
	}
	content, err := v.BundleContent(hash)
	if err != nil {
		return nil, err
	}
	return policy.LoadArchive(content, policy.AnyCatalog())
}

// DecisionView is a decision. Full holds what only owners and auditors may see.
type DecisionView struct {
	Event    event.DecisionMade
	Time     time.Time
	Evidence int64
	Request  *access.Request // nil if erased
	Full     *access.Decided // nil for the subject itself, or if erased
}

// ReadDecision reads a decision: its subject sees the outcome, others who may read about it the whole account.
func (c *Control) ReadDecision(ctx context.Context, caller Caller, id string) (*DecisionView, error) {
	out := &DecisionView{}
	var in *access.Input
	err := c.ledger.Read(ctx, func(v View) error {
		if _, err := c.snapshot(v); err != nil {
			return err
		}
		index, err := v.DecisionIndex(id)
		if err != nil {
			return notFound(err, "there is no decision %q", id)
		}
		out.Evidence = index
		if out.Event, err = v.DecisionEvent(index); err != nil {
			return err
		}
		in, err = v.Input(index)
		if errors.Is(err, access.ErrNotFound) {
			return notFound(err, "what was asked in decision %q has been erased", id)
		}
		if err != nil {
			return err
		}
		out.Request, out.Time = &in.Request, in.Now
		full, err := c.explain(v, in)
		out.Full = &full
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := c.mayRead(ctx, caller, in.Request.Subject); err != nil {
		return nil, err
	}
	if in.Request.Subject == caller.Identity {
		out.conceal()
	}
	return out, nil
}

// conceal leaves what the subject may know: an agent could probe for the rest.
func (d *DecisionView) conceal() {
	d.Full = nil
	e := &d.Event
	e.Policies, e.Factors, e.Risk, e.Bounds, e.Bundle = nil, nil, 0, access.Bounds{}, ""
	if e.Asked != nil {
		e.Asked = &event.ApprovalAsked{ExpiresAt: e.Asked.ExpiresAt}
	}
}

// Access is one right that a subject has or had, and the decision behind it.
type Access struct {
	Grant   GrantView
	Task    access.Task
	Purpose event.Purpose
	By      Account
	Above   []Account      // of the grants above it, in the order of Grant.Chain: who lent it, by which decisions
	LentTo  []access.Grant // the grants right below it, of others
	EndedAt time.Time      // zero while it has not ended
}

// Account is a decision by its id, and in full as far as it has not been erased or pruned.
type Account struct {
	ID   string
	Full access.Decided
}

const (
	mostTasks = 1000 // of one identity, the newest, that are looked at
	mostLent  = 1000 // grants lent to one identity, the newest, that are looked at
)

// Why lists every access that a subject has, or had at a time: what, for which task, by which decision, lent by whom.
func (c *Control) Why(ctx context.Context, caller Caller, subject access.Ref, at time.Time) ([]Access, error) {
	if err := c.mayRead(ctx, caller, subject); err != nil {
		return nil, err
	}
	var out []Access
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		out = nil
		tasks, err := v.Tasks(subject, mostTasks)
		if err != nil {
			return err
		}
		for i := range tasks {
			grants, err := v.GrantsOfTask(tasks[i].ID)
			if err != nil {
				return err
			}
			own := slices.DeleteFunc(slices.Clone(grants), func(g access.Grant) bool { return g.Subject != subject })
			if out, err = c.explainAll(v, s, out, own, grants, at); err != nil {
				return err
			}
		}
		lent, err := v.LentGrants(subject, mostLent)
		if err != nil {
			return err
		}
		for i := range lent {
			if slices.ContainsFunc(tasks, func(t access.Task) bool { return t.ID == lent[i].Task }) {
				continue // it was among those of its own tasks
			}
			var below []access.Grant
			if lent[i].Mode == access.Delegate {
				if below, err = v.GrantsOfTask(lent[i].Task); err != nil {
					return err
				}
			}
			if out, err = c.explainAll(v, s, out, lent[i:i+1], below, at); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// explainAll adds an account of each grant that is held at the given time; all are those of its task.
func (c *Control) explainAll(v View, s *snapshot, out []Access, grants, all []access.Grant, at time.Time) ([]Access, error) {
	for i := range grants {
		view, err := c.viewGrant(v, s, grants[i])
		if err != nil {
			return nil, err
		}
		task, err := v.Task(grants[i].Task)
		if err != nil {
			return nil, err
		}
		found := Access{Grant: *view, Task: task, EndedAt: endOf(&grants[i], &task)}
		if at.IsZero() && !view.Live || !at.IsZero() && !found.heldAt(at) {
			continue
		}
		if found.Purpose, err = purposeOf(v, &task); err != nil {
			return nil, err
		}
		if found.By, err = c.accountOf(v, grants[i].Decided); err != nil {
			return nil, err
		}
		for k := range view.Chain {
			above, err := c.accountOf(v, view.Chain[k].Decided)
			if err != nil {
				return nil, err
			}
			found.Above = append(found.Above, above)
		}
		for k := range all {
			if all[k].Parent == grants[i].ID && all[k].Subject != grants[i].Subject {
				found.LentTo = append(found.LentTo, all[k])
			}
		}
		out = append(out, found)
	}
	return out, nil
}

// accountOf computes the decision at an index again.
func (c *Control) accountOf(v View, index int64) (out Account, err error) {
	made, err := v.DecisionEvent(index)
	if err := ignoreNotFound(err); err != nil { // pruned: what the rows say is left
		return out, err
	}
	out.ID = made.ID
	in, err := v.Input(index)
	if err == nil {
		out.Full, err = c.explain(v, in)
	}
	return out, ignoreNotFound(err) // erased
}

func (a *Access) heldAt(at time.Time) bool {
	g := &a.Grant.Grant
	return !at.Before(g.GrantedAt) && at.Before(g.ExpiresAt) && (a.EndedAt.IsZero() || at.Before(a.EndedAt))
}

// endOf is when a grant was over, as far as it or its task ended early.
func endOf(g *access.Grant, task *access.Task) time.Time {
	end := g.EndedAt
	if !task.EndedAt.IsZero() && (end.IsZero() || task.EndedAt.Before(end)) {
		end = task.EndedAt
	}
	return end
}
