package access

import (
	"encoding/json"
	"math"
	"time"
)

// Outcome is what policy says of a request.
type Outcome string

// The three outcomes.
const (
	Allow         Outcome = "allow"
	NeedsApproval Outcome = "needs_approval"
	Deny          Outcome = "deny"
)

// Code is a typed refusal: what an agent is told, with the next legal step.
type Code string

// The refusal codes, a closed set.
const (
	CodeNotPermitted        Code = "not_permitted"
	CodeForbidden           Code = "forbidden"
	CodeApprovalRequired    Code = "approval_required"
	CodeApprovalDenied      Code = "approval_denied"
	CodeApprovalExpired     Code = "approval_expired"
	CodeNoEligibleApprover  Code = "no_eligible_approver"
	CodeTaskEnded           Code = "task_ended"
	CodeParentRevoked       Code = "parent_revoked"
	CodeExceedsParent       Code = "exceeds_parent"
	CodeDepthExceeded       Code = "depth_exceeded"
	CodeDelegationCycle     Code = "delegation_cycle"
	CodeBoundsExceeded      Code = "bounds_exceeded"
	CodeIdentityUnknown     Code = "identity_unknown"
	CodeIdentitySuspended   Code = "identity_suspended"
	CodePrincipalMismatch   Code = "principal_mismatch"
	CodeOwnerMissing        Code = "owner_missing"
	CodePolicyError         Code = "policy_error"
	CodeEvidenceUnavailable Code = "evidence_unavailable"
	CodeLimitExceeded       Code = "limit_exceeded"
)

// Mode tells using a right from lending it.
type Mode string

// The two modes.
const (
	Use      Mode = "use"
	Delegate Mode = "delegate"
)

// Seconds is a duration in whole seconds, as it appears in JSON and in policies.
type Seconds int64

// Duration is the same span as a time.Duration, or the nearest that one can hold (292 years).
func (s Seconds) Duration() time.Duration {
	const most = Seconds(math.MaxInt64 / time.Second)
	return time.Duration(min(max(s, -most), most)) * time.Second
}

// Request is what is asked: one action on one resource, for a task.
type Request struct {
	Subject   Ref             `json:"subject"`
	Principal Ref             `json:"principal,omitzero"`
	Action    Ref             `json:"action"`
	Resource  Ref             `json:"resource"`
	Args      json.RawMessage `json:"args,omitempty"` // a JSON object; absent means {}
	// Constraints leave arguments of a right to lend open, instead of Args: what policy sees of them is what they fix. Whatever is
	// used under it is decided with exact arguments.
	Constraints Constraints `json:"constraints,omitempty"`
	TTL         Seconds     `json:"ttl,omitempty"`      // wanted; 0 asks for as much as policy gives
	MaxUses     int64       `json:"max_uses,omitempty"` // wanted; 0 asks for as many as policy gives
	Mode        Mode        `json:"mode"`
	Deepest     int         `json:"deepest,omitempty"` // how deep below the root it may be passed on; 0: as deep as any
	Task        string      `json:"task,omitempty"`
	Parent      string      `json:"parent,omitempty"` // the grant it is asked under
	Lender      Ref         `json:"lender,omitzero"`  // the holder of Parent, if it is passing it on
}

// Entity is one node of the entity map that a decision is computed from.
type Entity struct {
	ID         Ref             `json:"id"`
	Parents    []Ref           `json:"parents,omitempty"`
	Attributes json.RawMessage `json:"attributes,omitempty"` // a JSON object, read by the schema's types
}

// Facts are all that policy may know besides the request. They never come from the requester.
type Facts struct {
	Entities  []Entity         `json:"entities"` // ordered by id
	Task      *TaskFacts       `json:"task,omitempty"`
	Labels    Labels           `json:"labels"`
	Counts    map[string]int64 `json:"counts,omitempty"`
	Sums      map[string]int64 `json:"sums,omitempty"`
	Chain     ChainFacts       `json:"chain"`
	Precedent Precedent        `json:"precedent"`
}

// TaskFacts is the task as policy sees it.
type TaskFacts struct {
	Type      string  `json:"type"`
	Age       Seconds `json:"age"`
	Heartbeat Seconds `json:"heartbeat"` // since the last one
	Expected  bool    `json:"expected"`  // the task's type names this action
}

// Labels are those of the resources touched so far; each list is ordered.
type Labels struct {
	Task     []string `json:"task,omitempty"`
	Chain    []string `json:"chain,omitempty"`
	Identity []string `json:"identity,omitempty"`
}

// ChainFacts tell how far from the root of a delegation the subject stands.
type ChainFacts struct {
	Depth  int64    `json:"depth"`
	Root   string   `json:"root,omitempty"`
	Actors []string `json:"actors,omitempty"`
}

// Precedent is what people answered before to the same identity, action, resource type and task type.
type Precedent struct {
	Approvals int64 `json:"approvals"`
	Denials   int64 `json:"denials"`
	Reversals int64 `json:"reversals"`
}

// Discharge is one policy that an approval answers, and the risk it was answered for.
type Discharge struct {
	Policy   string `json:"policy"` // content hash of the @approval forbid
	Risk     int64  `json:"risk"`
	Approval string `json:"approval"`
}

// Input is all that a decision depends on besides the bundle (I8): same input, same bundle, same decision.
type Input struct {
	Caller     Ref         `json:"caller,omitzero"` // who asked, if not the subject: an enforcement point
	Request    Request     `json:"request"`
	Standing   Standing    `json:"standing"`
	Facts      Facts       `json:"facts"`
	Discharges []Discharge `json:"discharges,omitempty"`
	Approval   *Limit      `json:"approval,omitempty"`  // what the approval behind the discharges bounds
	Approvers  Approvers   `json:"approvers,omitempty"` // who could answer what the decision requires
	Now        time.Time   `json:"now"`
	Bundle     string      `json:"bundle"`
}

// Decided is what policy alone says of an Input.
type Decided struct {
	Outcome  Outcome         `json:"outcome"`
	Code     Code            `json:"code,omitempty"`
	Policies []Policy        `json:"policies,omitempty"` // those that determined the outcome, ordered by id
	Requires []Requirement   `json:"requires,omitempty"` // ordered by policy id
	Risk     Risk            `json:"risk"`
	Bounds   Bounds          `json:"bounds"`
	Derived  json.RawMessage `json:"derived,omitempty"`
	Problem  string          `json:"problem,omitempty"` // behind policy_error; for owners and auditors
}

// Policy is a policy that determined an outcome, in its own words.
type Policy struct {
	ID      string   `json:"id"`
	Hash    string   `json:"hash"` // of the policy's text
	Owner   Ref      `json:"owner"`
	Because string   `json:"because,omitempty"`
	Control []string `json:"control,omitempty"`
}

// Requirement is an approval that a matching policy asks for.
type Requirement struct {
	Policy  string       `json:"policy"`
	Hash    string       `json:"hash"`
	Form    ApprovalForm `json:"form"`
	Because string       `json:"because"`
	Reason  bool         `json:"reason,omitempty"` // whoever answers must say why
	Fresh   Seconds      `json:"fresh,omitempty"`  // whoever says yes must have logged in no longer ago; 0: whenever
}

// Risk is the score and what it is made of.
type Risk struct {
	Score   int64    `json:"score"`
	Factors []Factor `json:"factors,omitempty"` // ordered by policy id
}

// Factor is one matching risk policy.
type Factor struct {
	Policy  string `json:"policy"`
	Points  int64  `json:"points"`
	Because string `json:"because"`
}

// Bounds limit what is granted; each names the policy that set it. Zero means unbounded.
type Bounds struct {
	MaxTTL        Seconds   `json:"max_ttl,omitempty"`
	MaxTTLPolicy  string    `json:"max_ttl_policy,omitempty"`
	Until         time.Time `json:"until,omitzero"`
	UntilPolicy   string    `json:"until_policy,omitempty"`
	MaxUses       int64     `json:"max_uses,omitempty"`
	MaxUsesPolicy string    `json:"max_uses_policy,omitempty"`
}

// Fact is what a fact source told of an entity.
type Fact struct {
	Entity
	Source     string    `json:"source"`
	ObservedAt time.Time `json:"observed_at"`
}
