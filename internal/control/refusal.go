package control

import (
	"fmt"

	"github.com/writ-project/writ/internal/access"
)

// Refusal is a typed no: what an agent is told, with the next legal step. Which policy said no, and by how much, is for
// owners and auditors; an agent could probe for it.
type Refusal struct {
	Code     access.Code
	Detail   string // optional, never about policies
	Decision string // id, if a decision was recorded
	Evidence int64  // index of its entry; meaningful with Decision
	Approval string // the question to wait for, with approval_required
}

func (r *Refusal) Error() string {
	text := string(r.Code)
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text + ". " + r.Next()
}

// Next is the next legal step, in words.
func (r *Refusal) Next() string {
	switch r.Code {
	case access.CodeNotPermitted:
		return "Nothing permits this. Ask for something else, or ask the owner of the resource for a policy."
	case access.CodeForbidden:
		return "A policy forbids this as things stand. Do not retry unchanged."
	case access.CodeApprovalRequired:
		return "A person must approve. Wait for the answer on the approval, then redeem it."
	case access.CodeApprovalDenied:
		return "A person said no. Do not ask again unchanged."
	case access.CodeApprovalExpired:
		return "Nobody answered in time, or the approval ran out or was used; that is not a no. You may ask again."
	case access.CodeNoEligibleApprover:
		return "Nobody may approve this. The owner of the policy must name somebody independent of the request."
	case access.CodeTaskEnded:
		return "The task is not open. Open or resume a task and ask under that."
	case access.CodeParentRevoked:
		return "The grant above this one is over. Ask whoever lent it."
	case access.CodeExceedsParent:
		return "This is more than the grant above it holds. Ask for the same or less."
	case access.CodeDepthExceeded:
		return "The right was passed on too often. Ask for a grant of your own."
	case access.CodeDelegationCycle:
		return "This identity is in the chain already. Pass the right on to somebody else."
	case access.CodeBoundsExceeded:
		return "The bounds leave nothing to grant. Ask under a task, parent or approval with time and uses left."
	case access.CodeIdentityUnknown:
		return "This identity is not in the catalog. Its owner must register it."
	case access.CodeIdentitySuspended:
		return "This identity, or the person it runs for, is suspended or retired. Ask its owner."
	case access.CodePrincipalMismatch:
		return "This identity runs for one person only, by its owner's word. Work for that person, or use another identity."
	case access.CodeOwnerMissing:
		return "This identity has no active owner. Somebody must take it over first."
	case access.CodePolicyError:
		return "The policy could not decide on the facts it has. Ask the owner of the resource to look at this decision."
	case access.CodeEvidenceUnavailable:
		return "Evidence cannot be written, so nothing is granted. Try again later."
	case access.CodeLimitExceeded:
		return "Too much at once. Slow down and try again later."
	default:
		return "Ask the operator."
	}
}

// InvalidKind names what is wrong with an ask, for programs.
type InvalidKind string

// The kinds of invalid asks.
const (
	InvalidArgument       InvalidKind = "invalid_argument"
	InvalidArgs           InvalidKind = "invalid_args"
	UnknownAction         InvalidKind = "unknown_action"
	UnknownResource       InvalidKind = "unknown_resource"
	UnknownTaskType       InvalidKind = "unknown_task_type"
	StaleFact             InvalidKind = "stale_fact"
	NotFactSource         InvalidKind = "not_fact_source"
	NotEnforcementPoint   InvalidKind = "not_enforcement_point"
	InvalidConfiguration  InvalidKind = "invalid_configuration"
	IdempotencyKeyReused  InvalidKind = "idempotency_key_reused"
	WrongState            InvalidKind = "wrong_state"
	NotEligible           InvalidKind = "not_eligible"
	AlreadyAnswered       InvalidKind = "already_answered"
	NotYours              InvalidKind = "not_yours"
	AuthenticationMissing InvalidKind = "unauthenticated"
)

// Invalid is an ask that cannot be decided on: nothing was recorded.
type Invalid struct {
	Kind   InvalidKind
	Detail string
	Cause  error
}

func (e *Invalid) Error() string {
	if e.Detail == "" && e.Cause != nil {
		return e.Cause.Error()
	}
	return e.Detail
}

func (e *Invalid) Unwrap() error { return e.Cause }

func invalid(kind InvalidKind, format string, args ...any) *Invalid {
	return &Invalid{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
