package control_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/writ-project/writ/internal/control"
)

func TestEveryInvalidAskSaysWhatIsNext(t *testing.T) {
	source, err := os.ReadFile("refusal.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`InvalidKind = "([a-z_]+)"`).FindAllSubmatch(source, -1)
	if len(kinds) < 15 {
		t.Fatalf("only %q", kinds)
	}
	said := map[string]string{}
	for _, match := range append(kinds, [][]byte{nil, []byte("no such kind")}) {
		name := string(match[1])
		next := (&control.Invalid{Kind: control.InvalidKind(name)}).Next()
		if other, twice := said[next]; next == "" || twice {
			t.Errorf("%s says %q, as does %q", name, next, other)
		}
		said[next] = name
	}
	for reason, want := range map[string]string{"proof_stale": "Send one DPoP proof made for this request.", "token_expired": (&control.Invalid{Kind: control.AuthenticationMissing}).Next()} {
		bad := &control.Invalid{Kind: control.AuthenticationMissing, Reason: reason}
		if got := bad.Next(); got != want {
			t.Errorf("%s: %s", reason, got)
		}
		if bad.Temporary = true; bad.Next() != "Try again later." {
			t.Errorf("%s, for now: %s", reason, bad.Next())
		}
	}
}
