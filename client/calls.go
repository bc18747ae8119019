package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// OpenTask opens a task. A no is a *Problem; if people must agree, the outcome is NeedsApproval and has an Approval.
func (c *Client) OpenTask(ctx context.Context, open OpenTask) (*Outcome, error) {
	x := post("/v1/tasks", open).keyed(open.IdempotencyKey)
	if open.Trace != "" && (len(open.Trace) != 32 || !traceID.MatchString(open.Trace)) {
		return nil, errors.New("client: a trace-id has 32 lower-case hexadecimal digits, not all zero (W3C Trace Context)")
	}
	x.trace = open.Trace
	return call[Outcome](ctx, c, x)
}

// Task reads a task.
func (c *Client) Task(ctx context.Context, id string) (*Task, error) {
	return call[Task](ctx, c, get(below("/v1/tasks/%s", id)))
}

// Heartbeat says that the caller's task is alive.
func (c *Client) Heartbeat(ctx context.Context, id string) (*Task, error) {
	return call[Task](ctx, c, post(below("/v1/tasks/%s/heartbeat", id), nil).repeatable())
}

// CompleteTask ends the caller's task: everything granted for it is dead at once.
func (c *Client) CompleteTask(ctx context.Context, id string) (*Done, error) {
	return call[Done](ctx, c, post(below("/v1/tasks/%s/complete", id), nil).repeatable())
}

// PauseTask stops all grants of the caller's task until it is resumed. No clock stops.
func (c *Client) PauseTask(ctx context.Context, id string) (*Done, error) {
	return call[Done](ctx, c, post(below("/v1/tasks/%s/pause", id), nil).repeatable())
}

// ResumeTask opens a paused task again: a new decision. It is not retried.
func (c *Client) ResumeTask(ctx context.Context, id string) (*Outcome, error) {
	return call[Outcome](ctx, c, post(below("/v1/tasks/%s/resume", id), nil))
}

// RevokeTask ends a task and everything granted for it.
func (c *Client) RevokeTask(ctx context.Context, id string, revocation Revocation) (*Done, error) {
	return call[Done](ctx, c, post(below("/v1/tasks/%s/revoke", id), revocation).repeatable())
}

// Request asks for one action on one resource. A no is a *Problem; if people must agree, the outcome is NeedsApproval:
// wait with WaitApproval, then RedeemApproval.
func (c *Client) Request(ctx context.Context, ask AccessRequest) (*Outcome, error) {
	return call[Outcome](ctx, c, post("/v1/requests", ask).keyed(ask.IdempotencyKey))
}

// Decision reads a decision.
func (c *Client) Decision(ctx context.Context, id string) (*Decision, error) {
	return call[Decision](ctx, c, get(below("/v1/decisions/%s", id)))
}

// Grant reads a grant, and whether it is alive.
func (c *Client) Grant(ctx context.Context, id string) (*Grant, error) {
	return call[Grant](ctx, c, get(below("/v1/grants/%s", id)))
}

// RenewGrant asks for a grant for longer, ttl in seconds (0: as policy gives). The former grant ends with it.
func (c *Client) RenewGrant(ctx context.Context, id string, ttl int64) (*Outcome, error) {
	return call[Outcome](ctx, c, post(below("/v1/grants/%s/renew", id), Renewal{ttl}).keyed(""))
}

// Delegate passes part of a right to lend, which the caller holds, on to somebody else. A no is a *Problem; if people must agree,
// the outcome is NeedsApproval. The receiver gets the credential with IssueCredential.
func (c *Client) Delegate(ctx context.Context, grant string, part Delegation) (*Outcome, error) {
	return call[Outcome](ctx, c, post(below("/v1/grants/%s/delegate", grant), part).keyed(part.IdempotencyKey))
}

// IssueCredential makes a credential of a live grant that the caller holds: the first one of what was lent to it, or another one.
func (c *Client) IssueCredential(ctx context.Context, grant string) (*IssuedCredential, error) {
	return call[IssuedCredential](ctx, c, post(below("/v1/grants/%s/credential", grant), nil).repeatable())
}

// CountUse asks, as who guards it, whether one use of a grant may happen now, and counts it. It is not retried: a repeated use counts twice.
func (c *Client) CountUse(ctx context.Context, grant string) (*Used, error) {
	return call[Used](ctx, c, post(below("/v1/grants/%s/uses", grant), nil))
}

// Introspect asks, as who guards a target, what a credential is good for at this moment (RFC 7662). One that is not good, or not for
// the caller to know, is inactive, and nothing else is said of it. Whether it was shown by whom it is bound to is for the caller to
// check: see Introspection.Confirmation.
func (c *Client) Introspect(ctx context.Context, token string) (*Introspection, error) {
	return call[Introspection](ctx, c, exchange{method: http.MethodPost, path: "/oauth/introspect", form: url.Values{"token": {token}}, again: true})
}

// ReportAction says what was done under a grant. It is not retried: a repeated report counts twice.
func (c *Client) ReportAction(ctx context.Context, grant string, action Action) (*Done, error) {
	return call[Done](ctx, c, post(below("/v1/grants/%s/actions", grant), action))
}

// RevokeGrant ends a grant and everything below it.
func (c *Client) RevokeGrant(ctx context.Context, id string, revocation Revocation) (*Done, error) {
	return call[Done](ctx, c, post(below("/v1/grants/%s/revoke", id), revocation).repeatable())
}

// SetAway says until when the caller, a person, is away; a time that is past: they are back.
func (c *Client) SetAway(ctx context.Context, until time.Time) (*Away, error) {
	return call[Away](ctx, c, post("/v1/away", Absence{Until: until}))
}

// Approvals lists the questions that the caller is asked, the riskiest first, at most 100.
func (c *Client) Approvals(ctx context.Context) ([]Approval, error) {
	out, err := call[Approvals](ctx, c, get("/v1/approvals"))
	if err != nil {
		return nil, err
	}
	return out.Approvals, nil
}

// Approval reads a question as it stands.
func (c *Client) Approval(ctx context.Context, id string) (*Approval, error) {
	return c.pollApproval(ctx, id, 0)
}

var traceID = regexp.MustCompile(`^[0-9a-f]*[1-9a-f][0-9a-f]*$`)

const (
	pollTime  = 50 * time.Second
	pollPause = time.Second // between polls that return at once
)

// WaitApproval waits until a question is no longer pending, or ctx ends. How it came out is in the Status; RedeemApproval
// turns an approved one into what was asked for.
func (c *Client) WaitApproval(ctx context.Context, id string) (*Approval, error) {
	poll := pollTime
	if most := c.http.Timeout * 2 / 3; most > 0 {
		poll = min(poll, most) // the answer must come before the HTTP client gives up
	}
	for {
		asked := time.Now()
		approval, err := c.pollApproval(ctx, id, poll)
		if err != nil || approval.Status != ApprovalPending {
			return approval, err
		}
		if rest := pollPause - time.Since(asked); rest > 0 {
			if err := sleep(ctx, rest); err != nil {
				return nil, err
			}
		}
	}
}

func (c *Client) pollApproval(ctx context.Context, id string, wait time.Duration) (*Approval, error) {
	path := below("/v1/approvals/%s", id)
	if wait > 0 {
		path += "?wait=" + strconv.Itoa(int(wait/time.Second))
	}
	return call[Approval](ctx, c, get(path))
}

// CommentApproval asks back about a question, or replies to what was asked back.
func (c *Client) CommentApproval(ctx context.Context, id, text string) (*Done, error) {
	return call[Done](ctx, c, post(below("/v1/approvals/%s/comments", id), NewComment{Text: text}))
}

// AnswerApproval says yes or no to a question, by the card that Approval has read. It is not retried.
func (c *Client) AnswerApproval(ctx context.Context, id string, reply Reply) (*Approval, error) {
	return call[Approval](ctx, c, post(below("/v1/approvals/%s/answer", id), reply))
}

// RedeemApproval asks again for what was approved; policy decides on the facts of this moment.
func (c *Client) RedeemApproval(ctx context.Context, id string) (*Outcome, error) {
	return call[Outcome](ctx, c, post(below("/v1/approvals/%s/redeem", id), nil).keyed(""))
}

// SuspendIdentity suspends an identity: everything it has is dead at once.
func (c *Client) SuspendIdentity(ctx context.Context, change StatusChange) (*Done, error) {
	return call[Done](ctx, c, post("/v1/identities/suspend", change).repeatable())
}

// ResumeIdentity makes a suspended identity active again. It is not retried.
func (c *Client) ResumeIdentity(ctx context.Context, change StatusChange) (*Done, error) {
	return call[Done](ctx, c, post("/v1/identities/resume", change))
}

// WhoAmI says who the server takes the caller for.
func (c *Client) WhoAmI(ctx context.Context) (*Identity, error) {
	return call[Identity](ctx, c, get("/v1/whoami"))
}

// Access lists every right that a subject has, or had at a time; "" is the caller itself, the zero time is now.
func (c *Client) Access(ctx context.Context, subject string, at time.Time) (*Access, error) {
	query := url.Values{}
	if subject != "" {
		query.Set("subject", subject)
	}
	if !at.IsZero() {
		query.Set("at", at.UTC().Format(time.RFC3339))
	}
	path := "/v1/access"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return call[Access](ctx, c, get(path))
}

// PushFacts tells what is so. It is not retried.
func (c *Client) PushFacts(ctx context.Context, facts Facts) (*Done, error) {
	return call[Done](ctx, c, post("/v1/facts", facts))
}

// Apply makes a configuration the declared state, as a whole or not at all. It is not retried.
func (c *Client) Apply(ctx context.Context, configuration Configuration) (*Applied, error) {
	return call[Applied](ctx, c, post("/v1/apply", configuration))
}

// EvidenceEntry reads the exact bytes of an entry. For auditors.
func (c *Client) EvidenceEntry(ctx context.Context, index int64) ([]byte, error) {
	return c.raw(ctx, "/v1/evidence/"+strconv.FormatInt(index, 10), "application/cloudevents+json", false)
}

// EvidenceProof reads a proof that an entry is in the log (c2sp.org/tlog-proof). It verifies offline with the log's key.
func (c *Client) EvidenceProof(ctx context.Context, index int64) ([]byte, error) {
	return c.raw(ctx, "/v1/evidence/"+strconv.FormatInt(index, 10)+"/proof", "text/plain", true)
}

// EraseValues erases values that lie beside an entry, for good; the entry and its proofs stay. It is not retried.
func (c *Client) EraseValues(ctx context.Context, index int64, erasure Erasure) (*Done, error) {
	return call[Done](ctx, c, post(fmt.Sprintf("/v1/evidence/%d/erase", index), erasure))
}

// EvidenceValues reads what lies beside an entry. For auditors.
func (c *Client) EvidenceValues(ctx context.Context, index int64) (*Values, error) {
	return call[Values](ctx, c, get("/v1/evidence/"+strconv.FormatInt(index, 10)+"/values"))
}

// Checkpoint reads the signed head of the log.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	return c.raw(ctx, "/log/checkpoint", "text/plain", true)
}

// Tile reads a tile of hashes by its path below /log (c2sp.org/tlog-tiles), such as tile/0/x001/067.
func (c *Client) Tile(ctx context.Context, path string) ([]byte, error) {
	return c.raw(ctx, "/log/"+path, "application/octet-stream", true)
}

// EntryBundle reads a bundle of entries by its path below /log, such as tile/entries/x001/067. For auditors.
func (c *Client) EntryBundle(ctx context.Context, path string) ([]byte, error) {
	return c.raw(ctx, "/log/"+path, "application/octet-stream", false)
}

// JWKS reads the keys that verify Writ's tokens (RFC 7517).
func (c *Client) JWKS(ctx context.Context) ([]byte, error) {
	return c.raw(ctx, "/.well-known/jwks.json", "application/jwk-set+json", true)
}

// Metadata reads the issuer's metadata (RFC 8414).
func (c *Client) Metadata(ctx context.Context) ([]byte, error) {
	return c.raw(ctx, "/.well-known/oauth-authorization-server", "application/json", true)
}

// Ready returns nil if the server can serve now. It is not retried.
func (c *Client) Ready(ctx context.Context) error {
	answer, err := c.do(ctx, exchange{method: http.MethodGet, path: "/readyz", public: true})
	if err == nil && answer.status != http.StatusOK {
		return fmt.Errorf("client: status %d", answer.status)
	}
	return err
}
