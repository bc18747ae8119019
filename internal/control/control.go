// Package control holds the use cases, one method each: it loads facts, has access and policy decide, and has state and
// evidence recorded together. It knows no protocol, no database and no key format; what it needs of them are the small
// interfaces below. A Control is safe for concurrent use.
package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Ledger keeps state and evidence together. Update runs decide on the present state and records what it returns, all or
// nothing; when it returns without an error, that is durable. decide may run twice: if something it read has changed by
// the time of the commit, it runs again on what is so then. Revoke is Update on reserved space, for what only takes
// access away. Errors wrap access.ErrUnavailable, or are those of decide.
type Ledger interface {
	Update(ctx context.Context, decide func(View) (event.Change, error)) (event.Receipt, error)
	Revoke(ctx context.Context, decide func(View) (event.Change, error)) (event.Receipt, error)
	Read(ctx context.Context, read func(View) error) error
	Beat(ctx context.Context, task string, at time.Time) error
	NoteStrangers(ctx context.Context, seen []access.Stranger) error
}

// View reads the present state and remembers what a decision depends on. Lookups of what is not there return
// access.ErrNotFound, failures access.ErrUnavailable.
type View interface {
	Now() time.Time
	Pseudonym(ref access.Ref) event.Pseudonym
	// MAC authenticates a text for the use that the label names, the same in every process of an installation.
	MAC(label, text string) []byte

	CatalogVersion() (int64, error)
	Catalog() (event.CatalogState, error)
	BundleContent(hash string) ([]byte, error)

	Task(id string) (access.Task, error)
	Tasks(subject access.Ref, limit int) ([]access.Task, error)
	OpenTasks(subject access.Ref, taskType string) (int64, error)
	UnendedTasks(subject access.Ref, limit int) ([]access.Task, error)
	OverdueTasks(now time.Time, limit int) ([]access.Task, error)
	EndedTasks(goneBy time.Time, limit int) ([]access.Task, error)
	TaskEntries(task string) (int64, error)

	Grant(id string) (access.Grant, error)
	ActiveGrants(task string, now time.Time) ([]access.Grant, error)
	GrantsOfTask(task string) ([]access.Grant, error)
	LentGrants(subject access.Ref, limit int) ([]access.Grant, error)
	LiveLentGrants(subject access.Ref, now time.Time, limit int) ([]access.Grant, error)

	Approval(id string) (access.Approval, error)
	Comments(approval string) ([]access.Comment, error)
	OpenQuestions(asker access.Ref) (int64, error)
	PendingApprovals(limit int) ([]access.Approval, error)
	LapsedApprovals(now time.Time, limit int) ([]access.Approval, error)

	Strangers(after *access.Stranger, limit int) ([]access.Stranger, error)

	Fact(ref access.Ref) (access.Fact, error)
	LastTold(ref access.Ref) (time.Time, error)
	Usage(subject access.Ref, counter string, from int64) (int64, error)
	Touched(subject access.Ref, since time.Time) ([]string, error)
	Precedent(subject, action access.Ref, resourceType, taskType string) (access.Precedent, error)

	Remembered(subject access.Ref, key string) (event.Remember, bool, error)
	DecisionIndex(id string) (int64, error)
	DecisionEvent(index int64) (event.DecisionMade, error)
	Input(index int64) (*access.Input, error)
	Value(index int64, slot string) (json.RawMessage, error)
}

// Issuer makes the credentials that Writ signs itself, and knows them again. It must not leave the process with them.
type Issuer interface {
	Issue(c Credential) (Token, error)
	// Recognize reads a credential that it issued and that has not expired at now; ok is false for everything else.
	Recognize(token string, now time.Time) (known Recognized, ok bool)
}

// Recognized is what a credential says of itself.
type Recognized struct {
	Grant   string
	Target  string
	BoundTo string
	Claims  json.RawMessage // of the credential, as they stand in it
}

// Credential is what a credential shall say.
type Credential struct {
	Grant     string // its id, inside the credential, joins the target's log to the decision
	Subject   access.Ref
	Action    access.Ref
	Resource  access.Ref
	Args      json.RawMessage
	Target    string // audience
	Task      string
	Trace     string       // of the task
	Principal access.Ref   // the human it is for; zero: none
	Lenders   []access.Ref // who passed the right on, the latest first, the root of the chain last
	IssuedAt  time.Time
	ExpiresAt time.Time
	BoundTo   string // thumbprint of the caller's key, if it proved one
}

// Token is a credential that was made. Secret is released only after the evidence is durable (I2).
type Token struct {
	Connector   string
	Secret      string
	Fingerprint string
}

// Caller is who has authenticated.
type Caller struct {
	Identity access.Ref
	// AuthenticatedAt is when a person last logged in, as far as their token or session says; zero: nobody knows.
	AuthenticatedAt time.Time
	BoundTo         string // what the caller proved to hold, if anything: the thumbprint of a key, or ByCertificate and that of a certificate
}

// ByCertificate tells the thumbprint of a certificate (RFC 8705) from that of a DPoP key (RFC 9449).
const ByCertificate = "x5t#S256:"

// Binding tells whether what somebody is bound to is a key or a certificate; both are empty if it is nothing.
func Binding(boundTo string) (key, certificate string) {
	if certificate, ok := strings.CutPrefix(boundTo, ByCertificate); ok {
		return "", certificate
	}
	return boundTo, ""
}

// Options configure a Control.
type Options struct {
	Ledger Ledger
	Issuer Issuer
	Engine string        // version, named in every decision
	NewID  func() string // time-ordered, unguessable
	Log    *slog.Logger
	Limits Limits
	// Bound refuses a credential to a caller who proved neither a key nor a certificate.
	Bound bool
	// Decided is told of every recorded decision; for metrics. It may be nil.
	Decided func(access.Outcome, access.Code)
}

// Control is the use cases on one ledger.
type Control struct {
	ledger    Ledger
	issuer    Issuer
	engine    string
	newID     func() string
	log       *slog.Logger
	limits    *limiter
	bound     bool
	current   atomic.Pointer[snapshot]
	changed   notifier
	reads     readCache
	strangers *strangers
	decided   func(access.Outcome, access.Code)
}

// New returns a Control.
func New(o Options) *Control {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Control{
		ledger: o.Ledger, issuer: o.Issuer, engine: o.Engine, newID: o.NewID, log: o.Log,
		limits: newLimiter(o.Limits), bound: o.Bound, changed: newNotifier(), reads: newReadCache(), strangers: newStrangers(), decided: o.Decided,
	}
}
