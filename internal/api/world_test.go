package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/api"
	"github.com/writ-project/writ/internal/authn"
	"github.com/writ-project/writ/internal/connector/jwt"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/devidp"
	"github.com/writ-project/writ/internal/store"
)

const audience = "writ"

// settings are what a conversation may change of its world.
type settings struct {
	Burst       int           `yaml:"burst"`
	MaxWaiting  int           `yaml:"max_waiting"`
	WaitingEach int           `yaml:"waiting_each"`
	Timeout     time.Duration `yaml:"timeout"`
	ReadTimeout time.Duration `yaml:"read_timeout"`
}

// world is an installation of the starter folder, with a gateway and an agent of alice's added, behind a real server.
type world struct {
	t       testing.TB
	url     string
	now     *clock
	idp     *devidp.Server
	stray   *devidp.Server // an issuer that is not configured
	store   *store.Store
	control *control.Control
	ledger  *ledger
	logs    *buffer
	key     string // of the log, public
	site    control.Configuration
	healthy atomic.Bool
	server  *httptest.Server
	stop    context.CancelFunc // the process is about to end
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newWorld(t testing.TB, set settings) *world {
	t.Helper()
	w := &world{t: t, now: &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, logs: &buffer{}}
	w.healthy.Store(true)
	w.idp, w.stray = w.startIDP(), w.startIDP()
	w.openStore()
	w.ledger = &ledger{Store: w.store}
	key, err := jwt.GenerateKey(jwt.EdDSA, rand.Reader)
	check(t, err)
	signing, err := jwt.ParseKey(key)
	check(t, err)
	server := httptest.NewUnstartedServer(nil)
	w.server = server
	issuer, err := jwt.New(jwt.Config{Issuer: "http://" + server.Listener.Addr().String(), Keys: []jwt.Key{signing}})
	check(t, err)
	verifier, err := authn.New(authn.Config{Issuers: []authn.Issuer{{URL: w.idp.URL(), Audience: audience}}}, &http.Client{}, w.now.now)
	check(t, err)
	w.control = control.New(control.Options{
		Ledger: w.ledger, Issuer: signer{issuer}, Engine: "test", NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		Limits: control.Limits{Burst: set.Burst},
	})
	w.site = site(t, w.idp.URL())
	_, err = w.control.Apply(t.Context(), nil, w.site, nil, false)
	check(t, err)
	w.url = "http://" + server.Listener.Addr().String()
	stopping, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	w.stop = stop
	server.Config.Handler = api.New(api.Options{
		Control: w.control, Log: w.store, JWKS: issuer.JWKS(), Metadata: issuer.Metadata(),
		Authenticate: (&gate{verifier, w.control, w.url}).authenticate, Principal: (&gate{verifier, w.control, w.url}).principal,
		Metrics: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", "text/plain")
			_, _ = fmt.Fprintln(out, "writ_up 1")
		}),
		Health: func(context.Context) error {
			if w.healthy.Load() {
				return nil
			}
			return errors.New("the disk is full")
		},
		Logger: slog.New(slog.NewJSONHandler(w.logs, nil)), MaxWaiting: set.MaxWaiting, MaxWaitingEach: set.WaitingEach,
		RequestTimeout: set.Timeout, Stopping: stopping,
	})
	server.Config.ReadTimeout = set.ReadTimeout
	server.Start()
	t.Cleanup(server.Close)
	return w
}

func (w *world) startIDP() *devidp.Server {
	w.t.Helper()
	idp, err := devidp.Start(w.now.now)
	check(w.t, err)
	w.t.Cleanup(func() { check(w.t, idp.Close()) })
	return idp
}

func (w *world) openStore() {
	w.t.Helper()
	secret, public, err := evidence.GenerateKey("test.example/log", rand.Reader)
	check(w.t, err)
	w.key = public
	key, err := evidence.NewSigner(secret)
	check(w.t, err)
	w.store, err = store.Open(w.t.Context(), store.Options{
		Database: filepath.Join(w.t.TempDir(), "writ.db"), Signer: key, VerifierKey: public, Engine: "test", Now: w.now.now, Reserve: 1 << 20,
	})
	check(w.t, err)
	w.t.Cleanup(func() { check(w.t, w.store.Close()) })
}

// site is the starter folder and what the conversations need besides.
func site(t testing.TB, issuer string) control.Configuration {
	t.Helper()
	files := control.Configuration{}
	check(t, fs.WalkDir(starter.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, "/") {
			return err
		}
		content, err := starter.Files.ReadFile(path)
		files[path] = bytes.ReplaceAll(content, []byte(starter.Issuer), []byte(issuer))
		return err
	}))
	files["catalog/people.yaml"] = bytes.ReplaceAll(files["catalog/people.yaml"], []byte(`[Agent::"support-bot"]`), []byte(`[Agent::"support-bot", Agent::"alice-bot"]`))
	files["catalog/test.yaml"] = bytes.ReplaceAll([]byte(`
identities:
  - id: Agent::"alice-bot"
    owner: Human::"alice"
    purpose: refunds for payments
    review_by: 2027-12-31
    match: [{issuer: ISSUER, subject: alice-bot}]
  - id: Workload::"gateway"
    owner: Human::"sam"
    purpose: stands before the order system
    review_by: 2027-12-31
    match: [{issuer: ISSUER, subject: gateway}]
  - id: Agent::"pay-bot"
    owner: Human::"dana"
    purpose: pays what others tell it to
    review_by: 2027-12-31
    match: [{issuer: ISSUER, subject: pay-bot}]
  - id: Agent::"bob-bot"
    owner: Human::"dana"
    principal: Human::"bob"
    purpose: works for bob alone
    review_by: 2027-12-31
    match: [{issuer: ISSUER, subject: bob-bot}]
  - id: Workload::"till"
    owner: Human::"alice"
    purpose: checks what is shown to the order system
    review_by: 2027-12-31
    match: [{issuer: ISSUER, subject: till}]
enforcement_points:
  - identity: Workload::"gateway"
    owner: Human::"sam"
    subjects: [Agent::"support-bot"]
  - identity: Workload::"till"
    owner: Human::"alice"
    targets: [https://orders.example.com]
task_types:
  - name: watched
    owner: Human::"dana"
    openers: [Team::"support-agents"]
    max_duration: 1h
    heartbeat: 1m
    max_open: 1
  - name: judged
    owner: Human::"dana"
    openers: [Team::"support-agents"]
    max_duration: 1h
`), []byte("ISSUER"), []byte(issuer))
	files["policy/schema.cedarschema"] = append(files["policy/schema.cedarschema"], `
@uses("counted")
action pay appliesTo {
  principal: [Agent], resource: [Order],
  context: { args: { amount?: Long, currency: String }, mode: String, chain: { depth: Long, root: String } }
};
`...)
	files["policy/access/pay.cedar"] = []byte(`
@id("payments-may-be-lent")
@owner("Human::\"alice\"")
@max_ttl("1h")
@until("2027-12-31")
permit (principal is Agent, action == Action::"pay", resource)
when { context.mode == "delegate" };

@id("payments-are-made-by-who-was-lent-them")
@owner("Human::\"alice\"")
@max_ttl("10m")
@max_uses("5")
@until("2027-12-31")
permit (principal is Agent, action == Action::"pay", resource)
when { context.mode == "use" && context.chain.depth > 0 && context.args has amount && context.args.amount <= 50 };
`)
	files["policy/access/test.cedar"] = []byte(`
@id("huge-refund")
@owner("Human::\"sam\"")
@because("More than 1000 leaves the company: two people look at it.")
@approval("2 of team:payments")
forbid (principal, action == Action::"refund", resource)
when { context.args.amount > 1000 };

@id("whole-team-refund")
@owner("Human::\"sam\"")
@because("More than 3000 leaves the company: all of payments look at it.")
@approval("3 of team:payments")
forbid (principal, action == Action::"refund", resource)
when { context.args.amount > 3000 };

@id("judged-task")
@owner("Human::\"sam\"")
@because("Somebody looks at these tasks first.")
@approval("team:security")
forbid (principal, action == Writ::Action::"open_task", resource == Writ::TaskType::"judged");

@id("alice-is-asked")
@owner("Human::\"sam\"")
@because("Payments must not stand still without alice.")
@approval("resource-owner")
forbid (principal, action in [Writ::Action::"suspend", Writ::Action::"revoke"], resource == Agent::"alice-bot");
`)
	return files
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// token vouches for a subject at the configured issuer.
func (w *world) token(subject string) string {
	w.t.Helper()
	token, err := w.idp.Token(subject, audience, time.Hour, nil)
	check(w.t, err)
	return token
}

// The states of the ledger under the world.
const (
	ledgerFine int32 = iota
	ledgerBroken
	ledgerPanics
	ledgerHangs
)

// ledger makes the store a control.Ledger, and fails when a test says so.
type ledger struct {
	*store.Store

	state atomic.Int32
}

func (l *ledger) fail(ctx context.Context) error {
	switch l.state.Load() {
	case ledgerBroken:
		return fmt.Errorf("%w: the disk is full", access.ErrUnavailable)
	case ledgerPanics:
		panic("secret-in-a-panic")
	case ledgerHangs:
		<-ctx.Done()
		return ctx.Err()
	default:
		return nil
	}
}

func (l *ledger) Update(ctx context.Context, decide func(control.View) (event.Change, error)) (event.Receipt, error) {
	if err := l.fail(ctx); err != nil {
		return event.Receipt{}, err
	}
	return l.Store.Update(ctx, func(v *store.View) (event.Change, error) { return decide(v) })
}

func (l *ledger) Revoke(ctx context.Context, decide func(control.View) (event.Change, error)) (event.Receipt, error) {
	if err := l.fail(ctx); err != nil {
		return event.Receipt{}, err
	}
	return l.Store.Revoke(ctx, func(v *store.View) (event.Change, error) { return decide(v) })
}

func (l *ledger) Read(ctx context.Context, read func(control.View) error) error {
	return l.Store.Read(ctx, func(v *store.View) error { return read(v) })
}

// signer makes the connector a control.Issuer.
type signer struct{ issuer *jwt.Issuer }

func (s signer) Issue(c control.Credential) (control.Token, error) {
	token, err := s.issuer.Issue(jwt.Token{
		GrantID: c.Grant, Subject: c.Subject.ID, ClientID: c.Subject.ID, Audience: []string{c.Target},
		IssuedAt: c.IssuedAt, Expiry: c.ExpiresAt, Confirmation: c.BoundTo,
	})
	return control.Token{Connector: "jwt", Secret: token, Fingerprint: jwt.Fingerprint(token)}, err
}

func (s signer) Recognize(token string, now time.Time) (control.Recognized, bool) {
	issued, ok := s.issuer.Verify(token, now)
	return control.Recognized{Grant: issued.GrantID, Target: issued.Audience, BoundTo: issued.Confirmed, Claims: issued.Claims}, ok
}

// gate finds out who calls, as the app does.
type gate struct {
	verifier *authn.Verifier
	control  *control.Control
	url      string
}

func (g *gate) authenticate(ctx context.Context, r *http.Request) (control.Caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return control.Caller{}, &control.Invalid{Kind: control.AuthenticationMissing, Reason: string(authn.CodeTokenMissing), Detail: "send a bearer token"}
	}
	claims, err := g.verifier.Verify(ctx, token)
	if err != nil {
		return control.Caller{}, refused(err)
	}
	caller := control.Caller{}
	if proof := r.Header.Get("DPoP"); proof != "" {
		caller.BoundTo, err = g.verifier.VerifyProof(ctx, authn.ProofInput{Proof: proof, Method: r.Method, URL: g.url + r.URL.EscapedPath(), AccessToken: token})
		if err != nil {
			return caller, refused(err)
		}
	}
	caller.Identity, err = g.control.Identify(ctx, claims.Issuer, claims.Subject, claims.All)
	return caller, err
}

// principal takes any human's token; which are for that is the app's to say.
func (g *gate) principal(ctx context.Context, token string, _ access.Ref) (access.Ref, error) {
	claims, err := g.verifier.Verify(ctx, token)
	if err != nil {
		return access.Ref{}, refused(err)
	}
	return g.control.Identify(ctx, claims.Issuer, claims.Subject, claims.All)
}

func refused(err error) error {
	var known *authn.Error
	if errors.As(err, &known) {
		return &control.Invalid{Kind: control.AuthenticationMissing, Reason: string(known.Code), Temporary: known.Code.Temporary(), Detail: known.Detail, Cause: err}
	}
	return err
}
