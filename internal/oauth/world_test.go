package oauth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/svidtest"
)

// Audiences of the tokens of the identity provider.
const (
	atAPI     = "writ"
	forPeople = "writ-people"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is an installation behind TLS, with an identity provider and a SPIFFE trust domain of the test's own.
type world struct {
	app    *app.App
	url    string
	clock  *clock
	logs   *buffer
	roots  *x509.CertPool
	issuer string
	idp    key
	shop   domain // shop.example, accepted
	other  domain // other.example, not accepted

	doc         *document
	certificate string // file of the server's

	mu      sync.Mutex
	clients map[string]*http.Client // by SVID; "" has none
	svids   map[string]tls.Certificate
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

// key signs tokens with ES256.
type key struct {
	id      string
	private *ecdsa.PrivateKey
}

func newKey(t testing.TB, id string) key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key{id, private}
}

func (k key) public(use string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: "ES256", Use: use}
}

func (k key) sign(t testing.TB, claims map[string]any, header map[jose.HeaderKey]any) string {
	t.Helper()
	options := (&jose.SignerOptions{ExtraHeaders: header}).WithHeader("kid", k.id)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k.private}, options)
	check(t, err)
	payload, err := json.Marshal(claims)
	check(t, err)
	signed, err := signer.Sign(payload)
	check(t, err)
	text, err := signed.CompactSerialize()
	check(t, err)
	return text
}

// proof is a DPoP proof (RFC 9449 section 4.2) by a fresh jti; ath only with a token.
func (k key) proof(t testing.TB, now time.Time, method, at, token string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k.private}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	check(t, err)
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": at, "iat": now.Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	payload, err := json.Marshal(claims)
	check(t, err)
	signed, err := signer.Sign(payload)
	check(t, err)
	text, err := signed.CompactSerialize()
	check(t, err)
	return text
}

// domain is a SPIFFE trust domain.
type domain struct {
	name      string
	authority tls.Certificate
	signing   key
}

func newDomain(t testing.TB, name string, now time.Time) domain {
	t.Helper()
	authority, err := svidtest.Authority(name, now)
	check(t, err)
	return domain{name, authority, newKey(t, "jwt")}
}

// svid is an X.509-SVID of a workload of the domain.
func (d domain) svid(t testing.TB, name string, now time.Time) tls.Certificate {
	t.Helper()
	svid, err := svidtest.SVID(d.authority, d.name, "/"+name, now)
	check(t, err)
	return svid
}

// bundle is the SPIFFE bundle of the domain.
func (d domain) bundle(t testing.TB) []byte {
	t.Helper()
	authority := jose.JSONWebKey{Key: d.authority.Leaf.PublicKey, Certificates: []*x509.Certificate{d.authority.Leaf}, Use: "x509-svid"}
	text, err := json.Marshal(map[string]any{"keys": []jose.JSONWebKey{authority, d.signing.public("jwt-svid")}})
	check(t, err)
	return text
}

// newWorld starts the installation of the conversations.
func newWorld(t testing.TB, begin time.Time) *world {
	t.Helper()
	return start(t, begin, func(w *world, listen string) app.Config { return w.configure(t, listen) })
}

// start starts an installation. Its clock begins at the given time; certificates are good for a day.
func start(t testing.TB, begin time.Time, configure func(w *world, listen string) app.Config) *world {
	t.Helper()
	w := &world{doc: newDocument(t), clock: &clock{at: begin}, logs: &buffer{}, roots: x509.NewCertPool(), idp: newKey(t, "idp"), clients: map[string]*http.Client{}, svids: map[string]tls.Certificate{}}
	w.shop, w.other = newDomain(t, "shop.example", begin), newDomain(t, "other.example", begin)
	idp := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(out).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{w.idp.public("sig")}})
	}))
	t.Cleanup(idp.Close)
	w.issuer = idp.URL
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	w.url = "https://" + listener.Addr().String()
	w.app, err = app.New(t.Context(), configure(w, listener.Addr().String()), app.Options{Now: w.clock.now, Log: slog.New(slog.NewJSONHandler(w.logs, nil))})
	check(t, err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.app.Serve(ctx, listener) }()
	t.Cleanup(func() {
		for _, client := range w.clients {
			client.CloseIdleConnections()
		}
		stop()
		check(t, <-served)
		check(t, w.app.Close())
	})
	return w
}

// install writes a folder as `writ init` does, with tls.crt, tls.key and the bundle shop.json, and returns it.
func (w *world) install(t testing.TB, files map[string][]byte) string {
	t.Helper()
	folder := t.TempDir()
	check(t, app.Init(folder, "oauth.writ.example/log", files))
	server, err := svidtest.Server(w.clock.now())
	check(t, err)
	w.roots.AddCert(server.Leaf)
	w.certificate = filepath.Join(folder, "tls.crt")
	check(t, svidtest.Write(server, w.certificate, filepath.Join(folder, "tls.key")))
	check(t, os.WriteFile(filepath.Join(folder, "shop.json"), w.shop.bundle(t), 0o600))
	return folder
}

func (w *world) configure(t testing.TB, listen string) app.Config {
	t.Helper()
	folder := w.install(t, site(t, w.issuer))
	config := app.DefaultConfig()
	config.Listen, config.URL = listen, w.url
	config.Data, config.Site = filepath.Join(folder, "data"), folder
	config.Log.Key, config.Log.VerifierKey = filepath.Join(folder, "data/log.key"), filepath.Join(folder, "data/log.pub")
	config.Tokens.Keys = []string{filepath.Join(folder, "data/token.key")}
	config.Issuers = []app.Issuer{{URL: w.issuer, Audience: atAPI, PrincipalAudience: forPeople, JWKS: w.issuer + "/keys"}}
	config.TLS = app.TLS{Certificate: w.certificate, Key: filepath.Join(folder, "tls.key")}
	config.SPIFFE = app.SPIFFE{Audience: atAPI, TrustDomains: []app.TrustDomain{{Name: w.shop.name, File: filepath.Join(folder, "shop.json")}}}
	check(t, config.Check())
	return config
}

// site is the starter folder and what the conversations need besides.
func site(t testing.TB, issuer string) map[string][]byte {
	t.Helper()
	files, err := starter.Site(issuer)
	check(t, err)
	read := func(path string) []byte {
		content, err := os.ReadFile(filepath.Join("testdata", "site", path))
		check(t, err)
		return bytes.ReplaceAll(content, []byte("ISSUER"), []byte(issuer))
	}
	for _, path := range []string{"catalog/test.yaml", "policy/access/test.cedar"} {
		files[path] = read(path)
	}
	files["policy/schema.cedarschema"] = append(files["policy/schema.cedarschema"], read("policy/test.cedarschema")...)
	files["catalog/people.yaml"] = bytes.ReplaceAll(files["catalog/people.yaml"], []byte(`[Agent::"support-bot"]`), []byte(`[Agent::"support-bot", Agent::"mesh-bot", Agent::"bob-bot"]`))
	files["catalog/agents.yaml"] = bytes.ReplaceAll(files["catalog/agents.yaml"], []byte("subject: support-bot}]"),
		[]byte("subject: support-bot}, {issuer: spiffe://shop.example, subject: spiffe://shop.example/support-bot}]"))
	return files
}

// client is an HTTP client that shows an SVID of the trust domain, "foreign NAME" for one of the other domain, or none.
func (w *world) client(t testing.TB, svid string) *http.Client {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := w.clients[svid]; known != nil {
		return known
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.roots, Time: w.clock.now}
	if svid != "" {
		from, name := w.shop, svid
		if rest, foreign := bytes.CutPrefix([]byte(svid), []byte("foreign ")); foreign {
			from, name = w.other, string(rest)
		}
		certificate := from.svid(t, name, w.clock.now())
		w.svids[svid] = certificate
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
	w.clients[svid] = &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: time.Minute}
	return w.clients[svid]
}

// oidc is a token of the identity provider, good for an hour; claims replace its own, and null removes one.
func (w *world) oidc(t testing.TB, claims map[string]any) string {
	t.Helper()
	now := w.clock.now()
	return w.idp.sign(t, merged(map[string]any{"iss": w.issuer, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "aud": atAPI}, claims), nil)
}

// jwtSVID is a JWT-SVID of a trust domain.
func (w *world) jwtSVID(t testing.TB, from domain, claims map[string]any) string {
	t.Helper()
	now := w.clock.now()
	return from.signing.sign(t, merged(map[string]any{"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "aud": w.url}, claims), nil)
}

func merged(base, change map[string]any) map[string]any {
	for name, value := range change {
		base[name] = value
		if value == nil {
			delete(base, name)
		}
	}
	return base
}
