package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/authn"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/devidp"
	"github.com/writ-project/writ/internal/svidtest"
)

func authorityOf(t *testing.T, domain string) tls.Certificate {
	t.Helper()
	made, err := svidtest.Authority(domain, time.Now())
	check(t, err)
	return made
}

func svidOf(t *testing.T, by tls.Certificate, domain, path string) tls.Certificate {
	t.Helper()
	made, err := svidtest.SVID(by, domain, path, time.Now())
	check(t, err)
	return made
}

// secured is a server that speaks TLS and accepts SVIDs of one trust domain beside tokens.
type secured struct {
	url         string
	idp         *devidp.Server
	roots       *x509.CertPool
	certificate string // file of the server's
	ca          tls.Certificate
}

func serveSVIDs(t *testing.T) secured {
	t.Helper()
	idp, err := devidp.Start(time.Now)
	check(t, err)
	t.Cleanup(func() { check(t, idp.Close()) })
	config := initialized(t, idp.URL())
	agents := filepath.Join(config.Site, "catalog", "agents.yaml")
	text, err := os.ReadFile(agents)
	check(t, err)
	known := []byte("match: [{issuer: " + idp.URL() + ", subject: support-bot}]")
	if !bytes.Contains(text, known) {
		t.Fatalf("the starter's agents are\n%s", text)
	}
	text = bytes.Replace(text, known, []byte("match: [{issuer: "+idp.URL()+", subject: support-bot}, {issuer: spiffe://shop.example, subject: spiffe://shop.example/support-bot}]"), 1)
	check(t, os.WriteFile(agents, text, 0o600))

	s := secured{idp: idp, ca: authorityOf(t, "shop.example"), roots: x509.NewCertPool()}
	folder := t.TempDir()
	server, err := svidtest.Server(time.Now())
	check(t, err)
	s.roots.AddCert(server.Leaf)
	config.TLS = TLS{Certificate: filepath.Join(folder, "tls.crt"), Key: filepath.Join(folder, "tls.key")}
	check(t, svidtest.Write(server, config.TLS.Certificate, config.TLS.Key))
	s.certificate = config.TLS.Certificate
	bundle := filepath.Join(folder, "shop.pem")
	check(t, svidtest.Write(s.ca, bundle, ""))
	config.SPIFFE = SPIFFE{Audience: "writ", TrustDomains: []TrustDomain{
		{Name: "shop.example", File: bundle}, {Name: "down.example", URL: "https://127.0.0.1:1/bundle", Profile: authn.ProfileWeb},
	}}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	s.url = "https://" + listener.Addr().String()
	config.URL = s.url
	check(t, config.Check())
	a, err := New(t.Context(), config, Options{})
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, listener) }()
	t.Cleanup(func() { stop(); check(t, <-done); check(t, a.Close()) })
	return s
}

// call is one call with a certificate, a token, or both.
func (s secured) call(t *testing.T, certificate *tls.Certificate, token, method, path, body string) (status int, answer map[string]any) {
	t.Helper()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots}
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	check(t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	got, err := (&http.Client{Transport: transport}).Do(r)
	check(t, err)
	raw, err := io.ReadAll(got.Body)
	check(t, err)
	check(t, got.Body.Close())
	check(t, json.Unmarshal(raw, &answer))
	return got.StatusCode, answer
}

// A workload with nothing but an SVID is a caller like any other, and what it gets is bound to its certificate.
func TestAWorkloadCallsWithItsSVIDAlone(t *testing.T) {
	s := serveSVIDs(t)
	bot := svidOf(t, s.ca, "shop.example", "/support-bot")
	status, me := s.call(t, &bot, "", http.MethodGet, "/v1/whoami", "")
	if status != http.StatusOK || me["identity"] != `Agent::"support-bot"` || me["bound_to"] != control.ByCertificate+svidtest.Thumbprint(bot) {
		t.Fatalf("%d %v", status, me)
	}
	status, opened := s.call(t, &bot, "", http.MethodPost, "/v1/tasks", `{"type":"support","purpose":"a customer complains"}`)
	task, _ := opened["task"].(map[string]any)
	if status != http.StatusCreated || task == nil {
		t.Fatalf("%d %v", status, opened)
	}
}

// That a source of bundles is down ends nothing for those who can still call, and is seen.
func TestABundleThatIsGoneIsSeenInMetrics(t *testing.T) {
	m, down := &metrics{registry: prometheus.NewRegistry()}, error(nil)
	m.svids(func() error { return down })
	shown := func() string {
		out := httptest.NewRecorder()
		m.handler().ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return out.Body.String()
	}
	if !strings.Contains(shown(), "writ_spiffe_sources_healthy 1") {
		t.Errorf("healthy: %s", shown())
	}
	down = errors.New("no route")
	if !strings.Contains(shown(), "writ_spiffe_sources_healthy 0") {
		t.Errorf("down: %s", shown())
	}
}

// A token is bound to what its holder proved: a certificate (RFC 8705) or a key (RFC 9449).
func TestTokensAreBoundToCertificatesToo(t *testing.T) {
	issuer, err := newIssuer(initialized(t, "http://127.0.0.1:1"))
	check(t, err)
	thumb := svidtest.Thumbprint(authorityOf(t, "shop.example"))
	for bound, want := range map[string]string{"": "", thumb: `"cnf":{"jkt":"` + thumb + `"}`, control.ByCertificate + thumb: `"cnf":{"x5t#S256":"` + thumb + `"}`} {
		token, err := signer{issuer}.Issue(control.Credential{
			Grant: "g", Subject: access.MustRef(`Agent::"a"`), Action: access.MustRef(`Action::"read"`), Resource: access.MustRef(`Table::"t"`),
			Target: "https://target.example", Task: "t", IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute), BoundTo: bound,
		})
		check(t, err)
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token.Secret, ".")[1])
		check(t, err)
		if !strings.Contains(string(payload), want) || want == "" && strings.Contains(string(payload), "cnf") {
			t.Errorf("bound to %q: %s", bound, payload)
		}
	}
}

func TestWhatIsNoSVIDOfOursIsRefused(t *testing.T) {
	s := serveSVIDs(t)
	bot, stranger := svidOf(t, s.ca, "shop.example", "/support-bot"), svidOf(t, s.ca, "shop.example", "/stranger")
	forged := svidOf(t, authorityOf(t, "shop.example"), "shop.example", "/support-bot")
	foreign := svidOf(t, authorityOf(t, "other.example"), "other.example", "/support-bot")
	crossed := svidOf(t, s.ca, "other.example", "/support-bot")
	two, err := svidtest.Certified(&s.ca, time.Now(), func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "shop.example", Path: "/support-bot"}, {Scheme: "spiffe", Host: "shop.example", Path: "/x"}}
	})
	check(t, err)
	token := func(subject string) string {
		text, err := s.idp.Token(subject, "writ", time.Hour, nil)
		check(t, err)
		return text
	}
	for name, x := range map[string]struct {
		certificate *tls.Certificate
		token       string
		status      int
		says        string
	}{
		"nothing":                               {nil, "", 401, "token_missing"},
		"a token alone":                         {nil, token("support-bot"), 200, ""},
		"both, of one identity":                 {&bot, token("support-bot"), 200, ""},
		"both, of two identities":               {&bot, token("report-bot"), 401, "proof_mismatch"},
		"both, the token forged":                {&bot, token("support-bot") + "x", 401, "token"},
		"not registered":                        {&stranger, "", 403, "identity_unknown"},
		"of an authority that nobody knows":     {&forged, "", 401, "svid_untrusted"},
		"of another trust domain":               {&foreign, "", 401, "trust_domain_unknown"},
		"another trust domain's, signed by our": {&crossed, "", 401, "trust_domain_unknown"},
		"two names":                             {&two, "", 401, "svid_malformed"},
		"forged, beside a good token":           {&forged, token("support-bot"), 401, "svid_untrusted"},
	} {
		status, answer := s.call(t, x.certificate, x.token, http.MethodGet, "/v1/whoami", "")
		text, err := json.Marshal(answer)
		check(t, err)
		if status != x.status || !strings.Contains(string(text), x.says) {
			t.Errorf("%s: %d %s, want %d %s", name, status, text, x.status, x.says)
		}
	}
}

// TestWhoCannotBeKnownNowIsAskedToComeAgain: at both endpoints, a bundle that cannot be read is the server's trouble, not the caller's.
func TestWhoCannotBeKnownNowIsAskedToComeAgain(t *testing.T) {
	s := serveSVIDs(t)
	bot := svidOf(t, authorityOf(t, "down.example"), "down.example", "/support-bot")
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: s.roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &bot, nil },
	}}
	defer transport.CloseIdleConnections()
	for path, typ := range map[string]string{"/v1/tasks": "application/json", "/oauth/token": "application/x-www-form-urlencoded"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader("{}"))
		check(t, err)
		r.Header.Set("Content-Type", typ)
		got, err := (&http.Client{Transport: transport}).Do(r)
		check(t, err)
		var answer struct{ Code, Reason, Next string }
		check(t, json.NewDecoder(got.Body).Decode(&answer))
		check(t, got.Body.Close())
		if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" || got.Header.Get("WWW-Authenticate") != "" ||
			answer.Code != "issuer_unavailable" || answer.Reason != string(authn.CodeTrustDomainUnavailable) || answer.Next != "Try again later." {
			t.Errorf("%s: %d %v %+v", path, got.StatusCode, got.Header, answer)
		}
	}
}

func TestSPIFFEIsConfiguredWhole(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"an SVID to serve, and no Workload API": {func(c *Config) { c.TLS.SVID = true }, "needs spiffe.workload_api"},
		"a certificate and an SVID": {func(c *Config) {
			c.TLS = TLS{SVID: true, Certificate: "c", Key: "k"}
			c.SPIFFE.WorkloadAPI = "unix:///x"
		}, "not both"},
		"nobody could call": {func(c *Config) { c.Issuers = nil }, "or spiffe, is required"},
	} {
		config := initialized(t, "http://127.0.0.1:1")
		x.change(&config)
		if err := config.Check(); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	config := initialized(t, "http://127.0.0.1:1")
	config.SPIFFE = SPIFFE{TrustDomains: []TrustDomain{{Name: "Shop.Example"}}}
	if _, err := New(t.Context(), config, Options{}); err == nil || !strings.Contains(err.Error(), "spiffe: ") || !strings.Contains(err.Error(), "audience") || !strings.Contains(err.Error(), "trust_domains[0].name") {
		t.Errorf("faults of the verifier: %v", err)
	}
}
