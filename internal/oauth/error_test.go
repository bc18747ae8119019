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

// refusals are all codes of access, read from where they are declared.
func refusals(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("../access/decision.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, match := range regexp.MustCompile(`Code = "([a-z_]+)"`).FindAllSubmatch(source, -1) {
		out = append(out, string(match[1]))
	}
	if len(out) < 15 {
		t.Fatalf("only %v", out)
	}
	return out
}

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
	}{{"authorization_details", shape{details: true}}, {"scope", shape{scope: true}}, {"a grant", shape{exchange: true}}}
	for code := range meanings(shape{}) {
		var cells []string
		for _, one := range by {
			cells = append(cells, "`"+meanings(one.shape)[code].err+"`")
		}
		row := cells[0]
		if cells[0] != cells[1] || cells[1] != cells[2] {
			row = fmt.Sprintf("%s; by scope %s; of a grant %s", cells[0], cells[1], cells[2])
		}
		shown := code
		if shown == string(control.NotYours) {
			shown = codeAbsent
		}
		status := meanings(shape{})[code].status
		if status == 0 {
			status = http.StatusBadRequest
		}
		if want := fmt.Sprintf("| `%s` | %s | %d |", shown, row, status); !bytes.Contains(doc, []byte(want)) {
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
		"an issuer":             {&clientFault{&control.Invalid{Kind: control.AuthenticationMissing, Detail: "issuer_unavailable: down", Cause: errors.New("secret")}}, 503, "temporarily_unavailable"},
		"an issuer of a person": {&tokenFault{code: codeSubject, err: &control.Invalid{Kind: control.AuthenticationMissing, Detail: "issuer_unavailable: down"}}, 503, "temporarily_unavailable"},
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
