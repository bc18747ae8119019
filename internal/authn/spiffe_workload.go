package authn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// half says which authorities of a bundle are asked for; the Workload API sends each in a stream of its own.
type half string

const (
	ofX509 half = "X.509"
	ofJWT  half = "JWT"
)

// stream is how one of the two streams stands.
type stream struct {
	received bool
	failure  error     // nil while the stream is open and what it sends can be used
	since    time.Time // when it began to fail
}

// workload follows the Workload API: Writ's own X.509-SVID, and the bundles of
// its own and of federated trust domains. Updates are pushed, so what was
// received is current as long as the stream is open.
type workload struct {
	client *workloadapi.Client
	ctx    context.Context // ends with Close; the library calls back without one
	maxAge time.Duration
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	streams map[half]stream
	svid    *tls.Certificate
	x509    []*x509bundle.Bundle
	jwt     []*jwtbundle.Bundle
	bundles map[spiffeid.TrustDomain]*bundle
	changed chan struct{} // closed and replaced whenever something changes
}

func newWorkload(ctx context.Context, client *workloadapi.Client, maxAge time.Duration, now func() time.Time, log *slog.Logger) *workload {
	return &workload{
		client: client, ctx: ctx, maxAge: maxAge, now: now, log: log,
		streams: make(map[half]stream), changed: make(chan struct{}),
	}
}

// follow keeps a watch going; the library gives up after some errors.
func (w *workload) follow(watch func(context.Context) error) {
	for w.ctx.Err() == nil {
		if err := watch(w.ctx); err != nil && w.ctx.Err() == nil {
			select {
			case <-time.After(retryAfter):
			case <-w.ctx.Done():
			}
		}
	}
}

func (w *workload) followX509() {
	w.follow(func(ctx context.Context) error { return w.client.WatchX509Context(ctx, w) })
}

func (w *workload) followJWT() {
	w.follow(func(ctx context.Context) error { return w.client.WatchJWTBundles(ctx, w) })
}

// steady asks the Workload API again after the same pause each time. It is a local socket; with the library's growing pauses the two
// streams, which fail and come back each by itself, would be up to half a minute apart.
type steady struct{}

const workloadPause = 2 * time.Second

func (steady) NewBackoff() workloadapi.Backoff { return steady{} }
func (steady) Next() time.Duration             { return workloadPause }
func (steady) Reset()                          {}

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (w *workload) OnX509ContextUpdate(update *workloadapi.X509Context) {
	own := update.DefaultSVID()
	certificate := &tls.Certificate{PrivateKey: own.PrivateKey, Leaf: own.Certificates[0]}
	for _, c := range own.Certificates {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.rebuild(update.Bundles.Bundles(), w.jwt); err != nil {
		w.fail(ofX509, err)
		return
	}
	w.svid = certificate
	w.succeed(ofX509, slog.String("svid", own.ID.String()), slog.Time("expiry", certificate.Leaf.NotAfter))
}

// OnJWTBundlesUpdate implements workloadapi.JWTBundleWatcher.
func (w *workload) OnJWTBundlesUpdate(update *jwtbundle.Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.rebuild(w.x509, update.Bundles()); err != nil {
		w.fail(ofJWT, err)
		return
	}
	w.succeed(ofJWT)
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher.
func (w *workload) OnX509ContextWatchError(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(ofX509, err)
}

// OnJWTBundlesWatchError implements workloadapi.JWTBundleWatcher.
func (w *workload) OnJWTBundlesWatchError(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(ofJWT, err)
}

// rebuild puts the two halves together; the lock is held. A trust domain that is
// no longer sent is gone. A bundle that did not change stays the same pointer.
func (w *workload) rebuild(x509 []*x509bundle.Bundle, jwt []*jwtbundle.Bundle) error {
	sources := make(map[spiffeid.TrustDomain]*spiffebundle.Bundle)
	for _, b := range x509 {
		sources[b.TrustDomain()] = spiffebundle.FromX509Bundle(b)
	}
	for _, b := range jwt {
		source := sources[b.TrustDomain()]
		if source == nil {
			source = spiffebundle.New(b.TrustDomain())
			sources[b.TrustDomain()] = source
		}
		source.SetJWTAuthorities(b.JWTAuthorities())
	}
	bundles := make(map[spiffeid.TrustDomain]*bundle, len(sources))
	for name, source := range sources {
		if old := w.bundles[name]; old != nil && old.source.Equal(source) {
			bundles[name] = old
			continue
		}
		b, err := newBundle(source)
		if err != nil {
			return fmt.Errorf("trust domain %s: %w", name, err)
		}
		bundles[name] = b
	}
	w.x509, w.jwt, w.bundles = x509, jwt, bundles
	return nil
}

// succeed notes an update; the lock is held.
func (w *workload) succeed(what half, attrs ...any) {
	attrs = append(attrs, slog.String("stream", string(what)), slog.Int("trust_domains", len(w.bundles)))
	w.log.InfoContext(w.ctx, "update of the Workload API", attrs...)
	w.streams[what] = stream{received: true}
	w.broadcast()
}

// fail notes that a stream cannot be used; the lock is held.
func (w *workload) fail(what half, err error) {
	if w.ctx.Err() != nil {
		return // closing
	}
	s := w.streams[what]
	if s.failure == nil {
		s.since = w.now()
		w.log.WarnContext(w.ctx, "the Workload API does not answer as it should", slog.String("stream", string(what)), slog.Any("error", err))
	}
	s.failure = err
	w.streams[what] = s
	w.broadcast()
}

func (w *workload) broadcast() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until the condition holds, which is asked under the lock after every change.
func (w *workload) await(ctx context.Context, condition func() bool) error {
	for {
		w.mu.Lock()
		met, changed := condition(), w.changed
		w.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answered reports whether both streams brought something or failed; the lock is held.
func (w *workload) answered() bool {
	for _, what := range []half{ofX509, ofJWT} {
		if s := w.streams[what]; !s.received && s.failure == nil {
			return false
		}
	}
	return true
}

// serves reports whether what a stream brought may be used; the lock is held.
func (w *workload) serves(what half, now time.Time) bool {
	s := w.streams[what]
	return s.received && (s.failure == nil || now.Sub(s.since) <= w.maxAge)
}

// serving is the bundle of a trust domain, or why there is none.
func (w *workload) serving(name spiffeid.TrustDomain, what half, now time.Time) (*bundle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.serves(what, now) {
		return nil, domainUnavailable(w.streams[what].failure)
	}
	b := w.bundles[name]
	if b == nil {
		return nil, domainUnknown()
	}
	return b, nil
}

// certificate is Writ's own X.509-SVID, while it is alive.
func (w *workload) certificate() (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.checkSVID(w.now()); err != nil {
		return nil, err
	}
	return w.svid, nil
}

func (w *workload) checkSVID(now time.Time) error {
	switch {
	case w.svid == nil:
		return errors.New("the Workload API has given Writ no X.509-SVID; register Writ with it")
	case !now.Before(w.svid.Leaf.NotAfter):
		return fmt.Errorf("the X.509-SVID of Writ expired at %s and the Workload API gives no other", w.svid.Leaf.NotAfter.Format(time.RFC3339))
	default:
		return nil
	}
}

// health is nil while both streams are open and Writ's own SVID is alive.
func (w *workload) health(now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []error
	if err := w.checkSVID(now); err != nil {
		all = append(all, err)
	}
	for _, what := range []half{ofX509, ofJWT} {
		s := w.streams[what]
		switch {
		case s.failure != nil && w.serves(what, now):
			all = append(all, fmt.Errorf("workload API: its %s bundles cannot be renewed and serve until %s: %w", what, s.since.Add(w.maxAge).UTC().Format(time.RFC3339), s.failure))
		case !w.serves(what, now):
			all = append(all, fmt.Errorf("workload API: no %s bundles that may be used, so such SVIDs are refused: %w", what, orSilent(s.failure)))
		}
	}
	return errors.Join(all...)
}
