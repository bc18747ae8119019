package oauth_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/svidtest"
)

// TestTheCommandsOfThePageWork runs each command of docs/oauth.md, in order, as a reader would. What follows it is the answer,
// abridged; "…" is whatever is there.
func TestTheCommandsOfThePageWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/oauth.md")
	check(t, err)
	w := newWorld(t, time.Now().Truncate(time.Second)) // curl looks at certificates by the true time
	k := &talk{world: w}
	k.tell(t)
	folder := t.TempDir()
	check(t, svidtest.Write(w.shop.svid(t, "pay-bot", w.clock.now()), filepath.Join(folder, "svid.pem"), filepath.Join(folder, "svid.key")))
	env := []string{
		"PATH=" + os.Getenv("PATH"), "CURL_CA_BUNDLE=" + w.certificate, "WRIT=" + w.url,
		"ASSERTION=" + w.oidc(t, map[string]any{"sub": "support-bot", "aud": w.url}),
		"BOBS=" + w.oidc(t, map[string]any{"sub": "bob", "aud": forPeople}),
		"ACTOR=" + w.oidc(t, map[string]any{"sub": "pay-bot", "aud": w.url}),
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n((?:<!-- .*? -->\n)*)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 9 || len(blocks) != strings.Count(string(page), "```sh") {
		t.Fatalf("%d commands with answers", len(blocks))
	}
	for _, block := range blocks {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		command := exec.CommandContext(ctx, "sh", "-euc", block[1])
		command.Dir, command.Env, command.Stderr = folder, env, t.Output()
		out, err := command.Output()
		cancel()
		if err != nil {
			t.Fatalf("%s\n%v", block[1], err)
		}
		var got, want map[string]any
		check(t, json.Unmarshal([]byte(block[3]), &want))
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s\n%s: %v", block[1], out, err)
		}
		for _, difference := range subset("", whatever(want, got), got) {
			t.Errorf("%s\n%s\n%s", block[1], difference, out)
		}
		for _, keep := range regexp.MustCompile(`keep: (\w+) = (\S+)`).FindAllStringSubmatch(block[2], -1) {
			value, ok := find(got, keep[2])
			if !ok {
				t.Fatalf("no %s in %s", keep[2], out)
			}
			text, _ := value.(string)
			env = append(env, keep[1]+"="+text)
		}
	}
}

// whatever puts into a wanted value what is there, where it says "…".
func whatever(want, got any) any {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for name, one := range w {
			w[name] = whatever(one, g[name])
		}
	case []any:
		g, _ := got.([]any)
		for i := range min(len(w), len(g)) {
			w[i] = whatever(w[i], g[i])
		}
	case string:
		if w == "…" && got != nil {
			return got
		}
	}
	return want
}
