package control_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/store"
)

// world is an installation of the starter folder on a real store, with a clock that the test moves.
type world struct {
	*control.Control

	t     testing.TB
	store *store.Store
	path  string
	key   string
	now   time.Time
	ids   atomic.Int64
}

var (
	support = control.Caller{Identity: access.MustRef(`Agent::"support-bot"`)}
	report  = control.Caller{Identity: access.MustRef(`Agent::"report-bot"`)}
	orders  = control.Caller{Identity: access.MustRef(`Workload::"order-system"`)}
	bob     = control.Caller{Identity: access.MustRef(`Human::"bob"`)}
	alice   = control.Caller{Identity: access.MustRef(`Human::"alice"`)}
	dana    = control.Caller{Identity: access.MustRef(`Human::"dana"`)}
	sam     = control.Caller{Identity: access.MustRef(`Human::"sam"`)}

	refund = access.MustRef(`Action::"refund"`)
	read   = access.MustRef(`Action::"read_order"`)
	order1 = access.MustRef(`Order::"o-1"`)
)

func newWorld(t testing.TB) *world {
	t.Helper()
	return worldOf(t, site(t))
}

// worldOf is a world of another folder than the starter's.
func worldOf(t testing.TB, files control.Configuration) *world {
	t.Helper()
	w := worldWithoutPolicy(t)
	_, err := w.Apply(t.Context(), nil, files, nil, false)
	check(t, err)
	return w
}

// worldWithoutPolicy is a world in which nothing was ever applied but who is there.
func worldWithoutPolicy(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "writ.db"), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	secret, public, err := evidence.GenerateKey("test.example/log", rand.Reader)
	check(t, err)
	w.key = public
	signer, err := evidence.NewSigner(secret)
	check(t, err)
	w.store, err = store.Open(t.Context(), store.Options{
		Database: w.path, Signer: signer, VerifierKey: public, Engine: "test", Now: func() time.Time { return w.now }, Reserve: 1 << 20,
	})
	check(t, err)
	t.Cleanup(func() { check(t, w.store.Close()) })
	w.Control = control.New(control.Options{Ledger: ledger{w.store}, Issuer: tokens{}, Engine: "test", NewID: w.newID})
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) newID() string {
	return fmt.Sprintf("%08d", w.ids.Add(1))
}

func site(t testing.TB) control.Configuration {
	t.Helper()
	files := control.Configuration{}
	check(t, fs.WalkDir(starter.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[path], err = starter.Files.ReadFile(path)
		return err
	}))
	return files
}

// edit replaces a text in a file of the site, which must be there once.
func edit(t testing.TB, files control.Configuration, path, from, to string) {
	t.Helper()
	if strings.Count(string(files[path]), from) != 1 {
		t.Fatalf("%s holds %q %d times", path, from, strings.Count(string(files[path]), from))
	}
	files[path] = []byte(strings.Replace(string(files[path]), from, to, 1))
}

// with puts another ledger, or other limits, under the same world.
func (w *world) with(l control.Ledger, limits control.Limits) {
	w.Control = control.New(control.Options{Ledger: l, Issuer: tokens{}, Engine: "test", NewID: w.newID, Limits: limits})
}

// hooked is a ledger that the test meddles with.
type hooked struct {
	control.Ledger
	fail    bool          // decide runs, and then nothing can be written
	twice   bool          // decide always runs twice
	between func()        // happens once, between a decision and its commit
	read    func(nth int) // after each reading
	reads   int
}

type decide = func(control.View) (event.Change, error)

func (h *hooked) meddle(decide decide) decide {
	return func(v control.View) (event.Change, error) {
		change, err := decide(v)
		if h.twice && err == nil {
			change, err = decide(v)
		}
		if between := h.between; between != nil {
			h.between = nil
			between()
		}
		if h.fail && err == nil {
			err = access.ErrUnavailable
		}
		return change, err
	}
}

func (h *hooked) Update(ctx context.Context, decide decide) (event.Receipt, error) {
	return h.Ledger.Update(ctx, h.meddle(decide))
}

func (h *hooked) Revoke(ctx context.Context, decide decide) (event.Receipt, error) {
	return h.Ledger.Revoke(ctx, h.meddle(decide))
}

func (h *hooked) Read(ctx context.Context, read func(control.View) error) error {
	err := h.Ledger.Read(ctx, read)
	if h.reads++; h.read != nil {
		h.read(h.reads)
	}
	return err
}

// meddled puts a hooked ledger under the world.
func (w *world) meddled() *hooked {
	h := &hooked{Ledger: ledger{w.store}}
	w.with(h, control.Limits{})
	return h
}

type tokens struct{}

func (tokens) Issue(c control.Credential) (control.Token, error) {
	return control.Token{Connector: "test", Secret: "secret of " + c.Grant, Fingerprint: "fingerprint of " + c.Grant}, nil
}

func (tokens) Recognize(token string, _ time.Time) (control.Recognized, bool) {
	grant, ok := strings.CutPrefix(token, "secret of ")
	return control.Recognized{Grant: grant, Target: "https://orders.example.com"}, ok
}

type ledger struct{ *store.Store }

func (l ledger) Update(ctx context.Context, decide func(control.View) (event.Change, error)) (event.Receipt, error) {
	return l.Store.Update(ctx, func(v *store.View) (event.Change, error) { return decide(v) })
}

func (l ledger) Revoke(ctx context.Context, decide func(control.View) (event.Change, error)) (event.Receipt, error) {
	return l.Store.Revoke(ctx, func(v *store.View) (event.Change, error) { return decide(v) })
}

func (l ledger) Read(ctx context.Context, read func(control.View) error) error {
	return l.Store.Read(ctx, func(v *store.View) error { return read(v) })
}

// open opens a support task.
func (w *world) open(caller control.Caller, taskType string) string {
	w.t.Helper()
	answer, err := w.OpenTask(w.t.Context(), caller, control.Opening{Type: taskType, Purpose: "a customer complains", Reference: "T-1"})
	check(w.t, err)
	if answer.Task == nil {
		w.t.Fatalf("not opened: %+v", answer.Decided)
	}
	return answer.Task.ID
}

// tell has the order system tell of an order.
func (w *world) tell(id string, status string, total int) {
	w.t.Helper()
	_, err := w.PushFacts(w.t.Context(), orders, w.now, []control.Told{{Entity: access.Entity{
		ID: access.Ref{Type: "Order", ID: id}, Attributes: json.RawMessage(fmt.Sprintf(`{"status":%q,"total":%d}`, status, total)),
	}}})
	check(w.t, err)
}

func (w *world) ask(task string, amount int) *control.Answer {
	w.t.Helper()
	answer, err := w.Request(w.t.Context(), support, control.Ask{
		Task: task, Action: refund, Resource: order1, Args: json.RawMessage(fmt.Sprintf(`{"amount":%d,"reason":"late"}`, amount)),
	})
	check(w.t, err)
	return answer
}

// refused asks, and wants the code of a recorded refusal.
func (w *world) refused(caller control.Caller, ask control.Ask, want access.Code) {
	w.t.Helper()
	answer, err := w.Request(w.t.Context(), caller, ask)
	check(w.t, err)
	if answer.Decided.Code != want || answer.Grant != nil || answer.Credential != nil {
		w.t.Errorf("got %q, want %q", answer.Decided.Code, want)
	}
}

// must takes a value that comes without an error.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func (w *world) live(caller control.Caller, grant string) bool {
	w.t.Helper()
	view, err := w.ReadGrant(w.t.Context(), caller, grant)
	check(w.t, err)
	return view.Live
}

// sound checks at the end of a test that the log explains everything and every decision replays.
func (w *world) sound() {
	w.t.Helper()
	verified, err := store.Verify(w.t.Context(), w.path, w.key, store.VerifyOptions{Scratch: w.t.TempDir()})
	check(w.t, err)
	for _, finding := range verified.Findings {
		w.t.Error(finding)
	}
	replayed, err := w.Replay(w.t.Context(), w.store.Size(), nil)
	check(w.t, err)
	for _, mismatch := range replayed.Mismatches {
		w.t.Error(mismatch)
	}
}

func code(t *testing.T, err error) access.Code {
	t.Helper()
	var refusal *control.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("want a refusal, got %v", err)
	}
	return refusal.Code
}

func kind(t *testing.T, err error) control.InvalidKind {
	t.Helper()
	var bad *control.Invalid
	if !errors.As(err, &bad) {
		t.Fatalf("want an invalid ask, got %v", err)
	}
	return bad.Kind
}
