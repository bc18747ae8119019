package access

import "slices"

// Standing is where the parties of a request stand: what must hold whatever policy says.
type Standing struct {
	Subject        Status  `json:"subject"`                  // "" for an identity that is not registered
	Principal      Status  `json:"principal,omitempty"`      // "" if there is none
	FixedPrincipal Ref     `json:"fixed_principal,omitzero"` // the only human that the subject may run for, by its owner's word
	Owned          bool    `json:"owned"`                    // the subject's owner is registered and active; humans own themselves
	Task           *Task   `json:"task,omitempty"`
	MayOpen        bool    `json:"may_open,omitempty"` // for opening a task: its type names the subject as opener
	Chain          []Grant `json:"chain,omitempty"`    // the grants above, parent first, root last; all of the same task
	// Above says of each grant of Chain where its subject stands: Active only if its owner is, too.
	Above []Status `json:"above,omitempty"`
}

// Evaluator decides by policy alone. It must be a pure function of its input.
type Evaluator interface {
	Decide(in *Input) Decided
}

// Decide is the decision on a request: first the standing of everyone concerned, then policy.
// It is pure, so every decision can be computed again from its input and the bundle it names (I8).
func Decide(in *Input, policy Evaluator) Decided {
	if !in.Standing.Lends(in.Request.Lender) { // before all else, or the answer would tell how somebody else's right stands
		return Decided{Outcome: Deny, Code: CodeNotPermitted}
	}
	if code := in.Standing.Dead(in); code != "" {
		return Decided{Outcome: Deny, Code: code}
	}
	if r := &in.Request; len(r.Constraints) > 0 && (r.Mode != Delegate || len(r.Args) > 0) { // what is used has exact arguments
		return Decided{Outcome: Deny, Code: CodeNotPermitted}
	}
	if in.Request.Action == Act(ActOpenTask) && !in.Standing.MayOpen {
		return Decided{Outcome: Deny, Code: CodeNotPermitted}
	}
	if code := under(in); code != "" {
		return Decided{Outcome: Deny, Code: code}
	}
	return policy.Decide(in)
}

// under names the refusal of what cannot be asked for under the grants above, whatever policy says, or "" (I3).
func under(in *Input) Code {
	chain, r := in.Standing.Chain, &in.Request
	if len(chain) == 0 {
		return ""
	}
	switch {
	case !r.Lender.IsZero() && HoldsAny(chain, r.Subject):
		return CodeDelegationCycle
	case slices.ContainsFunc(chain, func(g Grant) bool { return g.MaxUses != 0 && r.MaxUses > g.MaxUses-g.Uses }):
		return CodeExceedsParent // others may have used up what is above the parent
	default:
		return chain[0].Exceeds(r, in.Now)
	}
}

// HoldsAny reports whether an identity holds one of the grants of a chain.
func HoldsAny(chain []Grant, by Ref) bool {
	return slices.ContainsFunc(chain, func(g Grant) bool { return g.Subject == by })
}

// Lends reports whether it is the lender's to pass on: only the holder of a right does. The zero Ref lends nothing.
func (s *Standing) Lends(lender Ref) bool {
	return lender.IsZero() || len(s.Chain) > 0 && s.Chain[0].Subject == lender
}

// Dead names why nothing may be granted or stay alive at in.Now, or "" if nothing stands against it (I5, I7, I9).
func (s *Standing) Dead(in *Input) Code {
	switch {
	case s.Subject == "":
		return CodeIdentityUnknown
	case s.Subject != Active:
		return CodeIdentitySuspended
	case !s.Owned:
		return CodeOwnerMissing
	case !s.FixedPrincipal.IsZero() && s.FixedPrincipal != in.Request.Principal:
		return CodePrincipalMismatch
	case !in.Request.Principal.IsZero() && s.Principal != Active:
		return CodeIdentitySuspended
	case in.Request.Task != "" && (s.Task == nil || !s.Task.Live(in.Now)):
		return CodeTaskEnded
	case in.Request.Task == "" && in.Request.Action.Type != TypeWritAction:
		return CodeTaskEnded
	case !s.held(in):
		return CodeParentRevoked
	default:
		return ""
	}
}

// held reports whether every grant from the parent to the root is there and alive, its subject too, and of the task of the request:
// a right is passed on within the task that it was granted for, which Dead has looked at.
func (s *Standing) held(in *Input) bool {
	if len(s.Above) != len(s.Chain) {
		return false
	}
	next := in.Request.Parent
	for i := range s.Chain {
		g := &s.Chain[i]
		if next == "" || g.ID != next || g.Task != in.Request.Task || !g.Live(in.Now) || s.Above[i] != Active {
			return false
		}
		next = g.Parent
	}
	return next == ""
}
