package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/policy"
)

// The codes of this endpoint's own. Those of refusals and invalid asks are control's.
const (
	codeInvalidBody      = "invalid_body"
	codeUnknownField     = "unknown_field"
	codeInvalidQuery     = "invalid_query"
	codeInvalidKey       = "invalid_idempotency_key"
	codeTooLarge         = "body_too_large"
	codeMediaType        = "unsupported_media_type"
	codeNotFound         = "not_found"
	codePruned           = "pruned"
	codeMethodNotAllowed = "method_not_allowed"
	codeInternal         = "internal"
	codeNotReady         = "not_ready"
	codeTimeout          = "timeout"
	codeIdentityProvider = "issuer_unavailable"
)

// kind is what a code means in HTTP.
type kind struct {
	status int
	title  string
	next   string // of this endpoint's own codes; control says its own
	retry  string // Retry-After, in seconds
}

// kinds is the one table of all codes. 401: who are you; 403: no, and asking again unchanged will not help; 404: there is
// nothing, or nothing for you; 410: there was something; 409: the thing has moved on; 422: understood, but it makes no sense here.
func kinds() map[string]kind {
	return map[string]kind{
		string(access.CodeNotPermitted):        {status: 403, title: "Not permitted"},
		string(access.CodeForbidden):           {status: 403, title: "Forbidden by policy"},
		string(access.CodeApprovalRequired):    {status: 403, title: "Approval required"},
		string(access.CodeApprovalDenied):      {status: 403, title: "Approval denied"},
		string(access.CodeApprovalExpired):     {status: 403, title: "Approval expired"},
		string(access.CodeNoEligibleApprover):  {status: 403, title: "No eligible approver"},
		string(access.CodeExceedsParent):       {status: 403, title: "Exceeds the parent grant"},
		string(access.CodeDepthExceeded):       {status: 403, title: "Passed on too often"},
		string(access.CodeDelegationCycle):     {status: 403, title: "Passed on in a circle"},
		string(access.CodePrincipalMismatch):   {status: 403, title: "For another person"},
		string(access.CodeBoundsExceeded):      {status: 403, title: "Nothing left to grant"},
		string(access.CodeIdentityUnknown):     {status: 403, title: "Identity unknown"},
		string(access.CodeIdentitySuspended):   {status: 403, title: "Identity suspended"},
		string(access.CodeOwnerMissing):        {status: 403, title: "Owner missing"},
		string(access.CodePolicyError):         {status: 403, title: "Policy could not decide"},
		string(access.CodeTaskEnded):           {status: 409, title: "Task not open"},
		string(access.CodeParentRevoked):       {status: 409, title: "Parent grant is over"},
		string(access.CodeLimitExceeded):       {status: 429, title: "Limit exceeded", retry: "2"},
		string(access.CodeEvidenceUnavailable): {status: 503, title: "Evidence unavailable", retry: "2"},

		string(control.InvalidArgument):       {status: 422, title: "Invalid argument"},
		string(control.InvalidArgs):           {status: 422, title: "Invalid args"},
		string(control.InvalidConstraints):    {status: 422, title: "Invalid constraints"},
		string(control.UnknownAction):         {status: 422, title: "Unknown action"},
		string(control.UnknownResource):       {status: 422, title: "Unknown resource"},
		string(control.UnknownTaskType):       {status: 422, title: "Unknown task type"},
		string(control.StaleFact):             {status: 422, title: "Stale fact"},
		string(control.NotFactSource):         {status: 403, title: "Not a fact source"},
		string(control.NotEnforcementPoint):   {status: 403, title: "Not an enforcement point"},
		string(control.InvalidConfiguration):  {status: 422, title: "Invalid configuration"},
		string(control.IdempotencyKeyReused):  {status: 422, title: "Idempotency key reused"},
		string(control.WrongState):            {status: 409, title: "Wrong state"},
		string(control.NotEligible):           {status: 403, title: "Not eligible"},
		string(control.AlreadyAnswered):       {status: 409, title: "Already answered"},
		string(control.CardChanged):           {status: 409, title: "Another card than was shown"},
		string(control.ReasonRequired):        {status: 422, title: "Reason required"},
		string(control.AuthenticationMissing): {status: 401, title: "Not authenticated"},

		string(control.ReauthenticationRequired): {status: 401, title: "Fresh login required"},

		codeInvalidBody:      {status: 400, title: "Invalid body", next: "Send one JSON object as the OpenAPI document describes it."},
		codeUnknownField:     {status: 400, title: "Unknown field", next: "Leave the field out, or correct its name."},
		codeInvalidQuery:     {status: 400, title: "Invalid query", next: "Correct the query parameters."},
		codeInvalidKey:       {status: 400, title: "Invalid idempotency key", next: "Correct or leave out the Idempotency-Key header."},
		codeTooLarge:         {status: 413, title: "Body too large", next: "Send less at once."},
		codeMediaType:        {status: 415, title: "Unsupported media type", next: "Send JSON."},
		codeNotFound:         {status: 404, title: "Not found"},
		codePruned:           {status: 410, title: "Pruned", next: "Ask the operator for the archive: it holds what was pruned. Proofs are served as before."},
		codeMethodNotAllowed: {status: 405, title: "Method not allowed", next: "Use a method that the Allow header names."},
		codeInternal:         {status: 500, title: "Internal error", next: "Tell the operator the request id."},
		codeNotReady:         {status: 503, title: "Not ready", next: "Try again later.", retry: "2"},
		codeTimeout:          {status: 503, title: "Timed out", next: "Try again; with the same idempotency key if you sent one.", retry: "2"},
		codeIdentityProvider: {status: 503, title: "Cannot authenticate now", retry: "10"},
	}
}

// failure is a no of this endpoint's own.
type failure struct{ code, detail string }

func (f *failure) Error() string { return f.code + ": " + f.detail }

func fault(code, detail string) error { return &failure{code, detail} }

func notFound(detail string) error { return &control.Invalid{Kind: control.NotYours, Detail: detail} }

func badArgument(detail string) error {
	return &control.Invalid{Kind: control.InvalidArgument, Detail: detail}
}

// problemOf is what the caller is told of an error. What the caller may not know stays behind.
func problemOf(err error) *client.Problem {
	var refused *control.Refusal
	var bad *control.Invalid
	var own *failure
	switch {
	case errors.As(err, &refused):
		p := problem(string(refused.Code), refused.Detail)
		p.Next, p.Decision, p.Approval = refused.Next(), refused.Decision, refused.Approval
		if refused.Decision != "" {
			p.Evidence = &client.Evidence{Index: refused.Evidence}
		}
		return p
	case errors.As(err, &bad):
		return invalidProblem(bad)
	case errors.As(err, &own):
		return problem(own.code, own.detail)
	case errors.Is(err, access.ErrPruned):
		return problem(codePruned, "it is old, and only its hash is here any more")
	case errors.Is(err, access.ErrNotFound):
		return invalidProblem(&control.Invalid{Kind: control.NotYours, Detail: "there is no such thing"})
	case errors.Is(err, context.DeadlineExceeded):
		return problem(codeTimeout, "this took too long")
	case errors.Is(err, access.ErrUnavailable):
		p := problem(string(access.CodeEvidenceUnavailable), "")
		p.Next = (&control.Refusal{Code: access.CodeEvidenceUnavailable}).Next()
		return p
	default:
		return problem(codeInternal, "")
	}
}

func problem(code, detail string) *client.Problem {
	k, ok := kinds()[code]
	if !ok {
		code, detail, k = codeInternal, "", kinds()[codeInternal]
	}
	return &client.Problem{Type: "urn:writ:error:" + code, Title: k.title, Status: k.status, Detail: detail, Code: code, Next: k.next}
}

func invalidProblem(bad *control.Invalid) *client.Problem {
	code := string(bad.Kind)
	switch {
	case bad.Kind == control.NotYours:
		code = codeNotFound // what is somebody else's is as absent as what is not there
	case bad.Temporary: // a server that cannot know anybody now is not a caller that is not known
		code = codeIdentityProvider
	}
	p := problem(code, bad.Detail)
	p.Reason, p.Next, p.MaxAge = bad.Reason, bad.Next(), int64(bad.MaxAge)
	if bad.Kind == control.InvalidConfiguration {
		p.Detail = "the configuration does not hold; nothing was changed"
		if p.Faults = faults(bad.Cause); p.Faults == nil {
			p.Detail = bad.Error()
		}
	}
	return p
}

// faults lists what is wrong with a configuration, with paths as they were sent.
func faults(err error) []client.Fault {
	var list []client.Fault
	path := func(folder, file string) string {
		if file == "" {
			return ""
		}
		return folder + file
	}
	var inCatalog catalog.Faults
	var inPolicy policy.Faults
	var joined interface{ Unwrap() []error }
	switch {
	case errors.As(err, &inCatalog):
		for _, f := range inCatalog {
			list = append(list, client.Fault{File: path("catalog/", f.File), Line: f.Line, Column: f.Column, Message: f.Message})
		}
	case errors.As(err, &inPolicy):
		for _, f := range inPolicy {
			list = append(list, client.Fault{File: path("policy/", f.File), Line: f.Line, Column: f.Column, Message: f.Message})
		}
	case errors.As(err, &joined):
		for _, one := range joined.Unwrap() {
			list = append(list, client.Fault{Message: one.Error()})
		}
	case err != nil:
		list = append(list, client.Fault{Message: err.Error()})
	}
	return list
}

// writeProblem answers with a no.
func writeProblem(w *response, err error) {
	p := problemOf(err)
	p.RequestID = w.id
	if p.Status >= http.StatusInternalServerError {
		w.cause = err
	}
	h := w.Header()
	h.Set("Cache-Control", noStore)
	if retry := kinds()[p.Code].retry; retry != "" {
		h.Set("Retry-After", retry)
	}
	if p.Status == http.StatusUnauthorized {
		challenge(h, p)
	}
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte(`{"code":"` + codeInternal + `"}`)
	}
	send(w, p.Status, typeProblem, body)
}

// challenge says how to authenticate (RFC 6750 section 3, RFC 9449 section 7.1).
func challenge(h http.Header, p *client.Problem) {
	switch {
	case p.Code == string(control.ReauthenticationRequired): // RFC 9470 section 3
		h.Set("WWW-Authenticate", `Bearer realm="writ", error="insufficient_user_authentication", max_age="`+strconv.FormatInt(p.MaxAge, 10)+`"`)
	case strings.HasPrefix(p.Reason, "proof_"):
		h.Set("WWW-Authenticate", `DPoP realm="writ", error="invalid_dpop_proof"`)
	case p.Reason == "" || p.Reason == "token_missing":
		h.Set("WWW-Authenticate", `Bearer realm="writ"`)
	default:
		h.Set("WWW-Authenticate", `Bearer realm="writ", error="invalid_token"`)
	}
}
