// Package app puts Writ together: configuration, wiring, background loop and shutdown. It alone knows all parts.
package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/api"
	"github.com/writ-project/writ/internal/authn"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/connector/jwt"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/oauth"
	"github.com/writ-project/writ/internal/store"
)

// Version is the version of Writ; every decision names it, so that it can be computed again by the same engine.
const Version = "0.1.0"

// Files in the data folder.
const (
	DatabaseFile     = "writ.db"
	AcknowledgedFile = "acknowledged" // the last head that this host acknowledged
)

// App is a running installation.
type App struct {
	Control *control.Control

	config    Config
	log       *slog.Logger
	store     *store.Store
	handler   http.Handler
	cancel    context.CancelFunc
	loops     sync.WaitGroup
	svids     *authn.SPIFFE      // nil where no SVIDs are accepted
	witnessed *cosigned          // nil where no witness is asked
	leaving   context.CancelFunc // ends the waiting of long-polls
	trouble   atomic.Pointer[error]
}

// Options are what a test or the demo may replace.
type Options struct {
	Log *slog.Logger
	Now func() time.Time // the clock; nil is the system's
	// HTTP fetches the identity providers' keys; nil is a client with sane timeouts.
	HTTP *http.Client
}

// New opens an installation: its keys, its database, its declared state. It serves nothing yet.
func New(ctx context.Context, config Config, o Options) (_ *App, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := config.Check(); err != nil {
		return nil, err
	}
	if err := checkTLSKey(config.TLS); err != nil {
		return nil, err
	}
	opened, key, err := openStore(ctx, config, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	issuer, err := newIssuer(config)
	if err != nil {
		return nil, err
	}
	verifier, err := newVerifier(config, o)
	if err != nil {
		return nil, err
	}
	svids, err := newSPIFFE(ctx, config, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && svids != nil {
			err = errors.Join(err, svids.Close())
		}
	}()
	metrics := newMetrics(opened)
	if svids != nil {
		metrics.svids(svids.Health)
	}
	c := control.New(control.Options{
		Ledger: ledger{opened}, Issuer: signer{issuer}, Engine: Version, NewID: newID, Log: o.Log, Decided: metrics.decided,
		Bound: config.Tokens.Bound, Limits: control.Limits{
			RequestsPerSecond: config.Limits.RequestsPerSecond, Burst: config.Limits.Burst, EvidencePerHour: config.Limits.EvidencePerHour,
			OpenQuestions: config.Limits.OpenQuestions,
		},
	})
	opened.OnMoved(c.Wake)
	a := &App{Control: c, config: config, log: o.Log, store: opened, svids: svids}
	var published api.EvidenceReader = opened
	witnessed, err := newCosigned(config.Witnesses, opened, key, o.Log)
	if err != nil {
		return nil, err
	}
	if witnessed != nil {
		published, a.witnessed = witnessed, witnessed
		if err := witnessed.start(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.applySite(ctx); err != nil { // not on a log that the witnesses know otherwise
		return nil, err
	}
	stopping, leaving := context.WithCancel(context.WithoutCancel(ctx))
	a.leaving = leaving
	at := &gate{verifier: verifier, svids: svids, control: c, url: config.URL}
	metadata, err := oauth.Metadata(issuer.Metadata(), config.accepts())
	if err != nil {
		return nil, err
	}
	a.handler = metrics.measure(api.New(api.Options{
		Control: c, Log: published, Authenticate: at.authenticate, Principal: at.principal, Guests: guests(at),
		JWKS: issuer.JWKS(), Metadata: metadata, Metrics: metrics.handler(), Logger: o.Log, Health: a.health, Stopping: stopping,
	}))
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancel = cancel
	a.loops.Go(func() { a.loop(loop) })
	if witnessed != nil {
		a.loops.Go(func() { witnessed.loop(loop) })
	}
	return a, nil
}

// newID makes time-ordered, unguessable ids (RFC 9562, version 7).
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// openStore returns the store and the log's verifier key.
func openStore(ctx context.Context, config Config, o Options, change ...func(*store.Options)) (*store.Store, string, error) {
	key, err := readSecret(config.Log.Key)
	if err != nil {
		return nil, "", fmt.Errorf("log.key: %w", err)
	}
	signer, err := evidence.NewSigner(key)
	if err != nil {
		return nil, "", fmt.Errorf("log.key: %w", err)
	}
	public, err := os.ReadFile(config.Log.VerifierKey)
	if err != nil {
		return nil, "", fmt.Errorf("log.verifier_key: %w", err)
	}
	verifierKey := strings.TrimSpace(string(public))
	options := store.Options{
		Database: config.database(), Signer: signer, VerifierKey: verifierKey,
		Acknowledged: filepath.Join(config.Data, AcknowledgedFile), Engine: Version, Now: o.Now, Log: o.Log,
	}
	for _, c := range change {
		c(&options)
	}
	opened, err := store.Open(ctx, options)
	return opened, verifierKey, err
}

// checkSecret makes sure that a file is there and that nobody else may read it.
func checkSecret(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	return nil
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) (string, error) {
	if err := checkSecret(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%w: `writ init` makes one", err)
		}
		return "", err
	}
	content, err := os.ReadFile(path)
	return strings.TrimSpace(string(content)), err
}

// checkTLSKey refuses a key that others may read, before anything is opened or served.
func checkTLSKey(tls TLS) error {
	if tls.Key == "" {
		return nil
	}
	if err := checkSecret(tls.Key); err != nil {
		return fmt.Errorf("tls.key: %w", err)
	}
	return nil
}

func newIssuer(config Config) (*jwt.Issuer, error) {
	keys := make([]jwt.Key, 0, len(config.Tokens.Keys))
	for _, path := range config.Tokens.Keys {
		key, err := jwt.LoadKey(path)
		if err != nil {
			return nil, fmt.Errorf("tokens.keys: %w", err)
		}
		keys = append(keys, key)
	}
	return jwt.New(jwt.Config{Issuer: config.URL, Keys: keys, DefaultTTL: access.DefaultTTL.Duration()})
}

// client fetches keys and bundles.
func (o *Options) client() *http.Client {
	if o.HTTP != nil {
		return o.HTTP
	}
	return &http.Client{Timeout: 5 * time.Second}
}

func newVerifier(config Config, o Options) (*authn.Verifier, error) {
	cfg := authn.Config{}
	for _, i := range config.Issuers {
		cfg.Issuers = append(cfg.Issuers, authn.Issuer{URL: i.URL, Audience: i.Audience, PrincipalAudience: i.PrincipalAudience, JWKSURL: i.JWKS, Algorithms: i.Algorithms})
	}
	verifier, err := authn.New(cfg, o.client(), o.Now)
	if err != nil {
		return nil, fmt.Errorf("issuers: %w", err)
	}
	return verifier, nil
}

// applySite makes the configured folder the declared state. Whoever starts the process owns the database anyway.
func (a *App) applySite(ctx context.Context) error {
	if a.config.Site == "" {
		return nil
	}
	files, err := ReadSite(a.config.Site)
	if err != nil {
		return fmt.Errorf("site: %w", err)
	}
	if err := a.checkIssuers(files); err != nil {
		return err
	}
	applied, err := a.Control.Apply(ctx, nil, files, nil, false)
	if err != nil {
		return fmt.Errorf("site %s:\n%w", a.config.Site, err)
	}
	for _, change := range applied.Changes {
		a.log.InfoContext(ctx, "catalog", slog.String("change", change))
	}
	a.log.InfoContext(ctx, "policy active", slog.String("bundle", applied.Bundle))
	return nil
}

// checkIssuers refuses a catalog that knows identities by an issuer whose tokens are not accepted: they could never call.
func (a *App) checkIssuers(files map[string][]byte) error {
	declared, err := catalog.Parse(control.Configuration(files).Catalog())
	if err != nil {
		return nil //nolint:nilerr // applying names every fault
	}
	accepted := map[string]bool{}
	for _, issuer := range a.config.Issuers {
		accepted[issuer.URL] = true
	}
	for i := range declared.Identities {
		for _, match := range declared.Identities[i].Match {
			if !accepted[match.Issuer] && !a.config.SPIFFE.accepts(match.Issuer) {
				return fmt.Errorf("%s is known by tokens of %s, which is not among the configured issuers and trust domains: add it there, or correct the catalog",
					declared.Identities[i].ID, match.Issuer)
			}
		}
	}
	return nil
}

// Serve serves until the context ends, then lets requests finish. The listener is closed when it returns.
func (a *App) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: a.handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	var err error
	if server.TLSConfig, err = a.tls(); err != nil {
		return errors.Join(err, listener.Close())
	}
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
			return
		}
		failed <- server.Serve(listener)
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	const grace = 10 * time.Second
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	a.leaving()
	return server.Shutdown(stop)
}

// Close stops the loop and closes the database; what was acknowledged is durable already.
func (a *App) Close() error {
	a.leaving()
	a.cancel()
	a.loops.Wait()
	var err error
	if a.svids != nil {
		err = a.svids.Close()
	}
	return errors.Join(err, a.store.KeepHead(), a.store.Close())
}

// Database is where the database is: the path of a file, or a URL.
func (a *App) Database() string { return a.config.database() }

// Store is the database, for what reads the log in the same process.
func (a *App) Store() *store.Store { return a.store }

// health is nil while the process can serve. What was moved or replaced under it takes no commit, though old reads still work.
func (a *App) health(ctx context.Context) error {
	if err := a.store.Check(ctx); err != nil {
		return err
	}
	if a.witnessed != nil {
		if alarm := a.witnessed.alarm.Load(); alarm != nil {
			return fmt.Errorf("a witness knows another history of this log: %w", *alarm)
		}
	}
	if trouble := a.trouble.Load(); trouble != nil {
		return fmt.Errorf("what is due cannot be recorded: %w", *trouble)
	}
	return a.store.Read(ctx, func(v *store.View) error {
		_, err := v.CatalogVersion()
		return err
	})
}

// loop ends what has run out, until the context ends.
func (a *App) loop(ctx context.Context) {
	ticker := time.NewTicker(loopEvery)
	defer ticker.Stop()
	for {
		a.round(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// round does what is due, and keeps what went wrong for health until a later round goes well.
func (a *App) round(ctx context.Context) {
	sound, sweep, kept := a.store.Recover(ctx), a.sweep(ctx), a.store.KeepHead()
	strangers := a.Control.RecordStrangers(ctx)
	if ctx.Err() != nil {
		return // what fails now fails because of the end
	}
	if sound != nil {
		a.log.ErrorContext(ctx, "the database is not sound", slog.Any("error", sound))
	}
	if sweep != nil {
		a.log.ErrorContext(ctx, "sweep", slog.Any("error", sweep))
	}
	if kept != nil {
		a.log.ErrorContext(ctx, "the acknowledged head", slog.Any("error", kept))
	}
	if strangers != nil { // nothing that must be recorded: no trouble for others
		a.log.WarnContext(ctx, "unknown identities", slog.Any("error", strangers))
	}
	a.trouble.Store(nil)
	if err := errors.Join(sound, sweep, kept); err != nil {
		a.trouble.Store(&err)
	}
}

// sweep is for one of the processes that share a database.
func (a *App) sweep(ctx context.Context) error {
	if leads, err := a.store.Leads(ctx); err != nil || !leads {
		return err
	}
	for ctx.Err() == nil {
		if done, err := a.Control.Sweep(ctx); err != nil || done == 0 {
			return err
		}
	}
	return nil
}

// ledger makes the store a control.Ledger.
type ledger struct{ *store.Store }

func (l ledger) Update(ctx context.Context, decide func(control.View) (event.Change, error)) (event.Receipt, error) {
	return l.Store.Update(ctx, func(v *store.View) (event.Change, error) { return decide(v) })
}

func (l ledger) Revoke(ctx context.Context, decide func(control.View) (event.Change, error)) (event.Receipt, error) {
	return l.Store.Revoke(ctx, func(v *store.View) (event.Change, error) { return decide(v) })
}

func (l ledger) Read(ctx context.Context, read func(control.View) error) error {
	return l.Store.Read(ctx, func(v *store.View) error { return read(v) })
}

// signer makes the connector a control.Issuer.
type signer struct{ issuer *jwt.Issuer }

const connectorName = "jwt"

// argsDigest lets a target see that a token is for exactly these arguments: SHA-256 over the bytes that were asked with, as
// they stand in the grant. They themselves may be personal data, and do not travel in the token.
func argsDigest(args []byte) string {
	if len(args) == 0 {
		return ""
	}
	sum := sha256.Sum256(args)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// chainOf is on whose behalf a credential is, and who acts, the latest first (RFC 8693 section 4.1): the human that it is for, or
// else the root of the chain, and everybody that the right went through since.
func chainOf(c *control.Credential) (subject string, actor *jwt.Actor) {
	parties := append([]access.Ref{c.Subject}, c.Lenders...)
	if !c.Principal.IsZero() {
		parties = append(parties, c.Principal)
	}
	last := len(parties) - 1
	for _, party := range slices.Backward(parties[:last]) {
		actor = &jwt.Actor{Subject: party.String(), Actor: actor}
	}
	return parties[last].String(), actor
}

// Recognize reads a token of ours.
func (s signer) Recognize(token string, now time.Time) (control.Recognized, bool) {
	issued, ok := s.issuer.Verify(token, now)
	known := control.Recognized{Grant: issued.GrantID, Target: issued.Audience, BoundTo: issued.Confirmed, Claims: issued.Claims}
	if issued.Certificate != "" {
		known.BoundTo = control.ByCertificate + issued.Certificate
	}
	return known, ok
}

func (s signer) Issue(c control.Credential) (control.Token, error) {
	details, err := jwt.Details{Action: c.Action.String(), Resource: c.Resource.String(), ArgsDigest: argsDigest(c.Args), Task: c.Task}.JSON()
	if err != nil {
		return control.Token{}, err
	}
	key, certificate := control.Binding(c.BoundTo)
	subject, actor := chainOf(&c)
	token, err := s.issuer.Issue(jwt.Token{
		GrantID: c.Grant, Subject: subject, ClientID: c.Subject.String(), Audience: []string{c.Target}, AuthorizationDetails: details,
		Actor: actor, Transaction: c.Trace, IssuedAt: c.IssuedAt, Expiry: c.ExpiresAt, Confirmation: key, Certificate: certificate,
	})
	if err != nil {
		return control.Token{}, err
	}
	return control.Token{Connector: connectorName, Secret: token, Fingerprint: jwt.Fingerprint(token)}, nil
}
