package control

import (
	"fmt"
	"strings"

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
	InvalidConstraints    InvalidKind = "invalid_constraints"
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
	CardChanged           InvalidKind = "card_changed"
	ReasonRequired        InvalidKind = "reason_required"
	NotYours              InvalidKind = "not_yours"
	AuthenticationMissing InvalidKind = "unauthenticated"

	ReauthenticationRequired InvalidKind = "reauthentication_required"
)

// Invalid is an ask that cannot be decided on: nothing was recorded.
type Invalid struct {
	Kind      InvalidKind
	Detail    string
	Reason    string         // with AuthenticationMissing: why, as package authn names it; may be empty
	Temporary bool           // it cannot be known now, and may be later
	MaxAge    access.Seconds // with ReauthenticationRequired: how long ago the login may be
	Cause     error          // not for the caller
}

func (e *Invalid) Error() string {
	if e.Detail == "" && e.Cause != nil {
		return e.Cause.Error()
	}
	return e.Detail
}

func (e *Invalid) Unwrap() error { return e.Cause }

// Unproven reports whether it is a proof of possession that is missing or does not hold.
func (e *Invalid) Unproven() bool {
	return e.Kind == AuthenticationMissing && strings.HasPrefix(e.Reason, "proof_")
}

// Next is the next legal step, in words that go after the Detail.
func (e *Invalid) Next() string {
	switch {
	case e.Temporary:
		return "Try again later."
	case e.Unproven():
		return "Send one DPoP proof made for this request."
	}
	switch e.Kind {
	case InvalidArgument:
		return "Correct that, and ask again."
	case InvalidArgs:
		return "Send the args that the policy schema declares for this action."
	case InvalidConstraints:
		return "Constrain args that the policy schema declares for this action, by constraints of the types that there are, and only of a right to lend."
	case UnknownAction:
		return "Use an action of the policy schema."
	case UnknownResource:
		return "Name one that the catalog or a fact source has declared, of a type that the action applies to."
	case UnknownTaskType:
		return "Use a task type of the catalog."
	case StaleFact:
		return "Observe again, and tell what is so now."
	case NotFactSource:
		return "Have the catalog name this identity as the source of this type."
	case NotEnforcementPoint:
		return "Leave out the subject, or have the catalog register this identity for it."
	case InvalidConfiguration:
		return "Mend the faults; the former configuration stays active."
	case IdempotencyKeyReused:
		return "Use a new key for a new call."
	case WrongState:
		return "Read it again: this cannot be done with it as it is now."
	case NotEligible:
		return "Somebody in the role that policy asks for, independent of the request, must answer."
	case AlreadyAnswered:
		return "Let somebody else answer."
	case CardChanged:
		return "Read the approval again, look at what has changed, and answer with the card of that."
	case ReasonRequired:
		return "Send the same answer with a reason."
	case ReauthenticationRequired:
		return "Log in again, and answer with a token or session of that login."
	case NotYours:
		return "Check the id: it does not exist, or not for you."
	case AuthenticationMissing:
		return "Authenticate as an identity of the catalog, with a token of a configured issuer or a client certificate."
	default:
		return "Ask the operator."
	}
}

func invalid(kind InvalidKind, format string, args ...any) *Invalid {
	return &Invalid{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
