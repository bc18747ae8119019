package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// Codes of this endpoint's own; the others are control's.
const (
	codeForm     = "invalid_form"
	codeSubject  = "invalid_subject_token"
	codeActor    = "invalid_actor_token"
	codeAbsent   = "not_found"
	codeInternal = "internal"
	codeTimeout  = "timeout"
	codeIssuer   = "issuer_unavailable"
)

// invalidToken is the error for a subject or actor token that is not good for what is asked (RFC 8693 section 2.2.2 requires it).
const invalidToken = "invalid_request"

// fault is a no of this endpoint's own.
type fault struct {
	err    string // of OAuth
	code   string
	detail string
}

func (f *fault) Error() string { return f.code + ": " + f.detail }

func malformed(detail string) error {
	return &fault{err: "invalid_request", code: codeForm, detail: detail}
}

func missing(parameter string) error { return malformed("the parameter " + parameter + " is missing") }

func unknownClient(detail string) error {
	return &control.Invalid{Kind: control.AuthenticationMissing, Detail: detail}
}

// clientFault is why a client could not be authenticated.
type clientFault struct{ err error }

func (c *clientFault) Error() string { return "client: " + c.err.Error() }
func (c *clientFault) Unwrap() error { return c.err }

// tokenFault is why a subject or actor token was refused.
type tokenFault struct {
	code string
	also string // what it is not, either
	err  error
}

func (t *tokenFault) Error() string { return t.code + ": " + t.err.Error() }
func (t *tokenFault) Unwrap() error { return t.err }

// approvalFault says that people must agree first.
type approvalFault struct{ answer *control.Answer }

func (a *approvalFault) Error() string { return a.answer.Refusal().Error() }

// leftFault says that a task which was opened for nothing could not be completed again.
type leftFault struct {
	fault error
	task  string
}

func (l *leftFault) Error() string {
	return "task " + l.task + " was opened for this and could not be completed: " + l.fault.Error()
}
func (l *leftFault) Unwrap() error { return l.fault }

// problem is an error as it is sent (RFC 6749 section 5.2), with what this server says of it besides.
type problem struct {
	Error       string    `json:"error"`
	Description string    `json:"error_description"`
	Code        string    `json:"code"`
	Reason      string    `json:"reason,omitempty"` // as in package authn: why a token or proof was refused
	Next        string    `json:"next,omitempty"`
	Decision    string    `json:"decision,omitempty"`
	Evidence    *evidence `json:"evidence,omitempty"`
	Task        string    `json:"task,omitempty"`        // that the approval is for
	AuthReqID   string    `json:"auth_req_id,omitempty"` // the approval, for CIBA
	ExpiresIn   int64     `json:"expires_in,omitempty"`
	Interval    int64     `json:"interval,omitempty"`

	status int
	retry  string // Retry-After, in seconds
}

// refuse answers with a no.
func refuse(r *http.Request, client Client, f form, err error) Reply {
	p := problemOf(err, shapeOf(f))
	p.Description = describe(p)
	out := reply(p.status, client, p)
	if p.status >= http.StatusInternalServerError {
		out.Cause = err
	}
	if p.retry != "" {
		out.Header["Retry-After"] = p.retry
	}
	if p.status == http.StatusUnauthorized {
		out.Header["WWW-Authenticate"] = challenge(r, p.Reason)
	}
	return out
}

// challenge names the scheme that the client tried (RFC 6749 section 5.2); certificates and assertions have none.
func challenge(r *http.Request, reason string) string {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "DPoP") {
		return `DPoP realm="writ", error="invalid_token"`
	}
	if reason == "" || reason == "token_missing" || scheme == "" {
		return `Bearer realm="writ"`
	}
	return `Bearer realm="writ", error="invalid_token"`
}

// describe is what went wrong and what to do next, in the characters that RFC 6749 section 5.2 has for it.
func describe(p *problem) string {
	text := p.Next
	if p.Description != "" {
		text = strings.TrimSpace(strings.TrimSuffix(p.Description, ".") + ". " + p.Next)
	}
	return strings.Map(func(c rune) rune {
		switch {
		case c == '"' || c == '\\':
			return '\''
		case c < ' ' || c > '~':
			return '?'
		default:
			return c
		}
	}, text)
}

// shape is how access was asked for: it says which part of a request an error is about.
type shape struct{ details, scope, exchange bool }

func shapeOf(f form) shape {
	return shape{
		details: f["authorization_details"] != "", scope: f["scope"] != "",
		exchange: f["grant_type"] == grantExchange && f["subject_token_type"] != typeIDToken && f["subject_token_type"] != typeJWT,
	}
}

// class is what codes of control have in common here.
type class int

const (
	unknown  class = iota
	denied         // however it is asked
	pending        // nobody has answered yet; that people must agree first is an approvalFault
	expired        // as is a question
	request        // about what is asked
	held           // about what the request builds on: the subject token, or else a task, a grant or an approval
	resource       // about the resource
	receiver       // about who shall receive a right
	busy           // too much at once
	down           // nothing can be granted now
)

// classOf is the one table of all codes that control may answer with here; docs/oauth.md shows it.
func classOf(code string) class {
	switch access.Code(code) {
	case access.CodeNotPermitted, access.CodeForbidden, access.CodeApprovalDenied, access.CodeNoEligibleApprover, access.CodeIdentityUnknown,
		access.CodeIdentitySuspended, access.CodePrincipalMismatch, access.CodeOwnerMissing, access.CodePolicyError:
		return denied
	case access.CodeApprovalRequired:
		return pending
	case access.CodeApprovalExpired:
		return expired
	case access.CodeExceedsParent:
		return request
	case access.CodeTaskEnded, access.CodeParentRevoked, access.CodeDepthExceeded, access.CodeBoundsExceeded:
		return held
	case access.CodeDelegationCycle:
		return receiver
	case access.CodeLimitExceeded:
		return busy
	case access.CodeEvidenceUnavailable:
		return down
	}
	switch control.InvalidKind(code) {
	case control.InvalidArgument, control.InvalidArgs, control.InvalidConstraints, control.UnknownAction, control.UnknownTaskType:
		return request
	case control.UnknownResource:
		return resource
	case control.WrongState, control.NotYours:
		return held
	default:
		return unknown
	}
}

// in is the error of OAuth that a class is for what was asked in this shape; retry is its Retry-After in seconds, if any.
func (c class) in(s shape) (err string, status int, retry string) {
	status = http.StatusBadRequest
	switch {
	case c == denied:
		err = "access_denied"
	case c == pending:
		err = "authorization_pending"
	case c == expired:
		err = "expired_token"
	case c == busy:
		return "temporarily_unavailable", http.StatusTooManyRequests, "2"
	case c == down:
		return "temporarily_unavailable", http.StatusServiceUnavailable, "2"
	case c == receiver, c == held && s.exchange:
		err = invalidToken
	case c == held:
		err = "invalid_grant"
	case s.details:
		err = "invalid_authorization_details"
	case c == resource:
		err = "invalid_target"
	case s.scope:
		err = "invalid_scope"
	default:
		err = "invalid_request"
	}
	return err, status, retry
}

func problemOf(err error, s shape) *problem {
	var authentication *clientFault
	var token *tokenFault
	var approval *approvalFault
	var own *fault
	switch {
	case errors.As(err, &authentication):
		return authenticationProblem(authentication.err)
	case errors.As(err, &token):
		return tokenProblem(token)
	case errors.As(err, &approval):
		return approvalProblem(approval.answer)
	case errors.As(err, &own):
		return &problem{Error: own.err, Description: own.detail, Code: own.code, status: http.StatusBadRequest}
	default:
		return controlProblem(err, s)
	}
}

// controlProblem is what the client is told of a no of control; what it may not know stays behind.
func controlProblem(err error, s shape) *problem {
	var refused *control.Refusal
	var bad *control.Invalid
	var p *problem
	switch {
	case errors.As(err, &refused):
		p = &problem{Code: string(refused.Code), Description: refused.Detail, Next: refused.Next(), Decision: refused.Decision}
		if refused.Decision != "" {
			p.Evidence = &evidence{refused.Evidence}
		}
		if refused.Code == access.CodeApprovalRequired {
			p.Interval = pollInterval
		}
	case errors.As(err, &bad) && bad.Kind == control.AuthenticationMissing: // also a credential for who proved nothing, where tokens are bound
		return unauthenticatedProblem(bad)
	case errors.As(err, &bad):
		p = &problem{Code: string(bad.Kind), Description: bad.Detail, Next: bad.Next()}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{Error: "temporarily_unavailable", Code: codeTimeout, Description: "this took too long", Next: "Try again.", status: http.StatusServiceUnavailable, retry: "2"}
	case errors.Is(err, access.ErrUnavailable):
		p = &problem{Code: string(access.CodeEvidenceUnavailable), Next: (&control.Refusal{Code: access.CodeEvidenceUnavailable}).Next()}
	}
	known := unknown
	if p != nil {
		known = classOf(p.Code)
	}
	if known == unknown {
		return &problem{Error: "server_error", Code: codeInternal, Description: "something in the server broke", Next: "Tell the operator the request id.", status: http.StatusInternalServerError}
	}
	p.Error, p.status, p.retry = known.in(s)
	if p.Code == string(control.NotYours) {
		p.Code = codeAbsent
	}
	return p
}

// approvalProblem tells how to go on: wait for people, and redeem what they say (CIBA section 10.1).
func approvalProblem(answer *control.Answer) *problem {
	p := &problem{
		Error: "approval_required", Code: string(access.CodeApprovalRequired), Decision: answer.ID, Evidence: &evidence{answer.Evidence},
		Description: "a person must approve",
		Next:        "Ask the token endpoint with grant_type " + grantCIBA + " and this auth_req_id, every interval seconds, until expires_in.",
		Interval:    pollInterval, status: http.StatusBadRequest,
	}
	if a := answer.Approval; a != nil {
		p.AuthReqID, p.Task, p.ExpiresIn = a.ID, a.Task, seconds(answer.Time, a.ExpiresAt)
	}
	return p
}

// unauthenticatedProblem tells a client that is not known from a server that cannot know anybody now.
func unauthenticatedProblem(bad *control.Invalid) *problem {
	p := &problem{
		Error: "invalid_client", Code: string(bad.Kind), Reason: bad.Reason, Description: bad.Detail, Next: bad.Next(), status: http.StatusUnauthorized,
	}
	switch {
	case bad.Temporary:
		p.Error, p.Code, p.status, p.retry = "temporarily_unavailable", codeIssuer, http.StatusServiceUnavailable, "10"
	case bad.Unproven(): // RFC 9449 section 5
		p.Error, p.status = "invalid_dpop_proof", http.StatusBadRequest
	}
	return p
}

// authenticationProblem is about the client.
func authenticationProblem(err error) *problem {
	var refused *control.Refusal
	switch {
	case errors.Is(err, ErrTwoWays):
		return &problem{Error: "invalid_request", Code: codeForm, Description: err.Error(), status: http.StatusBadRequest}
	case errors.As(err, &refused) && refused.Code == access.CodeIdentityUnknown:
		return &problem{Error: "invalid_client", Code: string(refused.Code), Description: refused.Detail, Next: refused.Next(), status: http.StatusUnauthorized}
	default:
		return controlProblem(err, shape{})
	}
}

// tokenProblem is about the subject or actor token.
func tokenProblem(t *tokenFault) *problem {
	p := &problem{Error: invalidToken, Code: t.code, status: http.StatusBadRequest}
	which := "subject token"
	if t.code == codeActor {
		which = "actor token"
	}
	var bad *control.Invalid
	var refused *control.Refusal
	switch {
	case errors.As(t.err, &bad) && bad.Kind == control.AuthenticationMissing && !bad.Temporary:
		p.Reason, p.Description = bad.Reason, which+": "+t.also+bad.Detail
	case errors.As(t.err, &refused) && refused.Code == access.CodeIdentityUnknown:
		p.Reason, p.Description, p.Next = string(refused.Code), which+": nobody in the catalog", refused.Next()
	default:
		return controlProblem(t.err, shape{})
	}
	return p
}
