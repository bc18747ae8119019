package authn

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	defaultBundleRefresh = 5 * time.Minute
	minBundleRefresh     = 10 * time.Second
	maxBundleRefresh     = 10 * time.Minute // below the least MaxBundleAge, so that one failure never ends a bundle
)

// bundle is what one trust domain signs with: its certificate authorities and
// its JWT keys. It is immutable; another bundle is another pointer, and what was
// verified with the former one is verified again.
type bundle struct {
	source *spiffebundle.Bundle
	roots  *x509.CertPool
}

// newBundle refuses a bundle that holds what cannot sign: a certificate that is
// no CA would otherwise count as trusted by itself.
func newBundle(source *spiffebundle.Bundle) (*bundle, error) {
	authorities := source.X509Authorities()
	if n := len(authorities) + len(source.JWTAuthorities()); n > maxKeys {
		return nil, fmt.Errorf("bundle: %d authorities, more than %d", n, maxKeys)
	}
	b := &bundle{source: source, roots: x509.NewCertPool()}
	for _, certificate := range authorities {
		if !certificate.BasicConstraintsValid || !certificate.IsCA {
			return nil, errors.New("bundle: it holds a certificate that is no CA")
		}
		b.roots.AddCert(certificate)
	}
	return b, nil
}

// parseBundle reads a SPIFFE bundle (SPIFFE Trust Domain and Bundle section 4), or PEM certificates.
func parseBundle(domain spiffeid.TrustDomain, raw []byte) (*bundle, error) {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return parseJWKSBundle(domain, raw)
	}
	pem, err := x509bundle.Parse(domain, raw)
	if err != nil {
		return nil, fmt.Errorf("bundle: neither a SPIFFE bundle nor certificates in PEM: %w", err)
	}
	if pem.Empty() {
		return nil, errors.New("bundle: it is empty; to withdraw all keys, write {\"keys\":[]}")
	}
	return newBundle(spiffebundle.FromX509Bundle(pem))
}

func parseJWKSBundle(domain spiffeid.TrustDomain, raw []byte) (*bundle, error) {
	if !jsontext.Value(raw).IsValid() {
		return nil, errors.New("bundle: not a JSON object with unique names")
	}
	source, err := spiffebundle.Parse(domain, raw)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return newBundle(source)
}

// refreshAfter is when to look again: the bundle's own hint, within bounds.
func (b *bundle) refreshAfter() time.Duration {
	hint, ok := b.source.RefreshHint()
	if !ok {
		return defaultBundleRefresh
	}
	return min(max(hint, minBundleRefresh), maxBundleRefresh)
}

// olderThan compares sequence numbers, where both bundles have one.
func (b *bundle) olderThan(other *bundle) bool {
	mine, ok := b.source.SequenceNumber()
	theirs, both := other.source.SequenceNumber()
	return ok && both && mine < theirs
}

// domain keeps the bundle of one trust domain fresh, from a file or an endpoint.
type domain struct {
	name   spiffeid.TrustDomain
	fetch  func(context.Context) (*bundle, error)
	maxAge time.Duration
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	current *bundle
	fetched time.Time // when the request for current was sent
	failure error     // of the latest fetch; nil when it succeeded
}

// run fetches until ctx ends; first is called after the first fetch, however it went.
func (d *domain) run(ctx context.Context, first func()) {
	for {
		wait := d.refresh(ctx)
		first()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// refresh fetches once, and says when to do so again.
func (d *domain) refresh(ctx context.Context) time.Duration {
	begun := d.now() // before the request, so that a bundle is never younger than it looks
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	next, err := d.fetch(limited)
	if ctx.Err() != nil {
		return 0
	}
	if err := d.land(ctx, next, err, begun); err != nil {
		return retryAfter
	}
	return next.refreshAfter()
}

// land keeps the result of a fetch; after a failure the last good bundle stays.
func (d *domain) land(ctx context.Context, next *bundle, err error, begun time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && d.serves(begun) && next.olderThan(d.current) {
		err = errors.New("bundle: its spiffe_sequence is lower than that of the one at hand")
	}
	name := slog.String("trust_domain", d.name.Name())
	if err != nil {
		if d.failure == nil {
			d.log.WarnContext(ctx, "the bundle of a trust domain cannot be renewed", name, slog.Any("error", err))
		}
		d.failure = err
		return err
	}
	if d.failure != nil {
		d.log.InfoContext(ctx, "the bundle of a trust domain is renewed again", name)
	}
	if d.current == nil || !d.current.source.Equal(next.source) {
		d.log.InfoContext(ctx, "a trust domain has a new bundle", name,
			slog.Int("x509", len(next.source.X509Authorities())), slog.Int("jwt", len(next.source.JWTAuthorities())))
		d.current = next
	}
	d.failure, d.fetched = nil, begun
	return nil
}

// serves reports whether the bundle may be used at all; the lock is held.
func (d *domain) serves(now time.Time) bool {
	return d.current != nil && now.Sub(d.fetched) <= d.maxAge
}

// serving is the bundle to verify with, or why there is none.
func (d *domain) serving(now time.Time) (*bundle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.serves(now) {
		return nil, domainUnavailable(d.failure)
	}
	return d.current, nil
}

// latest is the bundle that was fetched last, whatever its age, or nil.
func (d *domain) latest() *bundle {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// health is nil while the bundle is renewed as it should be.
func (d *domain) health(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.failure == nil && d.serves(now):
		return nil
	case !d.serves(now):
		return fmt.Errorf("trust domain %s: no bundle that may be used, so its SVIDs are refused: %w", d.name, orSilent(d.failure))
	default:
		return fmt.Errorf("trust domain %s: the bundle of %s cannot be renewed and serves until %s: %w",
			d.name, d.fetched.UTC().Format(time.RFC3339), d.fetched.Add(d.maxAge).UTC().Format(time.RFC3339), d.failure)
	}
}

// readBundle reads a bundle from a file, at most maxResponse bytes of it.
func readBundle(domain spiffeid.TrustDomain, path string) (*bundle, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if len(raw) > maxResponse {
		return nil, fmt.Errorf("bundle: the file is larger than %d bytes", maxResponse)
	}
	return parseBundle(domain, raw)
}

// fetchFrom reads a bundle endpoint (SPIFFE Federation section 5.2).
func fetchFrom(domain spiffeid.TrustDomain, url string, client *http.Client) func(context.Context) (*bundle, error) {
	limited := *client
	limited.Transport = limitTransport{base: client.Transport}
	limited.Jar = nil
	limited.CheckRedirect = checkBundleRedirect
	get := (&source{client: &limited}).get
	return func(ctx context.Context) (*bundle, error) {
		raw, err := get(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("bundle endpoint: %w", err)
		}
		return parseJWKSBundle(domain, raw)
	}
}

// checkBundleRedirect keeps a redirect on https, also between ports of this host.
func checkBundleRedirect(req *http.Request, via []*http.Request) error {
	if err := checkBundleURL(req.URL.String()); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	return checkRedirect(req, via)
}

// spiffeClient makes connections only to the endpoint with the given SPIFFE ID,
// as the authorities of its trust domain of that moment attest it.
func spiffeClient(client *http.Client, endpoint spiffeid.ID, authorities func() (*bundle, error), now func() time.Time) *http.Client {
	// Not a clone of the client's transport, which may bring TLS of its own that would pass by the check below.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if base, ok := client.Transport.(*http.Transport); ok {
		transport.Proxy, transport.DialContext = base.Proxy, base.DialContext
	}
	transport.DisableKeepAlives = true // each fetch authenticates the endpoint anew
	transport.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // an SVID has no host name; VerifyConnection checks all of it
		VerifyConnection: func(state tls.ConnectionState) error {
			trusted, err := authorities()
			if err != nil {
				return fmt.Errorf("endpoint: no bundle to authenticate it with: %w", err)
			}
			id, err := leafID(state.PeerCertificates)
			if err != nil {
				return fmt.Errorf("endpoint: %w", err)
			}
			if id != endpoint {
				return errors.New("endpoint: its certificate is that of another SPIFFE ID")
			}
			_, err = verifyChain(state.PeerCertificates, trusted, x509.ExtKeyUsageServerAuth, now())
			return err
		},
	}
	own := *client
	own.Transport = transport
	return &own
}
