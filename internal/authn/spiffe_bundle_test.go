package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// network carries real connections through memory, so that a bubble's clock can move.
type network struct {
	mu    sync.Mutex
	hosts map[string]*listener
}

type listener struct {
	host   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.host, Net: "memory"} }

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	l := n.hosts[host]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("no such host")
	}
	client, near := net.Pipe()
	far, server := net.Pipe()
	select {
	case l.conns <- server:
		go relay(near, far)
		go relay(far, near)
		return client, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// relay carries one direction. It buffers, as a network does: both ends of a TLS
// connection may be writing when one of them gives up.
func relay(from, to net.Conn) {
	buffered := make(chan []byte, 1024)
	go func() {
		for part := range buffered {
			_, _ = to.Write(part)
		}
		_ = to.Close()
	}()
	defer close(buffered)
	defer func() { _ = from.Close() }()
	for {
		part := make([]byte, 16<<10)
		n, err := from.Read(part)
		if err != nil {
			return
		}
		buffered <- part[:n]
	}
}

// client trusts the given web authorities.
func (n *network) client(t testing.TB, roots ...authority) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	for _, a := range roots {
		pool.AddCert(a.certificate)
	}
	transport := &http.Transport{DialContext: n.dial, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// endpoint is a bundle endpoint whose certificate and answer a test sets.
type endpoint struct {
	certificate atomic.Pointer[tls.Certificate]
	answer      atomic.Pointer[http.HandlerFunc]
	asked       atomic.Int64
}

func (n *network) serve(t testing.TB, host string, certificate tls.Certificate) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.certificate.Store(&certificate)
	l := &listener{host: host, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = make(map[string]*listener)
	}
	n.hosts[host] = l
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			e.asked.Add(1)
			(*e.answer.Load())(w, r)
		}),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return e.certificate.Load(), nil
		}},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return e
}

func (e *endpoint) publish(raw []byte) {
	e.handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) })
}

func (e *endpoint) handle(h http.HandlerFunc) { e.answer.Store(&h) }

// webCertificate is one of the Web PKI.
func webCertificate(t testing.TB, a authority, host string) tls.Certificate {
	t.Helper()
	return a.svid(t, "https://"+host, func(c *x509.Certificate) {
		c.URIs, c.DNSNames, c.NotAfter = nil, []string{host}, a.certificate.NotAfter
	})
}

// inWeb is a bubble with one trust domain, a.example, whose bundle comes from an https_web endpoint.
func inWeb(t *testing.T, test func(t *testing.T, e *endpoint, start func() *SPIFFE)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var n network
		web := newAuthority(t, "web", time.Now())
		e := n.serve(t, "bundles.example", webCertificate(t, web, "bundles.example"))
		client := n.client(t, web)
		test(t, e, func() *SPIFFE {
			return newSPIFFE(t, SPIFFEConfig{TrustDomains: []TrustDomain{
				{Name: "a.example", URL: "https://bundles.example/a", Profile: ProfileWeb},
			}}, client, time.Now)
		})
	})
}

// pass lets time go by, and what is then due come to its end.
func pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func accepts(t *testing.T, s *SPIFFE, token string, want Code) {
	t.Helper()
	_, err := s.VerifyJWT(token)
	wantCode(t, err, want)
}

func TestRotationTakesEffectAtTheNextRefresh(t *testing.T) {
	inWeb(t, func(t *testing.T, e *endpoint, start func() *SPIFFE) {
		oldKey, newKey := newKey(t, jose.ES256, "old"), newKey(t, jose.ES256, "new")
		oldRoot, newRoot := newAuthority(t, "a.example", time.Now()), newAuthority(t, "a.example", time.Now())
		e.publish(bundleOf(t, []authority{oldRoot}, []signingKey{oldKey}, nil))
		s := start()
		oldSVID, newSVID := chain(t, oldRoot.svid(t, agentID, nil)), chain(t, newRoot.svid(t, agentID, nil))
		oldToken, newToken := jwtSVID(t, oldKey, time.Now().Add(time.Hour), map[string]any{"iat": nil}, nil), jwtSVID(t, newKey, time.Now().Add(time.Hour), map[string]any{"iat": nil}, nil)
		check := func(step string, oldX509, newX509, oldJWT, newJWT Code) {
			t.Helper()
			t.Log(step)
			for range 2 { // verified, then remembered
				for _, c := range []struct {
					svid []*x509.Certificate
					want Code
				}{{oldSVID, oldX509}, {newSVID, newX509}} {
					_, err := s.VerifyX509(c.svid)
					wantCode(t, err, c.want)
				}
				accepts(t, s, oldToken, oldJWT)
				accepts(t, s, newToken, newJWT)
			}
		}
		check("the first bundle", "", CodeSVIDUntrusted, "", CodeTokenUnknownKey)
		e.publish(bundleOf(t, []authority{oldRoot, newRoot}, []signingKey{oldKey, newKey}, nil))
		pass(defaultBundleRefresh - time.Second)
		check("not looked at yet", "", CodeSVIDUntrusted, "", CodeTokenUnknownKey)
		pass(time.Second)
		check("both", "", "", "", "")
		e.publish(bundleOf(t, []authority{newRoot}, []signingKey{newKey}, nil))
		pass(defaultBundleRefresh)
		check("rotated out", CodeSVIDUntrusted, "", CodeTokenUnknownKey, "")
		e.publish(bundleOf(t, nil, nil, nil))
		pass(defaultBundleRefresh)
		check("all keys withdrawn", CodeSVIDUntrusted, CodeSVIDUntrusted, CodeTokenUnknownKey, CodeTokenUnknownKey)
		if err := s.Health(); err != nil {
			t.Error(err)
		}
	})
}

func TestRefreshHintIsHeldWithinBounds(t *testing.T) {
	for hint, want := range map[int]time.Duration{
		-1: minBundleRefresh, 0: minBundleRefresh, 1: minBundleRefresh, 60: time.Minute, 86400: maxBundleRefresh, 1 << 62: minBundleRefresh,
	} {
		inWeb(t, func(t *testing.T, e *endpoint, start func() *SPIFFE) {
			e.publish(bundleOf(t, nil, nil, map[string]any{"spiffe_refresh_hint": hint}))
			start()
			pass(want - 1)
			if n := e.asked.Load(); n != 1 {
				t.Errorf("hint %d: asked %d times before %s", hint, n, want)
			}
			pass(1)
			if n := e.asked.Load(); n != 2 {
				t.Errorf("hint %d: asked %d times after %s", hint, n, want)
			}
		})
	}
}

func TestEndpointThatIsDownKeepsTheLastBundleForAnHour(t *testing.T) {
	inWeb(t, func(t *testing.T, e *endpoint, start func() *SPIFFE) {
		key := newKey(t, jose.ES256, "k")
		bundle := bundleOf(t, nil, []signingKey{key}, nil)
		e.publish(bundle)
		s, began := start(), time.Now()
		token := jwtSVID(t, key, began.Add(24*time.Hour), map[string]any{"iat": nil}, nil)
		e.handle(unavailable)
		pass(defaultBundleRefresh)
		accepts(t, s, token, "")
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "serves until 2000-01-01T01:00:00Z") || !strings.Contains(err.Error(), "a.example") {
			t.Errorf("health = %v", err)
		}
		pass(time.Until(began.Add(defaultMaxBundleAge)))
		accepts(t, s, token, "")
		pass(1)
		accepts(t, s, token, CodeTrustDomainUnavailable)
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "SVIDs are refused") {
			t.Errorf("health = %v", err)
		}
		e.publish(bundle)
		pass(retryAfter)
		accepts(t, s, token, "")
		if err := s.Health(); err != nil {
			t.Error(err)
		}
	})
}

func TestEndpointThatNeverAnswered(t *testing.T) {
	key := newKey(t, jose.ES256, "k")
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		waited time.Duration
	}{
		"down":    {unavailable, 0},
		"hanging": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fetchTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inWeb(t, func(t *testing.T, e *endpoint, start func() *SPIFFE) {
				e.handle(test.answer)
				began := time.Now()
				s := start()
				if waited := time.Since(began); waited != test.waited {
					t.Errorf("NewSPIFFE waited %s, want %s", waited, test.waited)
				}
				token := jwtSVID(t, key, began.Add(time.Hour), map[string]any{"iat": nil}, nil)
				accepts(t, s, token, CodeTrustDomainUnavailable)
				if err := s.Health(); err == nil {
					t.Error("all is well, it says")
				}
				e.publish(bundleOf(t, nil, []signingKey{key}, nil))
				pass(retryAfter + fetchTimeout)
				accepts(t, s, token, "")
			})
		})
	}
}

// TestUnusableAnswersChangeNothing: each answer leaves the bundle that was there, and is told.
func TestUnusableAnswersChangeNothing(t *testing.T) {
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
	}
	to := func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) }
	}
	inWeb(t, func(t *testing.T, e *endpoint, start func() *SPIFFE) {
		root, key, foreign := newAuthority(t, "a.example", time.Now()), newKey(t, jose.ES256, "k"), newKey(t, jose.ES256, "k")
		good := bundleOf(t, []authority{root}, []signingKey{key}, map[string]any{"spiffe_sequence": 7})
		e.publish(good)
		s := start()
		token := jwtSVID(t, key, time.Now().Add(20*time.Hour), map[string]any{"iat": nil}, nil)
		leaf := authority{certificate: root.svid(t, agentID, nil).Leaf}
		nameless := key
		nameless.kid = ""
		for _, test := range []struct {
			name, says string
			answer     http.HandlerFunc
		}{
			{"an error", "502", unavailable},
			{"nothing", "unique names", text("")},
			{"no JSON", "unique names", text("<html>")},
			{"no keys", "no authorities", text("{}")},
			{"keys twice", "unique names", text(`{"keys":[],"keys":[]}`)},
			{"certificates in PEM", "unique names", text(string(pemOf(root)))},
			{"too much", "larger than", text(strings.Repeat(" ", maxResponse) + "{}")},
			{"a certificate that is no CA", "no CA", text(string(bundleOf(t, []authority{leaf}, nil, nil)))},
			{"a JWT key without kid", "keyID", text(string(bundleOf(t, nil, []signingKey{nameless}, nil)))},
			{"an older sequence", "spiffe_sequence", text(string(bundleOf(t, nil, []signingKey{foreign}, map[string]any{"spiffe_sequence": 6})))},
			{"a redirect to plain http", "must be https", to("http://bundles.example/a")},
			{"a redirect to this host", "redirect to this host", to("https://127.0.0.1/a")},
			{"a redirect without end", "too many redirects", to("https://bundles.example/a")},
		} {
			e.handle(test.answer)
			pass(defaultBundleRefresh)
			accepts(t, s, token, "")
			if err := s.Health(); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: health = %v", test.name, err)
			}
			e.publish(good)
			pass(retryAfter)
			if err := s.Health(); err != nil {
				t.Errorf("%s: after it: %v", test.name, err)
			}
		}
		e.handle(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/a" {
				http.Redirect(w, r, "https://bundles.example/b", http.StatusTemporaryRedirect)
				return
			}
			_, _ = w.Write(bundleOf(t, nil, []signingKey{foreign}, nil))
		})
		pass(defaultBundleRefresh)
		accepts(t, s, token, CodeTokenBadSignature) // a redirect to https is followed
	})
}

func TestBundleRedirects(t *testing.T) {
	for _, test := range []struct {
		from, to string
		want     bool
	}{
		{"https://a.example/x", "https://b.example/y", true},
		{"https://127.0.0.1/x", "https://127.0.0.1:8443/y", true},
		{"https://127.0.0.1/x", "http://127.0.0.1/y", false},
		{"https://a.example/x", "http://a.example/x", false},
		{"https://a.example/x", "https://127.0.0.1/x", false},
		{"https://a.example/x", "https://user@a.example/x", false},
	} {
		from, to := &http.Request{URL: parseURL(t, test.from)}, &http.Request{URL: parseURL(t, test.to)}
		if err := checkBundleRedirect(to, []*http.Request{from}); (err == nil) != test.want {
			t.Errorf("%s to %s: %v", test.from, test.to, err)
		}
	}
}

func TestWebEndpointMustHaveAWebCertificate(t *testing.T) {
	inWeb(t, func(t *testing.T, e *endpoint, start func() *SPIFFE) {
		root := newAuthority(t, "a.example", time.Now())
		svid := root.svid(t, "spiffe://a.example/endpoint", nil)
		e.certificate.Store(&svid)
		e.publish(bundleOf(t, []authority{root}, nil, nil))
		s := start()
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("health = %v", err)
		}
	})
}

// TestSPIFFEEndpoint: the endpoint of a trust domain that serves its own bundle is
// authenticated by the bootstrap bundle first, and by what was fetched last from then on.
func TestSPIFFEEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		first, second, third := newAuthority(t, "a.example", time.Now()), newAuthority(t, "a.example", time.Now()), newAuthority(t, "a.example", time.Now())
		const id = "spiffe://a.example/bundle-endpoint"
		serving := func(a authority) tls.Certificate {
			return a.svid(t, id, func(c *x509.Certificate) { c.NotAfter = a.certificate.NotAfter })
		}
		e := n.serve(t, "bundles.example", serving(first))
		e.publish(bundleOf(t, []authority{first, second}, nil, nil))
		cfg := SPIFFEConfig{TrustDomains: []TrustDomain{{
			Name: "a.example", URL: "https://bundles.example/a", Profile: ProfileSPIFFE, EndpointID: id, Bootstrap: writeFile(t, pemOf(first)),
		}}}
		s := newSPIFFE(t, cfg, n.client(t), time.Now)
		step := func(name string, a authority, published ...authority) error {
			t.Helper()
			t.Log(name)
			certificate := serving(a)
			e.certificate.Store(&certificate)
			e.publish(bundleOf(t, published, nil, nil))
			pass(defaultBundleRefresh)
			return s.Health()
		}
		if err := s.Health(); err != nil {
			t.Fatal(err)
		}
		if err := step("the endpoint's certificate is by the second authority", second, second); err != nil {
			t.Error(err)
		}
		if _, err := s.VerifyX509(chain(t, first.svid(t, agentID, nil))); !errors.Is(err, &Error{Code: CodeSVIDUntrusted}) {
			t.Errorf("the first authority, rotated out: %v", err)
		}
		if err := step("by the first again, which is only in the bootstrap bundle", first, first); err == nil {
			t.Error("the bootstrap bundle still counts")
		}
		if err := step("by the second", second, second, third); err != nil {
			t.Error(err)
		}
		if err := step("by the third", third, third); err != nil {
			t.Error(err)
		}
		late := newSPIFFE(t, cfg, n.client(t), time.Now)
		if err := late.Health(); err == nil {
			t.Error("a bootstrap bundle that was rotated out is accepted")
		}
	})
}

func TestSPIFFEEndpointRefusals(t *testing.T) {
	const id = "spiffe://a.example/bundle-endpoint"
	synctest.Test(t, func(t *testing.T) {
		root, other, web := newAuthority(t, "a.example", time.Now()), newAuthority(t, "b.example", time.Now()), newAuthority(t, "web", time.Now())
		for _, test := range []struct {
			name, says  string
			certificate tls.Certificate
		}{
			{"the endpoint", "", root.svid(t, id, nil)},
			{"another workload of the trust domain", "another SPIFFE ID", root.svid(t, agentID, nil)},
			{"the ID, signed by another trust domain", "svid_untrusted", other.svid(t, id, nil)},
			{"a certificate of the Web PKI", "exactly one URI", webCertificate(t, web, "bundles.example")},
			{"an expired SVID", "expired", root.svid(t, id, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
			{"an SVID for clients only", "svid_untrusted", root.svid(t, id, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
			{"a CA", "of a CA", root.svid(t, id, func(c *x509.Certificate) { c.IsCA = true })},
		} {
			var n network
			n.serve(t, "bundles.example", test.certificate).publish(bundleOf(t, []authority{root}, nil, nil))
			s := newSPIFFE(t, SPIFFEConfig{TrustDomains: []TrustDomain{{
				Name: "a.example", URL: "https://bundles.example/a", Profile: ProfileSPIFFE, EndpointID: id, Bootstrap: writeFile(t, pemOf(root)),
			}}}, n.client(t, web), time.Now)
			err := s.Health()
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: health = %v", test.name, err)
			}
		}
	})
}

// TestEndpointOfAnotherTrustDomain: one domain serves the bundle of another, and is known by itself.
func TestEndpointOfAnotherTrustDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		hub, a := newAuthority(t, "hub.example", time.Now()), newAuthority(t, "a.example", time.Now())
		n.serve(t, "bundles.example", hub.svid(t, "spiffe://hub.example/endpoint", nil)).publish(bundleOf(t, []authority{a}, nil, nil))
		s := newSPIFFE(t, SPIFFEConfig{TrustDomains: []TrustDomain{
			{Name: "a.example", URL: "https://bundles.example/a", Profile: ProfileSPIFFE, EndpointID: "spiffe://hub.example/endpoint"},
			{Name: "hub.example", File: writeFile(t, pemOf(hub))},
		}}, n.client(t), time.Now)
		pass(retryAfter) // the first time the hub may not be known yet
		if err := s.Health(); err != nil {
			t.Fatal(err)
		}
		_, err := s.VerifyX509(chain(t, a.svid(t, agentID, nil)))
		wantCode(t, err, "")
		_, err = s.VerifyX509(chain(t, hub.svid(t, agentID, nil))) // it hands on keys, it has none for the other
		wantCode(t, err, CodeSVIDUntrusted)
	})
}

func TestFileIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		oldRoot, newRoot := newAuthority(t, "a.example", time.Now()), newAuthority(t, "a.example", time.Now())
		path := writeFile(t, pemOf(oldRoot))
		s := newSPIFFE(t, SPIFFEConfig{MaxBundleAge: minMaxBundleAge, TrustDomains: []TrustDomain{{Name: "a.example", File: path}}}, &http.Client{}, time.Now)
		svid := chain(t, newRoot.svid(t, agentID, nil))
		check := func(want Code) {
			t.Helper()
			_, err := s.VerifyX509(svid)
			wantCode(t, err, want)
		}
		check(CodeSVIDUntrusted)
		if err := os.WriteFile(path, pemOf(newRoot), 0o600); err != nil {
			t.Fatal(err)
		}
		pass(defaultBundleRefresh)
		check("")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pass(defaultBundleRefresh)
		check("")
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("health = %v", err)
		}
		pass(minMaxBundleAge - defaultBundleRefresh + 1)
		check(CodeTrustDomainUnavailable)
	})
}

func TestCloseEndsTheRefreshing(t *testing.T) {
	inWeb(t, func(t *testing.T, e *endpoint, start func() *SPIFFE) {
		e.publish(bundleOf(t, nil, nil, nil))
		s := start()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		if n := e.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	now := time.Now()
	root := newAuthority(f, "a.example", now)
	f.Add(bundleOf(f, []authority{root}, []signingKey{newKey(f, jose.ES256, "k")}, map[string]any{"spiffe_refresh_hint": 300, "spiffe_sequence": 1}))
	f.Add(pemOf(root))
	f.Add([]byte(`{"keys":[{"use":"x509-svid"}]}`))
	name, err := parseTrustDomain("a.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := parseBundle(name, raw)
		if err != nil {
			return
		}
		for _, c := range b.source.X509Authorities() {
			if !c.IsCA {
				t.Fatal("a certificate that is no CA is an authority")
			}
		}
		if after := b.refreshAfter(); after < minBundleRefresh || after > maxBundleRefresh {
			t.Fatalf("refresh after %s", after)
		}
	})
}
