package evidence

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// MaxProblems is how many problems of single entries a [Report] lists; the others are only counted.
// Those of the whole log are always listed.
const MaxProblems = 1000

// WholeLog is the index of problems that belong to no single entry.
const WholeLog = -1

// Code names a kind of problem, for programs.
type Code string

// What a Verifier finds.
const (
	CodeEntry            Code = "entry_malformed"         // the entry cannot be read
	CodeIndex            Code = "index_wrong"             // its id is not its index
	CodeSource           Code = "source_wrong"            // it belongs to another log
	CodeTime             Code = "time_back"               // it is older than the entry before it
	CodeTaskNumber       Code = "task_number_wrong"       // an entry of its task is missing, doubled or out of order
	CodeTaskLink         Code = "task_link_wrong"         // taskprev is not the entry before it in its task
	CodeTaskSealed       Code = "task_sealed"             // its task had been sealed
	CodeTaskCount        Code = "task_count_wrong"        // the seal does not state the number of the task's entries
	CodeCommitment       Code = "commitment_malformed"    // its commitments cannot be read
	CodeValueAltered     Code = "value_altered"           // a value is not the one committed to
	CodeValueMissing     Code = "value_missing"           // a value is gone and no entry says that it was erased
	CodeValueUnreadable  Code = "value_unreadable"        // a value could not be looked up
	CodeErasure          Code = "erasure_malformed"       // an erasure cannot be read
	CodeErasureUnknown   Code = "erasure_unknown"         // an erasure names a value that was never committed to, or was erased before
	CodeErasedPresent    Code = "erased_value_present"    // a value that the log calls erased is still there
	CodeRoot             Code = "root_wrong"              // the entries are not those that the checkpoint was signed for
	CodeTruncated        Code = "truncated"               // the log is shorter than a checkpoint says
	CodeUnsigned         Code = "unsigned"                // entries after the head that no checkpoint covers
	CodeCheckpointOrigin Code = "checkpoint_origin_wrong" // a checkpoint belongs to another log
	CodeCheckpointLate   Code = "checkpoint_late"         // a checkpoint was expected after its size had been passed
)

// Problem is one thing wrong with a log.
type Problem struct {
	Index  int64  // of the entry, or WholeLog
	Code   Code   // for programs
	Detail string // for people; quotes the log, never a disclosed value
}

// Report is what a [Verifier] has found.
type Report struct {
	Entries int64 // read
	Root    Hash  // of the tree over all of them, computed

	TasksSealed int64 // tasks whose end and completeness were verified
	TasksOpen   int64 // tasks without a seal yet
	TasksUnread int64 // sealed tasks of which entries were added by hash alone: their completeness was not verified

	Unread int64 // entries added by hash alone

	ValuesOpened int64 // commitments opened by their disclosure
	ValuesErased int64 // values that are gone, as an entry says
	// ValuesUnchecked counts commitments that nobody could open because ReadDisclosures was not called.
	ValuesUnchecked int64

	Problems []Problem // by index, those of the whole log last
	Omitted  int64     // problems of entries beyond MaxProblems
}

// OK reports whether nothing was wrong.
func (r Report) OK() bool { return len(r.Problems) == 0 && r.Omitted == 0 }

// DisclosureFunc looks up what opens the commitment in a slot of the entry at index.
// found is false if there is nothing; err says that it could not be looked up.
type DisclosureFunc func(index int64, slot string) (d Disclosure, found bool, err error)

// Verifier checks a whole log in one pass: hand it every entry in order with [Verifier.Add], or its hash with
// [Verifier.AddHash], then its signed head. It goes on after a problem. It keeps the state of open tasks, eight bytes for
// each sealed task, the places of missing values until their erasure comes, and where runs of hashes alone begin and end.
type Verifier struct {
	origin   string
	lookup   DisclosureFunc
	expected map[int64][]Checkpoint
	tree     *Tree
	last     time.Time
	tasks    map[string]taskState
	sealed   map[uint64]struct{} // short hashes: a collision (one in 10^7 for a million tasks) would be a false alarm, never a miss
	missing  map[valueAt]struct{}
	unread   []run // ascending
	report   Report
	listed   int // problems of entries in report
}

type taskState struct {
	seq   int    // of its latest entry
	count int    // entries seen
	gaps  int    // entries that were added by hash alone, as the numbers show
	prev  string // index of its latest entry
}

// run is entries one after the other.
type run struct{ first, last int64 }

type valueAt struct {
	index int64
	slot  string
}

// NewVerifier returns a verifier for the log with this origin.
func NewVerifier(origin string) *Verifier {
	return &Verifier{
		origin:   origin,
		expected: make(map[int64][]Checkpoint),
		tree:     NewTree(),
		tasks:    make(map[string]taskState),
		sealed:   make(map[uint64]struct{}),
		missing:  make(map[valueAt]struct{}),
	}
}

// ReadDisclosures makes the verifier open every commitment with what lookup finds. Call it before the first Add.
// Without it, commitments are counted but not opened, and erasures are not compared with what is there.
func (v *Verifier) ReadDisclosures(lookup DisclosureFunc) { v.lookup = lookup }

// ExpectCheckpoint makes the verifier compare the root with a checkpoint kept from before (and opened with [OpenCheckpoint])
// when the log reaches its size. Call it before that entry is added; expecting the head too is good where entries may follow it.
func (v *Verifier) ExpectCheckpoint(c Checkpoint) {
	switch {
	case c.Origin != v.origin:
		v.problem(WholeLog, CodeCheckpointOrigin, "the expected checkpoint of size %d is of the log %.80q, not %.80q", c.Size, c.Origin, v.origin)
	case c.Size < v.tree.Size():
		v.problem(WholeLog, CodeCheckpointLate, "the checkpoint of size %d was expected only after %d entries; expect it earlier", c.Size, v.tree.Size())
	case c.Size == v.tree.Size():
		v.compareRoot(c)
	default:
		v.expected[c.Size] = append(v.expected[c.Size], c)
	}
}

// Add checks the next entry, given as its exact bytes, and returns it as it reads; ok is false if it cannot be read, which is
// among the problems then. It keeps nothing of raw.
func (v *Verifier) Add(raw []byte) (entry Entry, ok bool) {
	index := v.tree.Size()
	v.tree.Append(LeafHash(raw))
	entry, err := Parse(raw)
	if err != nil {
		v.problem(index, CodeEntry, "%v", err)
	} else {
		v.checkPlace(index, entry)
		v.checkTask(index, entry)
		v.checkValues(index, entry)
		v.checkErasure(index, entry)
	}
	v.compareExpected()
	return entry, err == nil
}

// AddHash adds the next entry by the hash of its leaf alone: one whose bytes are kept elsewhere, or nowhere any more. It
// counts for the root, so a wrong hash is found there, and for nothing else: what the entry said of its task and its values
// is not checked. A task may skip numbers over such entries, if the link of the next one names one of them.
func (v *Verifier) AddHash(leaf Hash) {
	index := v.tree.Size()
	v.tree.Append(leaf)
	if n := len(v.unread); n > 0 && v.unread[n-1].last == index-1 {
		v.unread[n-1].last = index
	} else {
		v.unread = append(v.unread, run{index, index})
	}
	v.report.Unread++
	v.compareExpected()
}

// isUnread reports whether the entry at index was added by hash alone.
func (v *Verifier) isUnread(index int64) bool {
	_, found := slices.BinarySearchFunc(v.unread, index, func(r run, index int64) int {
		if index < r.first {
			return 1
		}
		return cmp.Compare(min(index, r.last), index)
	})
	return found
}

func (v *Verifier) compareExpected() {
	for _, c := range v.expected[v.tree.Size()] {
		v.compareRoot(c)
	}
	delete(v.expected, v.tree.Size())
}

func (v *Verifier) checkPlace(index int64, e Entry) {
	if e.ID != strconv.FormatInt(index, 10) {
		v.problem(index, CodeIndex, "its id is %s; an entry was removed, added or moved", e.ID)
	}
	if e.Source != v.origin {
		v.problem(index, CodeSource, "its source is %.80q, the log is %.80q", e.Source, v.origin)
	}
	if e.Time.Before(v.last) {
		v.problem(index, CodeTime, "its time %s is before that of an earlier entry, %s", e.Time.Format(timeLayout), v.last.Format(timeLayout))
		return // the later time stays the measure
	}
	v.last = e.Time
}

func (v *Verifier) checkTask(index int64, e Entry) {
	if e.Task == "" {
		if e.Type == TypeTaskSealed {
			v.problem(index, CodeTaskCount, "it seals a task but names none")
		}
		return
	}
	if _, sealed := v.sealed[shortHash(e.Task)]; sealed {
		v.problem(index, CodeTaskSealed, "task %.80q goes on after its seal", e.Task)
		return
	}
	state := v.tasks[e.Task]
	gap := 0
	switch {
	case v.skips(state, e):
		gap = e.TaskSeq - state.seq - 1
	case e.TaskSeq != state.seq+1:
		v.problem(index, CodeTaskNumber, "it is number %d of task %.80q, number %d is due", e.TaskSeq, e.Task, state.seq+1)
	case e.TaskPrev != state.prev:
		v.problem(index, CodeTaskLink, "taskprev is %q, the entry before it in task %.80q is %q", e.TaskPrev, e.Task, state.prev)
	}
	state = taskState{seq: e.TaskSeq, count: state.count + 1, gaps: state.gaps + gap, prev: e.ID}
	if e.Type != TypeTaskSealed {
		v.tasks[e.Task] = state
		return
	}
	v.checkSeal(index, e, state)
	delete(v.tasks, e.Task)
	v.sealed[shortHash(e.Task)] = struct{}{}
}

// skips reports whether the entries of a task between the last one that was read and e can all be among those added by
// hash alone.
func (v *Verifier) skips(state taskState, e Entry) bool {
	prev, ok := decimal([]byte(e.TaskPrev), MaxSize)
	if !ok || e.TaskSeq <= state.seq+1 || !v.isUnread(prev) {
		return false
	}
	last, ok := decimal([]byte(state.prev), MaxSize)
	return !ok || prev > last
}

func (v *Verifier) checkSeal(index int64, e Entry, state taskState) {
	count, ok := e.sealCount()
	if there := state.count + state.gaps; !ok || count != int64(there) || count != int64(state.seq) {
		v.problem(index, CodeTaskCount, "the seal of task %.80q states %d entries, there are %d, the last is number %d", e.Task, count, there, state.seq)
		return
	}
	if state.gaps > 0 {
		v.report.TasksUnread++
		return
	}
	v.report.TasksSealed++
}

// sealCount reads the data of an entry of type TypeTaskSealed.
func (e Entry) sealCount() (count int64, ok bool) {
	found, err := dataMembers(e.Data, "count")
	if err != nil {
		return 0, false
	}
	return decimal(found[0], MaxSize)
}

func shortHash(task string) uint64 {
	h := sha256.Sum256([]byte(task))
	return binary.BigEndian.Uint64(h[:])
}

func (v *Verifier) checkValues(index int64, e Entry) {
	commitments, err := e.Commitments()
	if err != nil {
		v.problem(index, CodeCommitment, "%v", err)
		return
	}
	for _, slot := range slices.Sorted(maps.Keys(commitments)) {
		v.checkValue(valueAt{index, slot}, commitments[slot])
	}
}

func (v *Verifier) checkValue(at valueAt, c Commitment) {
	if v.lookup == nil {
		v.report.ValuesUnchecked++
		return
	}
	d, found, err := v.lookup(at.index, at.slot)
	switch {
	case err != nil:
		v.problem(at.index, CodeValueUnreadable, "slot %.80q: %v", at.slot, err)
	case !found:
		v.missing[at] = struct{}{}
	case !c.Opens(d):
		v.problem(at.index, CodeValueAltered, "the value in slot %.80q is not the one that the entry committed to", at.slot)
	default:
		v.report.ValuesOpened++
	}
}

func (v *Verifier) checkErasure(index int64, e Entry) {
	if e.Type != TypeValueErased {
		return
	}
	erased, err := e.Erased()
	if err != nil {
		v.problem(index, CodeErasure, "%v", err)
		return
	}
	if v.lookup == nil {
		return
	}
	for _, slot := range erased.Slots {
		v.checkErased(index, valueAt{erased.Index, slot})
	}
}

func (v *Verifier) checkErased(index int64, at valueAt) {
	if _, missing := v.missing[at]; missing {
		delete(v.missing, at)
		v.report.ValuesErased++
		return
	}
	_, found, err := v.lookup(at.index, at.slot)
	switch {
	case err != nil:
		v.problem(index, CodeValueUnreadable, "slot %.80q of entry %d: %v", at.slot, at.index, err)
	case !found && v.isUnread(at.index):
		// Nobody can say whether there was such a value.
	case found:
		v.problem(index, CodeErasedPresent, "it says that slot %.80q of entry %d was erased, but the value is still there; erase it", at.slot, at.index)
	default:
		v.problem(index, CodeErasureUnknown, "it says that slot %.80q of entry %d was erased, but there was no such value, or it had been erased before", at.slot, at.index)
	}
}

func (v *Verifier) compareRoot(c Checkpoint) {
	if root := v.tree.Root(); c.Root != root {
		v.problem(WholeLog, CodeRoot, "the first %d entries have the root %s, a checkpoint was signed for %s; an entry among them was changed", c.Size, root, c.Root)
	}
}

// Finish compares the log with its signed head (opened with [OpenCheckpoint]) and returns all that was found.
// It changes nothing: entries may be added and Finish called again.
func (v *Verifier) Finish(head Checkpoint) Report {
	final := *v
	final.report.Problems = slices.Clone(v.report.Problems)
	final.checkHead(head)
	final.checkLeftovers()
	r := final.report
	r.Entries, r.Root = v.tree.Size(), v.tree.Root()
	r.TasksOpen = int64(len(v.tasks))
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		// As unsigned numbers the whole log, -1, comes last.
		return cmp.Compare(uint64(a.Index), uint64(b.Index))
	})
	return r
}

func (v *Verifier) checkHead(head Checkpoint) {
	size := v.tree.Size()
	switch {
	case head.Origin != v.origin:
		v.problem(WholeLog, CodeCheckpointOrigin, "the head is of the log %.80q, not %.80q", head.Origin, v.origin)
	case head.Size > size:
		v.problem(WholeLog, CodeTruncated, "the head is of size %d, but there are only %d entries", head.Size, size)
	case head.Size < size:
		v.problem(WholeLog, CodeUnsigned, "%d entries after the head of size %d are not covered by it; read a newer head", size-head.Size, head.Size)
	default:
		v.compareRoot(head)
	}
}

func (v *Verifier) checkLeftovers() {
	for _, size := range slices.Sorted(maps.Keys(v.expected)) {
		v.problem(WholeLog, CodeTruncated, "a checkpoint of size %d is known, but there are only %d entries", size, v.tree.Size())
	}
	missing := slices.SortedFunc(maps.Keys(v.missing), func(a, b valueAt) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.slot, b.slot))
	})
	for _, at := range missing {
		v.problem(at.index, CodeValueMissing, "the value in slot %.80q is gone, and no entry says that it was erased", at.slot)
	}
}

func (v *Verifier) problem(index int64, code Code, format string, args ...any) {
	if index != WholeLog {
		if v.listed == MaxProblems {
			v.report.Omitted++
			return
		}
		v.listed++
	}
	v.report.Problems = append(v.report.Problems, Problem{index, code, fmt.Sprintf(format, args...)})
}
