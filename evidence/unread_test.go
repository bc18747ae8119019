package evidence_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/evidence"
)

// reportWithout runs a verifier over the log, adding the entries at some indexes by their hash alone.
func (l *testLog) reportWithout(unread func(index int) bool, expected ...evidence.Checkpoint) evidence.Report {
	v := evidence.NewVerifier(origin)
	v.ReadDisclosures(l.lookup)
	for _, c := range expected {
		v.ExpectCheckpoint(c)
	}
	for index, raw := range l.raws {
		if unread(index) {
			v.AddHash(evidence.LeafHash(raw))
		} else {
			v.Add(raw)
		}
	}
	return v.Finish(l.head())
}

func at(indexes ...int) func(int) bool {
	return func(index int) bool {
		for _, i := range indexes {
			if i == index {
				return true
			}
		}
		return false
	}
}

func TestEntriesAddedByHashAlone(t *testing.T) {
	l := honestLog(t)
	root := l.tree.Root()
	older := evidence.Checkpoint{Origin: origin, Size: 5, Root: must(evidence.RootAt(l.tree, l.store, 5))(t)}
	all := func(int) bool { return true }
	for name, c := range map[string]struct {
		unread func(int) bool
		want   evidence.Report
	}{
		"none":                      {at(), evidence.Report{TasksSealed: 1, TasksOpen: 1, ValuesOpened: 2, ValuesErased: 1}},
		"the first":                 {at(0), evidence.Report{Unread: 1, TasksSealed: 1, TasksOpen: 1, ValuesOpened: 2, ValuesErased: 1}},
		"a whole sealed task":       {at(1, 2, 5), evidence.Report{Unread: 3, TasksOpen: 1, ValuesOpened: 1}},
		"the beginning of a task":   {at(1), evidence.Report{Unread: 1, TasksUnread: 1, TasksOpen: 1, ValuesOpened: 2, ValuesErased: 1}},
		"the middle of a task":      {at(2), evidence.Report{Unread: 1, TasksUnread: 1, TasksOpen: 1, ValuesOpened: 1}},
		"all of a task but its end": {at(1, 2), evidence.Report{Unread: 2, TasksUnread: 1, TasksOpen: 1, ValuesOpened: 1}},
		"a seal":                    {at(5), evidence.Report{Unread: 1, TasksOpen: 2, ValuesOpened: 2, ValuesErased: 1}},
		"an erasure's value":        {at(2, 6), evidence.Report{Unread: 2, TasksUnread: 1, TasksOpen: 1, ValuesOpened: 1}},
		"all":                       {all, evidence.Report{Unread: 8}},
	} {
		c.want.Entries, c.want.Root = 8, root
		got := l.reportWithout(c.unread, older)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// Not reading an entry excuses nothing else.
func TestWhatIsWrongBesideUnreadEntriesIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		wrong  func(l *testLog)
		unread func(int) bool
		want   string
	}{
		"an unread entry was changed": {
			func(l *testLog) { l.raws[3][30] ^= 1 }, at(3), "-1 root_wrong",
		},
		"a gap whose link names what was read": {
			func(l *testLog) { l.entry("t2", 5, "4") }, at(1), "8 task_number_wrong",
		},
		"a gap whose link names what comes before the entry that was read": {
			func(l *testLog) { l.entry("t2", 5, "1") }, at(1), "8 task_number_wrong",
		},
		"a gap whose link names nothing": {
			func(l *testLog) { l.entry("t2", 1, "") }, at(1), "8 task_number_wrong",
		},
		"a number that came before": {
			func(l *testLog) { l.entry("t2", 2, "1") }, at(1), "8 task_number_wrong",
		},
		"a seal that counts one too many": {
			func(l *testLog) { l.sealAs("t2", 4, "7", 5) }, at(3), "8 task_count_wrong",
		},
		"an erased value that is still there": {
			func(l *testLog) { l.sayErased(4, "args") }, at(4), "8 erased_value_present",
		},
	} {
		l := honestLog(t)
		c.wrong(l)
		if got := codes(l.reportWithout(c.unread)); got != c.want {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}

// entry adds an entry with a number and a link of its own.
func (l *testLog) entry(task string, seq int, prev string) {
	e := l.next("writ.request.denied", task, "")
	e.TaskSeq, e.TaskPrev = seq, prev
	l.putRaw(must(e.Marshal())(l.tb))
}

func (l *testLog) sealAs(task string, seq int, prev string, count int) {
	e := l.next(evidence.TypeTaskSealed, task, fmt.Sprintf(`{"count":%d}`, count))
	e.TaskSeq, e.TaskPrev = seq, prev
	l.putRaw(must(e.Marshal())(l.tb))
}

// Many runs of unread entries, between and at the ends of which tasks go on.
func TestRunsOfUnreadEntries(t *testing.T) {
	l := newTestLog(t)
	for i := range 400 {
		l.add("writ.request.denied", "t"+strconv.Itoa(i%7), "")
	}
	for _, every := range []int{2, 3, 5, 64} {
		got := l.reportWithout(func(index int) bool { return index%every == 1 || index/100 == 2 })
		if !got.OK() || got.Unread == 0 || got.Entries != 400 {
			t.Errorf("every %d: %+v", every, got)
		}
	}
}
