package witness_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/witness"
)

func (w *testWitness) peer() witness.Peer { return witness.Peer{URL: w.url, Key: w.key} }

func newClient(tb testing.TB, l *testLog, peers ...witness.Peer) *witness.Client {
	tb.Helper()
	return must(witness.NewClient(witness.ClientOptions{LogKeys: []string{l.vkey}, Witnesses: peers}))(tb)
}

// transport answers in the place of a witness.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// response is what the transport answers with.
func (r response) http() *http.Response {
	recorder := httptest.NewRecorder()
	recorder.Header().Set("Content-Type", r.content)
	if r.status == http.StatusTemporaryRedirect {
		recorder.Header().Set("Location", "https://elsewhere.example/")
	}
	recorder.WriteHeader(r.status)
	_, _ = recorder.WriteString(r.body)
	return recorder.Result()
}

func TestAskGrowingLog(t *testing.T) {
	l := newLog(t, origin, "true")
	first, second := newWitness(t, l.vkey), newNamedWitness(t, "w.example/2", l.vkey)
	client := newClient(t, l, first.peer(), second.peer())
	policy := must(evidence.NewCosignaturePolicy(2, first.key, second.key))(t)
	for _, size := range []int64{1, 2, 2, 300} {
		signed := l.head(size)
		asked, err := client.Ask(t.Context(), signed, l.prove)
		if err := errors.Join(err, asked.Err()); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		c, found, err := policy.Check(asked.Checkpoint, l.vkey)
		if err != nil || c != l.checkpoint(size) || len(found) != 2 {
			t.Errorf("size %d: %v, %v, %v", size, c, found, err)
		}
		if !bytes.HasPrefix(asked.Checkpoint, signed) {
			t.Errorf("size %d: what the log signed is not the beginning of\n%s", size, asked.Checkpoint)
		}
	}

	// One is away: the other's cosignature counts, and what both said before is kept.
	before := must(client.Ask(t.Context(), l.head(300), l.prove))(t)
	away := first.peer()
	away.URL = "http://127.0.0.1:1"
	client = newClient(t, l, away, second.peer())
	asked, err := client.Ask(t.Context(), before.Checkpoint, l.prove)
	if err != nil || asked.Answers[0].Err == nil || asked.Answers[1].Err != nil || asked.Answers[1].Witness != "w.example/2" {
		t.Errorf("%v, %v", err, asked.Answers)
	}
	if _, found, err := policy.Check(asked.Checkpoint, l.vkey); err != nil || len(found) != 2 {
		t.Errorf("%v, %v", found, err)
	}
	asked = must(client.Ask(t.Context(), l.head(301), l.prove))(t)
	if _, found, err := policy.Check(asked.Checkpoint, l.vkey); !errors.Is(err, evidence.ErrUnwitnessed) || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
}

// After the first call there is one request a call: the client knows what the witness has seen.
func TestTheClientRemembersWhatAWitnessHasSeen(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 2)
	requests := 0
	client := must(witness.NewClient(witness.ClientOptions{
		LogKeys: []string{l.vkey}, Witnesses: []witness.Peer{w.peer()},
		Transport: transport(func(r *http.Request) (*http.Response, error) { requests++; return http.DefaultTransport.RoundTrip(r) }),
	}))(t)
	for _, x := range []struct {
		size int64
		want int // requests in all
	}{{3, 2}, {4, 3}, {4, 4}, {9, 5}} {
		asked, err := client.Ask(t.Context(), l.head(x.size), l.prove)
		if err := errors.Join(err, asked.Err()); err != nil || requests != x.want {
			t.Errorf("size %d: %d requests, want %d, %v", x.size, requests, x.want, err)
		}
	}
}

func TestAskOutsideOrder(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	client := newClient(t, l, w.peer())
	for _, size := range []int64{8, 5} {
		asked := must(client.Ask(t.Context(), l.head(size), l.prove))(t)
		if (size == 5) != errors.Is(asked.Err(), witness.ErrSawNewer) {
			t.Errorf("size %d: %v", size, asked.Err())
		}
	}
	if asked := must(client.Ask(t.Context(), l.head(9), l.prove))(t); asked.Err() != nil {
		t.Error(asked.Err())
	}
}

// The alarms are told apart from each other and from all other trouble.
func TestAlarms(t *testing.T) {
	l, fork := newLog(t, origin, "true"), newLog(t, origin, "false")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 10)
	for name, x := range map[string]struct {
		log  *testLog
		size int64
		is   error
	}{
		"an older backup":         {l, 9, witness.ErrSawNewer},
		"an empty log":            {l, 0, witness.ErrSawNewer},
		"a fork of the same size": {fork, 10, witness.ErrInconsistent},
		"a fork that is larger":   {fork, 11, witness.ErrInconsistent},
		"a fork that is smaller":  {fork, 9, witness.ErrSawNewer},
	} {
		asked, err := newClient(t, l, w.peer()).Ask(t.Context(), x.log.head(x.size), x.log.prove)
		if err != nil || !errors.Is(asked.Err(), x.is) || !bytes.Equal(asked.Checkpoint, x.log.head(x.size)) {
			t.Errorf("%s: %v, %v", name, err, asked.Err())
		}
	}
}

// What a witness may answer, and what the client makes of it.
func TestAnswers(t *testing.T) {
	l := newLog(t, origin, "true")
	cosigner := newCosigner(t, "w.example/1", 1)
	stranger := newCosigner(t, "w.example/2", 2)
	good := string(must(cosigner.Cosign(l.checkpoint(5), noon()))(t))
	smaller := string(must(cosigner.Cosign(l.checkpoint(4), noon()))(t))
	strange := string(must(stranger.Cosign(l.checkpoint(5), noon()))(t))
	ok := func(body string) []response { return []response{{http.StatusOK, "text/plain", body}} }
	conflict := func(body string) response { return response{http.StatusConflict, "text/x.tlog.size", body} }
	unprocessable := response{http.StatusUnprocessableEntity, "text/plain", "bad"}
	shown := func(note []byte) response { return response{http.StatusOK, "text/plain", string(note)} }
	fork, other := newLog(t, origin, "false"), newLog(t, "other.example/log", "other")
	larger := strings.SplitAfter(string(l.head(6)), "\n\n")[0] + string(must(cosigner.Cosign(l.checkpoint(6), noon()))(t))
	for name, x := range map[string]struct {
		answers []response
		shows   response // where it shows what it has cosigned; no status: nobody asks
		is      error    // nil: see says
		says    string   // nothing: it has cosigned
	}{
		"a cosignature":                   {ok(good), response{}, nil, ""},
		"two lines, one by a stranger":    {ok(strange + good), response{}, nil, ""},
		"after its size":                  {append([]response{conflict("3\n")}, ok(good)...), response{}, nil, ""},
		"after its size, zero":            {append([]response{conflict("0\n")}, ok(good)...), response{}, nil, ""},
		"its size, twice":                 {[]response{conflict("3\n"), conflict("4\n")}, response{}, nil, "size changed"},
		"an unknown log":                  {[]response{{http.StatusNotFound, "text/plain", "no"}}, response{}, nil, "does not know this log"},
		"an unknown key":                  {[]response{{http.StatusForbidden, "text/plain", "no"}}, response{}, nil, "trusts another key"},
		"an error of its own":             {[]response{{http.StatusInternalServerError, "text/plain", "disk"}}, response{}, nil, "disk"},
		"too many requests":               {[]response{{http.StatusTooManyRequests, "text/plain", "slow down"}}, response{}, nil, "429"},
		"a redirect":                      {[]response{{http.StatusTemporaryRedirect, "text/plain", ""}}, response{}, nil, "307"},
		"nothing":                         {ok(""), response{}, nil, "no cosignature"},
		"a page":                          {ok("<html>\n"), response{}, nil, "no cosignature"},
		"a stranger's cosignature":        {ok(strange), response{}, evidence.ErrCosignature, "no cosignature"},
		"a cosignature of something else": {ok(smaller), response{}, evidence.ErrUnverified, "no cosignature"},
		"a text in front":                 {ok("x\n\n" + good), response{}, evidence.ErrUnverified, "no cosignature"},
		"no line end":                     {ok(strings.TrimSuffix(good, "\n")), response{}, evidence.ErrCheckpoint, "no cosignature"},
		"far too much":                    {ok(strings.Repeat("x", 1<<20)), response{}, nil, "more than 65536 bytes"},
		"409 without the type of a size":  {[]response{{http.StatusConflict, "text/plain", "3\n"}}, response{}, nil, "does not speak"},
		"409 without a size":              {[]response{conflict("")}, response{}, nil, "does not speak"},
		"409 without a line end":          {[]response{conflict("3")}, response{}, nil, "does not speak"},
		"409 with a negative size":        {[]response{conflict("-3\n")}, response{}, nil, "does not speak"},
		"409 with two sizes":              {[]response{conflict("3\n3\n")}, response{}, nil, "does not speak"},
		"409 with an endless size":        {[]response{conflict(strings.Repeat("9", 40) + "\n")}, response{}, nil, "does not speak"},

		"a larger size":                    {[]response{conflict("6\n")}, shown(l.head(6)), witness.ErrSawNewer, "size 6"},
		"a size that grew past ours":       {[]response{conflict("3\n"), conflict("6\n")}, shown(l.head(7)), witness.ErrSawNewer, "size 7"},
		"a larger size of another history": {[]response{conflict("6\n")}, shown(fork.head(6)), witness.ErrSawNewer, "size 6"},
		"bad proof":                        {[]response{unprocessable}, shown(fork.head(5)), witness.ErrInconsistent, "fork"},
		"bad proof, after its size":        {[]response{conflict("3\n"), unprocessable}, shown(fork.head(3)), witness.ErrInconsistent, "size 3"},
		"bad proof, and a larger size":     {[]response{unprocessable}, shown(l.head(6)), witness.ErrSawNewer, "size 6"},
		"a larger size, and a fork":        {[]response{conflict("6\n")}, shown(fork.head(4)), witness.ErrInconsistent, "size 4"},
		"a larger size, shown is ours":     {[]response{conflict("6\n")}, shown(l.head(5)), witness.ErrUnproven, "is the beginning of this log"},
		"a larger size, shown is older":    {[]response{conflict("6\n")}, shown(l.head(2)), witness.ErrUnproven, "is the beginning of this log"},
		"a larger size, shown is nothing":  {[]response{conflict("6\n")}, shown(l.head(0)), witness.ErrUnproven, "is the beginning of this log"},
		"a larger size of another key":     {[]response{conflict("6\n")}, shown(other.head(6)), witness.ErrUnproven, "no checkpoint of this log"},
		"a larger size by its word":        {[]response{conflict("6\n")}, shown([]byte(larger)), witness.ErrUnproven, "no checkpoint of this log"},
		"a larger size that it hides":      {[]response{conflict("6\n")}, response{http.StatusNotFound, "text/plain", "no"}, witness.ErrUnproven, "404"},
		"bad proof that it hides":          {[]response{unprocessable}, response{http.StatusNotFound, "text/plain", "no"}, witness.ErrUnproven, "404"},
		"bad proof, shown is ours":         {[]response{unprocessable}, shown(l.head(5)), witness.ErrUnproven, "is the beginning of this log"},
		"a larger size and far too much":   {[]response{conflict("6\n")}, shown(bytes.Repeat([]byte("x"), 1<<20)), witness.ErrUnproven, "more than 65536 bytes"},
	} {
		var requests []string
		client := must(witness.NewClient(witness.ClientOptions{
			LogKeys: []string{l.vkey}, Witnesses: []witness.Peer{{URL: "https://w.example/prefix/", Monitor: "https://w.example/monitor", Key: cosigner.VerifierKey()}},
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				if url := fmt.Sprintf("https://w.example/monitor/%x/checkpoint", sha256.Sum256([]byte(origin))); r.Method == http.MethodGet && r.URL.String() == url && x.shows.status != 0 {
					return x.shows.http(), nil
				}
				requests = append(requests, string(must(io.ReadAll(r.Body))(t)))
				if r.Method != http.MethodPost || r.URL.String() != "https://w.example/prefix/add-checkpoint" || len(requests) > len(x.answers) {
					return nil, fmt.Errorf("request %d is %s %s", len(requests), r.Method, r.URL)
				}
				return x.answers[len(requests)-1].http(), nil
			}),
		}))(t)
		asked, err := client.Ask(t.Context(), l.head(5), l.prove)
		if err != nil {
			t.Fatal(err)
		}
		if len(requests) != len(x.answers) || requests[0] != l.body(0, 5) {
			t.Errorf("%s: asked %d times, first with\n%s", name, len(requests), requests[0])
		}
		said := asked.Err()
		if x.says == "" {
			if want := string(l.head(5)) + good; said != nil || string(asked.Checkpoint) != want {
				t.Errorf("%s: %v\n%s", name, said, asked.Checkpoint)
			}
			continue
		}
		alarm := errors.Is(said, witness.ErrSawNewer) || errors.Is(said, witness.ErrInconsistent)
		mustAlarm := errors.Is(x.is, witness.ErrSawNewer) || errors.Is(x.is, witness.ErrInconsistent)
		if said == nil || !strings.Contains(said.Error(), x.says) || x.is != nil && !errors.Is(said, x.is) || alarm != mustAlarm {
			t.Errorf("%s: %v, want %v", name, said, x.is)
		}
		if !bytes.Equal(asked.Checkpoint, l.head(5)) {
			t.Errorf("%s: the checkpoint is\n%s", name, asked.Checkpoint)
		}
	}
}

func newCosigner(tb testing.TB, name string, seed byte) *evidence.Cosigner {
	tb.Helper()
	skey, _, err := evidence.GenerateWitnessKey(name, bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		tb.Fatal(err)
	}
	return must(evidence.NewCosigner(skey))(tb)
}

// A witness that never answers costs the time limit, for all together, and no more.
func TestAskHasATimeLimit(t *testing.T) {
	l := newLog(t, origin, "true")
	head := l.head(5)
	synctest.Test(t, func(t *testing.T) {
		client := must(witness.NewClient(witness.ClientOptions{
			LogKeys: []string{l.vkey}, Timeout: 7 * time.Second, Witnesses: []witness.Peer{
				{URL: "https://1.example", Key: newCosigner(t, "w.example/1", 1).VerifierKey()},
				{URL: "https://2.example", Key: newCosigner(t, "w.example/2", 2).VerifierKey()},
			},
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}),
		}))(t)
		start := time.Now()
		asked, err := client.Ask(t.Context(), head, l.prove)
		if err != nil || !errors.Is(asked.Answers[0].Err, context.DeadlineExceeded) || !errors.Is(asked.Answers[1].Err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", err, asked.Err())
		}
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAskRefuses(t *testing.T) {
	l, stranger := newLog(t, origin, "true"), newLog(t, "stranger.example/log", "strange")
	w := newWitness(t, l.vkey)
	client := newClient(t, l, w.peer())
	for name, x := range map[string]struct {
		signed []byte
		is     error
	}{
		"nothing": {nil, evidence.ErrCheckpoint}, "another log's checkpoint": {stranger.head(5), evidence.ErrUnverified},
	} {
		if asked, err := client.Ask(t.Context(), x.signed, l.prove); !errors.Is(err, x.is) || asked.Checkpoint != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.mustAdd(l, 0, 3)
	broken := errors.New("broken")
	asked, err := client.Ask(t.Context(), l.head(5), func(context.Context, int64, int64) ([]evidence.Hash, error) { return nil, broken })
	if err != nil || !errors.Is(asked.Err(), broken) {
		t.Errorf("no proof to be had: %v, %v", err, asked.Err())
	}
}

func TestNewClientRefuses(t *testing.T) {
	l := newLog(t, origin, "true")
	key := newCosigner(t, "w.example/1", 1).VerifierKey()
	seed := func() io.Reader { return strings.NewReader(strings.Repeat("s", 32)) }
	_, logKey, err1 := evidence.GenerateKey(origin, seed())
	_, ownKey, err2 := evidence.GenerateWitnessKey("w.example/own", seed())
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		logs  []string
		peers []witness.Peer
		says  []string // nothing: it is fine
	}{
		"https":                 {[]string{l.vkey}, []witness.Peer{{URL: "https://w.example", Key: key}}, nil},
		"a bad place to look":   {[]string{l.vkey}, []witness.Peer{{URL: "https://w.example", Monitor: "http://w.example", Key: key}}, []string{"must be https"}},
		"two logs":              {[]string{l.vkey, newLog(t, "other.example/log", "other").vkey}, []witness.Peer{{URL: "https://w.example", Key: key}}, []string{"keys of its log"}},
		"https, a prefix":       {[]string{l.vkey}, []witness.Peer{{URL: "https://w.example:8443/a/b/", Key: key}}, nil},
		"http on loopback":      {[]string{l.vkey}, []witness.Peer{{URL: "http://127.0.0.1:8421", Key: key}, {URL: "http://[::1]/", Key: newCosigner(t, "w.example/2", 2).VerifierKey()}}, nil},
		"http elsewhere":        {[]string{l.vkey}, []witness.Peer{{URL: "http://w.example", Key: key}}, []string{"must be https"}},
		"another scheme":        {[]string{l.vkey}, []witness.Peer{{URL: "ftp://127.0.0.1", Key: key}}, []string{"must be https"}},
		"a password":            {[]string{l.vkey}, []witness.Peer{{URL: "https://a:b@w.example", Key: key}}, []string{"plain"}},
		"a query":               {[]string{l.vkey}, []witness.Peer{{URL: "https://w.example?x", Key: key}}, []string{"plain"}},
		"a fragment":            {[]string{l.vkey}, []witness.Peer{{URL: "https://w.example#x", Key: key}}, []string{"plain"}},
		"no host":               {[]string{l.vkey}, []witness.Peer{{URL: "https:///x", Key: key}}, []string{"plain"}},
		"no URL":                {[]string{l.vkey}, []witness.Peer{{URL: "", Key: key}}, []string{"plain"}},
		"no witness":            {[]string{l.vkey}, nil, []string{"no verifier key of a witness"}},
		"one witness twice":     {[]string{l.vkey}, []witness.Peer{{URL: "https://a.example", Key: key}, {URL: "https://b.example", Key: key}}, []string{"count twice"}},
		"the log as a witness":  {[]string{l.vkey}, []witness.Peer{{URL: "https://w.example", Key: l.vkey}}, []string{"its own witness", "key of a log"}},
		"the log's key":         {[]string{logKey}, []witness.Peer{{URL: "https://w.example", Key: ownKey}}, []string{"its own witness"}},
		"no log":                {nil, []witness.Peer{{URL: "https://w.example", Key: key}}, []string{"keys of its log"}},
		"no log key":            {[]string{"x"}, []witness.Peer{{URL: "https://w.example", Key: key}}, []string{`"x"`}},
		"several":               {nil, []witness.Peer{{URL: "http://a.example", Key: "x"}, {URL: "", Key: key}}, []string{"must be https", "plain", `"x"`, "keys of its log"}},
		"a key that is no text": {[]string{l.vkey}, []witness.Peer{{URL: "https://w.example", Key: "\x00"}}, []string{"no verifier key"}},
	} {
		_, err := witness.NewClient(witness.ClientOptions{LogKeys: x.logs, Witnesses: x.peers})
		if (err == nil) != (x.says == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, said := range x.says {
			if err == nil || !strings.Contains(err.Error(), said) {
				t.Errorf("%s: %q is not said in %v", name, said, err)
			}
		}
	}
}
