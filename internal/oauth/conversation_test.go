package oauth_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/store"
	"github.com/writ-project/writ/internal/svidtest"
)

// step is one request and its answer, as testdata/README.md describes them.
type step struct {
	title  string
	lines  []string // of the request, the first one names the route
	status int
	header map[string]string
	want   map[string]any
	keep   map[string]string
	lacks  []string
	says   []string
	only   bool // the answer has nothing but what is wanted
}

// talk is a conversation while it is held.
type talk struct {
	*world

	kept    map[string]string
	keys    map[string]key // of DPoP, by name
	secrets []string       // that no log line may hold
	policy  []string       // ids of policies, which no client is told of
	calls   int
}

func TestConversations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	check(t, err)
	if len(files) == 0 {
		t.Fatal("no conversations")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			hold(t, file)
		})
	}
}

func hold(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	check(t, err)
	if len(archive.Comment) == 0 || len(archive.Files) == 0 {
		t.Fatal("a conversation says what it shows, and has steps")
	}
	k := &talk{world: newWorld(t, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)), kept: map[string]string{}, keys: map[string]key{}}
	k.kept["url"], k.kept["issuer"] = k.url, k.issuer
	for path, content := range site(t, k.issuer) {
		if strings.HasSuffix(path, ".cedar") {
			for _, match := range regexp.MustCompile(`@id\("([^"]+)"\)`).FindAllSubmatch(content, -1) {
				k.policy = append(k.policy, string(match[1]))
			}
		}
	}
	k.tell(t)
	for i, f := range archive.Files {
		s, err := parseStep(f)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if !t.Run(fmt.Sprintf("%02d %s", i+1, s.title), func(t *testing.T) { k.take(t, s) }) {
			t.FailNow()
		}
	}
	logs := k.logs.String()
	for _, secret := range k.secrets {
		if strings.Contains(logs, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if got := strings.Count(logs, `"msg":"request"`); got != k.calls {
		t.Errorf("%d log lines for %d requests", got, k.calls)
	}
}

// tell has the order system say that there is an order.
func (k *talk) tell(t *testing.T) {
	t.Helper()
	k.take(t, &step{lines: []string{"POST /v1/facts", "as: bearer order-system", `{"facts": [{"id": "Order::\"o-1\"", "attributes": {"status": "delivered", "total": 500}}]}`}, status: 200})
}

func parseStep(f txtar.File) (*step, error) {
	s := &step{title: f.Name, header: map[string]string{}, keep: map[string]string{}}
	request, answer, ok := strings.Cut(strings.TrimSpace(string(f.Data)), "\n\n")
	if !ok {
		return nil, fmt.Errorf("no answer after an empty line")
	}
	for line := range strings.Lines(request) {
		if strings.HasPrefix(line, "  ") { // goes on
			s.lines[len(s.lines)-1] += " " + strings.TrimSpace(line)
			continue
		}
		s.lines = append(s.lines, strings.TrimSpace(line))
	}
	var text string
	for i, line := range strings.Split(answer, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		var err error
		switch {
		case i == 0:
			s.status, err = strconv.Atoi(line)
		case name == "keep":
			as, path, _ := strings.Cut(value, " = ")
			s.keep[as] = path
		case name == "lacks":
			s.lacks = append(s.lacks, strings.Fields(value)...)
		case name == "says":
			s.says = append(s.says, value)
		case line == "nothing else":
			s.only = true
		case regexp.MustCompile(`^[A-Z][A-Za-z-]+: `).MatchString(line):
			s.header[name] = value
		default:
			text += line + "\n"
		}
		if err != nil {
			return nil, err
		}
	}
	if text == "" {
		return s, nil
	}
	return s, json.Unmarshal([]byte(text), &s.want)
}

// pending is a request while it is put together.
type pending struct {
	method, path string
	form         url.Values
	header       http.Header
	raw          []byte
	client       string // the SVID that is shown
	bearer       string
	proof        string // the key of a DPoP proof
}

func (k *talk) take(t *testing.T, s *step) {
	t.Helper()
	p := k.read(t, s)
	if p == nil {
		return
	}
	oauth := p.path == "/oauth/token"
	var before census
	if oauth {
		before = k.count(t)
	}
	status, header, body := k.send(t, p)
	if status != s.status {
		t.Fatalf("%s %s: %d, want %d\n%s", p.method, p.path, status, s.status, body)
	}
	k.doc.checkAnswer(t, p.path, status, header.Get("Content-Type"), body)
	var got map[string]any
	if len(body) > 0 {
		check(t, json.Unmarshal(body, &got))
	}
	k.compare(t, s, header, got, body)
	if oauth && status != http.StatusOK {
		k.refused(t, got, before)
	}
	for _, policy := range k.policy {
		if strings.Contains(string(body), policy) && !strings.HasPrefix(p.path, "/v1/") {
			t.Errorf("a client is told of the policy %s\n%s", policy, body)
		}
	}
}

func (k *talk) compare(t *testing.T, s *step, header http.Header, got map[string]any, body []byte) {
	t.Helper()
	want, _ := k.fillAll(s.want).(map[string]any)
	for _, difference := range subset("", want, got) {
		t.Errorf("%s\n%s", difference, body)
	}
	if s.only && len(got) != len(want) {
		t.Errorf("the answer holds more\n%s", body)
	}
	for name, value := range s.header {
		if header.Get(name) != k.fill(value) {
			t.Errorf("%s: %q, want %q", name, header.Get(name), k.fill(value))
		}
	}
	for _, path := range s.lacks {
		if _, ok := find(got, path); ok {
			t.Errorf("%s is in the answer\n%s", path, body)
		}
	}
	for _, text := range s.says {
		if !strings.Contains(string(body), k.fill(text)) {
			t.Errorf("the answer does not say %q\n%s", text, body)
		}
	}
	for name, path := range s.keep {
		value, ok := find(got, path)
		if !ok {
			t.Fatalf("no %s to keep\n%s", path, body)
		}
		k.kept[name] = fmt.Sprint(value)
	}
	if header.Get("Cache-Control") != "no-store" && !strings.HasPrefix(s.lines[0], "GET /.well-known") {
		t.Errorf("Cache-Control: %q", header.Get("Cache-Control"))
	}
	if token, _ := got["access_token"].(string); strings.Contains(token, ".") {
		k.secrets = append(k.secrets, token)
	}
}

// read takes the lines of a request; nil if they only prepare for others.
func (k *talk) read(t *testing.T, s *step) *pending {
	t.Helper()
	p := &pending{form: url.Values{}, header: http.Header{}}
	p.method, p.path, _ = strings.Cut(k.fill(s.lines[0]), " ")
	for _, line := range s.lines[1:] {
		if name, rest, ok := strings.Cut(line, ": "); ok && regexp.MustCompile(`^[a-z]+$`).MatchString(name) {
			k.direct(t, p, name, k.fill(rest))
			continue
		}
		line = k.fill(line)
		name, value, isParameter := strings.Cut(line, " = ")
		header, content, isHeader := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, "{"):
			p.raw = []byte(line)
			p.header.Set("Content-Type", "application/json")
		case isParameter && regexp.MustCompile(`^[a-z_]+$`).MatchString(name):
			p.form.Add(name, value)
		case isHeader:
			p.header.Set(header, content)
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return p
}

// direct does what a line says that is neither parameter nor header.
func (k *talk) direct(t *testing.T, p *pending, name, rest string) {
	t.Helper()
	what, who, _ := strings.Cut(rest, " ")
	switch name + " " + what {
	case "as nobody":
	case "as bearer":
		p.bearer = k.oidc(t, map[string]any{"sub": who})
	case "as assertion":
		k.assert(p, "jwt-bearer", k.oidc(t, map[string]any{"sub": who, "aud": k.url}))
	case "as jwtsvid":
		k.assert(p, "jwt-spiffe", k.jwtSVID(t, k.shop, map[string]any{"sub": "spiffe://shop.example/" + who}))
	case "as svid":
		p.client = who
	case "as token":
		p.bearer = who
	default:
		k.prepare(t, p, name, rest)
	}
}

func (k *talk) assert(p *pending, kind, token string) {
	p.form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:"+kind)
	p.form.Set("client_assertion", token)
}

func (k *talk) prepare(t *testing.T, p *pending, name, rest string) {
	t.Helper()
	switch name {
	case "advance":
		d, err := time.ParseDuration(rest)
		check(t, err)
		k.clock.advance(d)
		for done := 1; done > 0; { // what the background does
			done, err = k.app.Control.Sweep(t.Context())
			check(t, err)
		}
	case "dpop":
		p.proof = rest
	case "raw":
		p.raw = []byte(rest)
		p.header.Set("Content-Type", "application/x-www-form-urlencoded")
	case "let":
		as, made, _ := strings.Cut(rest, " = ")
		kind, text, _ := strings.Cut(made, " ")
		k.kept[as] = k.token(t, kind, text)
		k.secrets = append(k.secrets, k.kept[as])
	default:
		t.Fatalf("what is %q?", name)
	}
}

// token makes a token from the claims that a test names.
func (k *talk) token(t *testing.T, kind, text string) string {
	t.Helper()
	var claims map[string]any
	if kind != "altered" {
		check(t, json.Unmarshal([]byte(text), &claims))
	}
	switch kind {
	case "oidc":
		return k.oidc(t, claims)
	case "svid":
		return k.jwtSVID(t, k.shop, claims)
	case "foreign":
		return k.jwtSVID(t, k.other, claims)
	case "altered": // TOKEN CLAIMS: the claims of a token changed, its signature kept
		token, change, _ := strings.Cut(text, " ")
		check(t, json.Unmarshal([]byte(change), &claims))
		parts := strings.Split(token, ".")
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		check(t, err)
		var said map[string]any
		check(t, json.Unmarshal(payload, &said))
		payload, err = json.Marshal(merged(said, claims))
		check(t, err)
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + parts[2]
	default:
		t.Fatalf("no token of kind %q", kind)
		return ""
	}
}

func (k *talk) send(t *testing.T, p *pending) (status int, header http.Header, body []byte) {
	t.Helper()
	content := p.raw
	if len(p.form) > 0 {
		if len(content) > 0 { // what a form cannot say in a second line
			content = append(content, '&')
		}
		content = append(content, p.form.Encode()...)
		if p.header.Get("Content-Type") == "" {
			p.header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), p.method, k.url+p.path, bytes.NewReader(content))
	check(t, err)
	r.Header = p.header
	if p.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+p.bearer)
	}
	if p.proof != "" {
		if _, ok := k.keys[p.proof]; !ok {
			k.keys[p.proof] = newKey(t, "")
		}
		r.Header.Set("DPoP", k.keys[p.proof].proof(t, k.clock.now(), p.method, k.url+p.path, p.bearer))
	}
	for _, name := range []string{"client_assertion", "subject_token", "actor_token", "token"} {
		if value := p.form.Get(name); strings.Contains(value, ".") {
			k.secrets = append(k.secrets, value)
		}
	}
	answer, err := k.client(t, p.client).Do(r)
	check(t, err)
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	check(t, err)
	k.calls++
	return answer.StatusCode, answer.Header, body
}

// census is how many grants there are, how many tasks, and how many of those are open.
type census struct{ grants, tasks, open int }

func (k *talk) count(t *testing.T) (c census) {
	t.Helper()
	check(t, k.app.Store().Read(t.Context(), func(v *store.View) error {
		for _, agent := range []string{"support-bot", "alice-bot", "pay-bot", "mesh-bot", "bob-bot", "report-bot"} {
			tasks, err := v.Tasks(access.Ref{Type: "Agent", ID: agent}, 1000)
			if err != nil {
				return err
			}
			for i := range tasks {
				grants, err := v.GrantsOfTask(tasks[i].ID)
				if err != nil {
					return err
				}
				c.grants += len(grants)
				c.tasks++
				if tasks[i].Status == access.TaskOpen {
					c.open++
				}
			}
		}
		return nil
	}))
	return c
}

// refused holds of every refusal of the token endpoint: it is typed and says what to do next, a decision behind it is on record, and
// nothing is left of what was asked: no grant, and no task but one that waits for people.
func (k *talk) refused(t *testing.T, got map[string]any, before census) {
	t.Helper()
	code, _ := got["error"].(string)
	if said, isProblem := got["type"].(string); isProblem && strings.HasPrefix(said, "urn:writ:error:") {
		return // by the server that carries the endpoint
	}
	description, _ := got["error_description"].(string)
	if code == "" || got["code"] == nil || !regexp.MustCompile(`^[\x20\x21\x23-\x5B\x5D-\x7E]+$`).MatchString(description) {
		t.Errorf("not an error of RFC 6749: %v", got)
	}
	after := k.count(t)
	if after.grants != before.grants || after.open != before.open && code != "approval_required" {
		t.Errorf("something is left: %+v before, %+v after", before, after)
	}
	if after.tasks != before.tasks && got["code"] == "invalid_argument" {
		t.Errorf("a task was opened for what could never be right: %v", got)
	}
	id, decided := got["decision"].(string)
	if !decided {
		return
	}
	index, ok := find(got, "evidence.index")
	if !ok {
		t.Fatalf("a decision without evidence: %v", got)
	}
	number, _ := index.(float64)
	raw, err := k.app.Store().Entry(t.Context(), int64(number))
	check(t, err)
	var entry struct {
		Data struct {
			ID      string `json:"id"`
			Outcome string `json:"outcome"`
			Code    string `json:"code"`
		} `json:"data"`
	}
	check(t, json.Unmarshal(raw, &entry))
	if entry.Data.ID != id || entry.Data.Outcome == "allow" || entry.Data.Outcome == "deny" && entry.Data.Code != got["code"] {
		t.Errorf("the entry is %s\nfor %v", raw, got)
	}
}

var hole = regexp.MustCompile(`\$\{([^}]+)\}`)

func (k *talk) fill(text string) string {
	return hole.ReplaceAllStringFunc(text, func(match string) string {
		name := match[2 : len(match)-1]
		switch kind, who, _ := strings.Cut(name, " "); kind {
		case "x5t":
			return svidtest.Thumbprint(k.svids[who])
		case "jkt":
			public := k.keys[who].public("")
			sum, err := public.Thumbprint(crypto.SHA256)
			if err != nil {
				return match
			}
			return base64.RawURLEncoding.EncodeToString(sum)
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
		for name, one := range v {
			out[name] = k.fillAll(one)
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

// subset names what of want is not in got; null says that there is nothing of the name.
func subset(path string, want, got any) (out []string) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok && len(w) > 0 {
			return []string{path + " is no object"}
		}
		for name, one := range w {
			out = append(out, subset(path+"."+name, one, g[name])...)
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return []string{fmt.Sprintf("%s has not %d items", path, len(w))}
		}
		for i := range w {
			out = append(out, subset(path+"."+strconv.Itoa(i), w[i], g[i])...)
		}
		return out
	default:
		if fmt.Sprint(want) != fmt.Sprint(got) {
			return []string{fmt.Sprintf("%s is %v, want %v", path, got, want)}
		}
		return nil
	}
}

// find follows a path such as authorization_details.0.grant.
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
