package client

import (
	"encoding/json"
	"time"
)

// The outcomes of a decision.
const (
	Allow         = "allow"
	NeedsApproval = "needs_approval"
	Deny          = "deny"
)

// The two modes of a request: use a right, or hold it to lend it.
const (
	Use      = "use"
	Delegate = "delegate"
)

// The statuses of an approval.
const (
	ApprovalPending  = "pending"
	ApprovalApproved = "approved"
	ApprovalDenied   = "denied"
	ApprovalExpired  = "expired"
	ApprovalConsumed = "consumed"
)

// Evidence says where a thing stands in the log.
type Evidence struct {
	Index int64 `json:"index"`
}

// OpenTask opens a task.
type OpenTask struct {
	Type      string `json:"type"`
	Purpose   string `json:"purpose"`             // in words, at most 4000 bytes
	Reference string `json:"reference,omitempty"` // such as a ticket, at most 200 bytes
	TTL       int64  `json:"ttl,omitempty"`       // seconds wanted; 0: as long as the type of the task lets it live
	// PrincipalToken is a token of the human for whom this is, which that human gave to the agent for it.
	PrincipalToken string `json:"principal_token,omitempty"`
	// Trace is the W3C trace-id that this belongs to; the server makes one if it is empty. It is a header, not part of the body.
	Trace string `json:"-"`
	// IdempotencyKey is made if it is empty. It is a header, not part of the body.
	IdempotencyKey string `json:"-"`
}

// Task is one piece of work, the root of everything granted for it.
type Task struct {
	ID          string    `json:"id"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Principal   string    `json:"principal,omitempty"` // the human it is for
	Trace       string    `json:"trace,omitempty"`     // trace-id (W3C Trace Context) of all that is done for it
	Status      string    `json:"status"`              // open, paused, ended or sealed
	Reason      string    `json:"reason,omitempty"`
	Purpose     string    `json:"purpose,omitempty"`
	Reference   string    `json:"reference,omitempty"`
	OpenedAt    time.Time `json:"opened_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	EndedAt     time.Time `json:"ended_at,omitzero"`
	Heartbeat   int64     `json:"heartbeat,omitempty"` // longest silence in seconds; 0: no heartbeat is asked for
	HeartbeatAt time.Time `json:"heartbeat_at"`
	Labels      []string  `json:"labels,omitempty"`  // touched so far
	Grants      []string  `json:"grants,omitempty"`  // ids
	Entries     int64     `json:"entries,omitempty"` // in the evidence log
}

// AccessRequest asks for one action on one resource.
type AccessRequest struct {
	Task     string          `json:"task"`
	Action   string          `json:"action"`         // Action::"refund", or short refund
	Resource string          `json:"resource"`       // Type::"id"
	Args     json.RawMessage `json:"args,omitempty"` // a JSON object
	// Constraints leave arguments of a right to lend open, instead of Args: by argument, an object with a type (exact, range, one_of,
	// not_one_of, contains, subset, wildcard, all, any) and what it needs.
	Constraints json.RawMessage `json:"constraints,omitempty"`
	TTL         int64           `json:"ttl,omitempty"`      // seconds wanted; 0: as policy gives
	MaxUses     int64           `json:"max_uses,omitempty"` // 0: as policy gives
	Mode        string          `json:"mode,omitempty"`     // use (default) or delegate: to lend it, and not to use it
	Hops        int             `json:"hops,omitempty"`     // how often a right to lend may be passed on; 0: as often as any
	Parent      string          `json:"parent,omitempty"`   // grant to ask under
	Subject     string          `json:"subject,omitempty"`  // for enforcement points: on whose behalf
	// IdempotencyKey is made if it is empty. It is a header, not part of the body.
	IdempotencyKey string `json:"-"`
}

// Delegation passes part of a right to lend on to somebody else. What is left out is as in the right that it is part of.
type Delegation struct {
	To          string          `json:"to"`                    // identity
	Args        json.RawMessage `json:"args,omitempty"`        // a JSON object
	Constraints json.RawMessage `json:"constraints,omitempty"` // of a right to lend on, instead of Args
	TTL         int64           `json:"ttl,omitempty"`         // seconds; more than the right has left is refused
	MaxUses     int64           `json:"max_uses,omitempty"`    // more than the right has left is refused
	Mode        string          `json:"mode,omitempty"`        // use (default) or delegate: to lend it on
	Hops        int             `json:"hops,omitempty"`        // how often a right to lend may be passed on below
	// IdempotencyKey is made if it is empty. It is a header, not part of the body.
	IdempotencyKey string `json:"-"`
}

// IssuedCredential is one more credential of a grant.
type IssuedCredential struct {
	Grant      Grant      `json:"grant"`
	Credential Credential `json:"credential"`
	Evidence   Evidence   `json:"evidence"`
}

// Used is a use that may happen now: it has been counted.
type Used struct {
	Grant    Grant    `json:"grant"`
	Evidence Evidence `json:"evidence"`
}

// Introspection is what a credential is good for at this moment (RFC 7662 section 2.2). Only Active is there if it is not good.
type Introspection struct {
	Active       bool         `json:"active"`
	Subject      string       `json:"sub,omitempty"`       // on whose behalf: the human, or else the root of the chain
	ClientID     string       `json:"client_id,omitempty"` // who holds it
	Audience     string       `json:"aud,omitempty"`
	GrantID      string       `json:"jti,omitempty"`
	ExpiresAt    int64        `json:"exp,omitempty"` // Unix seconds
	Trace        string       `json:"txn,omitempty"` // trace-id of the task
	Actor        *Actor       `json:"act,omitempty"`
	Confirmation Confirmation `json:"cnf,omitzero"`
	Details      []Details    `json:"authorization_details,omitempty"`
}

// Actor is who acts, the latest outermost (RFC 8693 section 4.1). It informs, and authorizes nothing.
type Actor struct {
	Subject string `json:"sub"`
	Actor   *Actor `json:"act,omitempty"`
}

// Confirmation says what the holder must prove: a DPoP key (RFC 9449) or a certificate (RFC 8705), by thumbprint. Empty: nothing.
type Confirmation struct {
	Key         string `json:"jkt,omitempty"`
	Certificate string `json:"x5t#S256,omitempty"`
}

// Details are what exactly a credential is for (RFC 9396).
type Details struct {
	Type       string `json:"type"` // writ_grant
	Action     string `json:"action"`
	Resource   string `json:"resource"`
	ArgsDigest string `json:"args_digest,omitempty"` // sha256: and the hexadecimal hash of the arguments as they were asked with
	Task       string `json:"task"`
}

// Outcome is a decision and what came of it.
type Outcome struct {
	Decision   Decision    `json:"decision"`
	Grant      *Grant      `json:"grant,omitempty"`
	Credential *Credential `json:"credential,omitempty"`
	Approval   *Approval   `json:"approval,omitempty"` // the question to wait for, if the outcome is needs_approval
	Task       *Task       `json:"task,omitempty"`
	Evidence   Evidence    `json:"evidence"`
}

// Decision is what was decided. Request and Account are there only when it is read by itself, Account only for owners and auditors.
type Decision struct {
	ID       string    `json:"id"`
	Outcome  string    `json:"outcome"` // allow, needs_approval or deny
	Code     string    `json:"code,omitempty"`
	Time     time.Time `json:"time"`
	Repeated bool      `json:"repeated,omitempty"` // the answer to a call that was made before
	Request  *Asked    `json:"request,omitempty"`
	Bundle   string    `json:"bundle,omitempty"` // hash of the policy bundle
	Engine   string    `json:"engine,omitempty"`
	Account  *Account  `json:"account,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"`
}

// Asked is what a decision was made on.
type Asked struct {
	Subject     string          `json:"subject"`
	Principal   string          `json:"principal,omitempty"`
	Action      string          `json:"action"`
	Resource    string          `json:"resource"`
	Args        json.RawMessage `json:"args,omitempty"`
	Constraints json.RawMessage `json:"constraints,omitempty"`
	TTL         int64           `json:"ttl,omitempty"`
	MaxUses     int64           `json:"max_uses,omitempty"`
	Mode        string          `json:"mode"`
	Task        string          `json:"task,omitempty"`
	Parent      string          `json:"parent,omitempty"`
	Lender      string          `json:"lender,omitempty"` // who passes it on
}

// Account is the full account of a decision, for owners, approvers and auditors.
type Account struct {
	Policies []Policy        `json:"policies,omitempty"`
	Requires []Requirement   `json:"requires,omitempty"`
	Risk     Risk            `json:"risk"`
	Bounds   Bounds          `json:"bounds"`
	Derived  json.RawMessage `json:"derived,omitempty"`
	Problem  string          `json:"problem,omitempty"` // behind policy_error
}

// Policy is a policy that determined an outcome, in its own words.
type Policy struct {
	ID      string   `json:"id"`
	Hash    string   `json:"hash"`
	Owner   string   `json:"owner"`
	Because string   `json:"because,omitempty"`
	Control []string `json:"control,omitempty"`
}

// Requirement is an approval that a matching policy asks for.
type Requirement struct {
	Policy  string `json:"policy"`
	Hash    string `json:"hash"`
	Form    string `json:"form"` // resource-owner, team:NAME, 2 of team:NAME, identity-owner, confirm
	Because string `json:"because"`
	Reason  bool   `json:"reason,omitempty"` // an answer must say why
	Fresh   int64  `json:"fresh,omitempty"`  // seconds since the login of whoever says yes, at most; 0: any
}

// Risk is the score and what it is made of.
type Risk struct {
	Score   int64    `json:"score"`
	Factors []Factor `json:"factors,omitempty"`
}

// Factor is one matching risk policy.
type Factor struct {
	Policy  string `json:"policy"`
	Points  int64  `json:"points"`
	Because string `json:"because"`
}

// Bounds limit what is granted; each names the policy that set it.
type Bounds struct {
	MaxTTL        int64     `json:"max_ttl,omitempty"`
	MaxTTLPolicy  string    `json:"max_ttl_policy,omitempty"`
	Until         time.Time `json:"until,omitzero"`
	UntilPolicy   string    `json:"until_policy,omitempty"`
	MaxUses       int64     `json:"max_uses,omitempty"`
	MaxUsesPolicy string    `json:"max_uses_policy,omitempty"`
}

// Grant is the right that results from a decision.
type Grant struct {
	ID          string          `json:"id"`
	Parent      string          `json:"parent,omitempty"`
	Task        string          `json:"task"`
	Subject     string          `json:"subject"`
	Action      string          `json:"action"`
	Resource    string          `json:"resource"`
	Args        json.RawMessage `json:"args,omitempty"`
	Constraints json.RawMessage `json:"constraints,omitempty"` // of a right to lend: what its arguments must be, instead of Args
	Mode        string          `json:"mode"`
	Depth       int             `json:"depth,omitempty"`    // how many grants are above it
	Hops        int             `json:"hops,omitempty"`     // of a right to lend: how often it may still be passed on
	MaxUses     int64           `json:"max_uses,omitempty"` // 0: not counted
	Uses        int64           `json:"uses,omitempty"`
	Status      string          `json:"status"` // active or ended
	Reason      string          `json:"reason,omitempty"`
	GrantedAt   time.Time       `json:"granted_at"`
	ExpiresAt   time.Time       `json:"expires_at"`
	EndedAt     time.Time       `json:"ended_at,omitzero"`
	// Live and NotLive are there when the grant is read: whether it and everything above it is alive, and if not, why.
	Live    *bool  `json:"live,omitempty"`
	NotLive string `json:"not_live,omitempty"`
	// Principal, Trace and Chain are there when the grant is read: the human it is for, the trace-id of its task, and the grants above it, parent first.
	Principal string    `json:"principal,omitempty"`
	Trace     string    `json:"trace,omitempty"`
	Chain     []Link    `json:"chain,omitempty"`
	Evidence  *Evidence `json:"evidence,omitempty"`
}

// Link is one grant above or below another.
type Link struct {
	Grant       string          `json:"grant"`
	Holder      string          `json:"holder"`
	Mode        string          `json:"mode"`
	Args        json.RawMessage `json:"args,omitempty"`
	Constraints json.RawMessage `json:"constraints,omitempty"`
	ExpiresAt   time.Time       `json:"expires_at"`
	Decision    string          `json:"decision,omitempty"` // in an account of access
	Account     *Account        `json:"account,omitempty"`  // the same, but not for the subject itself
	Evidence    Evidence        `json:"evidence"`           // of its decision
}

// Credential is shown once, and kept nowhere.
type Credential struct {
	Type      string    `json:"type"` // Bearer, or DPoP if it is bound to a key
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
	BoundTo   string    `json:"bound_to,omitempty"` // thumbprint of the key, or x5t#S256: and that of the certificate
}

// Approval is a question put to people. Who asked sees how it stands; who may answer it sees the whole card.
type Approval struct {
	ID            string     `json:"id"`
	Status        string     `json:"status"` // pending, approved, denied, expired or consumed
	Task          string     `json:"task,omitempty"`
	Subject       string     `json:"subject"`
	AskedAt       time.Time  `json:"asked_at"`
	ExpiresAt     time.Time  `json:"expires_at"`              // of the question
	ApprovedUntil time.Time  `json:"approved_until,omitzero"` // of the yes: redeem it before
	MayAnswer     bool       `json:"may_answer,omitempty"`    // the reader
	Asked         bool       `json:"asked,omitempty"`         // the reader is among those who are asked now
	Request       *Asked     `json:"request,omitempty"`
	Account       *Account   `json:"account,omitempty"`
	TaskType      string     `json:"task_type,omitempty"`
	Purpose       string     `json:"purpose,omitempty"` // the agent's words: untrusted
	Reference     string     `json:"reference,omitempty"`
	Precedent     *Precedent `json:"precedent,omitempty"`
	Answers       []Answer   `json:"answers,omitempty"`
	Comments      []Comment  `json:"comments,omitempty"`
	Counter       *Counter   `json:"counter,omitempty"` // of the no that ended the question: ask for that instead
	Chain         []Link     `json:"chain,omitempty"`   // the grants that it is asked under, parent first
	Digest        string     `json:"digest,omitempty"`  // of what the card says, the same for everybody
	Card          string     `json:"card,omitempty"`    // what an answer must name: that this card was shown to this reader
	Outlook       *Outlook   `json:"outlook,omitempty"` // in the answer to a yes
	Evidence      *Evidence  `json:"evidence,omitempty"`
}

// Outlook is what policy would say of an approved request now, with the facts of this moment.
type Outlook struct {
	Outcome string   `json:"outcome"`
	Code    string   `json:"code,omitempty"`
	Account *Account `json:"account,omitempty"`
}

// NewComment is something to say about a question.
type NewComment struct {
	Text string `json:"text"` // at most 2000 bytes
}

// Comment is what somebody said about a question: who may answer it asks back, who asked it replies. Who asked is not told who asks back.
type Comment struct {
	By   string    `json:"by,omitempty"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// Counter is what a person who says no would look at more kindly. It grants nothing: ask for it.
type Counter struct {
	Words   string          `json:"words,omitempty"`
	Args    json.RawMessage `json:"args,omitempty"`
	TTL     int64           `json:"ttl,omitempty"`
	MaxUses int64           `json:"max_uses,omitempty"`
}

// Precedent is what people answered before to the same identity, action, type of resource and type of task.
type Precedent struct {
	Approvals int64 `json:"approvals"`
	Denials   int64 `json:"denials"`
	Reversals int64 `json:"reversals"`
}

// Answer is what one person said.
type Answer struct {
	By      string    `json:"by"`
	Approve bool      `json:"approve"`
	TTL     int64     `json:"ttl,omitempty"`
	MaxUses int64     `json:"max_uses,omitempty"`
	At      time.Time `json:"at"`
}

// Absence says until when the caller is away; a time that is past: they are back.
type Absence struct {
	Until time.Time `json:"until"`
}

// Away is what an absence means.
type Away struct {
	Until      time.Time `json:"until"`
	Substitute string    `json:"substitute,omitempty"` // who is asked in their place; none: nobody is
	Evidence   Evidence  `json:"evidence"`
}

// Approvals are the questions that the caller is asked or may answer, the riskiest first.
type Approvals struct {
	Approvals []Approval `json:"approvals"`       // at most 100
	Total     int        `json:"total,omitempty"` // with those that are not listed
}

// Reply answers a question.
type Reply struct {
	Approve bool   `json:"approve"`
	TTL     int64  `json:"ttl,omitempty"`      // seconds, narrower than was asked; 0: as asked
	MaxUses int64  `json:"max_uses,omitempty"` // 0: as asked
	Reason  string `json:"reason,omitempty"`   // at most 2000 bytes
	Card    string `json:"card"`               // of the approval as it was read: what is answered is what was shown
	// Counter goes with a no.
	Counter *Counter `json:"counter,omitempty"`
}

// Renewal asks for a grant for longer.
type Renewal struct {
	TTL int64 `json:"ttl,omitempty"` // seconds; 0: as policy gives
}

// Revocation ends a task or a grant.
type Revocation struct {
	Reason   string `json:"reason,omitempty"`
	Approval string `json:"approval,omitempty"` // that speaks for it, where policy asked for one before
}

// Action reports what was done under a grant.
type Action struct {
	Status string          `json:"status"`           // succeeded or failed
	Detail json.RawMessage `json:"detail,omitempty"` // a JSON object
}

// StatusChange suspends an identity or makes it active again.
type StatusChange struct {
	Identity string `json:"identity"`
	Reason   string `json:"reason,omitempty"`
	Approval string `json:"approval,omitempty"` // that speaks for it, where policy asked for one before
}

// Erasure erases values that lie beside an entry, for good.
type Erasure struct {
	Slots    []string `json:"slots"`
	Reason   string   `json:"reason,omitempty"`
	Approval string   `json:"approval,omitempty"` // that speaks for it, where policy asked for one before
}

// Done acknowledges an act. Decision is absent where the caller acts by its own right and no policy is asked.
type Done struct {
	Decision *Decision `json:"decision,omitempty"`
	Approval *Approval `json:"approval,omitempty"`
	Task     *Task     `json:"task,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"` // absent if there was nothing left to do
}

// Facts are what a fact source tells. Each entity is told whole.
type Facts struct {
	ObservedAt time.Time `json:"observed_at,omitzero"` // zero: now
	Facts      []Fact    `json:"facts"`
}

// Fact is what is told of one entity.
type Fact struct {
	ID         string          `json:"id"`
	Attributes json.RawMessage `json:"attributes,omitempty"` // a JSON object
	Parents    []string        `json:"parents,omitempty"`
	Gone       bool            `json:"gone,omitempty"` // it no longer exists
}

// Configuration is a folder to make the declared state: catalog/*.yaml and policy/**. A half without files stays as it is.
type Configuration struct {
	Files map[string]string `json:"files"`
	// Approvals name the approval that speaks for an act, by apply_catalog or activate_policy, where policy asked for one.
	Approvals map[string]string `json:"approvals,omitempty"`
	DryRun    bool              `json:"dry_run,omitempty"`
}

// Applied is what applying a configuration changed, or would change.
type Applied struct {
	Changes   []string  `json:"changes"`
	Bundle    string    `json:"bundle"`           // hash of the bundle that is active afterwards
	Former    string    `json:"former,omitempty"` // hash of the one before, if it changes
	Decisions []Outcome `json:"decisions"`
	DryRun    bool      `json:"dry_run,omitempty"`
	Applied   bool      `json:"applied"` // false for a dry run, and while people must approve
}

// Access is what a subject has or had, and why.
type Access struct {
	Subject string      `json:"subject"`
	At      time.Time   `json:"at,omitzero"` // zero: now
	Access  []HeldRight `json:"access"`
}

// HeldRight is one right and the decision behind it.
type HeldRight struct {
	Grant     Grant     `json:"grant"`
	TaskType  string    `json:"task_type"`
	Purpose   string    `json:"purpose,omitempty"`
	Reference string    `json:"reference,omitempty"`
	Decision  string    `json:"decision"`
	Account   *Account  `json:"account,omitempty"` // absent for the subject itself
	LentTo    []Link    `json:"lent_to,omitempty"` // the grants right below it, of others
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// Values are what lies beside an entry, by slot: the salt and the exact bytes that the entry commits to.
type Values struct {
	Values map[string]json.RawMessage `json:"values"`
}

// Identity is who the server takes the caller for.
type Identity struct {
	Identity string `json:"identity"`
	BoundTo  string `json:"bound_to,omitempty"` // thumbprint of the key that the caller proved to hold, or x5t#S256: and that of its certificate
}

// Problem is a no, or a failure (RFC 9457).
type Problem struct {
	Type      string    `json:"type"` // urn:writ:error:<code>
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail,omitempty"`
	Code      string    `json:"code"`
	Reason    string    `json:"reason,omitempty"` // with unauthenticated: what is wrong with the token
	Next      string    `json:"next,omitempty"`   // the next legal step
	Decision  string    `json:"decision,omitempty"`
	Approval  string    `json:"approval,omitempty"`
	Evidence  *Evidence `json:"evidence,omitempty"`
	RequestID string    `json:"request_id"`
	Faults    []Fault   `json:"faults,omitempty"`  // of a configuration
	MaxAge    int64     `json:"max_age,omitempty"` // with reauthentication_required: seconds since the login, at most

	// RetryAfter is how long the server asks to wait; from the header.
	RetryAfter time.Duration `json:"-"`
}

// Fault is one thing wrong with a configuration.
type Fault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`   // from 1; 0: the whole file
	Column  int    `json:"column,omitempty"` // from 1; 0: the whole line
	Message string `json:"message"`
}

// Error says what happened, and what may be done about it.
func (p *Problem) Error() string {
	text := p.Code
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	if p.Next != "" {
		text += " (" + p.Next + ")"
	}
	if p.RequestID != "" {
		text += " [request " + p.RequestID + "]"
	}
	return text
}

// Is matches another *Problem by its code, so errors.Is(err, &Problem{Code: "forbidden"}) works.
func (p *Problem) Is(target error) bool {
	other, ok := target.(*Problem)
	return ok && other.Code == p.Code
}
