package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

const idp = "https://idp.example.com"

// noting is a ledger that counts what is written of strangers, and fails if it is told to.
type noting struct {
	control.Ledger
	rows []access.Stranger
	most int // at once
	err  error
}

func (n *noting) NoteStrangers(ctx context.Context, seen []access.Stranger) error {
	if n.err != nil {
		return n.err
	}
	n.rows, n.most = append(n.rows, seen...), max(n.most, len(seen))
	return n.Ledger.NoteStrangers(ctx, seen)
}

func (w *world) noting() *noting {
	n := &noting{Ledger: ledger{w.store}}
	w.with(n, control.Limits{})
	return n
}

// calls is a call with a good token of a subject that nobody declared.
func (w *world) calls(subject string) {
	w.t.Helper()
	var refusal *control.Refusal
	if _, err := w.Identify(w.t.Context(), idp, subject, nil); !errors.As(err, &refusal) || refusal.Code != access.CodeIdentityUnknown {
		w.t.Fatalf("%q: %v", subject, err)
	}
}

func (w *world) unknown() []access.Stranger {
	w.t.Helper()
	list, next, err := w.Unknown(w.t.Context(), sam, nil, 1000)
	check(w.t, err)
	if next != nil {
		w.t.Error("more than one page")
	}
	return list
}

func TestAStrangerIsWrittenOnceAMinute(t *testing.T) {
	w := newWorld(t)
	n := w.noting()
	size := w.store.Size()
	first := w.now
	for range 125 {
		w.calls("x")
		check(t, w.RecordStrangers(t.Context()))
		w.now = w.now.Add(time.Second)
	}
	if len(n.rows) != 3 {
		t.Errorf("written %d times in two minutes and 5 seconds", len(n.rows))
	}
	if w.store.Size() != size {
		t.Error("a stranger left evidence")
	}
	list := w.unknown()
	if len(list) != 1 || list[0].Times != 121 || !list[0].First.Equal(first) || !list[0].Last.Equal(first.Add(2*time.Minute)) {
		t.Errorf("%+v", list)
	}
	w.now = w.now.Add(time.Hour)
	check(t, w.RecordStrangers(t.Context()))
	if list := w.unknown(); list[0].Times != 125 {
		t.Errorf("the rest was lost: %+v", list)
	}
	w.sound()
}

func TestStrangersThatFloodAreBounded(t *testing.T) {
	w := newWorld(t)
	n := w.noting()
	const flood = 5000
	for i := range flood {
		w.calls(fmt.Sprint("flood-", i))
	}
	for range 100 {
		check(t, w.RecordStrangers(t.Context()))
	}
	if len(n.rows) != 1024 || n.most > 64 {
		t.Errorf("%d written, at most %d at once", len(n.rows), n.most)
	}
	w.now = w.now.Add(time.Minute)
	check(t, w.RecordStrangers(t.Context())) // lets go of all that are silent
	w.calls("after the flood")
	check(t, w.RecordStrangers(t.Context()))
	newest, next, err := w.Unknown(t.Context(), sam, nil, 1)
	check(t, err)
	if next == nil || newest[0].Subject != "after the flood" {
		t.Errorf("nobody comes through: %+v", newest)
	}
}

// What no catalog could name, or is longer than authn lets through, is let go.
func TestStrangersWhoCouldNotBeAdopted(t *testing.T) {
	w := newWorld(t)
	n := w.noting()
	for _, subject := range []string{"", "a\x00b", "a\nb", "\x1b[2J", "a\u202eb", "\xff", strings.Repeat("s", 2049)} {
		w.calls(subject)
	}
	w.calls(strings.Repeat("s", 2048))
	check(t, w.RecordStrangers(t.Context()))
	if len(n.rows) != 1 {
		t.Errorf("%+v", n.rows)
	}
}

func TestStrangersThatCannotBeWrittenHarmNobody(t *testing.T) {
	w := newWorld(t)
	n := w.noting()
	n.err = access.ErrUnavailable
	w.calls("x")
	if err := w.RecordStrangers(t.Context()); !errors.Is(err, access.ErrUnavailable) {
		t.Error(err)
	}
	if id, err := w.Identify(t.Context(), idp, "support-bot", nil); err != nil || id != support.Identity {
		t.Errorf("%s, %v", id, err)
	}
	w.open(support, "support")
	w.calls("x")
	n.err = nil
	check(t, w.RecordStrangers(t.Context()))
	if list := w.unknown(); len(list) != 1 || list[0].Times != 2 {
		t.Errorf("%+v", list)
	}
}

func TestWhoTheCatalogKnowsIsNoStranger(t *testing.T) {
	w := newWorld(t)
	w.calls("night-batch")
	w.calls("night-shift")
	w.calls("day-batch")
	check(t, w.RecordStrangers(t.Context()))
	for caller, want := range map[control.Caller]access.Code{dana: access.CodeNotPermitted, support: access.CodeNotPermitted} {
		if _, _, err := w.Unknown(t.Context(), caller, nil, 10); code(t, err) != want {
			t.Errorf("%s: %v", caller.Identity, err)
		}
	}
	files := site(t)
	files["catalog/more.yaml"] = []byte(`
identities:
  - {id: Workload::"night", owner: Human::"dana", purpose: works at night, review_by: 2027-06-30, match: [{issuer: https://idp.example.com, subject: {prefix: night-}}]}
`)
	must[*control.Applied](t)(w.Apply(t.Context(), nil, files, nil, false))
	if list := w.unknown(); len(list) != 1 || list[0].Subject != "day-batch" {
		t.Errorf("%+v", list)
	}
	must[*control.Applied](t)(w.Apply(t.Context(), nil, site(t), nil, false)) // it is dropped, and unknown again
	if list := w.unknown(); len(list) != 3 {
		t.Errorf("%+v", list)
	}
}

func TestStrangersAtOnce(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				_, _ = w.Identify(t.Context(), idp, fmt.Sprint("s-", (i+j)%10), nil)
			}
		})
	}
	all.Go(func() {
		for range 50 {
			if err := w.RecordStrangers(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	w.now = w.now.Add(time.Minute)
	check(t, w.RecordStrangers(t.Context()))
	times := int64(0)
	for _, s := range w.unknown() {
		times += s.Times
	}
	if times != 8*200 {
		t.Errorf("%d calls were counted", times)
	}
}
