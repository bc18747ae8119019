package authn

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	fetchTimeout = 5 * time.Second
	// retryAfter is the least time between two fetches after a failure, and
	// between two fetches for a key that is not known.
	retryAfter = 10 * time.Second
	// maxKeyAge is how long the last good keys serve while the issuer is down.
	maxKeyAge = time.Hour
	// outageMemory is how long after a failed fetch callers need not wait for the next.
	outageMemory = 3 * retryAfter
)

// issuer keeps the keys of one issuer fresh. Fetches never run side by side.
// They belong to no caller, so one that goes away does not fail the others;
// each ends by itself within fetchTimeout.
type issuer struct {
	url        string
	audience   string
	principal  string // audience of tokens that show for whom an agent works; empty: none
	algorithms []jose.SignatureAlgorithm
	interval   time.Duration
	ahead      time.Duration // age at which a refresh starts without anybody waiting
	now        func() time.Time
	source     *source // touched by the running flight only

	current atomic.Pointer[keySet]

	mu        sync.Mutex
	flight    chan struct{} // closed when the running fetch ends; nil when none runs
	failure   error         // of the latest fetch; nil when it succeeded
	failedAt  time.Time
	unknownAt time.Time // when a fetch for an unknown key last began
}

func newIssuer(cfg Issuer, client *http.Client, now func() time.Time, interval time.Duration) *issuer {
	return &issuer{
		url:        cfg.URL,
		audience:   cfg.Audience,
		principal:  cfg.PrincipalAudience,
		algorithms: cfg.algorithms(),
		interval:   interval,
		ahead:      interval * 4 / 5,
		now:        now,
		source:     newSource(cfg, client),
	}
}

// keys is the key set to verify with: never older than the interval while the
// issuer answers, never older than maxKeyAge at all.
func (i *issuer) keys(ctx context.Context, now time.Time) (*keySet, error) {
	set := i.current.Load()
	if set != nil && now.Sub(set.fetched) < i.ahead {
		return set, nil
	}
	flight, failing := i.refresh(now)
	if set.servesAt(now) && (failing || now.Sub(set.fetched) < i.interval) {
		return set, nil // nobody waits while the set may still serve, or for an issuer known to be down
	}
	if err := i.wait(ctx, flight); err != nil {
		return nil, err
	}
	if set = i.current.Load(); !set.servesAt(now) {
		return nil, i.unavailable(nil)
	}
	return set, nil
}

// servesAt reports whether the set may be used at all.
func (s *keySet) servesAt(now time.Time) bool {
	return s != nil && now.Sub(s.fetched) <= maxKeyAge
}

// keysForUnknown is the key set after a fetch because a token names a key that
// is not in it. At most one fetch in retryAfter is spent on this, so that
// invented key ids cannot be turned into load on the issuer.
func (i *issuer) keysForUnknown(ctx context.Context, now time.Time) (*keySet, error) {
	i.mu.Lock()
	if i.flight == nil && !within(now, i.unknownAt, retryAfter) && !i.failedLately(now) {
		i.unknownAt = now
		i.start()
	}
	flight := i.flight
	i.mu.Unlock()
	if err := i.wait(ctx, flight); err != nil {
		return nil, err
	}
	i.mu.Lock()
	failing := i.failure != nil
	i.mu.Unlock()
	if set := i.current.Load(); !failing && set.servesAt(now) {
		return set, nil
	}
	return nil, i.unavailable(nil) // the key may be a new one: the token is not to blame
}

// refresh starts a fetch unless one runs or the last one failed a moment ago.
func (i *issuer) refresh(now time.Time) (flight <-chan struct{}, failing bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.flight == nil && !i.failedLately(now) {
		i.start()
	}
	return i.flight, i.failure != nil && within(now, i.failedAt, outageMemory)
}

func (i *issuer) failedLately(now time.Time) bool {
	return i.failure != nil && within(now, i.failedAt, retryAfter)
}

// within reports whether now is less than span after then.
func within(now, then time.Time, span time.Duration) bool {
	passed := now.Sub(then)
	return passed >= 0 && passed < span
}

// start begins a fetch; the lock is held.
func (i *issuer) start() {
	done := make(chan struct{})
	i.flight = done
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		begun := i.now() // before the request, so that a set is never younger than it looks
		set, err := i.source.fetch(ctx)
		i.land(set, err, begun)
	}()
}

// land keeps the result of a fetch; after a failure the last good set stays.
func (i *issuer) land(set *keySet, err error, begun time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.flight = nil
	i.failure = err
	if err != nil {
		i.failedAt = i.now()
		return
	}
	set.fetched = begun
	set.follow(i.current.Load())
	i.current.Store(set)
}

// wait is for the end of a running fetch, if there is one.
func (i *issuer) wait(ctx context.Context, flight <-chan struct{}) error {
	if flight == nil {
		return nil
	}
	select {
	case <-flight:
		return nil
	case <-ctx.Done():
		return i.unavailable(ctx.Err())
	}
}

// unavailable is the refusal when there are no keys to verify with.
func (i *issuer) unavailable(cause error) error {
	if cause == nil {
		i.mu.Lock()
		cause = i.failure
		i.mu.Unlock()
	}
	detail := fmt.Sprintf("the keys of the token's issuer cannot be read, so nothing can be verified; try again in %s, and if it lasts, tell the operator to check the issuer", retryAfter)
	return &Error{Code: CodeIssuerUnavailable, Detail: detail, cause: cause}
}
