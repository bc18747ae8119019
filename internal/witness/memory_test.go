package witness_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/witness"
)

// reopen opens the memory of a witness that was closed.
func (w *testWitness) reopen() error {
	w.tb.Helper()
	_, cosigner, err := witness.Load(w.folder)
	if err != nil {
		w.tb.Fatal(err)
	}
	again, err := witness.Open(witness.Options{Folder: w.folder, Cosigner: cosigner})
	if err == nil {
		err = again.Close()
	}
	return err
}

// stateOf writes a state file with a checksum that fits, whatever it says.
func stateOf(tb testing.TB, key string, notes ...string) string {
	tb.Helper()
	sum := sha256.Sum256(must(json.Marshal(append([]string{key}, notes...)))(tb))
	state := map[string]any{"witness": key, "checkpoints": notes, "sum": fmt.Sprintf("%x", sum)}
	return string(must(json.Marshal(state))(tb))
}

// What is not exactly what this witness wrote is never taken for "nothing seen yet".
func TestMemoryThatCannotBeTrustedIsRefused(t *testing.T) {
	l, second := newLog(t, origin, "true"), newLog(t, "second.example/log", "second")
	w := newWitness(t, l.vkey, second.vkey)
	w.mustAdd(l, 0, 4)
	w.mustAdd(second, 0, 7)
	note, note2 := w.monitor(origin).body, w.monitor("second.example/log").body
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stranger := newWitness(t, l.vkey)
	stranger.mustAdd(l, 0, 9)
	path, state := filepath.Join(w.folder, "witness.state"), w.state()
	for name, x := range map[string]struct{ content, says string }{
		"nothing":                      {"", "damaged"},
		"cut":                          {state[:len(state)/2], "damaged"},
		"cut at the end":               {strings.TrimSuffix(state, "}\n"), "damaged"},
		"more after the end":           {state + "{}", "goes on after its end"},
		"a word that is not known":     {strings.Replace(state, "checkpoints", "checkpoint", 1), "damaged"},
		"zeros, as after a power cut":  {strings.Repeat("\x00", len(state)), "damaged"},
		"a record that was taken out":  {strings.Replace(stateOf(t, w.key, note, note2), string(must(json.Marshal(note))(t))+",", "", 1), "checksum"},
		"another size":                 {strings.Replace(state, `\n4\n`, `\n3\n`, 1), "checksum"},
		"of another witness":           {stranger.state(), "belongs to the witness"},
		"a checkpoint of another one":  {stateOf(t, w.key, stranger.monitor(origin).body), "checkpoint 0"},
		"a checkpoint that is no text": {stateOf(t, w.key, note, "x"), "checkpoint 1"},
		"one log twice":                {stateOf(t, w.key, note, note2, note), "two checkpoints"},
	} {
		if err := os.WriteFile(path, []byte(x.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.reopen(); !errors.Is(err, witness.ErrMemory) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, []byte(stateOf(t, w.key, note, note2)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.reopen(); err != nil {
		t.Errorf("the same in other white space: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := w.reopen(); !errors.Is(err, witness.ErrMemory) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("missing: %v", err)
	}
	if err := os.Mkdir(path, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := w.reopen(); !errors.Is(err, witness.ErrMemory) {
		t.Errorf("a folder: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(state), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := w.reopen(); err != nil {
		t.Errorf("put back: %v", err)
	}
	if err := os.WriteFile(filepath.Join(w.folder, "witness.forgotten"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"{", `{"origin":"x"}`} {
		if err := os.WriteFile(filepath.Join(w.folder, "witness.forgotten"), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.reopen(); !errors.Is(err, witness.ErrMemory) {
			t.Errorf("what was forgotten is damaged: %v", err)
		}
	}
}

// Any flipped bit of the memory is refused, or means the same.
func TestAnyFlippedBitOfTheMemoryIsSeen(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 4)
	path, state := filepath.Join(w.folder, "witness.state"), []byte(w.state())
	want := w.monitor(origin).body
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range state {
		flipped, bit := bytes.Clone(state), i%8 // one bit of each byte
		flipped[i] ^= 1 << bit
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if w.reopen() != nil {
			continue
		}
		w.open()
		if got := w.monitor(origin).body; got != want {
			t.Errorf("bit %d of byte %d is not seen: %s", bit, i, got)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoProcessesCannotShareAMemory(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 4)
	if err := w.reopen(); !errors.Is(err, witness.ErrInUse) {
		t.Errorf("a second witness: %v", err)
	}
	if _, err := witness.Forget(w.folder, origin, "test", l.head(3), noon()); !errors.Is(err, witness.ErrInUse) {
		t.Errorf("forgetting beside a running witness: %v", err)
	}
}

// What cannot be kept is not cosigned, and does not count as seen.
func TestADiskThatCannotKeepGetsNoCosignature(t *testing.T) {
	l, fork := newLog(t, origin, "true"), newLog(t, origin, "false")
	for name, breaks := range map[string]func(w *testWitness) (mend func() error){
		"the new file cannot be written": func(w *testWitness) func() error {
			blocked := filepath.Join(w.folder, "witness.state.new")
			if err := os.Mkdir(blocked, 0o750); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Remove(blocked) }
		},
		"the old file cannot be replaced": func(w *testWitness) func() error {
			path := filepath.Join(w.folder, "witness.state")
			if err := errors.Join(os.Rename(path, path+".aside"), os.MkdirAll(filepath.Join(path, "x"), 0o750)); err != nil {
				t.Fatal(err)
			}
			return func() error { return errors.Join(os.RemoveAll(path), os.Rename(path+".aside", path)) }
		},
		"the folder is gone": func(w *testWitness) func() error {
			if err := os.Rename(w.folder, w.folder+".aside"); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Rename(w.folder+".aside", w.folder) }
		},
	} {
		w := newWitness(t, l.vkey)
		w.mustAdd(l, 0, 4)
		mend := breaks(w)
		if r := w.add(l.body(4, 6)); r.status != http.StatusInternalServerError || strings.Contains(r.body, "— ") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
		if r := w.monitor(origin); !strings.HasPrefix(r.body, origin+"\n4\n") {
			t.Errorf("%s: shown is %s", name, r.body)
		}
		if err := mend(); err != nil {
			t.Fatal(err)
		}
		w.mustAdd(l, 4, 5)
		w.restart()
		if r := w.add(fork.body(5, 5)); r.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: a fork afterwards: %d %s", name, r.status, r.body)
		}
		w.mustAdd(l, 5, 6)
	}
}

// A log that was restored from an older backup is refused until the witness's operator accepts the loss, on record.
func TestForget(t *testing.T) {
	l, restored := newLog(t, origin, "true"), newLog(t, origin, "true").grow(4)
	restored.words = "after the backup"
	other := newLog(t, "other.example/log", "other")
	w := newWitness(t, l.vkey, other.vkey)
	w.mustAdd(l, 0, 4)
	w.mustAdd(l, 4, 10)
	w.mustAdd(other, 0, 3)
	seen := w.monitor(origin).body
	if r := w.add(restored.body(4, 6)); r.status != http.StatusConflict || r.body != "10\n" {
		t.Errorf("a smaller log: %d %s", r.status, r.body)
	}
	if r := w.add(restored.body(10, 12)); r.status != http.StatusUnprocessableEntity {
		t.Errorf("a log that grew past it: %d %s", r.status, r.body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		origin, reason string
		accept         []byte
		says           string
	}{
		"no reason":                    {origin, " ", restored.head(5), "reason"},
		"a log that it does not know":  {"x", "r", nil, "nothing is known"},
		"any checkpoint that may come": {origin, "r", nil, "--accept"},
		"an empty file":                {origin, "r", []byte{}, "checkpoint"},
		"a checkpoint of another log":  {origin, "r", other.head(5), "checkpoint"},
		"a forged checkpoint":          {origin, "r", []byte(strings.Replace(seen, "\n10\n", "\n9\n", 1)), "checkpoint"},
	} {
		if _, err := witness.Forget(w.folder, x.origin, x.reason, x.accept, noon()); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	known, err := witness.Forget(w.folder, origin, "disk died;\nbackup of Monday", restored.head(5), noon().Add(time.Hour))
	if err != nil || known != l.checkpoint(10) {
		t.Fatalf("%v, %v", known, err)
	}
	w.open()
	kept := string(must(os.ReadFile(filepath.Join(w.folder, "witness.forgotten")))(t))
	if !strings.Contains(kept, strings.ReplaceAll(seen, "\n", `\n`)) || !strings.Contains(kept, "backup of Monday") {
		t.Errorf("kept is %s", kept)
	}
	page := send(t, http.MethodGet, w.url+"/", "").body
	if !strings.Contains(page, "Forgotten on 2026-11-23T13:00:00Z: "+origin+", which was at size 10.\n  Reason: \"disk died;\\nbackup of Monday\"\n  Went on from size 5, root "+restored.checkpoint(5).Root.String()) {
		t.Errorf("the page says\n%s", page)
	}
	shown := []byte(w.monitor(origin).body)
	if c, _, err := must(evidence.NewCosignaturePolicy(1, w.key))(t).Check(shown, l.vkey); err != nil || c != restored.checkpoint(5) {
		t.Errorf("shown is %s: %v", shown, err)
	}
	for name, body := range map[string]string{
		"the lost history, from its beginning": l.body(0, 10), "the lost history, as it was": l.body(10, 10), "the lost history, larger": l.body(5, 11),
		"what both have": l.body(0, 4), "the same size of the lost history": l.body(5, 5),
	} {
		if r := w.add(body); r.status != http.StatusConflict && r.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	w.now = noon().Add(time.Hour)
	w.mustAdd(restored, 5, 6)
	w.mustAdd(other, 3, 4)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Forget(w.folder, origin, "again", restored.head(5), noon().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if kept := must(os.ReadFile(filepath.Join(w.folder, "witness.forgotten")))(t); bytes.Count(kept, []byte("\n")) != 2 {
		t.Errorf("kept is %s", kept)
	}
	w.open()
}

// Only what the witness no longer cosigns can be forgotten without saying what it goes on from.
func TestForgetALogThatIsNoLongerCosigned(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 4)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(w.folder, "witness.yaml")
	before := must(os.ReadFile(config))(t)
	if err := os.WriteFile(config, []byte("listen: 127.0.0.1:0\nlogs: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Forget(w.folder, origin, "r", l.head(4), noon()); err == nil {
		t.Error("a checkpoint of a log without a key was accepted")
	}
	if known, err := witness.Forget(w.folder, origin, "r", nil, noon()); err != nil || known != l.checkpoint(4) {
		t.Errorf("%v, %v", known, err)
	}
	if err := os.WriteFile(config, before, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.now = noon().Add(-time.Second)
	w.mustAdd(l, 0, 3)
	if _, found, err := evidence.OpenCosigned([]byte(w.monitor(origin).body), w.key); err != nil || !found[0].Time.Equal(noon()) {
		t.Errorf("the time was forgotten, too: %v, %v", found, err)
	}
}

func TestForgettingThatCannotBeKeptForgetsNothing(t *testing.T) {
	l := newLog(t, origin, "true")
	w := newWitness(t, l.vkey)
	w.mustAdd(l, 0, 4)
	if err := errors.Join(w.Close(), os.Mkdir(filepath.Join(w.folder, "witness.forgotten.new"), 0o750)); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Forget(w.folder, origin, "r", l.head(4), noon()); err == nil {
		t.Error("no error")
	}
	w.open()
	w.mustAdd(l, 4, 5)
	if err := errors.Join(w.Close(), os.Mkdir(filepath.Join(w.folder, "witness.state.new"), 0o750), os.Remove(filepath.Join(w.folder, "witness.forgotten.new"))); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Forget(w.folder, origin, "r", l.head(4), noon()); err == nil {
		t.Error("no error")
	}
	w.open()
	if r := w.add(l.body(0, 5)); r.status != http.StatusConflict {
		t.Errorf("it forgot: %d %s", r.status, r.body)
	}
}

func TestInit(t *testing.T) {
	l := newLog(t, origin, "true")
	folder, key := newFolder(t, "w.example/1", l.vkey)
	config, cosigner, err := witness.Load(folder)
	if err != nil || cosigner.VerifierKey() != key || len(config.Logs) != 1 || config.Logs[0] != l.vkey || config.Listen != "127.0.0.1:8421" {
		t.Errorf("%v, %v", config, err)
	}
	if info := must(os.Stat(filepath.Join(folder, "witness.key")))(t); info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v", info.Mode())
	}
	if public := must(os.ReadFile(filepath.Join(folder, "witness.pub")))(t); string(public) != key+"\n" {
		t.Errorf("the public key is %q", public)
	}
	for _, name := range []string{"witness.key", "witness.pub", "witness.yaml", "witness.state", "witness.forgotten"} {
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := witness.Init(other, "w.example/2", nil, strings.NewReader(strings.Repeat("x", 32))); err == nil {
			t.Errorf("%s was overwritten", name)
		}
		if files := must(os.ReadDir(other))(t); len(files) != 1 {
			t.Errorf("%s is there already, but files were written: %v", name, files)
		}
	}
	own := strings.NewReader(strings.Repeat("x", 64))
	_, same, err := evidence.GenerateKey(origin, own)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		name string
		logs []string
	}{
		"no name": {"", nil}, "a name with a space": {"a b", nil}, "no log key": {"w", []string{"x"}}, "a witness as a log": {"w", []string{key}},
		"one log twice": {"w", []string{l.vkey, l.vkey}}, "its own key as a log": {"w", []string{same}},
	} {
		if _, err := witness.Init(filepath.Join(t.TempDir(), "w"), x.name, x.logs, strings.NewReader(strings.Repeat("x", 32))); !errors.Is(err, evidence.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigurationFaults(t *testing.T) {
	l := newLog(t, origin, "true")
	logs := "logs: [\"" + l.vkey + "\"]\n"
	folder, _ := newFolder(t, "w.example/1")
	secret := filepath.Join(folder, "tls.key")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		text string
		says []string // nothing: it is fine
	}{
		"loopback":              {"listen: 127.0.0.1:1\n" + logs, nil},
		"localhost":             {"listen: localhost:1\n" + logs, nil},
		"loopback, version six": {"listen: \"[::1]:1\"\n" + logs, nil},
		"outside, with TLS":     {"listen: :443\ntls: {certificate: tls.crt, key: tls.key}\n" + logs, nil},
		"outside, with a proxy": {"listen: :80\nbehind_proxy: true\n" + logs, nil},
		"empty":                 {"", []string{"listen:", "logs:"}},
		"outside":               {"listen: :80\n" + logs, []string{"without TLS"}},
		"no port":               {"listen: localhost\n" + logs, []string{"host:port"}},
		"half a certificate":    {"listen: :443\ntls: {key: tls.key}\n" + logs, []string{"go together"}},
		"TLS twice":             {"listen: :443\nbehind_proxy: true\ntls: {certificate: c, key: tls.key}\n" + logs, []string{"not together"}},
		"a key that is missing": {"listen: :443\ntls: {certificate: c, key: other.key}\n" + logs, []string{"tls.key"}},
		"an unknown setting":    {"listen: :443\nlogz: []\n", []string{"logz"}},
		"several":               {"listen: :80\nlogs: [x, y]\n", []string{"without TLS", `"x"`, `"y"`}},
	} {
		if err := os.WriteFile(filepath.Join(folder, "witness.yaml"), []byte(x.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, _, err := witness.Load(folder)
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

func TestAKeyThatOthersReadIsRefused(t *testing.T) {
	folder, _ := newFolder(t, "w.example/1", newLog(t, origin, "true").vkey)
	path := filepath.Join(folder, "witness.key")
	for name, breaks := range map[string]func() error{
		"mode":     func() error { return os.Chmod(path, 0o640) },
		"contents": func() error { return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("x"), 0o600)) },
		"missing":  func() error { return os.Remove(path) },
	} {
		copied := path // each breaks it a bit more
		if err := breaks(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if _, _, err := witness.Load(folder); err == nil || !strings.Contains(err.Error(), copied) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := witness.Forget(folder, origin, "r", nil, noon()); err == nil {
			t.Errorf("%s: forgotten", name)
		}
	}
}
