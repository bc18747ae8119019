package orders_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/examples/orders"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/sandbox"
	"github.com/writ-project/writ/internal/svidtest"
)

const domain = "shop.example"

// town is a Writ server that takes SVIDs of one trust domain, and a server of orders beside it. Nobody in it has anything but an SVID.
type town struct {
	t     *testing.T
	ca    tls.Certificate
	roots *x509.CertPool // of both servers
	writ  *sandbox.Sandbox
	shop  *httptest.Server
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, ca: must[tls.Certificate](t)(svidtest.Authority(domain, time.Now())), roots: x509.NewCertPool()}
	server, folder := must[tls.Certificate](t)(svidtest.Server(time.Now())), t.TempDir()
	w.roots.AddCert(server.Leaf)
	file := func(name string) string { return filepath.Join(folder, name) }
	if err := errors.Join(svidtest.Write(server, file("tls.crt"), file("tls.key")), svidtest.Write(w.ca, file("shop.pem"), "")); err != nil {
		t.Fatal(err)
	}
	w.writ = must[*sandbox.Sandbox](t)(sandbox.Start(t.Context(), sandbox.Options{
		Folder: t.TempDir(), Site: site,
		Configure: func(c *app.Config) {
			c.TLS = app.TLS{Certificate: file("tls.crt"), Key: file("tls.key")}
			c.SPIFFE = app.SPIFFE{Audience: "writ", TrustDomains: []app.TrustDomain{{Name: domain, File: file("shop.pem")}}}
		},
	}))
	t.Cleanup(func() {
		if err := w.writ.Close(); err != nil {
			t.Error(err)
		}
	})
	w.shop = httptest.NewUnstartedServer(orders.New(w.as("/order-system")))
	authority := x509.NewCertPool()
	authority.AddCert(w.ca.Leaf)
	w.shop.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{server}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: authority}
	w.shop.StartTLS()
	t.Cleanup(w.shop.Close)
	return w
}

// site is the starter folder with everybody known by an SVID too.
func site(issuer string) map[string][]byte {
	files, err := starter.Site(issuer)
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"support-bot", "triage-bot", "lookup-bot", "order-system"} {
		before := []byte("match: [{issuer: " + issuer + ", subject: " + name + "}]")
		after := []byte("match: [{issuer: spiffe://" + domain + ", subject: spiffe://" + domain + "/" + name + "}]")
		if !bytes.Contains(files["catalog/agents.yaml"], before) {
			panic(name + " is not in the starter")
		}
		files["catalog/agents.yaml"] = bytes.Replace(files["catalog/agents.yaml"], before, after, 1)
	}
	return files
}

func (w *town) svid(path string) tls.Certificate {
	w.t.Helper()
	return must[tls.Certificate](w.t)(svidtest.SVID(w.ca, domain, path, time.Now()))
}

func (w *town) transport(own *tls.Certificate) *http.Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.roots}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	transport := &http.Transport{TLSClientConfig: config}
	w.t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// as is a client of Writ with a new SVID.
func (w *town) as(path string) *client.Client {
	w.t.Helper()
	own := w.svid(path)
	return w.with(&own)
}

func (w *town) with(own *tls.Certificate) *client.Client {
	w.t.Helper()
	return must[*client.Client](w.t)(client.New(w.writ.URL, client.Options{HTTPClient: &http.Client{Transport: w.transport(own), Timeout: 30 * time.Second}}))
}

// read asks the server of orders, with a token and over a certificate.
func (w *town) read(own *tls.Certificate, token, order string) (status int, body string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.shop.URL+"/orders/"+order, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := (&http.Client{Transport: w.transport(own)}).Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text := must[[]byte](w.t)(io.ReadAll(answer.Body))
	return answer.StatusCode, string(text)
}

// TestASecondWorkloadActsForTheFirstUntilTheTaskEnds is the whole way: a workload that has only an SVID gets a right, passes part of
// it on to a second one, which calls a server that asks Writ about it; the first one's task ends, and the second one's next call fails.
func TestASecondWorkloadActsForTheFirstUntilTheTaskEnds(t *testing.T) {
	w := newTown(t)
	must[*client.Done](t)(w.as("/order-system").PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
		{ID: `Order::"o-1"`, Attributes: []byte(`{"status":"delivered","total":120}`)}, {ID: `Order::"o-2"`, Attributes: []byte(`{"status":"delivered","total":7}`)},
	}}))
	first, own := w.as("/support-bot"), w.svid("/lookup-bot")
	second := w.with(&own)

	// The first one's own right is bound to its certificate.
	task := must[*client.Outcome](t)(first.OpenTask(t.Context(), client.OpenTask{Type: "support", Purpose: "a customer complains", Trace: "4bf92f3577b34da6a3ce929d0e0e4736"})).Task
	mine := must[*client.Outcome](t)(first.Request(t.Context(), client.AccessRequest{Task: task.ID, Action: "read_order", Resource: `Order::"o-1"`}))
	if mine.Credential == nil || !strings.HasPrefix(mine.Credential.BoundTo, "x5t#S256:") {
		t.Fatalf("%+v", mine.Credential)
	}
	root := must[*client.Outcome](t)(first.Request(t.Context(), client.AccessRequest{Task: task.ID, Mode: "delegate", Action: "read_order", Resource: `Order::"o-1"`, TTL: 300}))
	lent := must[*client.Outcome](t)(first.Delegate(t.Context(), root.Grant.ID, client.Delegation{To: `Agent::"lookup-bot"`, TTL: 120}))
	issued := must[*client.IssuedCredential](t)(second.IssueCredential(t.Context(), lent.Grant.ID))

	status, body := w.read(&own, issued.Credential.Token, "o-1")
	if status != http.StatusOK || !strings.Contains(body, `read by Agent::"lookup-bot" for Agent::"support-bot"`) {
		t.Fatalf("%d %s", status, body)
	}
	guard := w.as("/order-system")
	known := must[*client.Introspection](t)(guard.Introspect(t.Context(), issued.Credential.Token))
	if known.Trace != "4bf92f3577b34da6a3ce929d0e0e4736" || known.Actor == nil || known.Actor.Subject != `Agent::"lookup-bot"` || known.GrantID != lent.Grant.ID {
		t.Errorf("%+v", known)
	}

	thief := w.svid("/triage-bot")
	renewed := w.svid("/lookup-bot")
	for name, c := range map[string]struct {
		certificate  *tls.Certificate
		token, order string
		status       int
	}{
		"another order":                       {&own, issued.Credential.Token, "o-2", http.StatusForbidden},
		"a stolen token":                      {&thief, issued.Credential.Token, "o-1", http.StatusUnauthorized},
		"a stolen token, over no certificate": {nil, issued.Credential.Token, "o-1", http.StatusUnauthorized},
		"the lender's token":                  {&own, mine.Credential.Token, "o-1", http.StatusUnauthorized},
		"an order in quotes":                  {&own, issued.Credential.Token, "a%5C%22b", http.StatusNotFound},
		"no token":                            {&own, "", "o-1", http.StatusUnauthorized},
		"a token that is none":                {&own, "forged", "o-1", http.StatusUnauthorized},
		"the next certificate of its own":     {&renewed, issued.Credential.Token, "o-1", http.StatusUnauthorized},
	} {
		if status, body := w.read(c.certificate, c.token, c.order); status != c.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	// After its SVID was replaced it gets the same right for the next one.
	again := must[*client.IssuedCredential](t)(w.with(&renewed).IssueCredential(t.Context(), lent.Grant.ID))
	if status, body := w.read(&renewed, again.Credential.Token, "o-1"); status != http.StatusOK {
		t.Errorf("with the next certificate: %d %s", status, body)
	}

	began := time.Now()
	done := must[*client.Done](t)(first.CompleteTask(t.Context(), task.ID))
	status, _ = w.read(&renewed, again.Credential.Token, "o-1")
	took := time.Since(began)
	if status != http.StatusUnauthorized {
		t.Errorf("after the end of the first one's task the second one's call is answered with %d", status)
	}
	t.Logf("from the call that ends the first one's task to the second one's refusal: %s (entry %d)", took, done.Evidence.Index)
	var problem *client.Problem
	if _, err := second.IssueCredential(t.Context(), lent.Grant.ID); !errors.As(err, &problem) || problem.Code != "task_ended" {
		t.Errorf("after the end of the task: %v", err)
	}
}

// What cannot be found out is a no.
func TestWithoutWritNobodyReads(t *testing.T) {
	nobody, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	gone := must[*client.Client](t)(client.New("http://"+address, client.Options{}))
	answer := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders/o-1", nil)
	r.Header.Set("Authorization", "Bearer some-token")
	shown := must[tls.Certificate](t)(svidtest.Server(time.Now()))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown.Leaf}}
	orders.New(gone).ServeHTTP(answer, r)
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("%d", answer.Code)
	}
}
