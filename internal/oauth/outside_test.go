package oauth_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/nodetest"
	"github.com/writ-project/writ/internal/svidtest"
)

// outside is openid-client of npm.
type outside struct {
	*world

	script *nodetest.Script
}

// said is what the library made of an answer.
type said struct {
	Answer map[string]any `json:"answer"`
	Error  string         `json:"error"`
	Status int            `json:"status"`
	Cause  map[string]any `json:"cause"`
}

func (o outside) ask(t *testing.T, what string, args map[string]any) said {
	t.Helper()
	var out said
	if err := o.script.Ask(what, args, &out); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return out
}

func (o outside) discover(t *testing.T, args map[string]any) map[string]any {
	t.Helper()
	args["url"], args["now"] = o.url, o.clock.now().UnixMilli()
	var metadata map[string]any
	check(t, o.script.Ask("discover", args, &metadata))
	return metadata
}

// wanted fails unless the answer holds what is wanted.
func wanted(t *testing.T, got said, want map[string]any) {
	t.Helper()
	for _, difference := range subset("", want, got.Answer) {
		t.Errorf("%s\n%+v", difference, got)
	}
	if t.Failed() {
		t.FailNow()
	}
}

func newOutside(t *testing.T) outside {
	t.Helper()
	w := newWorld(t, time.Now().Truncate(time.Second)) // node looks at certificates by the true time
	o := outside{w, nodetest.Start(t, "testdata/client.mjs", "NODE_EXTRA_CA_CERTS="+w.certificate)}
	k := &talk{world: w}
	k.tell(t)
	return o
}

const asksToRead = `[{"type":"writ_request","open":{"type":"support","purpose":"where is it"},"action":"read_order","resource":"Order::\"o-1\""}]`

// TestAnOutsideClientExchangesIntrospectsAndRevokes authenticates by an assertion of the identity provider.
func TestAnOutsideClientExchangesIntrospectsAndRevokes(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	metadata := o.discover(t, map[string]any{
		"id": `Agent::"support-bot"`, "type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
		"assertion": o.oidc(t, map[string]any{"sub": "support-bot", "aud": o.url}),
	})
	if metadata["token_endpoint"] != o.url+"/oauth/token" || metadata["revocation_endpoint"] == nil {
		t.Fatalf("discovered: %v", metadata)
	}
	own := o.ask(t, "credentials", map[string]any{"authorization_details": asksToRead})
	wanted(t, own, map[string]any{"token_type": "bearer", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "expires_in": 300})

	bobs := o.oidc(t, map[string]any{"sub": "bob", "aud": forPeople})
	forBob := o.ask(t, "exchange", map[string]any{
		"subject_token": bobs, "subject_token_type": "urn:ietf:params:oauth:token-type:id_token", "authorization_details": asksToRead,
	})
	wanted(t, forBob, map[string]any{"token_type": "bearer"})
	token := map[string]any{"token": forBob.Answer["access_token"]}
	wanted(t, o.ask(t, "introspect", token), map[string]any{
		"active": true, "sub": `Human::"bob"`, "client_id": `Agent::"support-bot"`, "scope": "read_order", "act": map[string]any{"sub": `Agent::"support-bot"`},
	})
	if got := o.ask(t, "revoke", token); got.Error != "" {
		t.Fatalf("revoke: %+v", got)
	}
	wanted(t, o.ask(t, "introspect", token), map[string]any{"active": false})
	wanted(t, o.ask(t, "introspect", map[string]any{"token": own.Answer["access_token"]}), map[string]any{"active": true})

	again := o.ask(t, "exchange", map[string]any{"subject_token": token["token"], "subject_token_type": "urn:ietf:params:oauth:token-type:access_token"})
	if again.Error != "invalid_request" || again.Status != 400 || again.Cause["code"] != "invalid_subject_token" {
		t.Errorf("a token that was revoked: %+v", again)
	}
}

// TestAnOutsideClientIsToldToAskPeople: an error that no standard has reaches the program whole, and what it says to do next works.
func TestAnOutsideClientIsToldToAskPeople(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	o.discover(t, map[string]any{
		"id": "spiffe://shop.example/support-bot", "type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
		"assertion": o.jwtSVID(t, o.shop, map[string]any{"sub": "spiffe://shop.example/support-bot"}),
	})
	check(t, o.script.Ask("prove", nil, nil))
	asked := o.ask(t, "credentials", map[string]any{
		"authorization_details": `[{"type":"writ_request","open":{"type":"support","purpose":"broken"},"action":"refund","resource":"Order::\"o-1\"","args":{"amount":200,"reason":"broken"}}]`,
	})
	if asked.Error != "approval_required" || asked.Cause["interval"] != 5.0 {
		t.Fatalf("%+v", asked)
	}
	id := fmt.Sprint(asked.Cause["auth_req_id"])
	k := &talk{world: o.world, kept: map[string]string{}}
	k.take(t, &step{lines: []string{"GET /v1/approvals/" + id, "as: bearer bob"}, status: 200, keep: map[string]string{"card": "card"}})
	k.take(t, &step{lines: []string{"POST /v1/approvals/" + id + "/answer", "as: bearer bob", `{"approve": true, "card": "${card}"}`}, status: 200})
	redeemed := o.ask(t, "redeem", map[string]any{"auth_req_id": id, "expires_in": asked.Cause["expires_in"], "interval": 0.01})
	wanted(t, redeemed, map[string]any{"token_type": "dpop", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
	var thumbprint string
	check(t, o.script.Ask("thumbprint", nil, &thumbprint))
	wanted(t, o.ask(t, "introspect", map[string]any{"token": redeemed.Answer["access_token"]}), map[string]any{
		"active": true, "token_type": "DPoP", "cnf": map[string]any{"jkt": thumbprint},
	})
}

// TestAnOutsideClientWithACertificate knows only mutual TLS (RFC 8705).
func TestAnOutsideClientWithACertificate(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	svid := o.shop.svid(t, "mesh-bot", o.clock.now())
	cert, private := filepath.Join(t.TempDir(), "svid.pem"), filepath.Join(t.TempDir(), "svid.key")
	check(t, svidtest.Write(svid, cert, private))
	read := func(path string) string {
		text, err := os.ReadFile(path)
		check(t, err)
		return string(text)
	}
	o.discover(t, map[string]any{"id": "spiffe://shop.example/mesh-bot", "certificate": map[string]any{
		"cert": read(cert), "key": read(private), "ca": read(o.certificate),
	}})
	got := o.ask(t, "credentials", map[string]any{"authorization_details": asksToRead})
	wanted(t, got, map[string]any{"token_type": "bearer"})
	wanted(t, o.ask(t, "introspect", map[string]any{"token": got.Answer["access_token"]}), map[string]any{
		"active": true, "client_id": `Agent::"mesh-bot"`, "cnf": map[string]any{"x5t#S256": svidtest.Thumbprint(svid)},
	})
}

// TestAnOutsideClientLends has a right to lend for bob, lends part of it, and the receiver makes a token of that. What is no token has
// token_type N_A, which the library takes in an exchange alone (RFC 8693 section 2.2.1).
func TestAnOutsideClientLends(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	own := func(subject string) string { return o.oidc(t, map[string]any{"sub": subject, "aud": o.url}) }
	as := func(subject string) {
		o.discover(t, map[string]any{"id": `Agent::"` + subject + `"`, "type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "assertion": own(subject)})
	}
	const grant, jwt = "urn:writ:params:oauth:token-type:grant", "urn:ietf:params:oauth:token-type:jwt"
	as("support-bot")
	root := o.ask(t, "exchange", map[string]any{
		"subject_token": o.oidc(t, map[string]any{"sub": "bob", "aud": forPeople}), "subject_token_type": jwt,
		"authorization_details": `[{"type":"writ_request","open":{"type":"support","purpose":"paying"},"mode":"delegate","action":"pay","resource":"Order::\"o-1\"",
			"constraints":{"amount":{"type":"range","min":0,"max":100},"currency":{"type":"exact","value":"EUR"}}}]`,
	})
	wanted(t, root, map[string]any{"token_type": "n_a", "issued_token_type": grant})
	lend := func(amount string) said {
		return o.ask(t, "exchange", map[string]any{
			"subject_token": root.Answer["access_token"], "subject_token_type": grant, "actor_token": o.oidc(t, map[string]any{"sub": "pay-bot", "aud": o.url + "/oauth/actor"}), "actor_token_type": jwt,
			"authorization_details": `[{"type":"writ_request","args":{"amount":` + amount + `,"currency":"EUR"}}]`,
		})
	}
	if more := lend("101"); more.Error != "invalid_authorization_details" || more.Cause["code"] != "exceeds_parent" || more.Cause["evidence"] == nil {
		t.Errorf("more than is held: %+v", more)
	}
	lent := lend("40")
	wanted(t, lent, map[string]any{"token_type": "n_a", "issued_token_type": grant})
	as("pay-bot")
	token := o.ask(t, "exchange", map[string]any{"subject_token": lent.Answer["access_token"], "subject_token_type": grant})
	wanted(t, token, map[string]any{"token_type": "bearer"})
	wanted(t, o.ask(t, "introspect", map[string]any{"token": token.Answer["access_token"]}), map[string]any{
		"active": true, "sub": `Human::"bob"`, "client_id": `Agent::"pay-bot"`,
		"act": map[string]any{"sub": `Agent::"pay-bot"`, "act": map[string]any{"sub": `Agent::"support-bot"`}},
	})
}
