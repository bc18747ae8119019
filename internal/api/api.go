// Package api is the HTTP endpoint: it turns HTTP into calls of control, and answers into JSON. It decides nothing. The
// types on the wire are those of package client; openapi.yaml describes every route.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// EvidenceReader reads the log. Lookups of what is not there return access.ErrNotFound, of what was pruned access.ErrPruned,
// failures access.ErrUnavailable.
type EvidenceReader interface {
	Checkpoint() []byte
	Entry(ctx context.Context, index int64) ([]byte, error)
	Proof(ctx context.Context, index int64) (evidence.Proof, error)
	Tile(ctx context.Context, level int, index int64, width int) ([]byte, error)
	EntryBundle(ctx context.Context, index int64, width int) ([]byte, error)
	Disclosures(ctx context.Context, index int64) (map[string]evidence.Disclosure, error)
}

// Options are what the endpoint is made of.
type Options struct {
	Control *control.Control
	Log     EvidenceReader
	// Authenticate finds out who calls, from the headers alone. A refusal is a *control.Invalid of the kind
	// control.AuthenticationMissing whose Detail is "reason: words" (reason as in package authn), or a *control.Refusal.
	Authenticate func(ctx context.Context, r *http.Request) (control.Caller, error)
	// Principal finds the human that a token handed to the caller is of; its errors are those of Authenticate. nil: none is accepted.
	Principal func(ctx context.Context, token string, caller access.Ref) (access.Ref, error)
	JWKS      []byte       // RFC 7517
	Metadata  []byte       // RFC 8414
	Guests    []Guest      // routes of other endpoints
	Metrics   http.Handler // nil: there is no /metrics
	// Health is nil when the process can serve; its error is for the log only. nil: always.
	Health func(ctx context.Context) error
	Logger *slog.Logger

	MaxBody        int64 // bytes; 0 means 1 MiB
	MaxApplyBody   int64 // bytes of a configuration; 0 means 20 MiB
	MaxWaiting     int   // long-polls at once; 0 means 4096
	MaxWaitingEach int   // of them, those of one identity; 0 means 64
	RequestTimeout time.Duration
	// Stopping ends when the process is about to: long-polls are then answered at once with the state as it stands, so that
	// none holds up the shutdown. nil: never.
	Stopping context.Context
}

const (
	defaultMaxBody        = 1 << 20
	defaultMaxApplyBody   = 20 << 20
	defaultMaxWaiting     = 4096
	defaultMaxWaitingEach = 64
	defaultTimeout        = 30 * time.Second
	maxWait               = 60 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Health == nil {
		o.Health = func(context.Context) error { return nil }
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.MaxApplyBody == 0 {
		o.MaxApplyBody = defaultMaxApplyBody
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = defaultMaxWaiting
	}
	if o.MaxWaitingEach == 0 {
		o.MaxWaitingEach = defaultMaxWaitingEach
	}
	if o.Stopping == nil {
		o.Stopping = context.Background()
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = defaultTimeout
	}
	return o
}

// server serves one installation. It is safe for concurrent use.
type server struct {
	Options

	mux     *http.ServeMux
	waiting *waiting
	openapi []byte // as JSON
}

// New returns the handler of all routes.
func New(o Options) http.Handler {
	s := &server{Options: o.withDefaults(), mux: http.NewServeMux(), openapi: openapiJSON()}
	s.waiting = newWaiting(s.MaxWaiting, s.MaxWaitingEach)
	routes := s.routes()
	methods := map[string][]string{}
	for i := range routes {
		s.mux.Handle(routes[i].method+" "+routes[i].path, s.serve(&routes[i]))
		methods[routes[i].path] = append(methods[routes[i].path], routes[i].method)
	}
	delete(methods, "/log/tile/entries/{path...}") // covered by the pattern above it, and the mux takes no two that overlap
	for path, allowed := range methods {
		s.mux.Handle(path, s.serve(&route{path: path, access: public, handle: notAllowed(allowed)}))
	}
	s.mux.Handle("/", s.serve(&route{path: "/", access: public, handle: func(*call) (*reply, error) {
		return nil, notFound("there is no such route")
	}}))
	return s
}

func notAllowed(methods []string) func(*call) (*reply, error) {
	if slices.Contains(methods, http.MethodGet) {
		methods = append(slices.Clone(methods), http.MethodHead)
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")
	return func(c *call) (*reply, error) {
		c.header().Set("Allow", allow)
		return nil, fault(codeMethodNotAllowed, "this route takes "+allow)
	}
}

// audience is who may call a route.
type audience int

const (
	caller audience = iota
	auditor
	public
)

// route is one thing that can be called.
type route struct {
	method  string
	path    string
	handle  func(*call) (*reply, error)
	access  audience
	query   []string // parameters that it takes
	body    bodyRule
	maxBody int64         // bytes; 0: as usual
	key     bool          // takes an Idempotency-Key
	timeout time.Duration // beyond the usual
}

type bodyRule int

const (
	noBody bodyRule = iota
	mayBody
	mustBody
	configurationBody
	anyBody // the route reads it itself
)

// routes is all that is served.
func (s *server) routes() []route {
	const get, post = http.MethodGet, http.MethodPost
	list := []route{
		{method: post, path: "/v1/tasks", handle: s.openTask, body: mustBody, key: true},
		{method: get, path: "/v1/tasks/{id}", handle: s.readTask},
		{method: post, path: "/v1/tasks/{id}/heartbeat", handle: s.heartbeat},
		{method: post, path: "/v1/tasks/{id}/complete", handle: s.completeTask},
		{method: post, path: "/v1/tasks/{id}/pause", handle: s.pauseTask},
		{method: post, path: "/v1/tasks/{id}/resume", handle: s.resumeTask},
		{method: post, path: "/v1/tasks/{id}/revoke", handle: s.revokeTask, body: mayBody},

		{method: post, path: "/v1/requests", handle: s.request, body: mustBody, key: true},
		{method: get, path: "/v1/decisions/{id}", handle: s.readDecision},
		{method: get, path: "/v1/grants/{id}", handle: s.readGrant},
		{method: post, path: "/v1/grants/{id}/delegate", handle: s.delegate, body: mustBody, key: true},
		{method: post, path: "/v1/grants/{id}/credential", handle: s.issueCredential},
		{method: post, path: "/v1/grants/{id}/uses", handle: s.countUse},
		{method: post, path: "/v1/grants/{id}/renew", handle: s.renew, body: mayBody, key: true},
		{method: post, path: "/v1/grants/{id}/actions", handle: s.reportAction, body: mustBody},
		{method: post, path: "/v1/grants/{id}/revoke", handle: s.revokeGrant, body: mayBody},

		{method: get, path: "/v1/approvals", handle: s.approvals, query: []string{"all"}},
		{method: get, path: "/v1/approvals/{id}", handle: s.readApproval, query: []string{"wait"}, timeout: maxWait},
		{method: post, path: "/v1/approvals/{id}/answer", handle: s.answerApproval, body: mustBody},
		{method: post, path: "/v1/approvals/{id}/comments", handle: s.comment, body: mustBody},
		{method: post, path: "/v1/approvals/{id}/redeem", handle: s.redeem, key: true},

		{method: get, path: "/v1/whoami", handle: s.whoami},
		{method: post, path: "/v1/away", handle: s.away, body: mustBody},
		{method: get, path: "/v1/access", handle: s.why, query: []string{"subject", "at"}},
		{method: get, path: "/v1/identities", handle: s.identities, query: []string{"owner", "overdue", "after", "limit"}},
		{method: get, path: "/v1/identities/show", handle: s.showIdentity, query: []string{"id"}},
		{method: get, path: "/v1/identities/unknown", handle: s.unknownIdentities, query: []string{"after", "limit"}},
		{method: post, path: "/v1/identities/suspend", handle: s.suspend, body: mustBody},
		{method: post, path: "/v1/identities/resume", handle: s.resume, body: mustBody},
		{method: post, path: "/v1/identities/retire", handle: s.retire, body: mustBody},
		{method: post, path: "/v1/facts", handle: s.pushFacts, body: mustBody},
		{method: post, path: "/v1/apply", handle: s.apply, body: configurationBody, timeout: time.Minute},

		{method: get, path: "/v1/evidence/{index}", handle: s.entry, access: auditor},
		{method: get, path: "/v1/evidence/{index}/proof", handle: s.proof, access: public},
		{method: get, path: "/v1/evidence/{index}/values", handle: s.values, access: auditor},
		{method: post, path: "/v1/evidence/{index}/erase", handle: s.erase, body: mustBody},
		{method: get, path: "/log/checkpoint", handle: s.checkpoint, access: public},
		{method: get, path: "/log/tile/entries/{path...}", handle: s.entryBundle, access: auditor},
		{method: get, path: "/log/tile/{path...}", handle: s.tile, access: public},

		{method: get, path: "/.well-known/jwks.json", handle: s.jwks, access: public},
		{method: get, path: "/.well-known/oauth-authorization-server", handle: s.metadata, access: public},
		{method: get, path: "/healthz", handle: s.healthz, access: public},
		{method: get, path: "/readyz", handle: s.readyz, access: public},
		{method: get, path: "/openapi.yaml", handle: s.openapiYAML, access: public},
		{method: get, path: "/openapi.json", handle: s.openapiDocument, access: public},
	}
	if s.Metrics != nil {
		list = append(list, route{method: get, path: "/metrics", handle: s.metrics, access: public})
	}
	for i := range s.Guests {
		list = append(list, s.Guests[i].route())
	}
	return list
}
