package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/store"
)

// conversation is one of those in testdata: a fresh installation, and what is said to it and answered.
type conversation struct {
	Name     string   `yaml:"name"`
	Settings settings `yaml:"settings"`
	Steps    []step   `yaml:"steps"`
}

// step is one request, or something that happens besides.
type step struct {
	Note      string            `yaml:"note"`
	Advance   time.Duration     `yaml:"advance"` // the clock
	Sweep     bool              `yaml:"sweep"`   // the background loop runs
	Store     string            `yaml:"store"`   // fine, broken, panics or hangs from here on
	Health    string            `yaml:"health"`  // good or bad from here on
	As        string            `yaml:"as"`      // who calls; empty: nobody
	Prune     string            `yaml:"prune"`   // the entry at this index is pruned before
	Token     string            `yaml:"token"`   // a bad one: see badToken
	Get       string            `yaml:"GET"`
	Post      string            `yaml:"POST"`
	Head      string            `yaml:"HEAD"`
	Other     string            `yaml:"other"` // METHOD path
	Headers   map[string]string `yaml:"headers"`
	Body      any               `yaml:"body"`
	Raw       *string           `yaml:"raw"`  // instead of body
	Site      map[string]string `yaml:"site"` // body: the site with these files replaced (null: as it is)
	DryRun    bool              `yaml:"dry_run"`
	Approvals map[string]string `yaml:"approvals"`
	Want      int               `yaml:"want"`
	Has       any               `yaml:"has"`   // subset of the answer
	Lacks     []string          `yaml:"lacks"` // paths that must not be in it
	Says      string            `yaml:"says"`  // text in the answer
	Header    map[string]string `yaml:"header"`
	Keep      map[string]string `yaml:"keep"` // name → path of the answer
}

// talk is a conversation while it is held.
type talk struct {
	*world

	doc     *document
	kept    map[string]string
	secrets []string // that no log line may hold
	policy  []string // ids of policies, that no agent may see
	called  map[string]bool
	lines   int
	ids     map[string]bool
}

func TestConversations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	check(t, err)
	var mu sync.Mutex
	called := map[string]bool{}
	t.Run("all", func(t *testing.T) {
		for _, file := range files {
			for _, c := range readConversations(t, file) {
				t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml")+"/"+c.Name, func(t *testing.T) {
					t.Parallel()
					for operation := range c.hold(t) {
						mu.Lock()
						called[operation] = true
						mu.Unlock()
					}
				})
			}
		}
	})
	for operation, id := range newDocument(t).operations(t) {
		if !called[id] && !ofGuests()[operation] {
			t.Errorf("no conversation calls %s", operation)
		}
	}
}

func readConversations(t *testing.T, file string) []conversation {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var out []conversation
	for {
		var c conversation
		err := decoder.Decode(&c)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, c)
	}
}

func (c *conversation) hold(t *testing.T) map[string]bool {
	t.Helper()
	talk := &talk{world: newWorld(t, c.Settings), doc: newDocument(t), kept: map[string]string{}, called: map[string]bool{}, ids: map[string]bool{}}
	for path, content := range talk.site {
		if strings.HasSuffix(path, ".cedar") {
			for _, match := range regexp.MustCompile(`@id\("([^"]+)"\)`).FindAllSubmatch(content, -1) {
				talk.policy = append(talk.policy, string(match[1]))
			}
		}
	}
	for i := range c.Steps {
		if !t.Run(fmt.Sprintf("%02d %s", i+1, c.Steps[i].title()), func(t *testing.T) { talk.take(t, &c.Steps[i]) }) {
			t.FailNow()
		}
	}
	talk.checkLogs(t)
	return talk.called
}

func (s *step) title() string {
	_, _, line := s.line()
	if s.Note != "" {
		return s.Note
	}
	return line
}

func (s *step) line() (method, path, line string) {
	switch {
	case s.Get != "":
		method, path = http.MethodGet, s.Get
	case s.Post != "":
		method, path = http.MethodPost, s.Post
	case s.Head != "":
		method, path = http.MethodHead, s.Head
	default:
		method, path, _ = strings.Cut(s.Other, " ")
	}
	return method, path, method + " " + path
}

var states = map[string]int32{"fine": ledgerFine, "broken": ledgerBroken, "panics": ledgerPanics, "hangs": ledgerHangs}

// prune deletes an entry as a pruning would, though it may be needed.
func (k *talk) prune(text string) {
	k.t.Helper()
	index, err := strconv.ParseInt(text, 10, 64)
	check(k.t, err)
	values, err := k.store.Disclosures(k.t.Context(), index)
	check(k.t, err)
	_, err = k.store.Update(k.t.Context(), func(*store.View) (event.Change, error) {
		return event.Change{Drafts: []event.Draft{{Event: &event.LogPruned{Entries: [][2]int64{{index, index}}, Values: int64(len(values))}}}}, nil
	})
	check(k.t, err)
}

func (k *talk) take(t *testing.T, s *step) {
	t.Helper()
	k.now.advance(s.Advance)
	if s.Store != "" {
		k.ledger.state.Store(states[s.Store])
	}
	if s.Health != "" {
		k.healthy.Store(s.Health == "good")
	}
	if s.Sweep {
		_, err := k.control.Sweep(t.Context())
		check(t, err)
		check(t, k.control.RecordStrangers(t.Context()))
	}
	if s.Prune != "" {
		k.prune(k.fill(s.Prune))
	}
	method, path, _ := s.line()
	if method == "" {
		return
	}
	answer := k.send(t, s, method, k.fill(path))
	body := answer.body
	if answer.status != s.Want {
		t.Fatalf("%s %s: %d, want %d\n%s", method, path, answer.status, s.Want, body)
	}
	k.checkAnswer(t, s, answer)
	if method == http.MethodHead {
		return
	}
	var value any
	if strings.Contains(answer.header.Get("Content-Type"), "json") {
		check(t, json.Unmarshal(body, &value))
	}
	if s.Has != nil {
		for _, difference := range subset("", k.fillAll(s.Has), value) {
			t.Errorf("%s\n%s", difference, body)
		}
	}
	for _, path := range s.Lacks {
		if _, ok := find(value, path); ok {
			t.Errorf("%s is in the answer\n%s", path, body)
		}
	}
	if !strings.Contains(string(body), k.fill(s.Says)) {
		t.Errorf("the answer does not say %q\n%s", k.fill(s.Says), body)
	}
	for name, path := range s.Keep {
		found, ok := find(value, path)
		if !ok {
			t.Fatalf("no %s to keep\n%s", path, body)
		}
		k.kept[name] = text(found)
	}
	if token, ok := find(value, "credential.token"); ok {
		k.secrets = append(k.secrets, text(token))
	}
}

// received is an answer that has been read.
type received struct {
	method, path string
	status       int
	header       http.Header
	body         []byte
}

// send makes the request of a step.
func (k *talk) send(t *testing.T, s *step, method, path string) received {
	t.Helper()
	var body []byte
	switch {
	case s.Raw != nil:
		body = []byte(raw(k.fill(*s.Raw)))
	case s.Site != nil:
		body = k.siteBody(t, s)
	case s.Body != nil:
		var err error
		body, err = json.Marshal(k.fillAll(s.Body))
		check(t, err)
	}
	if purpose, ok := find(s.Body, "purpose"); ok && len(text(purpose)) > 8 {
		k.secrets = append(k.secrets, text(purpose))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, k.url+path, bytes.NewReader(body))
	check(t, err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	token := k.badToken(t, s.Token)
	if s.As != "" {
		token = k.token(s.As)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
		k.secrets = append(k.secrets, token)
	}
	for name, value := range s.Headers {
		request.Header.Set(name, k.fill(value))
	}
	answer, err := http.DefaultClient.Do(request)
	check(t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	check(t, err)
	k.lines++
	return received{method, answer.Request.URL.Path, answer.StatusCode, answer.Header, content}
}

// raw lets a case hold what YAML cannot: repetitions, as {{1000 x}}, and bytes, as {{hex ff}}.
func raw(text string) string {
	return regexp.MustCompile(`\{\{(\w+) ([^}]+)\}\}`).ReplaceAllStringFunc(text, func(match string) string {
		parts := regexp.MustCompile(`\{\{(\w+) ([^}]+)\}\}`).FindStringSubmatch(match)
		if parts[1] == "hex" {
			n, _ := strconv.ParseUint(parts[2], 16, 8)
			return string([]byte{byte(n)})
		}
		n, _ := strconv.Atoi(parts[1])
		return strings.Repeat(parts[2], n)
	})
}

func (k *talk) siteBody(t *testing.T, s *step) []byte {
	t.Helper()
	files := map[string]string{}
	for path, content := range k.site {
		files[path] = string(content)
	}
	for path, content := range s.Site {
		files[path] = k.fill(content)
	}
	approvals := map[string]string{}
	for act, id := range s.Approvals {
		approvals[act] = k.fill(id)
	}
	body, err := json.Marshal(map[string]any{"files": files, "dry_run": s.DryRun, "approvals": approvals})
	check(t, err)
	return body
}

// badToken makes a token that must be refused.
func (k *talk) badToken(t *testing.T, kind string) string {
	t.Helper()
	good := k.token("support-bot")
	parts := strings.Split(good, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	switch kind {
	case "":
		return ""
	case "expired":
		token, err := k.idp.Token("support-bot", audience, time.Second, nil)
		check(t, err)
		k.now.advance(2 * time.Second)
		return token
	case "not yet valid":
		k.now.advance(10 * time.Minute)
		token := k.token("support-bot")
		k.now.advance(-10 * time.Minute)
		return token
	case "other audience":
		token, err := k.idp.Token("support-bot", "somebody-else", time.Hour, nil)
		check(t, err)
		return token
	case "other issuer":
		token, err := k.stray.Token("support-bot", audience, time.Hour, nil)
		check(t, err)
		return token
	case "unknown key":
		return strings.Join([]string{encode(`{"alg":"ES256","kid":"nobody","typ":"JWT"}`), parts[1], parts[2]}, ".")
	case "alg none":
		return encode(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2]
	case "unsigned":
		return encode(`{"alg":"none"}`) + "." + parts[1] + "."
	case "hmac":
		return encode(`{"alg":"HS256"}`) + "." + parts[1] + "." + parts[2]
	case "changed":
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		check(t, err)
		return parts[0] + "." + encode(strings.Replace(string(payload), "support-bot", "sam", 1)) + "." + parts[2]
	case "garbage":
		return "not-a-token"
	default:
		t.Fatalf("no token of kind %q", kind)
		return ""
	}
}

// checkAnswer holds of every answer: it fits the document, and tells no agent about policies.
func (k *talk) checkAnswer(t *testing.T, s *step, answer received) {
	t.Helper()
	h, body := answer.header, answer.body
	for name, want := range s.Header {
		if got := h.Get(name); got != k.fill(want) {
			t.Errorf("header %s is %q, want %q", name, got, k.fill(want))
		}
	}
	id := h.Get("X-Request-ID")
	if id == "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") == "" || h.Get("Cache-Control") == "" {
		t.Errorf("headers are missing: %v", h)
	}
	k.ids[id] = true
	if answer.status == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "" {
		t.Error("401 without WWW-Authenticate")
	}
	if (answer.status == http.StatusTooManyRequests || answer.status == http.StatusServiceUnavailable) && h.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if strings.Contains(string(body), `"credential":{"type"`) && h.Get("Cache-Control") != "no-store" {
		t.Error("a credential that may be stored")
	}
	if answer.method != http.MethodHead {
		operation := k.doc.checkAnswer(t, answer.method, answer.path, answer.status, h.Get("Content-Type"), body)
		k.called[operation] = true
	}
	human := []string{"dana", "alice", "bob", "sam"}
	if slices.Contains(human, s.As) || strings.HasPrefix(answer.path, "/openapi") {
		return
	}
	for _, policy := range k.policy {
		if strings.Contains(string(body), policy) {
			t.Errorf("an agent is told of the policy %s\n%s", policy, body)
		}
	}
}

// checkLogs holds of every conversation: one line for each request, with its id and nothing secret.
func (k *talk) checkLogs(t *testing.T) {
	t.Helper()
	k.server.Close() // what is being served has written its line
	logs := k.logs.String()
	for _, secret := range append(k.secrets, "secret-in-a-panic") {
		if strings.Contains(logs, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	lines := 0
	for line := range strings.Lines(logs) {
		var entry struct {
			Message string `json:"msg"`
			ID      string `json:"request_id"`
			Route   string `json:"route"`
			Status  int    `json:"status"`
		}
		check(t, json.Unmarshal([]byte(line), &entry))
		if entry.Message != "request" {
			continue
		}
		lines++
		if !k.ids[entry.ID] || entry.Route == "" || entry.Status == 0 {
			t.Errorf("an odd log line: %s", line)
		}
	}
	if lines != k.lines {
		t.Errorf("%d log lines for %d requests", lines, k.lines)
	}
}

// fill puts in what was kept, and times relative to now: ${now}, ${now-20m}.
func (k *talk) fill(text string) string {
	return regexp.MustCompile(`\$\{([^}]+)\}`).ReplaceAllStringFunc(text, func(match string) string {
		name := match[2 : len(match)-1]
		if rest, ok := strings.CutPrefix(name, "now"); ok {
			d := time.Duration(0)
			if rest != "" {
				d, _ = time.ParseDuration(rest)
			}
			return k.now.now().Add(d).Format(time.RFC3339)
		}
		switch name {
		case "issuer":
			return k.idp.URL()
		case "url":
			return k.url
		}
		if subject, ok := strings.CutPrefix(name, "token of "); ok {
			token := k.token(subject)
			k.secrets = append(k.secrets, token)
			return token
		}
		if value, ok := k.kept[name]; ok {
			return value
		}
		return match
	})
}

func (k *talk) fillAll(value any) any {
	switch v := value.(type) {
	case string:
		return k.fill(v)
	case map[string]any:
		out := map[string]any{}
		for key, one := range v {
			out[key] = k.fillAll(one)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = k.fillAll(v[i])
		}
		return out
	default:
		return v
	}
}

// subset names what of want is not in got.
func subset(path string, want, got any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{path + " is no object"}
		}
		var out []string
		for key, one := range w {
			out = append(out, subset(path+"."+key, one, g[key])...)
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return []string{fmt.Sprintf("%s has not %d items", path, len(w))}
		}
		var out []string
		for i := range w {
			out = append(out, subset(path+"."+strconv.Itoa(i), w[i], g[i])...)
		}
		return out
	default:
		if text(want) != text(got) {
			return []string{fmt.Sprintf("%s is %s, want %s", path, text(got), text(want))}
		}
		return nil
	}
}

func text(value any) string {
	if number, ok := value.(float64); ok {
		return strconv.FormatFloat(number, 'f', -1, 64)
	}
	return fmt.Sprint(value)
}

// find follows a path such as grants.0.id.
func find(value any, path string) (any, bool) {
	for part := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[part]
			if !ok {
				return nil, false
			}
			value = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}
