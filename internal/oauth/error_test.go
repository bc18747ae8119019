package oauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// codes are all of access, or all kinds of control, read from where they are declared.
func codes(t *testing.T, file, typ string) []string {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, match := range regexp.MustCompile(typ+` = "([a-z_]+)"`).FindAllSubmatch(source, -1) {
		out = append(out, string(match[1]))
	}
	if len(out) < 15 {
		t.Fatalf("only %v", out)
	}
	return out
}

func refusals(t *testing.T) []string { return codes(t, "../access/decision.go", "Code") }

func TestEveryRefusalHasAMeaning(t *testing.T) {
	for _, s := range []shape{{}, {details: true}, {scope: true}, {exchange: true, details: true}} {
		for _, code := range refusals(t) {
			p := problemOf(&control.Refusal{Code: access.Code(code), Decision: "d", Evidence: 7}, s)
			if p.Error == "server_error" || p.Code != code || p.Next == "" || p.Decision != "d" || p.Evidence == nil || p.Evidence.Index != 7 {
				t.Errorf("%s: %+v", code, p)
			}
		}
	}
}

// TestTheTableOfErrorsIsTold holds docs/oauth.md to the table.
func TestTheTableOfErrorsIsTold(t *testing.T) {
	doc, err := os.ReadFile("../../docs/oauth.md")
	if err != nil {
		t.Fatal(err)
	}
	by := []struct {
		name string
		shape
	}{{"", shape{details: true}}, {"by scope", shape{scope: true}}, {"of a grant", shape{exchange: true}}}
	rows := map[class][]string{}
	for _, code := range append(refusals(t), codes(t, "../control/refusal.go", "InvalidKind")...) {
		shown := "`" + code + "`"
		if code == string(control.NotYours) {
			shown = "`" + codeAbsent + "`"
		}
		rows[classOf(code)] = append(rows[classOf(code)], shown)
	}
	delete(rows, unknown)
	if len(rows) != int(down) {
		t.Errorf("%d classes have codes", len(rows))
	}
	for class, shown := range rows {
		first, status, _ := class.in(by[0].shape)
		row := "`" + first + "`"
		for _, one := range by[1:] {
			if other, _, _ := class.in(one.shape); other != first {
				row += fmt.Sprintf("; %s `%s`", one.name, other)
			}
		}
		if want := fmt.Sprintf("| %s | %s | %d |\n", strings.Join(shown, ", "), row, status); !bytes.Contains(doc, []byte(want)) {
			t.Errorf("docs/oauth.md lacks\n%s", want)
		}
	}
}

// TestFailuresTellNothing: what a client may not know stays in the log.
func TestFailuresTellNothing(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/oauth/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"a bug":                 {errors.New("secret"), 500, "server_error"},
		"an unknown code":       {&control.Refusal{Code: "secret"}, 500, "server_error"},
		"a store that is":       {fmt.Errorf("%w: secret", access.ErrUnavailable), 503, "temporarily_unavailable"},
		"a store that hangs":    {fmt.Errorf("secret: %w", context.DeadlineExceeded), 503, "temporarily_unavailable"},
		"a task left open":      {&leftFault{fault: fmt.Errorf("%w: secret", access.ErrUnavailable), task: "secret"}, 503, "temporarily_unavailable"},
		"an issuer":             {&clientFault{&control.Invalid{Kind: control.AuthenticationMissing, Reason: "trust_domain_unavailable", Temporary: true, Cause: errors.New("secret")}}, 503, "temporarily_unavailable"},
		"too many proofs":       {&clientFault{&control.Invalid{Kind: control.AuthenticationMissing, Reason: "proof_unavailable", Temporary: true}}, 503, "temporarily_unavailable"},
		"an issuer of a person": {&tokenFault{code: codeSubject, err: &control.Invalid{Kind: control.AuthenticationMissing, Reason: "issuer_unavailable", Temporary: true}}, 503, "temporarily_unavailable"},
		"too many calls":        {&clientFault{&control.Refusal{Code: access.CodeLimitExceeded}}, 429, "temporarily_unavailable"},
		"too many of an actor":  {&tokenFault{code: codeActor, err: &control.Refusal{Code: access.CodeLimitExceeded}}, 429, "temporarily_unavailable"},
	} {
		got := refuse(r, Client{}, form{}, x.err)
		if got.Status != x.status || !strings.Contains(string(got.Body), `"error":"`+x.code+`"`) || strings.Contains(string(got.Body), "secret") {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
		if x.status >= 500 && got.Cause == nil || x.status != 500 && got.Header["Retry-After"] == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDescriptionsAreInTheCharactersOfTheRFC(t *testing.T) {
	got := describe(&problem{Description: `write Action::"refund" \ or „refund“.`, Next: "Then."})
	if got != `write Action::'refund' ' or ?refund?. Then.` {
		t.Error(got)
	}
}

func TestTheChallengeIsForTheSchemeThatWasTried(t *testing.T) {
	for header, want := range map[string]string{
		"":           `Bearer realm="writ"`,
		"Bearer abc": `Bearer realm="writ", error="invalid_token"`,
		"dpop abc":   `DPoP realm="writ", error="invalid_token"`,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", header)
		if got := challenge(r, "token_expired"); got != want {
			t.Errorf("%q: %s", header, got)
		}
	}
}
