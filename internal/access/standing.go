package access

// Standing is where the parties of a request stand: what must hold whatever policy says.
type Standing struct {
	Subject   Status  `json:"subject"`             // "" for an identity that is not registered
	Principal Status  `json:"principal,omitempty"` // "" if there is none
	Owned     bool    `json:"owned"`               // the subject's owner is registered and active; humans own themselves
	Task      *Task   `json:"task,omitempty"`
	MayOpen   bool    `json:"may_open,omitempty"` // for opening a task: its type names the subject as opener
	Chain     []Grant `json:"chain,omitempty"`    // the grants above, parent first, root last
	// Above are the statuses of the subjects of Chain, in its order.
	Above []Status `json:"above,omitempty"`
}

// Evaluator decides by policy alone. It must be a pure function of its input.
type Evaluator interface {
	Decide(in *Input) Decided
}

// Decide is the decision on a request: first the standing of everyone concerned, then policy.
// It is pure, so every decision can be computed again from its input and the bundle it names (I8).
func Decide(in *Input, policy Evaluator) Decided {
	if code := in.Standing.Dead(in); code != "" {
		return Decided{Outcome: Deny, Code: code}
	}
	if in.Request.Action == Act(ActOpenTask) && !in.Standing.MayOpen {
		return Decided{Outcome: Deny, Code: CodeNotPermitted}
	}
	if len(in.Standing.Chain) > 0 {
		if code := in.Standing.Chain[0].Exceeds(&in.Request); code != "" {
			return Decided{Outcome: Deny, Code: code}
		}
	}
	return policy.Decide(in)
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
	case !in.Request.Principal.IsZero() && s.Principal != Active:
		return CodeIdentitySuspended
	case in.Request.Task != "" && (s.Task == nil || !s.Task.Live(in.Now)):
		return CodeTaskEnded
	case in.Request.Task == "" && in.Request.Action.Type != TypeWritAction:
		return CodeTaskEnded
	case in.Request.Parent != "" && (len(s.Chain) == 0 || len(s.Above) != len(s.Chain)):
		return CodeParentRevoked
	}
	for i := range s.Chain {
		if !s.Chain[i].Live(in.Now) || s.Above[i] != Active {
			return CodeParentRevoked
		}
	}
	return ""
}
