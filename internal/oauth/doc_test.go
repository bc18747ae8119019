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

	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/demo"
	"github.com/writ-project/writ/internal/svidtest"
)

// reader does what docs/oauth.md says, and nothing else.
type reader struct {
	folder string
	env    []string
	set    string         // commands without an answer so far: they set what later ones use
	answer map[string]any // the last one
}

// TestTheCommandsOfThePageWork runs each command of docs/oauth.md, in order: on the demo, and on an installation that is configured as
// the page shows. What follows a command is the answer, abridged; "…" is whatever is there.
func TestTheCommandsOfThePageWork(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/oauth.md")
	check(t, err)
	page := string(text)
	w := newConfigured(t, page)
	r := &reader{folder: t.TempDir(), env: []string{
		"PATH=" + os.Getenv("PATH"), "CURL_CA_BUNDLE=" + w.certificate, "WRIT=" + w.url,
		"ASSERTION=" + w.oidc(t, map[string]any{"sub": "support-bot", "aud": w.url}),
		"BOBS=" + w.oidc(t, map[string]any{"sub": "bob", "aud": forPeople}),
		"SVID=" + w.jwtSVID(t, w.shop, map[string]any{"sub": "spiffe://shop.example/support-bot"}),
	}}
	check(t, svidtest.Write(w.shop.svid(t, "support-bot", w.clock.now()), filepath.Join(r.folder, "svid.0.pem"), filepath.Join(r.folder, "svid.0.key")))
	r.set = runDemo(t)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n(?:```json\n(.*?)```)?").FindAllStringSubmatch(page, -1)
	answers := 0
	for _, block := range blocks {
		if block[2] == "" {
			r.sets(t, block[1])
			continue
		}
		answers++
		r.runs(t, block[1], block[2])
	}
	if answers < 14 || answers != strings.Count(page, "```json") || len(blocks) != strings.Count(page, "```sh") {
		t.Errorf("%d commands, %d with answers", len(blocks), answers)
	}
}

// sets keeps what a command without an answer sets. "NAME=…  # path" is a value of the last answer.
func (r *reader) sets(t *testing.T, command string) {
	t.Helper()
	r.set += regexp.MustCompile(`(?m)^(\w+)=…  # (\S+)$`).ReplaceAllStringFunc(command, func(line string) string {
		name, path, _ := strings.Cut(line, "=…  # ")
		value, _ := find(r.answer, path)
		id, ok := value.(string)
		if !ok || strings.ContainsAny(id, "' ") {
			t.Fatalf("%s: %v", line, value)
		}
		return name + "='" + id + "'"
	})
}

// runs holds the answer of a command against what the page shows.
func (r *reader) runs(t *testing.T, text, shown string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-euc", r.set+text)
	command.Dir, command.Env, command.Stderr = r.folder, r.env, t.Output()
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	var want map[string]any
	r.answer = nil
	check(t, json.Unmarshal([]byte(shown), &want))
	if err := json.Unmarshal(out, &r.answer); err != nil {
		t.Fatalf("%s\n%s: %v", text, out, err)
	}
	for _, difference := range subset("", whatever(want, r.answer), r.answer) {
		t.Errorf("%s\n%s\n%s", text, difference, out)
	}
}

// runDemo is `writ demo` until the end of the test; it returns the two lines that it tells its reader to paste.
func runDemo(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	told, ended := make(chan string, 1), make(chan error, 1)
	out := &listener{told: told}
	go func() {
		ended <- demo.Run(ctx, demo.Options{Out: out, In: strings.NewReader("y\n"), Listen: "127.0.0.1:0", Folder: t.TempDir()})
	}()
	t.Cleanup(func() {
		stop()
		if ended != nil {
			check(t, <-ended)
		}
	})
	select {
	case lines := <-told:
		return lines
	case err := <-ended:
		ended = nil
		t.Fatalf("the demo ended: %v\n%s", err, out.String())
		return ""
	}
}

// listener waits for the two lines.
type listener struct {
	buffer

	told chan string
	once bool
}

func (l *listener) Write(p []byte) (int, error) {
	n, err := l.buffer.Write(p)
	lines := regexp.MustCompile(`(?m)^ *(export WRIT_SERVER=\S+\n) *(export WRIT_TOKEN_FILE=\S+) .*\n`).FindStringSubmatch(l.String())
	if lines != nil && !l.once {
		l.once = true
		l.told <- lines[1] + lines[2] + "\n"
	}
	return n, err
}

// newConfigured is an installation of the starter folder with the configuration and the matches that the page shows.
func newConfigured(t *testing.T, page string) *world {
	t.Helper()
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of YAML", len(blocks))
	}
	w := start(t, time.Now().Truncate(time.Second), func(w *world, listen string) app.Config { // curl looks at certificates by the true time
		files, err := starter.Site(w.issuer)
		check(t, err)
		match := strings.ReplaceAll(blocks[1][1], starter.Issuer, w.issuer)
		agents := string(files["catalog/agents.yaml"])
		known := "    match: [{issuer: " + w.issuer + ", subject: support-bot}]\n"
		if !strings.Contains(agents, known) {
			t.Fatal(agents)
		}
		files["catalog/agents.yaml"] = []byte(strings.Replace(agents, known, match, 1))
		folder := w.install(t, files)
		shown := strings.NewReplacer("https://writ.example.com", w.url, starter.Issuer, w.issuer).Replace(blocks[0][1])
		path := filepath.Join(folder, "writ.yaml")
		check(t, os.WriteFile(path, []byte("listen: "+listen+"\nsite: .\nlog: {key: data/log.key, verifier_key: data/log.pub}\ntokens: {keys: [data/token.key]}\n"+shown), 0o600))
		config, err := app.LoadConfig(path)
		check(t, err)
		config.Issuers[0].JWKS = w.issuer + "/keys" // this provider of the test's has no discovery
		return config
	})
	k := &talk{world: w}
	k.tell(t)
	return w
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
