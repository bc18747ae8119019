// Package event holds what evidence entries say: one type per thing that happens. The authoritative tables are a
// function of the events in log order, and of nothing else, which is what makes them provable (I1). It is pure.
package event

import (
	"encoding/json"
	"time"

	strictjson "github.com/go-json-experiment/json"

	"github.com/writ-project/writ/internal/access"
)

// Pseudonym stands for an entity in evidence: a keyed hash of its Ref, equal for equal entities.
type Pseudonym string

// Event is what an evidence entry says happened.
type Event interface {
	// EventType is the CloudEvents type of the entry.
	EventType() string
}

// Draft is an event that is to be recorded. Values are erasable: the entry holds salted commitments to them,
// by slot, and they lie beside it.
type Draft struct {
	Event  Event
	Task   string // the task it belongs to, if any
	Values map[string]json.RawMessage
}

// The slots under which values lie beside an entry.
const (
	SlotDocument = "document" // of a catalog object: a CatalogObject
	SlotInput    = "input"    // of a decision: an Input
	SlotPurpose  = "purpose"  // of a task: a Purpose
	SlotReason   = "reason"   // of an answer or an administrative act
	SlotCounter  = "counter"  // of a no: what would be looked at more kindly
	SlotComment  = "comment"  // of a comment: its text
	SlotDetail   = "detail"   // of a reported action
)

// Installed is the first entry of a log.
type Installed struct {
	Origin     string `json:"origin"`
	Engine     string `json:"engine"`
	Pseudonyms string `json:"pseudonyms"` // fingerprint of the key that pseudonyms are made with
}

// CatalogChanged records one object of the catalog added, changed or removed. Value: document.
type CatalogChanged struct {
	Kind   string    `json:"kind"`
	Object Pseudonym `json:"object"`
	Op     string    `json:"op"`
	By     By        `json:"by"`
}

// PolicyActivated records that a bundle decides from here on.
type PolicyActivated struct {
	Bundle string `json:"bundle"`
	By     By     `json:"by"`
}

// By says who decided on an act: which decision, or the operator who started the process.
type By struct {
	Kind     string    `json:"kind"` // "decision", "startup", "operator", "self" (a right of the subject itself), "clock"
	Decision string    `json:"decision,omitempty"`
	Identity Pseudonym `json:"identity,omitempty"`
}

// The kinds of By.
const (
	ByDecision = "decision"
	ByStartup  = "startup"
	ByOperator = "operator" // who runs a command on the log's host, with its key
	BySelf     = "self"
	ByClock    = "clock"
)

// FactsReported records what a fact source told. Values: each entity whole, under its position in Entities as slot.
type FactsReported struct {
	Source     string      `json:"source"`
	By         Pseudonym   `json:"by"`
	ObservedAt time.Time   `json:"observed_at"`
	Entities   []Pseudonym `json:"entities,omitempty"`
	Gone       []Pseudonym `json:"gone,omitempty"` // entities that no longer exist
}

// DecisionMade records a decision and what follows from it at once. Value: input.
type DecisionMade struct {
	ID        string         `json:"id"`
	Caller    Pseudonym      `json:"caller"`
	Subject   Pseudonym      `json:"subject"`
	Lender    Pseudonym      `json:"lender,omitempty"` // who passes the right on to the subject; what it counts, it counts for them
	Principal Pseudonym      `json:"principal,omitempty"`
	Action    access.Ref     `json:"action"`
	Resource  Pseudonym      `json:"resource"`
	Outcome   access.Outcome `json:"outcome"`
	Code      access.Code    `json:"code,omitempty"`
	Policies  []PolicyID     `json:"policies,omitempty"`
	Risk      int64          `json:"risk,omitempty"`
	Factors   []string       `json:"factors,omitempty"` // ids of the matching risk policies
	Bounds    access.Bounds  `json:"bounds,omitzero"`
	Bundle    string         `json:"bundle"`
	Engine    string         `json:"engine"`
	Grant     *GrantMade     `json:"grant,omitempty"`
	Asked     *ApprovalAsked `json:"approval,omitempty"`
	Consumed  string         `json:"consumed,omitempty"` // the approval that this decision used up
	Replaces  string         `json:"replaces,omitempty"` // the grant that this one renews
	Usage     []Usage        `json:"usage,omitempty"`
	Labels    []string       `json:"labels,omitempty"` // new to the task, or to the identity's window; what is lent touches the task alone
}

// PolicyID names a policy and its exact text.
type PolicyID struct {
	ID   string `json:"id"`
	Hash string `json:"hash"`
}

// GrantMade is a new grant. Its id is the decision's, so the credential can be signed before the commit.
type GrantMade struct {
	Parent     string          `json:"parent,omitempty"`
	Mode       access.Mode     `json:"mode"`
	Depth      int             `json:"depth,omitempty"`
	MaxUses    int64           `json:"max_uses,omitempty"`
	ExpiresAt  time.Time       `json:"expires_at"`
	Credential *CredentialMade `json:"credential,omitempty"`
}

// CredentialMade is what may be known of a credential: never the credential.
type CredentialMade struct {
	Connector   string    `json:"connector"`
	Fingerprint string    `json:"fingerprint"`
	Target      string    `json:"target"`
	ExpiresAt   time.Time `json:"expires_at"`
	BoundTo     string    `json:"bound_to,omitempty"` // thumbprint of the caller's key, or x5t#S256: and that of its certificate
}

// ApprovalAsked is a question put to people. Its id is the decision's.
type ApprovalAsked struct {
	Kind      access.ApprovalKind `json:"kind,omitempty"`
	Requires  []Asked             `json:"requires"`
	ExpiresAt time.Time           `json:"expires_at"`
}

// Asked is one requirement of a question.
type Asked struct {
	Policy string              `json:"policy"`
	Hash   string              `json:"hash"`
	Form   access.ApprovalForm `json:"form"`
}

// Usage adds to a counter of the subject.
type Usage struct {
	Counter string `json:"counter"`
	Bucket  int64  `json:"bucket"` // start of the bucket in Unix seconds
	Add     int64  `json:"add"`
	// Window is how long the counter looks back; buckets older than that are dropped when this one is counted.
	Window access.Seconds `json:"window"`
}

// ApprovalAnswered records what one person said, and where the approval stands now. Values: reason, counter.
type ApprovalAnswered struct {
	Approval      string                `json:"approval"`
	By            Pseudonym             `json:"by"`
	Card          string                `json:"card"`     // digest of what they were shown
	ShownAt       time.Time             `json:"shown_at"` // when
	Surface       string                `json:"surface"`  // where they answered
	Approve       bool                  `json:"approve"`
	TTL           access.Seconds        `json:"ttl,omitempty"`
	MaxUses       int64                 `json:"max_uses,omitempty"`
	Status        access.ApprovalStatus `json:"status"`
	ApprovedUntil time.Time             `json:"approved_until,omitzero"`
	Precedent     *PrecedentOf          `json:"precedent,omitempty"` // set when the answer closes the question
}

// PrecedentOf names what an answer is a precedent for.
type PrecedentOf struct {
	Subject  Pseudonym  `json:"subject"`
	Action   access.Ref `json:"action"`
	Resource string     `json:"resource"` // its type
	TaskType string     `json:"task_type"`
}

// ApprovalCommented records that somebody said something about a question. Value: comment.
type ApprovalCommented struct {
	Approval string    `json:"approval"`
	By       Pseudonym `json:"by"`
}

// ApprovalLapsed records that nobody answered in time.
type ApprovalLapsed struct {
	Approval string `json:"approval"`
}

// TaskOpened records a new task; its decision is the entry before it. Value: purpose.
type TaskOpened struct {
	ID        string         `json:"id"`
	Type      string         `json:"type"`
	Subject   Pseudonym      `json:"subject"`
	Principal Pseudonym      `json:"principal,omitempty"`
	Trace     string         `json:"trace"` // trace-id (W3C Trace Context)
	Decision  string         `json:"decision"`
	ExpiresAt time.Time      `json:"expires_at"`
	Heartbeat access.Seconds `json:"heartbeat,omitempty"`
}

// Purpose is the intent of a task in its opener's words: untrusted text.
type Purpose struct {
	Words     string `json:"words"`
	Reference string `json:"reference,omitempty"` // such as a ticket
	Trace     string `json:"trace,omitempty"`     // the trace-id that the opener goes by, if any
}

// TaskChanged records a step in a task's life cycle.
type TaskChanged struct {
	ID     string            `json:"id"`
	Status access.TaskStatus `json:"status"`
	Reason access.EndReason  `json:"reason,omitempty"`
	By     By                `json:"by"`
}

// TaskSealed is the last entry of a task: all it gave is provably gone.
type TaskSealed struct {
	ID      string    `json:"id"`
	Count   int64     `json:"count"` // of the task's entries, this one included
	Grants  int64     `json:"grants"`
	EndedAt time.Time `json:"ended_at"`
	GoneAt  time.Time `json:"gone_at"` // when the last credential had run out everywhere
	Proof   string    `json:"proof"`   // what kind of proof: "expired" for tokens that others verify offline
}

// GrantEnded records the end of a grant.
type GrantEnded struct {
	ID     string           `json:"id"`
	Reason access.EndReason `json:"reason"`
	By     By               `json:"by"`
}

// GrantReissued records a credential made again for a caller that lost the answer; the former grant is ended.
type GrantReissued struct {
	ID         string          `json:"id"`
	Replaces   string          `json:"replaces"`
	By         Pseudonym       `json:"by"`
	Credential *CredentialMade `json:"credential,omitempty"`
}

// ActionReported records what was done under a grant. Value: detail.
type ActionReported struct {
	Grant  string    `json:"grant"`
	Source string    `json:"source"` // "observed" by an enforcement point or "reported" by the subject: told apart, for ever
	By     Pseudonym `json:"by"`
	Status string    `json:"status"` // "succeeded" or "failed"
}

// UseDecided records whether one use of a grant may happen, which an enforcement point asked. It counts at every grant in Counted: the grant itself,
// and those above it whose uses are bounded (I3). Code says why the use was refused; then it counts nowhere.
type UseDecided struct {
	Grant   string      `json:"grant"`
	By      Pseudonym   `json:"by"`
	Counted []string    `json:"counted,omitempty"`
	Code    access.Code `json:"code,omitempty"`
}

// CredentialIssued records one more credential of a grant, made for its holder. With it the holder of what was lent touches it.
type CredentialIssued struct {
	Grant      string          `json:"grant"`
	By         Pseudonym       `json:"by"`
	Subject    Pseudonym       `json:"subject"` // the holder
	Credential *CredentialMade `json:"credential"`
	Labels     []string        `json:"labels,omitempty"` // new to the task, or to the identity's window
}

// The sources of ActionReported.
const (
	Observed = "observed"
	Reported = "reported"
)

// IdentityChanged records a new status of an identity. Value: reason.
type IdentityChanged struct {
	Identity Pseudonym     `json:"identity"`
	Status   access.Status `json:"status"`
	By       By            `json:"by"`
}

// AwayChanged records until when a person is away, as they say themselves; not after now: they are back.
type AwayChanged struct {
	Identity Pseudonym `json:"identity"`
	Until    time.Time `json:"until"`
}

// ValueErased records that values beside an entry were erased; its commitments stay.
type ValueErased struct {
	Index int64    `json:"index"`
	Slots []string `json:"slots"`
	By    By       `json:"by"`
}

// LogPruned records that entries and what lay beside them were deleted, in the transaction of this entry; their hashes stay.
// An archive holds them.
type LogPruned struct {
	Before  int64      `json:"before"`  // no entry from this index on was looked at
	Entries [][2]int64 `json:"entries"` // first and last index of each run that was deleted, ascending
	Values  int64      `json:"values"`  // how many values lay beside them
	Archive LogHead    `json:"archive"` // what the archive was checked against
	By      By         `json:"by"`
}

// LogHead names a state of the log.
type LogHead struct {
	Size int64  `json:"size"`
	Root string `json:"root"` // base64, as in a checkpoint
}

// LogRestored records that the log goes on from an older state than one that was acknowledged, or from another. Value: reason.
type LogRestored struct {
	Lost LogHead `json:"lost"` // what had been acknowledged
	From LogHead `json:"from"` // what the log goes on from
	By   By      `json:"by"`
}

// The CloudEvents types, one per event.

func (Installed) EventType() string         { return "writ.installed" }
func (CatalogChanged) EventType() string    { return "writ.catalog.changed" }
func (PolicyActivated) EventType() string   { return "writ.policy.activated" }
func (FactsReported) EventType() string     { return "writ.facts.reported" }
func (DecisionMade) EventType() string      { return "writ.decision.made" }
func (ApprovalAnswered) EventType() string  { return "writ.approval.answered" }
func (ApprovalCommented) EventType() string { return "writ.approval.commented" }
func (ApprovalLapsed) EventType() string    { return "writ.approval.lapsed" }
func (TaskOpened) EventType() string        { return "writ.task.opened" }
func (TaskChanged) EventType() string       { return "writ.task.changed" }
func (TaskSealed) EventType() string        { return "writ.task.sealed" }
func (GrantEnded) EventType() string        { return "writ.grant.ended" }
func (GrantReissued) EventType() string     { return "writ.grant.reissued" }
func (ActionReported) EventType() string    { return "writ.action.reported" }
func (UseDecided) EventType() string        { return "writ.use.decided" }
func (CredentialIssued) EventType() string  { return "writ.credential.issued" }
func (IdentityChanged) EventType() string   { return "writ.identity.changed" }
func (AwayChanged) EventType() string       { return "writ.identity.away" }
func (ValueErased) EventType() string       { return "writ.value.erased" }
func (LogPruned) EventType() string         { return "writ.log.pruned" }
func (LogRestored) EventType() string       { return "writ.log.restored" }

// Decode reads the data of an entry of the given type: names exactly as they are written, each once. ok is false for a type this
// version does not know.
func Decode(eventType string, data []byte) (event Event, ok bool, err error) {
	event = blank(eventType)
	if event == nil {
		return nil, false, nil
	}
	return event, true, strictjson.Unmarshal(data, event)
}

func blank(eventType string) Event {
	switch eventType {
	case Installed{}.EventType():
		return &Installed{}
	case CatalogChanged{}.EventType():
		return &CatalogChanged{}
	case PolicyActivated{}.EventType():
		return &PolicyActivated{}
	case FactsReported{}.EventType():
		return &FactsReported{}
	case DecisionMade{}.EventType():
		return &DecisionMade{}
	case ApprovalAnswered{}.EventType():
		return &ApprovalAnswered{}
	case ApprovalCommented{}.EventType():
		return &ApprovalCommented{}
	case ApprovalLapsed{}.EventType():
		return &ApprovalLapsed{}
	case TaskOpened{}.EventType():
		return &TaskOpened{}
	case TaskChanged{}.EventType():
		return &TaskChanged{}
	case TaskSealed{}.EventType():
		return &TaskSealed{}
	case GrantEnded{}.EventType():
		return &GrantEnded{}
	case GrantReissued{}.EventType():
		return &GrantReissued{}
	case ActionReported{}.EventType():
		return &ActionReported{}
	case UseDecided{}.EventType():
		return &UseDecided{}
	case CredentialIssued{}.EventType():
		return &CredentialIssued{}
	case IdentityChanged{}.EventType():
		return &IdentityChanged{}
	case AwayChanged{}.EventType():
		return &AwayChanged{}
	case ValueErased{}.EventType():
		return &ValueErased{}
	case LogPruned{}.EventType():
		return &LogPruned{}
	case LogRestored{}.EventType():
		return &LogRestored{}
	default:
		return nil
	}
}

// Change is what one use case wants recorded, all or nothing.
type Change struct {
	Drafts   []Draft
	Bundle   *Bundle   // content that a PolicyActivated draft names
	Remember *Remember // makes the answer repeatable
}

// Bundle is a policy bundle by its hash.
type Bundle struct {
	Hash    string
	Content []byte
}

// Remember keeps what an idempotency key stood for, until it expires.
type Remember struct {
	Subject Pseudonym
	Key     string
	Digest  []byte // of route and body
	Result  string
	Expires time.Time
}

// Receipt says where a change stands in the log: the index of each draft's entry, and the time they carry.
type Receipt struct {
	Indexes []int64
	Time    time.Time
}

// The operations on catalog objects, and the kind whose objects have a status.
const (
	OpAdded      = "added"
	OpChanged    = "changed"
	OpRemoved    = "removed"
	KindIdentity = "identity"
)

// CatalogState is the declared state of an installation: what decisions are made from besides tasks and facts.
type CatalogState struct {
	Objects  []CatalogObject
	Statuses map[Pseudonym]IdentityStatus
	Bundle   Bundle // zero before the first activation
}

// IdentityStatus is where an identity stands, and since when.
type IdentityStatus struct {
	Status access.Status
	Was    access.Status // before; "" if it is new
	Since  time.Time     // time of the entry that set it
	Away   time.Time     // until then
}

// CatalogObject is one declared object as JSON.
type CatalogObject struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	Doc  json.RawMessage `json:"doc"`
}
