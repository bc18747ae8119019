package control

import (
	"context"
	"sync"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// readCache remembers which reader may read about whom, until the catalog changes or the decision's bound is over.
type readCache struct {
	mu      *sync.Mutex
	allowed map[readKey]readRight
}

type readKey struct {
	reader, act, about access.Ref
}

type readRight struct {
	version int64
	until   time.Time
}

func newReadCache() readCache {
	return readCache{mu: new(sync.Mutex), allowed: map[readKey]readRight{}}
}

const maxReadRights = 10_000

func (r readCache) has(key readKey, version int64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	right, ok := r.allowed[key]
	return ok && right.version == version && now.Before(right.until)
}

func (r readCache) add(key readKey, right readRight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.allowed) >= maxReadRights {
		clear(r.allowed)
	}
	r.allowed[key] = right
}

// mayRead lets an identity read about itself, an owner about what it owns, and others as policy decides. Such a
// decision is recorded once and holds as long as its bounds say: reading the log must not fill it.
// What the catalog no longer declares is for auditors.
func (c *Control) mayRead(ctx context.Context, caller Caller, about access.Ref) error {
	known := false
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		known = s.index.Has(about)
		return nil
	})
	if err != nil {
		return err
	}
	if !known {
		return c.MayReadEvidence(ctx, caller)
	}
	return c.mayReadAs(ctx, caller, access.ActRead, about)
}

// MayReadEvidence decides whether the caller may read entries.
func (c *Control) MayReadEvidence(ctx context.Context, caller Caller) error {
	return c.mayReadAs(ctx, caller, access.ActReadEvidence, access.Installation())
}

func (c *Control) mayReadAs(ctx context.Context, caller Caller, name string, about access.Ref) error {
	key := readKey{caller.Identity, access.Act(name), about}
	known := false
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		switch s.statusOf(caller.Identity) {
		case access.Active:
		case "":
			return &Refusal{Code: access.CodeIdentityUnknown}
		default:
			return &Refusal{Code: access.CodeIdentitySuspended}
		}
		owner, ok := s.index.Identity(about)
		known = about == caller.Identity || ok && owner.Owner == caller.Identity || c.reads.has(key, s.version, v.Now())
		return nil
	})
	if err != nil || known {
		return err
	}
	var answer *Answer
	var right readRight
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		var change event.Change
		answer, change, err = c.act(v, s, caller, act{name: name, resource: about})
		if err != nil {
			return change, err
		}
		bounds := answer.Decided.Bounds
		right = readRight{version: s.version, until: v.Now().Add(bounds.MaxTTL.Duration())}
		if !bounds.Until.IsZero() && bounds.Until.Before(right.until) {
			right.until = bounds.Until
		}
		return change, nil
	})
	if err != nil {
		return err
	}
	c.finish(answer, receipt)
	if refusal := answer.Refusal(); refusal != nil {
		return refusal
	}
	c.reads.add(key, right)
	return nil
}
