package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const ownID = "spiffe://a.example/writ"

// agent is a Workload API on a socket, as a SPIRE agent serves it.
type agent struct {
	workloadpb.UnimplementedSpiffeWorkloadAPIServer
	socket string

	mu      sync.Mutex
	x509    *workloadpb.X509SVIDResponse
	jwt     *workloadpb.JWTBundlesResponse
	refuse  error
	changed chan struct{}
	server  *grpc.Server
	served  chan struct{}
}

func newAgent(t testing.TB) *agent {
	t.Helper()
	a := &agent{socket: filepath.Join(t.TempDir(), "agent.sock"), changed: make(chan struct{})}
	t.Cleanup(a.stop)
	a.start(t)
	return a
}

func (a *agent) address() string { return "unix://" + a.socket }

func (a *agent) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	a.server, a.served = grpc.NewServer(), make(chan struct{})
	workloadpb.RegisterSpiffeWorkloadAPIServer(a.server, a)
	go func() {
		defer close(a.served)
		_ = a.server.Serve(l)
	}()
}

func (a *agent) stop() {
	a.server.Stop()
	<-a.served
}

// set changes what is served, to streams that are open too.
func (a *agent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.changed)
	a.changed = make(chan struct{})
}

// sends serves the SVID of the workload, and the authorities of its own trust domain and of federated ones.
func (a *agent) sends(t testing.TB, own tls.Certificate, x509 map[string][]authority, jwt map[string][]byte) {
	t.Helper()
	response := x509Response(t, own, x509)
	a.set(func() {
		a.x509, a.refuse = response, nil
		a.jwt = &workloadpb.JWTBundlesResponse{Bundles: make(map[string][]byte)}
		for name, raw := range jwt {
			a.jwt.Bundles["spiffe://"+name] = raw
		}
	})
}

func x509Response(t testing.TB, own tls.Certificate, bundles map[string][]authority) *workloadpb.X509SVIDResponse {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	svid := &workloadpb.X509SVID{SpiffeId: own.Leaf.URIs[0].String(), X509SvidKey: key}
	for _, raw := range own.Certificate {
		svid.X509Svid = append(svid.X509Svid, raw...)
	}
	response := &workloadpb.X509SVIDResponse{Svids: []*workloadpb.X509SVID{svid}, FederatedBundles: make(map[string][]byte)}
	for name, list := range bundles {
		var der []byte
		for _, one := range list {
			der = append(der, one.certificate.Raw...)
		}
		if name == own.Leaf.URIs[0].Host {
			svid.Bundle = der
		} else {
			response.FederatedBundles["spiffe://"+name] = der
		}
	}
	return response
}

// stream calls send with what there is, now and after every change.
func (a *agent) stream(ctx context.Context, send func() error) error {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("workload.spiffe.io")) != 1 {
		return status.Error(codes.InvalidArgument, "security header missing")
	}
	for {
		a.mu.Lock()
		changed, err := a.changed, a.refuse
		if err == nil {
			err = send()
		}
		a.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *agent) FetchX509SVID(_ *workloadpb.X509SVIDRequest, s grpc.ServerStreamingServer[workloadpb.X509SVIDResponse]) error {
	return a.stream(s.Context(), func() error { return s.Send(a.x509) })
}

func (a *agent) FetchJWTBundles(_ *workloadpb.JWTBundlesRequest, s grpc.ServerStreamingServer[workloadpb.JWTBundlesResponse]) error {
	return a.stream(s.Context(), func() error { return s.Send(a.jwt) })
}

// fromAgent follows the Workload API alone.
func fromAgent(t testing.TB, a *agent, now func() time.Time) *SPIFFE {
	t.Helper()
	return newSPIFFE(t, SPIFFEConfig{WorkloadAPI: a.address()}, &http.Client{}, now)
}

// until waits for the Workload API's next news to bring about a condition.
func until(t testing.TB, s *SPIFFE, condition func(w *workload) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.workload.await(ctx, func() bool { return condition(s.workload) }); err != nil {
		t.Fatal("the Workload API's news did not arrive")
	}
}

// serves is the condition that a trust domain has so many authorities.
func serves(name string, x509, jwt int) func(*workload) bool {
	return func(w *workload) bool {
		b := w.bundles[spiffeid.RequireTrustDomainFromString(name)]
		return b != nil && len(b.source.X509Authorities()) == x509 && len(b.source.JWTAuthorities()) == jwt
	}
}

func TestWorkloadAPIBringsOwnAndFederatedBundles(t *testing.T) {
	c := newClock()
	a, b, x := newAuthority(t, "a.example", c.now()), newAuthority(t, "b.example", c.now()), newAuthority(t, "x.example", c.now())
	keyA, keyB := newKey(t, jose.ES256, "k"), newKey(t, jose.ES256, "k")
	api := newAgent(t)
	api.sends(t, a.svid(t, ownID, nil), map[string][]authority{"a.example": {a}, "b.example": {b}}, map[string][]byte{
		"a.example": bundleOf(t, nil, []signingKey{keyA}, nil), "b.example": bundleOf(t, nil, []signingKey{keyB}, nil),
	})
	s := fromAgent(t, api, c.now)
	if err := s.Health(); err != nil {
		t.Fatal(err)
	}
	const idB = "spiffe://b.example/agent"
	for _, test := range []struct {
		name string
		svid tls.Certificate
		want Code
	}{
		{"own", a.svid(t, agentID, nil), ""},
		{"federated", b.svid(t, idB, nil), ""},
		{"federated, in the own one's name", b.svid(t, agentID, nil), CodeSVIDUntrusted},
		{"own, in the federated one's name", a.svid(t, idB, nil), CodeSVIDUntrusted},
		{"neither", x.svid(t, "spiffe://x.example/agent", nil), CodeTrustDomainUnknown},
	} {
		_, err := s.VerifyX509(chain(t, test.svid))
		t.Log(test.name)
		wantCode(t, err, test.want)
	}
	accepts(t, s, jwtSVID(t, keyA, c.now(), nil, nil), "")
	accepts(t, s, jwtSVID(t, keyB, c.now(), map[string]any{"sub": idB}, nil), "")
	accepts(t, s, jwtSVID(t, keyA, c.now(), map[string]any{"sub": idB}, nil), CodeTokenBadSignature)

	// A federation that ends takes its trust domain along.
	api.sends(t, a.svid(t, ownID, nil), map[string][]authority{"a.example": {a}}, map[string][]byte{"a.example": bundleOf(t, nil, []signingKey{keyA}, nil)})
	until(t, s, func(w *workload) bool { return len(w.bundles) == 1 })
	_, err := s.VerifyX509(chain(t, b.svid(t, idB, nil)))
	wantCode(t, err, CodeTrustDomainUnknown)
	accepts(t, s, jwtSVID(t, keyB, c.now(), map[string]any{"sub": idB}, nil), CodeTrustDomainUnknown)
}

func TestConfiguredTrustDomainIsNotTakenFromTheWorkloadAPI(t *testing.T) {
	c := newClock()
	a, b, claimed := newAuthority(t, "a.example", c.now()), newAuthority(t, "b.example", c.now()), newAuthority(t, "b.example", c.now())
	api := newAgent(t)
	api.sends(t, a.svid(t, ownID, nil), map[string][]authority{"a.example": {a}, "b.example": {claimed}}, nil)
	s := newSPIFFE(t, SPIFFEConfig{WorkloadAPI: api.address(), TrustDomains: []TrustDomain{{Name: "b.example", File: writeFile(t, pemOf(b))}}}, &http.Client{}, c.now)
	_, err := s.VerifyX509(chain(t, b.svid(t, "spiffe://b.example/agent", nil)))
	wantCode(t, err, "")
	_, err = s.VerifyX509(chain(t, claimed.svid(t, "spiffe://b.example/agent", nil)))
	wantCode(t, err, CodeSVIDUntrusted)
}

func TestWorkloadAPIThatGoesAwayKeepsTheLastBundlesForAnHour(t *testing.T) {
	c := newClock()
	a, key := newAuthority(t, "a.example", c.now()), newKey(t, jose.ES256, "k")
	api := newAgent(t)
	send := func() {
		api.sends(t, a.svid(t, ownID, func(x *x509.Certificate) { x.NotAfter = c.now().Add(2 * time.Hour) }),
			map[string][]authority{"a.example": {a}}, map[string][]byte{"a.example": bundleOf(t, nil, []signingKey{key}, nil)})
	}
	send()
	s := fromAgent(t, api, c.now)
	svid := chain(t, a.svid(t, agentID, func(x *x509.Certificate) { x.NotAfter = c.now().Add(3 * time.Hour) }))
	token := jwtSVID(t, key, c.now().Add(3*time.Hour), map[string]any{"iat": nil}, nil)
	check := func(want Code) {
		t.Helper()
		_, err := s.VerifyX509(svid)
		wantCode(t, err, want)
		accepts(t, s, token, want)
	}
	check("")
	c.advance(time.Hour + 30*time.Minute) // an open stream is current, however long it says nothing
	check("")
	api.stop()
	until(t, s, func(w *workload) bool { return w.streams[ofX509].failure != nil && w.streams[ofJWT].failure != nil })
	check("")
	if err := s.Health(); err == nil || !strings.Contains(err.Error(), "X.509 bundles cannot be renewed") || !strings.Contains(err.Error(), "JWT bundles cannot be renewed") {
		t.Errorf("health = %v", err)
	}
	c.advance(defaultMaxBundleAge)
	s.workload.OnX509ContextWatchError(io.EOF) // failing again does not make them younger
	s.workload.OnJWTBundlesWatchError(io.EOF)
	check("")
	c.advance(1)
	check(CodeTrustDomainUnavailable)
	if err := s.Health(); err == nil || !strings.Contains(err.Error(), "are refused") || !strings.Contains(err.Error(), "SVID of Writ expired") {
		t.Errorf("health = %v", err)
	}
	if _, err := s.workload.certificate(); err == nil {
		t.Error("the expired SVID is still served")
	}
	send()
	api.start(t)
	until(t, s, func(w *workload) bool { return w.streams[ofX509].failure == nil && w.streams[ofJWT].failure == nil })
	check("")
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

// TestWorkloadAPIFaults: whatever it sends instead, nobody is let in, and Health says why.
func TestWorkloadAPIFaults(t *testing.T) {
	c := newClock()
	a := newAuthority(t, "a.example", c.now())
	own := a.svid(t, ownID, nil)
	good := func() *workloadpb.X509SVIDResponse {
		return x509Response(t, own, map[string][]authority{"a.example": {a}})
	}
	for _, test := range []struct {
		name, says string
		bend       func(api *agent)
	}{
		{"not registered", "PermissionDenied", func(api *agent) { api.refuse = status.Error(codes.PermissionDenied, "no identity issued") }},
		{"the stream is canceled, which the library gives up on", "Canceled", func(api *agent) { api.refuse = status.Error(codes.Canceled, "going down") }},
		{"no SVID", "no SVIDs", func(api *agent) { api.x509.Svids = nil }},
		{"another key than the SVID's", "private key", func(api *agent) {
			api.x509.Svids[0].X509SvidKey = x509Response(t, a.svid(t, ownID, nil), nil).Svids[0].X509SvidKey
		}},
		{"a bundle with a certificate that is no CA", "no CA", func(api *agent) { api.x509.Svids[0].Bundle = own.Certificate[0] }},
		{"a broken federated bundle", "X.509", func(api *agent) { api.x509.FederatedBundles["spiffe://b.example"] = []byte("x") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			api := newAgent(t)
			api.set(func() {
				api.x509, api.jwt = good(), &workloadpb.JWTBundlesResponse{}
				test.bend(api)
			})
			s := fromAgent(t, api, c.now)
			if err := s.Health(); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("health = %v", err)
			}
			_, err := s.VerifyX509(chain(t, own))
			wantCode(t, err, CodeTrustDomainUnavailable)
			if _, err := s.workload.certificate(); err == nil {
				t.Error("an SVID is served")
			}
		})
	}
}

func TestWorkloadAPIThatIsNotThere(t *testing.T) {
	c := newClock()
	s := newSPIFFE(t, SPIFFEConfig{WorkloadAPI: "unix://" + filepath.Join(t.TempDir(), "absent.sock")}, &http.Client{}, c.now)
	if err := s.Health(); err == nil || !strings.Contains(err.Error(), "Writ no X.509-SVID") {
		t.Errorf("health = %v", err)
	}
	accepts(t, s, jwtSVID(t, newKey(t, jose.ES256, "k"), c.now(), nil, nil), CodeTrustDomainUnavailable)
}

// TestListener: a listener asks for a certificate and requires none; the gate behind it refuses with a type.
func TestListener(t *testing.T) {
	now := time.Now() // real connections live in real time
	a, b := newAuthority(t, "a.example", now), newAuthority(t, "b.example", now)
	api := newAgent(t)
	api.sends(t, a.svid(t, ownID, nil), map[string][]authority{"a.example": {a}}, nil)
	s := fromAgent(t, api, time.Now)
	cfg, err := s.TLSConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	url := listen(t, s, cfg)
	trusts := func(t *testing.T) *x509bundle.Bundle {
		return x509bundle.FromX509Authorities(mustDomain("a.example"), []*x509.Certificate{a.certificate})
	}
	for _, test := range []struct {
		name        string
		certificate *tls.Certificate
		want        string
	}{
		{"no certificate", nil, string(CodeSVIDMissing)},
		{"a good SVID", ptr(a.svid(t, agentID, nil)), agentID},
		{"of another trust domain", ptr(b.svid(t, agentID, nil)), string(CodeSVIDUntrusted)},
		{"of an unknown trust domain", ptr(b.svid(t, "spiffe://b.example/agent", nil)), string(CodeTrustDomainUnknown)},
		{"an expired SVID", ptr(a.svid(t, agentID, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })), string(CodeSVIDExpired)},
		{"a certificate of no SPIFFE", ptr(webCertificate(t, b, "agent.example")), string(CodeSVIDMalformed)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, server, err := call(t, url, test.certificate, trusts(t))
			if err != nil || got != test.want || server != ownID {
				t.Errorf("answer = %q by %s, %v; want %q", got, server, err, test.want)
			}
		})
	}
	t.Run("a certificate whose key the client has not", func(t *testing.T) {
		stolen := a.svid(t, agentID, nil)
		stolen.PrivateKey = newKey(t, jose.ES256, "").private
		if got, _, err := call(t, url, &stolen, trusts(t)); err == nil {
			t.Errorf("answer = %q", got)
		}
	})
}

func TestListenerWithACertificateOfItsOwn(t *testing.T) {
	now := time.Now()
	a, web := newAuthority(t, "a.example", now), newAuthority(t, "web", now)
	s := fromFiles(t, time.Now, map[string][]byte{"a.example": pemOf(a)})
	if _, err := s.TLSConfig(nil); err == nil {
		t.Error("there is no certificate to serve")
	}
	given := webCertificate(t, web, "writ.example")
	cfg, err := s.TLSConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &given, nil })
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(web.certificate)
	own := a.svid(t, agentID, nil)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: pool, ServerName: "writ.example", Certificates: []tls.Certificate{own}},
	}}
	if got, err := get(t.Context(), client, listen(t, s, cfg)); err != nil || got != agentID {
		t.Errorf("answer = %q, %v", got, err)
	}
}

// TestConnectionOutlivesWhatItShowed: each request counts anew, also on a connection that is open.
func TestConnectionOutlivesWhatItShowed(t *testing.T) {
	now := time.Now()
	oldRoot, newRoot := newAuthority(t, "a.example", now), newAuthority(t, "a.example", now)
	api := newAgent(t)
	api.sends(t, oldRoot.svid(t, ownID, nil), map[string][]authority{"a.example": {oldRoot}}, nil)
	s := fromAgent(t, api, time.Now)
	cfg, err := s.TLSConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	url := listen(t, s, cfg)
	var connections atomic.Int64
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{oldRoot.svid(t, agentID, nil)}},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			connections.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	if got, err := get(t.Context(), client, url); err != nil || got != agentID {
		t.Errorf("answer = %q, %v", got, err)
	}
	api.sends(t, newRoot.svid(t, ownID, nil), map[string][]authority{"a.example": {newRoot, newAuthority(t, "a.example", now)}}, nil)
	until(t, s, serves("a.example", 2, 0))
	if got, err := get(t.Context(), client, url); err != nil || got != string(CodeSVIDUntrusted) {
		t.Errorf("answer = %q, %v", got, err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestWatchThatEndsIsBegunAgain: the library gives a watch up when the agent cancels it.
func TestWatchThatEndsIsBegunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := newWorkload(ctx, nil, time.Hour, time.Now, slog.New(slog.DiscardHandler))
		var begun []time.Duration
		start := time.Now()
		go w.follow(func(context.Context) error {
			begun = append(begun, time.Since(start))
			return status.Error(codes.Canceled, "going down")
		})
		pass(2 * retryAfter)
		stop()
		synctest.Wait()
		if want := []time.Duration{0, retryAfter, 2 * retryAfter}; !slices.Equal(begun, want) {
			t.Errorf("begun after %v, want %v", begun, want)
		}
	})
}

// TestRotationWhileRequestsRun: authorities, Writ's SVID and the callers' SVIDs
// change while callers come; nobody is refused while the bundle holds its
// authority, and everybody is once it does not.
func TestRotationWhileRequestsRun(t *testing.T) {
	const callers, rotations = 4, 8
	now := time.Now()
	type credential struct {
		sync.RWMutex // held for reading by calls that use it
		root         authority
		svid         tls.Certificate
		token        string
		key          signingKey
	}
	issue := func(generation int) *credential {
		c := &credential{root: newAuthority(t, "a.example", now), key: newKey(t, jose.ES256, fmt.Sprint("k", generation))}
		c.svid = c.root.svid(t, agentID, nil)
		c.token = jwtSVID(t, c.key, now, nil, nil)
		return c
	}
	var current atomic.Pointer[credential]
	current.Store(issue(0))
	api := newAgent(t)
	send := func(signer *credential, all ...*credential) {
		var roots []authority
		var keys []signingKey
		for _, c := range all {
			roots, keys = append(roots, c.root), append(keys, c.key)
		}
		api.sends(t, signer.root.svid(t, ownID, nil), map[string][]authority{"a.example": roots}, map[string][]byte{"a.example": bundleOf(t, nil, keys, nil)})
	}
	send(current.Load(), current.Load())
	s := fromAgent(t, api, time.Now)
	cfg, err := s.TLSConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	url := listen(t, s, cfg)

	stop := make(chan struct{})
	var running sync.WaitGroup
	var calls atomic.Int64
	for range callers {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c := current.Load()
				c.RLock()
				if c == current.Load() { // else it may be rotated out already
					if got, _, err := call(t, url, &c.svid, nil); err != nil || got != agentID {
						t.Errorf("answer = %q, %v", got, err)
					}
					if _, err := s.VerifyJWT(c.token); err != nil {
						t.Error(err)
					}
					calls.Add(1)
				}
				c.RUnlock()
			}
		})
	}
	for generation := range rotations {
		before := calls.Load()
		for calls.Load() < before+callers { // some calls in each generation
			if t.Failed() {
				break
			}
			if _, err := s.VerifyJWT(current.Load().token); err != nil {
				t.Error(err)
			}
		}
		old, next := current.Load(), issue(generation+1)
		send(next, old, next)
		until(t, s, serves("a.example", 2, 2))
		current.Store(next)
		old.Lock() // until the calls that use it have ended
		send(next, next)
		until(t, s, serves("a.example", 1, 1))
		_, err := s.VerifyX509(chain(t, old.svid))
		wantCode(t, err, CodeSVIDUntrusted)
		accepts(t, s, old.token, CodeTokenUnknownKey)
		old.Unlock()
	}
	close(stop)
	running.Wait()
	t.Logf("%d calls over %d rotations", calls.Load(), rotations)
}

// listen serves, over TLS, who the caller is or why it is refused.
func listen(t testing.TB, s *SPIFFE, cfg *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := s.VerifyX509(r.TLS.PeerCertificates)
		answer := claims.Subject
		if refusal, ok := err.(*Error); ok { //nolint:errorlint // every error is one
			answer = string(refusal.Code)
		}
		_, _ = io.WriteString(w, answer)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = cfg
	server.Listener = tls.NewListener(server.Listener, cfg) // StartTLS would add a certificate
	server.Start()
	t.Cleanup(server.Close)
	return "https" + strings.TrimPrefix(server.URL, "http")
}

// call makes one request; it reports whose SVID the server showed, which go-spiffe judges when trusted is given.
func call(t testing.TB, url string, certificate *tls.Certificate, trusted *x509bundle.Bundle) (answer, server string, err error) {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true}
	if trusted != nil {
		cfg.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
			id, _, err := x509svid.ParseAndVerify(raw, trusted)
			server = id.String()
			return err
		}
	}
	if certificate != nil {
		cfg.Certificates = []tls.Certificate{*certificate}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: cfg}, Timeout: 30 * time.Second}
	answer, err = get(context.Background(), client, url)
	return answer, server, err
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}

func ptr[T any](v T) *T { return &v }

func mustDomain(name string) spiffeid.TrustDomain { return spiffeid.RequireTrustDomainFromString(name) }
