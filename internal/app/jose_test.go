package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/connector/jwt"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/devidp"
	"github.com/writ-project/writ/internal/nodetest"
)

const ordersTarget = "https://orders.example.com" // of the starter's catalog

func deliveredOrder() client.Facts {
	return client.Facts{Facts: []client.Fact{{ID: `Order::"o-1"`, Attributes: []byte(`{"status":"delivered","total":120}`)}}}
}

// judge is jose of npm, which verifies what Writ issued with what Writ publishes.
type judge struct{ *nodetest.Script }

// verified is what it read in a token.
type verified struct {
	Header  map[string]any `json:"header"`
	Payload struct {
		Issued       int64             `json:"iat"`
		Expiry       int64             `json:"exp"`
		ID           string            `json:"jti"`
		Subject      string            `json:"sub"`
		Confirmation map[string]string `json:"cnf"`
	} `json:"payload"`
}

type discovered struct {
	Keys string   `json:"jwks_uri"`
	KIDs []string `json:"kids"`
}

// discover has it find the keys of an issuer, once, and keep them under a name.
func (j judge) discover(t *testing.T, issuer, set string) (d discovered) {
	t.Helper()
	check(t, j.Ask("discover", map[string]any{"issuer": issuer, "set": set}, &d))
	return d
}

// question is a token and what it is verified with.
type question struct {
	Token    string `json:"token"`
	Set      string `json:"set"`
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`
	At       int64  `json:"at"` // seconds since 1970
}

// verify is a verification that must succeed.
func (j judge) verify(t *testing.T, q question) (v verified) {
	t.Helper()
	check(t, j.Ask("verify", q, &v))
	return v
}

// refuses checks that a verification fails, and as it should.
func (j judge) refuses(t *testing.T, name string, q question, want string) {
	t.Helper()
	var refused *nodetest.Refused
	if err := j.Ask("verify", q, nil); !errors.As(err, &refused) || refused.Code != want {
		t.Errorf("%s: %v, want %s", name, err, want)
	}
}

// TestOutsideJudgeVerifiesTokens has a caller prove its key, get a token for it, and the target verify that, all with jose.
func TestOutsideJudgeVerifiesTokens(t *testing.T) {
	s := serve(t)
	j := judge{nodetest.Start(t, "testdata/jose.mjs")}
	_, err := s.client(t, "order-system", nil, nil).PushFacts(t.Context(), deliveredOrder())
	check(t, err)
	token, err := s.idp.Token("support-bot", "writ", time.Hour, nil)
	check(t, err)
	found := j.discover(t, s.url, "now")
	if found.Keys != s.url+"/.well-known/jwks.json" || len(found.KIDs) != 1 {
		t.Fatalf("discovered %+v", found)
	}
	for _, alg := range []string{"ES256", "EdDSA"} {
		call := func(method, path string, body map[string]any, want int, into any) {
			t.Helper()
			answer := struct {
				Status int `json:"status"`
				Body   any `json:"body"`
			}{Body: into}
			check(t, j.Ask("call", map[string]any{"alg": alg, "method": method, "url": s.url + path, "token": token, "body": body}, &answer))
			if answer.Status != want {
				t.Fatalf("%s %s %s: %d %+v", alg, method, path, answer.Status, into)
			}
		}
		var thumbprint string
		check(t, j.Ask("thumbprint", map[string]any{"alg": alg}, &thumbprint))
		var me client.Identity
		call(http.MethodGet, "/v1/whoami", nil, http.StatusOK, &me)
		if me.BoundTo != thumbprint {
			t.Errorf("%s: Writ saw the key %s, jose proved %s", alg, me.BoundTo, thumbprint)
		}
		var opened, granted client.Outcome
		call(http.MethodPost, "/v1/tasks", map[string]any{"type": "support", "purpose": "a customer complains"}, http.StatusCreated, &opened)
		call(http.MethodPost, "/v1/requests", map[string]any{"task": opened.Task.ID, "action": "read_order", "resource": `Order::"o-1"`}, http.StatusOK, &granted)
		q := question{Token: granted.Credential.Token, Set: "now", Issuer: s.url, Audience: ordersTarget, At: granted.Credential.ExpiresAt.Unix() - 1}
		got := j.verify(t, q)
		if got.Payload.Confirmation["jkt"] != thumbprint || len(got.Payload.Confirmation) != 1 || got.Payload.ID != granted.Grant.ID ||
			got.Payload.Expiry != granted.Credential.ExpiresAt.Unix() || got.Header["kid"] != found.KIDs[0] {
			t.Errorf("%s: jose read %+v, want a token of %+v for the key %s", alg, got, granted.Grant, thumbprint)
		}
		j.refusesWhatIsWrong(t, q)
	}
	s.stop()
	check(t, <-s.done)
}

func (j judge) refusesWhatIsWrong(t *testing.T, good question) {
	t.Helper()
	for _, x := range []struct {
		name   string
		change func(*question)
		want   string
	}{
		{"at its expiry", func(q *question) { q.At++ }, "ERR_JWT_EXPIRED"},
		{"after its expiry", func(q *question) { q.At += 3600 }, "ERR_JWT_EXPIRED"},
		{"by another target", func(q *question) { q.Audience = "https://warehouse.example.com" }, "ERR_JWT_CLAIM_VALIDATION_FAILED"},
		{"as another issuer's", func(q *question) { q.Issuer = "https://other.example" }, "ERR_JWT_CLAIM_VALIDATION_FAILED"},
		{"cut short", func(q *question) { q.Token = q.Token[:len(q.Token)-4] }, "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"},
	} {
		q := good
		x.change(&q)
		j.refuses(t, x.name, q, x.want)
	}
	var tampered struct {
		Refused  map[string]int `json:"refused"`
		Accepted [][2]int       `json:"accepted"`
		Bytes    int            `json:"bytes"`
	}
	check(t, j.Ask("tamper", good, &tampered))
	refused := 0
	for _, n := range tampered.Refused {
		refused += n
	}
	if refused != tampered.Bytes || refused < 300 || len(tampered.Accepted) > 0 {
		t.Errorf("of %d changed bytes, %d were refused, and %v (part, byte) accepted", tampered.Bytes, refused, tampered.Accepted)
	}
	t.Logf("changed bytes: %v", tampered.Refused)
}

// TestOutsideJudgeVerifiesTokensBoundToCertificates is RFC 8705 section 3.1, with node's own reading of the certificate.
func TestOutsideJudgeVerifiesTokensBoundToCertificates(t *testing.T) {
	s := serveSVIDs(t)
	j := judge{nodetest.Start(t, "testdata/jose.mjs", "NODE_EXTRA_CA_CERTS="+s.certificate)}
	token, err := s.idp.Token("order-system", "writ", time.Hour, nil)
	check(t, err)
	if status, answer := s.call(t, nil, token, http.MethodPost, "/v1/facts", `{"facts":[{"id":"Order::\"o-1\"","attributes":{"status":"delivered","total":120}}]}`); status != http.StatusOK {
		t.Fatalf("%d %v", status, answer)
	}
	bot := svidOf(t, s.ca, "shop.example", "/support-bot")
	_, opened := s.call(t, &bot, "", http.MethodPost, "/v1/tasks", `{"type":"support","purpose":"a customer complains"}`)
	task, _ := opened["task"].(map[string]any)
	status, granted := s.call(t, &bot, "", http.MethodPost, "/v1/requests", `{"task":"`+task["id"].(string)+`","action":"read_order","resource":"Order::\"o-1\""}`)
	credential, _ := granted["credential"].(map[string]any)
	if status != http.StatusOK || credential == nil {
		t.Fatalf("%d %v", status, granted)
	}
	j.discover(t, s.url, "now")
	expiry, err := time.Parse(time.RFC3339, credential["expires_at"].(string))
	check(t, err)
	got := j.verify(t, question{Token: credential["token"].(string), Set: "now", Issuer: s.url, Audience: ordersTarget, At: expiry.Unix() - 1})
	var hash string
	check(t, j.Ask("certificate", map[string]any{"der": base64.StdEncoding.EncodeToString(bot.Certificate[0])}, &hash))
	if got.Payload.Confirmation["x5t#S256"] != hash || len(got.Payload.Confirmation) != 1 || credential["bound_to"] != control.ByCertificate+hash {
		t.Errorf("bound to %v (%v), and the certificate is %s", got.Payload.Confirmation, credential["bound_to"], hash)
	}
}

// rotating is an installation that is started again and again with other keys, under one URL.
type rotating struct {
	config  Config
	idp     *devidp.Server
	running atomic.Pointer[App]
}

func startRotating(t *testing.T) *rotating {
	t.Helper()
	idp, err := devidp.Start(time.Now)
	check(t, err)
	r := &rotating{config: initialized(t, idp.URL()), idp: idp}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.running.Load().handler.ServeHTTP(w, q) }))
	r.config.URL = front.URL
	t.Cleanup(func() { front.Close(); check(t, r.running.Load().Close()); check(t, idp.Close()) })
	return r
}

// restart starts it with these keys, and has an agent get a token.
func (r *rotating) restart(t *testing.T, keys ...string) *client.Credential {
	t.Helper()
	if a := r.running.Load(); a != nil {
		check(t, a.Close())
	}
	r.config.Tokens.Keys = keys
	a, err := New(t.Context(), r.config, Options{})
	check(t, err)
	r.running.Store(a)
	as := func(subject string) *client.Client {
		c, err := client.New(r.config.URL, client.Options{Token: func(context.Context) (string, error) { return r.idp.Token(subject, "writ", time.Hour, nil) }})
		check(t, err)
		return c
	}
	_, err = as("order-system").PushFacts(t.Context(), deliveredOrder())
	check(t, err)
	task, err := as("support-bot").OpenTask(t.Context(), client.OpenTask{Type: "support", Purpose: "a customer complains"})
	check(t, err)
	granted, err := as("support-bot").Request(t.Context(), client.AccessRequest{Task: task.Task.ID, Action: "read_order", Resource: `Order::"o-1"`})
	check(t, err)
	return granted.Credential
}

// TestOutsideJudgeFollowsARotation rotates Writ's keys as its configuration documents it. A verifier looks for the keys at each
// step, and never again.
func TestOutsideJudgeFollowsARotation(t *testing.T) {
	j := judge{nodetest.Start(t, "testdata/jose.mjs")}
	r := startRotating(t)
	old, fresh := r.config.Tokens.Keys[0], filepath.Join(r.config.Data, "fresh.key")
	key, err := jwt.GenerateKey(jwt.ES256, rand.Reader)
	check(t, err)
	check(t, os.WriteFile(fresh, key, 0o600))
	with := func(set string, c *client.Credential) question {
		return question{Token: c.Token, Set: set, Issuer: r.config.URL, Audience: ordersTarget, At: c.ExpiresAt.Unix() - 1}
	}
	tokens, kids := map[string]*client.Credential{}, map[string][]string{}
	for _, step := range []struct {
		name string
		keys []string
	}{{"before", []string{old}}, {"announced", []string{old, fresh}}, {"rotated", []string{fresh, old}}, {"dropped", []string{fresh}}} {
		tokens[step.name] = r.restart(t, step.keys...)
		kids[step.name] = j.discover(t, r.config.URL, step.name).KIDs
		got := j.verify(t, with(step.name, tokens[step.name]))
		if len(kids[step.name]) != len(step.keys) || got.Header["kid"] != kids[step.name][0] {
			t.Errorf("%s: signed with %v, published %v", step.name, got.Header, kids[step.name])
		}
	}
	if kids["rotated"][0] == kids["rotated"][1] || kids["announced"][0] != kids["rotated"][1] {
		t.Errorf("no rotation: %v", kids)
	}
	j.verify(t, with("announced", tokens["rotated"])) // who looked while the key was announced
	j.verify(t, with("announced", tokens["dropped"]))
	j.verify(t, with("rotated", tokens["before"])) // what the old key signed lives on
	j.verify(t, with("rotated", tokens["announced"]))
	j.refuses(t, "of a key that was not published yet", with("before", tokens["rotated"]), "ERR_JWKS_NO_MATCHING_KEY")
	j.refuses(t, "of a dropped key", with("dropped", tokens["announced"]), "ERR_JWKS_NO_MATCHING_KEY")
}
