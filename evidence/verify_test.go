package evidence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
)

// honestLog has two tasks, one of them sealed, values, and an erasure.
func honestLog(tb testing.TB) *testLog {
	l := newTestLog(tb)
	l.add("writ.started", "", "")                      // 0
	l.add("writ.task.opened", "t1", `{"type":"a"}`)    // 1
	l.commit("t1", "args", "purpose")                  // 2
	l.add("writ.task.opened", "t2", "")                // 3
	l.commit("t2", "args")                             // 4
	l.seal("t1")                                       // 5
	l.erase(2, "purpose")                              // 6
	l.add("writ.request.denied", "t2", `{"risk":[1]}`) // 7
	return l
}

// report runs a verifier over the log as it is stored.
func (l *testLog) report(expected ...evidence.Checkpoint) evidence.Report {
	v := evidence.NewVerifier(origin)
	v.ReadDisclosures(l.lookup)
	for _, c := range expected {
		v.ExpectCheckpoint(c)
	}
	for _, raw := range l.raws {
		v.Add(raw)
	}
	return v.Finish(l.head())
}

func TestHonestLog(t *testing.T) {
	l := honestLog(t)
	older := evidence.Checkpoint{Origin: origin, Size: 5, Root: must(evidence.RootAt(l.tree, l.store, 5))(t)}
	empty := evidence.Checkpoint{Origin: origin, Root: evidence.NewTree().Root()}
	got := l.report(older, empty, older)
	want := evidence.Report{Entries: 8, Root: l.tree.Root(), TasksSealed: 1, TasksOpen: 1, ValuesOpened: 2, ValuesErased: 1}
	if diff := cmp.Diff(want, got); diff != "" || !got.OK() {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestVerifierWithoutDisclosures(t *testing.T) {
	l := honestLog(t)
	v := evidence.NewVerifier(origin)
	for _, raw := range l.raws {
		v.Add(raw)
	}
	if r := v.Finish(l.head()); !r.OK() || r.ValuesUnchecked != 3 || r.ValuesOpened+r.ValuesErased != 0 {
		t.Errorf("%+v", r)
	}
}

func TestFinishMayBeCalledAgain(t *testing.T) {
	l := honestLog(t)
	v := evidence.NewVerifier(origin)
	v.ReadDisclosures(l.lookup)
	wrong := l.head()
	wrong.Size += 2
	for _, raw := range l.raws[:6] {
		v.Add(raw)
	}
	if r := v.Finish(wrong); len(r.Problems) != 2 { // truncated; the value erased by entry 6 is missing so far
		t.Errorf("%+v", r.Problems)
	}
	for _, raw := range l.raws[6:] {
		v.Add(raw)
	}
	if r := v.Finish(l.head()); !r.OK() {
		t.Errorf("%+v", r.Problems)
	}
}

func TestReportsShareNothing(t *testing.T) {
	v := evidence.NewVerifier(origin)
	for range 3 { // leaves room behind the third problem
		v.Add([]byte("x"))
	}
	foreign := v.Finish(evidence.Checkpoint{Origin: "other"})
	truncated := v.Finish(evidence.Checkpoint{Origin: origin, Size: 9})
	if foreign.Problems[3].Code != evidence.CodeCheckpointOrigin || truncated.Problems[3].Code != evidence.CodeTruncated {
		t.Errorf("the second report changed the first: %v", foreign.Problems[3])
	}
}

// TestProblems tells one lie per case. The lies are those of somebody who can write entries and sign heads,
// so that the tree is right for what is stored: only the checks of content can find them.
func TestProblems(t *testing.T) {
	with := func(change func(*evidence.Entry)) func(*testLog) {
		return func(l *testLog) {
			e := l.next("writ.test", "t2", "")
			change(&e)
			l.put(e)
		}
	}
	for name, c := range map[string]struct {
		lie  func(*testLog)
		want string // the problems, as "index code"
	}{
		"unreadable entry":    {func(l *testLog) { l.putRaw([]byte("{}")) }, "8 entry_malformed"},
		"wrong id":            {with(func(e *evidence.Entry) { e.ID = "9" }), "8 index_wrong"},
		"another log's entry": {with(func(e *evidence.Entry) { e.Source = "other" }), "8 source_wrong"},
		"time steps back":     {with(func(e *evidence.Entry) { e.Time = noon() }), "8 time_back"},
		"time steps back twice": {func(l *testLog) {
			for _, ms := range []time.Duration{1, 2, 7} {
				e := l.next("writ.test", "", "")
				e.Time = noon().Add(ms * time.Millisecond)
				l.put(e)
			}
		}, "8 time_back, 9 time_back"},
		"seal hides a gap by its number": {func(l *testLog) {
			l.seqs["t2"]++
			l.add("writ.test", "t2", "")
			l.add(evidence.TypeTaskSealed, "t2", `{"count":6}`)
		}, "8 task_number_wrong, 9 task_count_wrong"},
		"seal hides a gap by its count": {func(l *testLog) {
			l.seqs["t2"]++
			l.add("writ.test", "t2", "")
			l.add(evidence.TypeTaskSealed, "t2", `{"count":5}`)
		}, "8 task_number_wrong, 9 task_count_wrong"},
		"time stands still":      {with(func(e *evidence.Entry) { e.Time = noon().Add(7 * time.Millisecond) }), ""},
		"task entry left out":    {with(func(e *evidence.Entry) { e.TaskSeq++ }), "8 task_number_wrong"},
		"task entry doubled":     {with(func(e *evidence.Entry) { e.TaskSeq-- }), "8 task_number_wrong"},
		"new task begins at 2":   {with(func(e *evidence.Entry) { e.Task, e.TaskSeq = "t3", 2 }), "8 task_number_wrong"},
		"task begins again":      {with(func(e *evidence.Entry) { e.TaskSeq, e.TaskPrev = 1, "" }), "8 task_number_wrong"},
		"wrong predecessor":      {with(func(e *evidence.Entry) { e.TaskPrev = "5" }), "8 task_link_wrong"},
		"after the seal":         {func(l *testLog) { l.add("writ.test", "t1", "") }, "8 task_sealed"},
		"sealed task as new":     {with(func(e *evidence.Entry) { e.Task, e.TaskSeq, e.TaskPrev = "t1", 1, "" }), "8 task_sealed"},
		"seal without a task":    {func(l *testLog) { l.add(evidence.TypeTaskSealed, "", `{"count":1}`) }, "8 task_count_wrong"},
		"seal without a count":   {func(l *testLog) { l.add(evidence.TypeTaskSealed, "t2", `{"Count":4}`) }, "8 task_count_wrong"},
		"seal counts too few":    {func(l *testLog) { l.add(evidence.TypeTaskSealed, "t2", `{"count":3}`) }, "8 task_count_wrong"},
		"seal of a task of one":  {func(l *testLog) { l.add(evidence.TypeTaskSealed, "t3", `{"count":1}`) }, ""},
		"unreadable commitments": {func(l *testLog) { l.add("writ.test", "", `{"commitments":[]}`) }, "8 commitment_malformed"},
		"value missing":          {func(l *testLog) { delete(l.values, "4/args") }, "4 value_missing"},
		"value altered": {func(l *testLog) {
			d := l.values["4/args"]
			d.Value = json.RawMessage(`{"secret of":"other"}`)
			l.values["4/args"] = d
		}, "4 value_altered"},
		"values swapped": {func(l *testLog) {
			l.values["4/args"], l.values["2/args"] = l.values["2/args"], l.values["4/args"]
		}, "2 value_altered, 4 value_altered"},
		"unreadable erasure":         {func(l *testLog) { l.add(evidence.TypeValueErased, "", `{}`) }, "8 erasure_malformed"},
		"erasure of the future":      {func(l *testLog) { l.sayErased(8, "args") }, "8 erasure_malformed"},
		"erased value still there":   {func(l *testLog) { l.sayErased(4, "args") }, "8 erased_value_present"},
		"erasure of an unknown slot": {func(l *testLog) { l.erase(4, "nothing") }, "8 erasure_unknown"},
		"erased twice":               {func(l *testLog) { l.erase(2, "purpose") }, "8 erasure_unknown"},
		"erased, then put back":      {func(l *testLog) { l.values["2/purpose"] = evidence.Disclosure{Salt: salt(1), Value: []byte("1")} }, "2 value_altered, 6 erased_value_present"},
	} {
		t.Run(name, func(t *testing.T) {
			l := honestLog(t)
			c.lie(l)
			if got := codes(l.report()); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// What a problem says in numbers is what the log says.
func TestProblemsSayWhatIsWrong(t *testing.T) {
	l := honestLog(t)
	e := l.next("writ.test", "t2", "")
	e.TaskSeq++
	l.put(e)
	head := l.head()
	head.Size -= 3
	v := evidence.NewVerifier(origin)
	for _, raw := range l.raws {
		v.Add(raw)
	}
	want := []string{`it is number 5 of task "t2", number 4 is due`, "3 entries after the head of size 6 are not covered by it; read a newer head"}
	var got []string
	for _, p := range v.Finish(head).Problems {
		got = append(got, p.Detail)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func codes(r evidence.Report) string {
	var b []string
	for _, p := range r.Problems {
		b = append(b, fmt.Sprintf("%d %s", p.Index, p.Code))
		if p.Detail == "" {
			b = append(b, "without detail")
		}
	}
	return strings.Join(b, ", ")
}

func TestProblemsOfTheTree(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(l *testLog, v *evidence.Verifier, add func(n int)) evidence.Checkpoint
		want string
	}{
		"an entry was changed": {func(l *testLog, _ *evidence.Verifier, add func(int)) evidence.Checkpoint {
			l.raws[3] = bytes.Replace(l.raws[3], []byte("agent/7"), []byte("agent/8"), 1)
			add(8)
			return l.head()
		}, "-1 root_wrong"},
		"an entry was removed": {func(l *testLog, _ *evidence.Verifier, add func(int)) evidence.Checkpoint {
			l.raws = slices.Delete(l.raws, 7, 8)
			add(7)
			return l.head()
		}, "-1 truncated"},
		"entries after the head": {func(l *testLog, _ *evidence.Verifier, add func(int)) evidence.Checkpoint {
			head := l.head()
			head.Size--
			add(8)
			return head
		}, "-1 unsigned"},
		"another log's head": {func(l *testLog, _ *evidence.Verifier, add func(int)) evidence.Checkpoint {
			head := l.head()
			head.Origin = "other"
			add(8)
			return head
		}, "-1 checkpoint_origin_wrong"},
		"an older checkpoint says otherwise": {func(l *testLog, v *evidence.Verifier, add func(int)) evidence.Checkpoint {
			v.ExpectCheckpoint(evidence.Checkpoint{Origin: origin, Size: 5, Root: cheapLeaf(1)})
			add(8)
			return l.head()
		}, "-1 root_wrong"},
		"an older checkpoint knows more": {func(l *testLog, v *evidence.Verifier, add func(int)) evidence.Checkpoint {
			v.ExpectCheckpoint(evidence.Checkpoint{Origin: origin, Size: 9, Root: cheapLeaf(1)})
			add(8)
			return l.head()
		}, "-1 truncated"},
		"another log's older checkpoint": {func(l *testLog, v *evidence.Verifier, add func(int)) evidence.Checkpoint {
			v.ExpectCheckpoint(evidence.Checkpoint{Origin: "other", Size: 5})
			add(8)
			return l.head()
		}, "-1 checkpoint_origin_wrong"},
		"an older checkpoint comes late": {func(l *testLog, v *evidence.Verifier, add func(int)) evidence.Checkpoint {
			add(8)
			v.ExpectCheckpoint(evidence.Checkpoint{Origin: origin, Size: 5})
			return l.head()
		}, "-1 checkpoint_late"},
		"a checkpoint of this very size": {func(l *testLog, v *evidence.Verifier, add func(int)) evidence.Checkpoint {
			add(8)
			v.ExpectCheckpoint(evidence.Checkpoint{Origin: origin, Size: 8})
			return l.head()
		}, "-1 root_wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			l := honestLog(t)
			v := evidence.NewVerifier(origin)
			v.ReadDisclosures(l.lookup)
			head := c.lie(l, v, func(n int) {
				for _, raw := range l.raws[:n] {
					v.Add(raw)
				}
			})
			if got := codes(v.Finish(head)); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestUnreadableValuesAreNamed(t *testing.T) {
	l := honestLog(t)
	down := errors.New("the store is down")
	v := evidence.NewVerifier(origin)
	v.ReadDisclosures(func(int64, string) (evidence.Disclosure, bool, error) { return evidence.Disclosure{}, false, down })
	for _, raw := range l.raws {
		v.Add(raw)
	}
	want := "2 value_unreadable, 2 value_unreadable, 4 value_unreadable, 6 value_unreadable"
	if r := v.Finish(l.head()); codes(r) != want || !strings.Contains(r.Problems[0].Detail, down.Error()) {
		t.Errorf("found %q, want %q", codes(r), want)
	}
}

func TestAllProblemsAreCountedAndOrdered(t *testing.T) {
	v := evidence.NewVerifier(origin)
	v.ExpectCheckpoint(evidence.Checkpoint{Origin: "other"})
	for range evidence.MaxProblems + 5 {
		v.Add([]byte("x"))
	}
	r := v.Finish(evidence.Checkpoint{Origin: origin, Size: 5000})
	if len(r.Problems) != evidence.MaxProblems+2 || r.Omitted != 5 || r.OK() {
		t.Fatalf("%d problems, %d omitted", len(r.Problems), r.Omitted)
	}
	last := r.Problems[evidence.MaxProblems:]
	if last[0].Code != evidence.CodeCheckpointOrigin || last[1].Code != evidence.CodeTruncated || last[1].Index != evidence.WholeLog {
		t.Errorf("the problems of the whole log are not all there, last: %v", last)
	}
}

func TestProblemsNeverQuoteValues(t *testing.T) {
	l := honestLog(t)
	d := l.values["4/args"]
	d.Value = json.RawMessage(`"top secret"`)
	l.values["4/args"] = d
	if text := fmt.Sprintf("%+v", l.report()); strings.Contains(text, "top secret") {
		t.Errorf("a report quotes a value: %s", text)
	}
}

// TestAnyChangeOfAnyLogIsFound builds any honest log, which must verify, then changes it behind the signed head.
func TestAnyChangeOfAnyLogIsFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newTestLog(t)
		open := []string{}
		for i := range rapid.IntRange(1, 40).Draw(rt, "entries") {
			switch kind := rapid.IntRange(0, 4).Draw(rt, "kind"); {
			case kind == 0:
				open = append(open, "task"+strconv.Itoa(i))
				l.add("writ.task.opened", open[len(open)-1], "")
			case kind == 1 && len(open) > 0:
				l.commit(rapid.SampledFrom(open).Draw(rt, "task"), "a", "b")
			case kind == 2 && len(open) > 0:
				task := rapid.SampledFrom(open).Draw(rt, "task")
				open = slices.DeleteFunc(open, func(s string) bool { return s == task })
				l.seal(task)
			case kind == 3 && len(l.values) > 0:
				var index int64
				var slot string
				_, _ = fmt.Sscanf(slices.Min(keys(l.values)), "%d/%s", &index, &slot)
				l.erase(index, slot)
			default:
				l.add("writ.note", "", `{"text":"x"}`)
			}
		}
		if r := l.report(); !r.OK() {
			rt.Fatalf("an honest log: %+v", r.Problems)
		}
		i := rapid.IntRange(0, len(l.raws)-1).Draw(rt, "which")
		switch rapid.IntRange(0, 3).Draw(rt, "change") {
		case 0:
			raw := bytes.Clone(l.raws[i])
			raw[rapid.IntRange(0, len(raw)-1).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
			l.raws[i] = raw
		case 1:
			l.raws = slices.Delete(l.raws, i, i+1)
		case 2:
			l.raws = slices.Insert(l.raws, i, l.raws[i])
		case 3:
			j := rapid.IntRange(0, len(l.raws)-1).Draw(rt, "with")
			if i == j {
				return
			}
			l.raws[i], l.raws[j] = l.raws[j], l.raws[i]
		}
		if r := l.report(); r.OK() {
			rt.Fatal("a changed log verifies")
		}
	})
}

func keys(m map[string]evidence.Disclosure) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

func FuzzVerifier(f *testing.F) {
	l := honestLog(f)
	f.Add(bytes.Join(l.raws, []byte("\n")))
	f.Add([]byte("{}\n{}"))
	head := l.head()
	f.Fuzz(func(t *testing.T, data []byte) {
		v := evidence.NewVerifier(origin)
		v.ReadDisclosures(l.lookup)
		v.ExpectCheckpoint(evidence.Checkpoint{Origin: origin, Size: 3, Root: cheapLeaf(0)})
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			v.Add(line)
		}
		r := v.Finish(head)
		if r.Entries >= 3 && r.OK() {
			t.Error("a wrong older checkpoint went unnoticed")
		}
		if r.Root != head.Root && r.Entries == head.Size && r.OK() {
			t.Error("a wrong root went unnoticed")
		}
	})
}
