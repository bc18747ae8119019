package access

import (
	"encoding/json"
	"time"
)

// MaxDepth is how often a right may be passed on, counted from the root grant at 0.
const MaxDepth = 8

// DefaultTTL is what a grant lives when neither the request nor policy says less.
const DefaultTTL Seconds = 300

// GrantStatus is what is stored of a grant; whether it is alive is derived (I5), see Standing.Dead.
type GrantStatus string

// The statuses of a grant.
const (
	GrantActive GrantStatus = "active"
	GrantEnded  GrantStatus = "ended"
)

// Grant is the right that results from a decision.
type Grant struct {
	ID       string          `json:"id"`
	Parent   string          `json:"parent,omitempty"`
	Task     string          `json:"task"`
	Subject  Ref             `json:"subject"`
	Action   Ref             `json:"action"`
	Resource Ref             `json:"resource"`
	Args     json.RawMessage `json:"args,omitempty"`
	// Constraints are what the arguments of a right to lend must be, where they are not exactly Args.
	Constraints Constraints `json:"constraints,omitempty"`
	Mode        Mode        `json:"mode"`
	Depth       int         `json:"depth"`
	Deepest     int         `json:"deepest,omitempty"`  // how deep below the root the right may be passed on; 0: as deep as any
	MaxUses     int64       `json:"max_uses,omitempty"` // 0: not counted
	Uses        int64       `json:"uses,omitempty"`
	Status      GrantStatus `json:"status"`
	Reason      EndReason   `json:"reason,omitempty"`
	GrantedAt   time.Time   `json:"granted_at"`
	ExpiresAt   time.Time   `json:"expires_at"`
	EndedAt     time.Time   `json:"ended_at,omitzero"`
	Cut         bool        `json:"cut,omitempty"` // its subject was suspended, or left, since it was decided
	Decided     int64       `json:"-"`             // index of the decision's entry
}

// Live reports whether the grant itself has neither ended nor run out; its ancestors are not looked at.
func (g *Grant) Live(now time.Time) bool {
	return g.Status == GrantActive && !g.Cut && now.Before(g.ExpiresAt) && !g.Spent()
}

// Spent reports whether uses are counted and none is left.
func (g *Grant) Spent() bool { return g.MaxUses != 0 && g.Uses >= g.MaxUses }

// Exceeds names the refusal if the request asks for more than its parent grant holds at now (I3), or "". What is not asked for
// cannot be too much: it is cut down, see Bound.
func (g *Grant) Exceeds(r *Request, now time.Time) Code {
	switch {
	case r.Action != g.Action, r.Resource != g.Resource, !g.covers(r):
		return CodeExceedsParent
	case r.Subject != g.Subject && g.Mode != Delegate:
		return CodeExceedsParent
	case r.Subject == g.Subject && g.Mode != r.Mode: // to use and to lend are separate rights
		return CodeExceedsParent
	case now.Add(r.TTL.Duration()).After(g.ExpiresAt), g.MaxUses != 0 && r.MaxUses > g.MaxUses-g.Uses, r.Deepest > g.deepest():
		return CodeExceedsParent
	case g.Depth+1 > g.deepest():
		return CodeDepthExceeded
	default:
		return ""
	}
}

// covers reports whether whatever arguments the request allows, the grant allows too.
func (g *Grant) covers(r *Request) bool {
	child, err := allowed(r.Args, r.Constraints)
	if err != nil {
		return false
	}
	parent, err := allowed(g.Args, g.Constraints)
	return err == nil && child.Narrower(parent) == nil
}

// allowed is what arguments may be: as constrained, or exactly as they are.
func allowed(args json.RawMessage, constrained Constraints) (Constraints, error) {
	if len(constrained) > 0 {
		return constrained, nil
	}
	return ExactArgs(args)
}

// Hops is how often a right to lend may still be passed on, one after the other.
func (g *Grant) Hops() int {
	if g.Mode != Delegate {
		return 0
	}
	return max(g.deepest()-g.Depth, 0)
}

func (g *Grant) deepest() int {
	if g.Deepest == 0 {
		return MaxDepth
	}
	return min(g.Deepest, MaxDepth)
}

// Bound is when a grant given now ends, and how often it may be used: the tightest of what was wanted,
// what policy allows, the task, the parent and the approval (I4). The zero limit of an approval does not bound.
func Bound(in *Input, b Bounds, approval *Limit) Limit {
	ttl := in.Request.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if b.MaxTTL != 0 {
		ttl = min(ttl, b.MaxTTL)
	}
	limit := Limit{ExpiresAt: in.Now.Add(ttl.Duration()), MaxUses: b.MaxUses}
	limit = limit.tighten(Limit{MaxUses: in.Request.MaxUses})
	limit = limit.tighten(Limit{ExpiresAt: b.Until})
	if task := in.Standing.Task; task != nil {
		limit = limit.tighten(Limit{ExpiresAt: task.ExpiresAt})
	}
	for i := range in.Standing.Chain {
		above := &in.Standing.Chain[i]
		limit = limit.tighten(Limit{ExpiresAt: above.ExpiresAt, MaxUses: left(above)})
	}
	if approval != nil {
		limit = limit.tighten(*approval)
	}
	return limit
}

func left(g *Grant) int64 {
	if g.MaxUses == 0 {
		return 0
	}
	return max(g.MaxUses-g.Uses, 1) // a used-up grant is not live, so at least one is left
}

// Limit ends a grant; a zero field does not.
type Limit struct {
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	MaxUses   int64     `json:"max_uses,omitempty"`
}

func (l Limit) tighten(other Limit) Limit {
	if l.ExpiresAt.IsZero() || !other.ExpiresAt.IsZero() && other.ExpiresAt.Before(l.ExpiresAt) {
		l.ExpiresAt = other.ExpiresAt
	}
	if l.MaxUses == 0 || other.MaxUses != 0 && other.MaxUses < l.MaxUses {
		l.MaxUses = other.MaxUses
	}
	return l
}
