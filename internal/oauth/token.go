package oauth

import (
	"context"
	"encoding/json"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

const (
	grantCredentials = "client_credentials"
	grantExchange    = "urn:ietf:params:oauth:grant-type:token-exchange"
	grantCIBA        = "urn:openid:params:grant-type:ciba"
)

// Types of tokens (RFC 8693 section 3), and of what is no token but an id that its holder names.
const (
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
	TypeGrant       = "urn:writ:params:oauth:token-type:grant"
	TypeTask        = "urn:writ:params:oauth:token-type:task"
	typeIdentity    = "urn:writ:params:oauth:token-type:identity" // of an actor: its name, since who receives a right proves itself when it fetches the token
)

const notApplicable = "N_A" // RFC 8693 section 2.2.1: no token to show anywhere

// pollInterval is how many seconds a client should wait between two questions for the same approval (CIBA section 7.3).
const pollInterval = 5

// tidyLimit bounds the completing of a task that was opened for nothing.
const tidyLimit = 5 * time.Second

// issued is the answer of the token endpoint (RFC 6749 section 5.1, RFC 8693 section 2.2.1, RFC 9396 section 7).
type issued struct {
	AccessToken string    `json:"access_token"`
	Issued      string    `json:"issued_token_type"`
	Type        string    `json:"token_type"`
	ExpiresIn   int64     `json:"expires_in"`
	Details     []granted `json:"authorization_details,omitempty"`
	Decision    string    `json:"decision,omitempty"`
	Evidence    evidence  `json:"evidence"`
}

type evidence struct {
	Index int64 `json:"index"`
}

// granted are authorization details of type writ_grant: what was granted, which may be less than was asked for.
type granted struct {
	Type        string             `json:"type"`
	Grant       string             `json:"grant"`
	Parent      string             `json:"parent,omitempty"`
	Task        string             `json:"task"`
	Subject     string             `json:"subject"`
	Action      string             `json:"action"`
	Resource    string             `json:"resource"`
	Args        json.RawMessage    `json:"args,omitempty"`
	Constraints access.Constraints `json:"constraints,omitempty"`
	Mode        access.Mode        `json:"mode"`
	MaxUses     int64              `json:"max_uses,omitempty"`
	ExpiresAt   time.Time          `json:"expires_at"`
}

// answerOf is what the client is told of a decision: what was issued, or its refusal.
func answerOf(answer *control.Answer) (any, error) {
	if answer.Decided.Outcome == access.NeedsApproval {
		return nil, &approvalFault{answer}
	}
	if refusal := answer.Refusal(); refusal != nil && answer.Decided.Outcome != "" { // a credential of an existing grant comes without a decision
		return nil, refusal
	}
	out := &issued{Evidence: evidence{answer.Evidence}}
	if answer.Decided.Outcome != "" {
		out.Decision = answer.ID
	}
	if answer.Grant == nil && answer.Task != nil {
		out.AccessToken, out.Issued, out.Type, out.ExpiresIn = answer.Task.ID, TypeTask, notApplicable, seconds(answer.Time, answer.Task.ExpiresAt)
		return out, nil
	}
	g := answer.Grant
	out.Details = []granted{{
		Type: DetailsGranted, Grant: g.ID, Parent: g.Parent, Task: g.Task, Subject: g.Subject.String(), Action: g.Action.String(), Resource: g.Resource.String(),
		Args: g.Args, Constraints: g.Constraints, Mode: g.Mode, MaxUses: g.MaxUses, ExpiresAt: g.ExpiresAt,
	}}
	out.AccessToken, out.Issued, out.Type, out.ExpiresIn = g.ID, TypeGrant, notApplicable, seconds(answer.Time, g.ExpiresAt)
	if c := answer.Credential; c != nil {
		out.AccessToken, out.Issued, out.Type, out.ExpiresIn = c.Token, typeAccessToken, "Bearer", seconds(answer.Time, c.ExpiresAt)
		if key, _ := control.Binding(c.BoundTo); key != "" {
			out.Type = "DPoP"
		}
	}
	return out, nil
}

func seconds(from, to time.Time) int64 { return max(int64(to.Sub(from)/time.Second), 0) }

// credentials is a request for access of the client itself.
func (e *Endpoint) credentials(ctx context.Context, client Client, f form) (any, error) {
	a, err := parseAsked(f)
	if err != nil {
		return nil, err
	}
	return e.ask(ctx, client, a, access.Ref{})
}

// ask is a request for access, for a human if there is one, under a task that is there or that is opened for it.
func (e *Endpoint) ask(ctx context.Context, client Client, a *asked, principal access.Ref) (any, error) {
	if err := a.whole(); err != nil {
		return nil, err
	}
	if err := e.checkTarget(ctx, a.Resource, a.target); err != nil {
		return nil, err
	}
	if a.open != nil {
		return e.askUnderNewTask(ctx, client, a, principal)
	}
	if !principal.IsZero() {
		task, err := e.Control.OwnTask(ctx, client.Caller, a.Task)
		if err != nil {
			return nil, err
		}
		if task.Principal != principal {
			return nil, &fault{err: invalidToken, code: codeSubject, detail: "the task is not for the person whose token this is: open one for them"}
		}
	}
	answer, err := e.Control.Request(ctx, client.Caller, a.Ask)
	if err != nil {
		return nil, err
	}
	return answerOf(answer)
}

// askUnderNewTask opens a task and asks under it. A task that was opened for nothing is completed again.
func (e *Endpoint) askUnderNewTask(ctx context.Context, client Client, a *asked, principal access.Ref) (any, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	opened, err := e.Control.OpenTask(ctx, client.Caller, control.Opening{
		Type: a.open.Type, Purpose: a.open.Purpose, Reference: a.open.Reference, Principal: principal, Trace: client.trace,
	})
	if err != nil {
		return nil, err
	}
	if opened.Task == nil {
		return answerOf(opened)
	}
	a.Task = opened.Task.ID
	answer, err := e.Control.Request(ctx, client.Caller, a.Ask)
	if err == nil && answer.Decided.Outcome != access.Deny {
		return answerOf(answer)
	}
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyLimit) // also for a client that has gone
	defer cancel()
	if _, failed := e.Control.CompleteTask(tidy, client.Caller, a.Task); failed != nil {
		return nil, &leftFault{fault: failed, task: a.Task}
	}
	if err != nil {
		return nil, err
	}
	return answerOf(answer)
}

// checkTarget refuses a request for another target than the one that the resource's credentials are for.
func (e *Endpoint) checkTarget(ctx context.Context, resource access.Ref, wanted string) error {
	if wanted == "" {
		return nil
	}
	target, err := e.Control.TargetOf(ctx, resource)
	if err == nil && target != wanted {
		return &fault{err: "invalid_target", code: string(control.UnknownResource), detail: "credentials for what is asked for are not for the target that the parameter resource names"}
	}
	return err
}

// redeem turns an approval that people have given into what they gave it for; until then it says that they have not.
func (e *Endpoint) redeem(ctx context.Context, client Client, f form) (any, error) {
	id := f["auth_req_id"]
	if id == "" {
		return nil, missing("auth_req_id")
	}
	if !access.ValidID(id) {
		return nil, &control.Invalid{Kind: control.NotYours, Detail: "there is no approval with this auth_req_id for this client"}
	}
	answer, err := e.Control.Redeem(ctx, client.Caller, id, nil)
	if err != nil {
		return nil, err
	}
	return answerOf(answer)
}
