package witness_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/witness"
)

// signText signs any text with the key of the log, as a careless log would.
func (l *testLog) signText(text string) string {
	l.tb.Helper()
	seed := sha256.Sum256([]byte(l.signer.Origin()))
	skey, _, err := evidence.GenerateKey(l.signer.Origin(), bytes.NewReader(seed[:]))
	if err != nil {
		l.tb.Fatal(err)
	}
	signed := must(note.Sign(&note.Note{Text: text}, must(note.NewSigner(skey))(l.tb)))(l.tb)
	return string(signed)
}

// TestAddCheckpoint is c2sp.org/tlog-witness, section add-checkpoint, sentence by sentence. The witness knows the log at
// size 10, and has never seen the log "fresh".
func TestAddCheckpoint(t *testing.T) {
	l, fork, fresh := newLog(t, origin, "true"), newLog(t, origin, "false"), newLog(t, "fresh.example/log", "fresh")
	stranger := newLog(t, "stranger.example/log", "strange")
	impostor := newLog(t, "impostor", "true")
	w := newWitness(t, l.vkey, fresh.vkey)
	w.mustAdd(l, 0, 10)

	root := l.checkpoint(20).Root.String()
	text := fmt.Sprintf("%s\n20\n%s\n", origin, root)
	good := l.body(10, 20)
	proof := must(l.prove(t.Context(), 10, 20))(t)
	head := string(l.head(20))
	wrongSignature := strings.Replace(head, "\n20\n", "\n21\n", 1)
	impostorLine := impostor.signText(text)[len(text)+1:]
	line := l.head(20)[len(text)+1:]
	respelt := strings.Replace(good, proof[0].String(), proof[0].String()[:43]+"\n", 1)

	for _, c := range []struct {
		name   string
		body   string
		status int
	}{
		{"nothing", "", http.StatusBadRequest},
		{"no old size line", "\n" + head, http.StatusBadRequest},
		{"an old size that is no number", "old x\n\n" + head, http.StatusBadRequest},
		{"an old size with a leading zero", "old 010\n\n" + head, http.StatusBadRequest},
		{"a negative old size", "old -1\n\n" + head, http.StatusBadRequest},
		{"an old size with a sign", "old +10\n\n" + head, http.StatusBadRequest},
		{"an old size over 64 bits", "old 99999999999999999999\n\n" + head, http.StatusBadRequest},
		{"two spaces", "old  10\n\n" + head, http.StatusBadRequest},
		{"carriage returns", strings.ReplaceAll(good, "\n", "\r\n"), http.StatusBadRequest},
		{"no empty line", "old 10\n" + head[:strings.Index(head, "\n\n")+1], http.StatusBadRequest},
		{"no checkpoint", "old 10\n\n", http.StatusBadRequest},
		{"a proof line that is no hash", "old 10\nAAAA\n\n" + head, http.StatusBadRequest},
		{"a proof line in another spelling", respelt, http.StatusBadRequest},
		{"64 proof lines", body(10, make([]evidence.Hash, 64), l.head(20)), http.StatusBadRequest},
		{"63 proof lines", body(10, make([]evidence.Hash, 63), l.head(20)), http.StatusUnprocessableEntity},
		{"a body over the limit", good + strings.Repeat("x", 64<<10), http.StatusRequestEntityTooLarge},
		{"no signed note", "old 10\n\n" + text, http.StatusBadRequest},
		{"an extension line, which Writ does not show", "old 10\n\n" + l.signText(text+"more\n"), http.StatusBadRequest},
		{"a size with a leading zero", "old 10\n\n" + l.signText(strings.Replace(text, "\n20\n", "\n020\n", 1)), http.StatusBadRequest},

		{"an unknown origin", stranger.body(0, 5), http.StatusNotFound},
		{"an unknown origin that is badly signed", "old 0\n\nx\n", http.StatusNotFound},

		{"a signature by an unknown key", body(10, proof, []byte(text+"\n"+impostorLine)), http.StatusForbidden},
		{"a wrong signature by the known key", body(10, proof, []byte(wrongSignature)), http.StatusForbidden},
		{"a signature by the key of another known log", body(10, proof, []byte(fresh.signText(text))), http.StatusForbidden},

		{"an old size larger than the checkpoint's", body(21, proof, l.head(20)), http.StatusBadRequest},

		{"an old size that is not the witness's: smaller", l.body(5, 20), http.StatusConflict},
		{"an old size that is not the witness's: zero", l.body(0, 20), http.StatusConflict},
		{"an old size that is not the witness's: larger", l.body(15, 20), http.StatusConflict},
		{"a log that was rolled back", l.body(5, 8), http.StatusConflict},
		{"a log that was rolled back to nothing", l.body(0, 0), http.StatusConflict},

		{"size zero without the root of the empty tree", body(0, nil, []byte(fresh.signText("fresh.example/log\n0\n"+root+"\n"))), http.StatusUnprocessableEntity},
		{"a proof from the empty tree", body(0, proof, fresh.head(5)), http.StatusUnprocessableEntity},
		{"no proof", body(10, nil, l.head(20)), http.StatusUnprocessableEntity},
		{"a proof of something else", body(10, must(l.prove(t.Context(), 11, 20))(t), l.head(20)), http.StatusUnprocessableEntity},
		{"a proof with a hash more", body(10, append(proof[:len(proof):len(proof)], evidence.Hash{}), l.head(20)), http.StatusUnprocessableEntity},
		{"a fork that grew", fork.body(10, 20), http.StatusUnprocessableEntity},
		{"a fork of the same size", fork.body(10, 10), http.StatusUnprocessableEntity},
		{"the same size with a proof", body(10, proof, l.head(10)), http.StatusUnprocessableEntity},
	} {
		before := w.state()
		r := w.add(c.body)
		if r.status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, r.status, r.body, c.status)
		}
		if c.status == http.StatusConflict && (r.content != "text/x.tlog.size" || r.body != "10\n") {
			t.Errorf("%s: the witness's size is told as %q, %q", c.name, r.content, r.body)
		}
		if strings.Contains(r.body, "— ") || w.state() != before {
			t.Errorf("%s: something was cosigned: %s", c.name, r.body)
		}
	}

	// Each of these is cosigned, in this order.
	for _, c := range []struct{ name, body string }{
		{"the same checkpoint again", l.body(10, 10)},
		{"what grew", good},
		{"signatures by strangers around the log's own", body(20, nil, []byte(text+"\n"+impostorLine+string(line)+impostorLine))},
		{"a first checkpoint of size zero", fresh.body(0, 0)},
		{"after size zero", fresh.body(0, 3)},
	} {
		if r := w.add(c.body); r.status != http.StatusOK || !strings.HasPrefix(r.body, "— w.example/1 ") || strings.Count(r.body, "\n") != 1 {
			t.Errorf("%s: %d %s", c.name, r.status, r.body)
		}
	}
	if r := w.monitor(origin); strings.Contains(r.body, "impostor") {
		t.Errorf("a stranger's signature was kept:\n%s", r.body)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		if r := send(t, method, w.url+"/add-checkpoint", good); r.status != http.StatusMethodNotAllowed && r.status != http.StatusNotFound {
			t.Errorf("%s: %d", method, r.status)
		}
	}
}

func TestARotatedLogKeyIsStillTheSameLog(t *testing.T) {
	l := newLog(t, origin, "true")
	_, newKey, err := evidence.GenerateKey(origin, strings.NewReader(strings.Repeat("n", 32)))
	if err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, newKey, l.vkey)
	w.mustAdd(l, 0, 4)
	w.restart()
	w.mustAdd(l, 4, 6)
}

func TestMonitoring(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	if r := w.monitor(origin); r.status != http.StatusNotFound {
		t.Errorf("before the first checkpoint: %d %s", r.status, r.body)
	}
	if r := send(t, http.MethodGet, w.url+"/", ""); !strings.Contains(r.body, w.key) || !strings.Contains(r.body, origin+"\n  nothing cosigned yet") {
		t.Errorf("the page says\n%s", r.body)
	}
	w.mustAdd(l, 0, 4)
	policy := must(evidence.NewCosignaturePolicy(1, w.key))(t)
	for range 2 {
		r := w.monitor(origin)
		c, found, err := policy.Check([]byte(r.body), l.vkey)
		if r.status != http.StatusOK || err != nil || c != l.checkpoint(4) || !found[0].Time.Equal(noon()) {
			t.Errorf("%d %s: %v", r.status, r.body, err)
		}
		w.restart()
	}
	r := send(t, http.MethodGet, w.url+"/", "")
	if !strings.Contains(r.body, "size 4, root "+l.checkpoint(4).Root.String()) || !strings.Contains(r.body, "2026-11-23T12:00:00Z") {
		t.Errorf("the page says\n%s", r.body)
	}
	if r := send(t, http.MethodGet, w.url+"/healthz", ""); r.status != http.StatusOK || r.body != "ok\n" {
		t.Errorf("health: %d %s", r.status, r.body)
	}
}

func TestALogThatIsNoLongerCosignedIsStillShown(t *testing.T) {
	l, other := newLog(t, origin, "true"), newLog(t, "other.example/log", "other")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 4)
	config := must(os.ReadFile(filepath.Join(w.folder, "witness.yaml")))(t)
	if err := os.WriteFile(filepath.Join(w.folder, "witness.yaml"), bytes.Replace(config, []byte(l.vkey), []byte(other.vkey), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if r := w.add(l.body(4, 5)); r.status != http.StatusNotFound {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := w.monitor(origin); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := send(t, http.MethodGet, w.url+"/", ""); !strings.Contains(r.body, "no longer cosigned") {
		t.Errorf("the page says\n%s", r.body)
	}
}

// Of many requests that all continue the same size, one gets through: the others learn the new size.
func TestOfTwoAtOnceOneMoves(t *testing.T) {
	l, fork := newLog(t, origin, "true"), newLog(t, origin, "false")
	w := newWitness(t, l.vkey)
	for round := range 10 {
		var size int64
		if round > 0 {
			size = must(evidence.OpenCheckpoint([]byte(w.monitor(origin).body), l.vkey))(t).Size
		}
		// In the first round the histories differ, later only the sizes.
		var bodies []string
		for i := range int64(8) {
			next := l
			if round == 0 && i%2 == 1 {
				next = fork
			}
			bodies = append(bodies, next.body(size, size+1+i/2))
		}
		answers := make([]response, len(bodies))
		var wait sync.WaitGroup
		for i, body := range bodies {
			wait.Go(func() { answers[i] = w.add(body) })
		}
		wait.Wait()
		cosigned := 0
		for i, r := range answers {
			switch r.status {
			case http.StatusOK:
				cosigned++
				if round == 0 && i%2 == 1 {
					l, fork = fork, l
				}
			case http.StatusConflict:
			default:
				t.Errorf("%d %s", r.status, r.body)
			}
		}
		if cosigned != 1 {
			t.Fatalf("round %d: %d were cosigned", round, cosigned)
		}
	}
}

func TestTheTimeNeverStepsBack(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 1)
	timeOf := func() time.Time {
		_, found, err := evidence.OpenCosigned([]byte(w.monitor(origin).body), w.key)
		if err != nil {
			t.Fatal(err)
		}
		return found[0].Time
	}
	w.now = noon().Add(-30 * time.Second)
	w.mustAdd(l, 1, 2)
	if at := timeOf(); !at.Equal(noon()) {
		t.Errorf("the clock stepped back a little: %v", at)
	}
	w.now = noon().Add(-2 * time.Minute)
	before := w.state()
	if r := w.add(l.body(2, 3)); r.status != http.StatusInternalServerError || w.state() != before {
		t.Errorf("the clock stepped back: %d %s", r.status, r.body)
	}
	w.now = noon().Add(time.Hour)
	w.mustAdd(l, 2, 3)
	w.now = noon().Add(2 * time.Hour)
	w.mustAdd(l, 3, 3)
	if at := timeOf(); !at.Equal(w.now) {
		t.Errorf("the same checkpoint again is cosigned as of %v", at)
	}
	w.restart()
	w.now = w.now.Add(-30 * time.Second)
	w.mustAdd(l, 3, 3)
	if at := timeOf(); !at.Equal(noon().Add(2 * time.Hour)) {
		t.Errorf("after a restart it is cosigned as of %v", at)
	}
	before = w.state()
	w.mustAdd(l, 3, 3)
	if w.state() != before {
		t.Error("what the disk says already was written again")
	}
}

func TestAWitnessWithoutAClockCosignsNothing(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	w.now = time.Unix(0, 0)
	if r := w.add(l.body(0, 3)); r.status != http.StatusInternalServerError {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestServeWithTLS(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	borrowed := httptest.NewTLSServer(nil) // its certificate
	defer borrowed.Close()
	pair := borrowed.TLS.Certificates[0]
	key := must(x509.MarshalPKCS8PrivateKey(pair.PrivateKey))(t)
	folder := t.TempDir()
	certificate, secret := filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	if err := errors.Join(
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600),
		os.WriteFile(secret, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	listener := must(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, listener, certificate, secret) }()
	ask := func(transport http.RoundTripper) error {
		client := must(witness.NewClient(witness.ClientOptions{
			LogKeys: []string{l.vkey}, Witnesses: []witness.Peer{{URL: "https://" + listener.Addr().String(), Key: w.key}}, Transport: transport,
		}))(t)
		asked, err := client.Ask(t.Context(), l.head(3), l.prove)
		return errors.Join(err, asked.Err())
	}
	if err := ask(borrowed.Client().Transport); err != nil {
		t.Error(err)
	}
	var untrusted x509.UnknownAuthorityError
	if err := ask(nil); !errors.As(err, &untrusted) {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := w.Serve(t.Context(), must(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))(t), secret, secret); err == nil {
		t.Error("a key is no certificate")
	}
}
