package access

// Standing is where the parties of a request stand: what must hold whatever policy says.
type Standing struct {
	Subject   Status  `json:"subject"`             // "" for an identity that is not registered
	Principal Status  `json:"principal,omitempty"` // "" if there is none
	Owned     bool    `json:"owned"`               // the subject's owner is registered and active; humans own themselves
	Task      *Task   `json:"task,omitempty"`
	MayOpen   bool    `json:"may_open,omitempty"` // for opening a task: its type names the subject as opener
	Chain     []Grant `json:"chain,omitempty"`    // the grants above, parent first, root last
	// Above says of each grant of Chain where its subject stands: Active only if its owner and its principal are, too.
	Above []Status `json:"above,omitempty"`
	Tasks []Task   `json:"tasks,omitempty"` // of the grants of Chain, in its order
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
	case !s.held(in):
		return CodeParentRevoked
	default:
		return ""
	}
}

// held reports whether every grant from the parent to the root is there and alive: itself, its task and its subject.
func (s *Standing) held(in *Input) bool {
	if len(s.Above) != len(s.Chain) || len(s.Tasks) != len(s.Chain) {
		return false
	}
	next := in.Request.Parent
	for i := range s.Chain {
		g, task := &s.Chain[i], &s.Tasks[i]
		if next == "" || g.ID != next || task.ID != g.Task || !g.Live(in.Now) || !task.Live(in.Now) || s.Above[i] != Active {
			return false
		}
		next = g.Parent
	}
	return next == ""
}
