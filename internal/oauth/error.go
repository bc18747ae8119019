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
	status int    // 0: 400
	code   string
	detail string
	next   string
}

func (f *fault) Error() string { return f.code + ": " + f.detail }

func malformed(detail string) error {
	return &fault{err: "invalid_request", code: codeForm, detail: detail}
}

func missing(parameter string) error { return malformed("the parameter " + parameter + " is missing") }

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

// asked is the error about what was asked.
func (s shape) asked() string {
	switch {
	case s.details:
		return "invalid_authorization_details"
	case s.scope:
		return "invalid_scope"
	default:
		return "invalid_request"
	}
}

// held is the error about what the request builds on: the subject token, or else a task, a grant or an approval.
func (s shape) held() string {
	if s.exchange {
		return invalidToken
	}
	return "invalid_grant"
}

// resource is the error about the resource.
func (s shape) resource() string {
	if s.details {
		return "invalid_authorization_details"
	}
	return "invalid_target"
}

// meaning is what a code of control is in OAuth.
type meaning struct {
	err    string
	status int    // 0: 400
	next   string // where control does not say it
	retry  string
}

// meanings is the one table of all codes that control may answer with here; docs/oauth.md shows it.
func meanings(s shape) map[string]meaning {
	return map[string]meaning{
		string(access.CodeNotPermitted):        {err: "access_denied"},
		string(access.CodeForbidden):           {err: "access_denied"},
		string(access.CodeApprovalRequired):    {err: "authorization_pending"}, // the no of a decision is an approvalFault
		string(access.CodeApprovalDenied):      {err: "access_denied"},
		string(access.CodeApprovalExpired):     {err: "expired_token"},
		string(access.CodeNoEligibleApprover):  {err: "access_denied"},
		string(access.CodeExceedsParent):       {err: s.asked()},
		string(access.CodeDepthExceeded):       {err: s.held()},
		string(access.CodeDelegationCycle):     {err: invalidToken},
		string(access.CodePrincipalMismatch):   {err: "access_denied"},
		string(access.CodeBoundsExceeded):      {err: s.held()},
		string(access.CodeIdentityUnknown):     {err: "access_denied"},
		string(access.CodeIdentitySuspended):   {err: "access_denied"},
		string(access.CodeOwnerMissing):        {err: "access_denied"},
		string(access.CodePolicyError):         {err: "access_denied"},
		string(access.CodeTaskEnded):           {err: s.held()},
		string(access.CodeParentRevoked):       {err: s.held()},
		string(access.CodeLimitExceeded):       {err: "temporarily_unavailable", status: http.StatusTooManyRequests, retry: "2"},
		string(access.CodeEvidenceUnavailable): {err: "temporarily_unavailable", status: http.StatusServiceUnavailable, retry: "2"},

		string(control.InvalidArgument): {err: s.asked(), next: "Correct what the description names."},
		string(control.InvalidArgs):     {err: s.asked(), next: "Send the args that the policy schema declares for this action."},
		string(control.UnknownAction):   {err: s.asked(), next: "Use an action of the policy schema."},
		string(control.UnknownResource): {err: s.resource(), next: "Use a resource that the catalog or a fact source has declared, of a type that the action applies to."},
		string(control.UnknownTaskType): {err: s.asked(), next: "Use a task type of the catalog."},
		string(control.WrongState):      {err: s.held(), next: "Read it again; it has moved on."},
		string(control.NotYours):        {err: s.held(), next: "Check the id: it does not exist, or not for this client."},
	}
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
		p := &problem{Error: own.err, Description: own.detail, Code: own.code, Next: own.next, status: http.StatusBadRequest}
		if own.status != 0 {
			p.status = own.status
		}
		return p
	default:
		return controlProblem(err, s)
	}
}

// controlProblem is what the client is told of a no of control; what it may not know stays behind.
func controlProblem(err error, s shape) *problem {
	var refused *control.Refusal
	var bad *control.Invalid
	var p *problem
	if _, _, ok := reasonOf(err); ok { // a credential for who proved nothing, where tokens are bound
		return authenticationProblem(err)
	}
	switch {
	case errors.As(err, &refused):
		p = &problem{Code: string(refused.Code), Description: refused.Detail, Next: refused.Next(), Decision: refused.Decision}
		if refused.Decision != "" {
			p.Evidence = &evidence{refused.Evidence}
		}
		if refused.Code == access.CodeApprovalRequired {
			p.Interval = pollInterval
		}
	case errors.As(err, &bad):
		p = &problem{Code: string(bad.Kind), Description: bad.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{Error: "temporarily_unavailable", Code: codeTimeout, Description: "this took too long", Next: "Try again.", status: http.StatusServiceUnavailable, retry: "2"}
	case errors.Is(err, access.ErrUnavailable):
		p = &problem{Code: string(access.CodeEvidenceUnavailable), Next: (&control.Refusal{Code: access.CodeEvidenceUnavailable}).Next()}
	}
	var known meaning
	ok := false
	if p != nil {
		known, ok = meanings(s)[p.Code]
	}
	if !ok {
		return &problem{Error: "server_error", Code: codeInternal, Description: "something in the server broke", Next: "Tell the operator the request id.", status: http.StatusInternalServerError}
	}
	p.Error, p.status, p.retry = known.err, http.StatusBadRequest, known.retry
	if known.status != 0 {
		p.status = known.status
	}
	if p.Next == "" {
		p.Next = known.next
	}
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

// reasonOf takes a refusal to authenticate apart; ok is false for every other error.
func reasonOf(err error) (reason, detail string, ok bool) {
	var bad *control.Invalid
	if !errors.As(err, &bad) || bad.Kind != control.AuthenticationMissing {
		return "", "", false
	}
	reason, detail, found := strings.Cut(bad.Detail, ": ")
	if !found || strings.Contains(reason, " ") {
		return "", bad.Detail, true
	}
	return reason, detail, true
}

func unavailable(reason string) bool { return strings.HasSuffix(reason, "_unavailable") }

func unavailableProblem(reason, detail string) *problem {
	return &problem{
		Error: "temporarily_unavailable", Code: codeIssuer, Reason: reason, Description: detail, Next: "Try again later.",
		status: http.StatusServiceUnavailable, retry: "10",
	}
}

// authenticationProblem tells a client that is not known from a server that cannot know anybody now.
func authenticationProblem(err error) *problem {
	if errors.Is(err, ErrTwoWays) {
		return &problem{Error: "invalid_request", Code: codeForm, Description: err.Error(), status: http.StatusBadRequest}
	}
	reason, detail, ok := reasonOf(err)
	var refused *control.Refusal
	switch {
	case ok && unavailable(reason):
		return unavailableProblem(reason, detail)
	case ok && strings.HasPrefix(reason, "proof_"): // RFC 9449 section 5
		return &problem{
			Error: "invalid_dpop_proof", Code: string(control.AuthenticationMissing), Reason: reason, Description: detail,
			Next: "Send one DPoP proof made for this request.", status: http.StatusBadRequest,
		}
	case ok:
		return &problem{
			Error: "invalid_client", Code: string(control.AuthenticationMissing), Reason: reason, Description: detail,
			Next: "Authenticate as an identity of the catalog.", status: http.StatusUnauthorized,
		}
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
	reason, detail, ok := reasonOf(t.err)
	var refused *control.Refusal
	switch {
	case ok && unavailable(reason):
		return unavailableProblem(reason, detail)
	case ok:
		p.Reason, p.Description = reason, which+": "+t.also+detail
	case errors.As(t.err, &refused) && refused.Code == access.CodeIdentityUnknown:
		p.Reason, p.Description, p.Next = string(refused.Code), which+": nobody in the catalog", refused.Next()
	default:
		return controlProblem(t.err, shape{})
	}
	return p
}
