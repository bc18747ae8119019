package access

import (
	"errors"
	"fmt"
)

// Errors that every part of Writ tells apart.
var (
	// ErrUnavailable says that evidence cannot be written or state cannot be read: nothing was granted.
	ErrUnavailable = errors.New("evidence cannot be written")
	// ErrNotFound says that there is no such thing, or none that the caller may know of.
	ErrNotFound = errors.New("not found")
	// ErrPruned says that there was such a thing, and that it was pruned: the archive holds it. It is an ErrNotFound.
	ErrPruned = fmt.Errorf("%w here any more: it was pruned, see the archive", ErrNotFound)
)

// Approvers are the humans who may answer each form of approval, by the form's text.
type Approvers map[string][]Ref

// Settle finishes a decision: a question that nobody may answer, and a grant that would be over before it begins,
// are refusals. in.Approvers must hold everyone eligible for what decided requires. It is pure (I8).
func Settle(in *Input, decided Decided) (Decided, Limit) {
	switch decided.Outcome {
	case NeedsApproval:
		if !in.Approvers.enough(decided.Requires) {
			decided.Outcome, decided.Code = Deny, CodeNoEligibleApprover
		}
		return decided, Limit{}
	case Allow:
		limit := Bound(in, decided.Bounds, in.Approval)
		if !limit.ExpiresAt.After(in.Now) {
			decided.Outcome, decided.Code = Deny, CodeBoundsExceeded
			return decided, Limit{}
		}
		return decided, limit
	case Deny:
		return decided, Limit{}
	default:
		return Decided{Outcome: Deny, Code: CodePolicyError, Problem: "an unknown outcome: " + string(decided.Outcome)}, Limit{}
	}
}

// enough reports whether there are people to fill every place; if not, asking would only make the agent wait.
func (a Approvers) enough(requires []Requirement) bool {
	var all []Ref
	for _, people := range a {
		all = append(all, people...)
	}
	return Satisfied(requires, all, func(form ApprovalForm) []Ref { return a[form.String()] })
}

// ApproversFor finds who may answer each form that the requirements ask for.
func ApproversFor(requires []Requirement, in *Input, people People) Approvers {
	out := Approvers{}
	for _, form := range forms(requires) {
		out[form.String()] = Eligible(form, in, people)
	}
	return out
}
