package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Whatever was recorded, refused or written aside: what a view remembers is what the database answers, and what it says
// a decision depends on is so.
func TestWhatIsRememberedIsWhatTheDatabaseAnswers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := open(t)
		defer f.Close()
		f.learn(bot, other, alice)
		for range rapid.IntRange(2, 14).Draw(rt, "changes") {
			drafts := make([]event.Draft, rapid.IntRange(1, 4).Draw(rt, "drafts"))
			for i := range drafts {
				drafts[i] = anyDraft(rt, f)
			}
			_, _ = f.try(change(drafts...)) // a change that cannot be is one more case
			if rapid.Bool().Draw(rt, "heartbeat") {
				_ = f.Beat(t.Context(), fmt.Sprint("t", rapid.IntRange(0, 3).Draw(rt, "task")), f.now)
			}
			f.now = f.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "step")) * time.Second)
			for range 2 { // once to remember, once to recall
				compareViews(rt, f)
			}
		}
	})
}

func compareViews(rt *rapid.T, f *fixture) {
	for _, subject := range []access.Ref{bot, other, alice} {
		for name, look := range map[string]func(v *View) (any, error){
			"Touched":        func(v *View) (any, error) { return v.Touched(subject, f.now.Add(-time.Minute)) },
			"Usage":          func(v *View) (any, error) { return v.Usage(subject, "c", f.now.Unix()-120) },
			"Precedent":      func(v *View) (any, error) { return v.Precedent(subject, read1, "Doc", "support") },
			"Fact":           func(v *View) (any, error) { return v.Fact(subject) },
			"CatalogVersion": func(v *View) (any, error) { return v.CatalogVersion() },
			"Task 0":         func(v *View) (any, error) { return v.Task("t0") },
			"Task 1":         func(v *View) (any, error) { return v.Task("t1") },
			"Task 2":         func(v *View) (any, error) { return v.Task("t2") },
		} {
			remembering, asking := f.view(), f.view()
			asking.inside, asking.now = true, f.Now() // such a view remembers nothing
			got, gotErr := look(remembering)
			want, wantErr := look(asking)
			if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
				rt.Fatalf("%s of %s: %v, %v (-database +remembered)\n%s", name, subject, wantErr, gotErr, diff)
			}
			for i := range remembering.seen {
				r := &remembering.seen[i]
				if now, err := r.value(rt.Context(), f.reads); err != nil || now != r.saw {
					rt.Fatalf("%s of %s depends on %s %v being %d, it is %d (%v)", name, subject, r.text, r.args, r.saw, now, err)
				}
			}
		}
	}
}

// The same when many write and read at once: in the end all counters are remembered as they are.
func TestCountersAreRememberedRightUnderLoad(t *testing.T) {
	f := open(t)
	f.record(f.taskOpened("t1", bot))
	subjects := []access.Ref{bot, other, alice}
	together(8, func(i int) {
		for n := range 60 / sample {
			subject := subjects[(i+n)%len(subjects)]
			_, err := f.Update(t.Context(), func(v *View) (event.Change, error) {
				_, err := v.Usage(subjects[n%len(subjects)], "c", 0)
				return change(f.decided(fmt.Sprintf("d%d.%d", i, n), "t1", subject, counts("c", int64(n%3), 1))), err
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	rapid.Check(t, func(rt *rapid.T) { compareViews(rt, f) })
}
