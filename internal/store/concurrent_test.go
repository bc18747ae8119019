package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

func nothing(*View) (event.Change, error) { return event.Change{}, nil }

func change(drafts ...event.Draft) event.Change { return event.Change{Drafts: drafts} }

// Whatever a decision reads: if it changes before the commit, the decision is made again, on what is so then.
func TestADecisionOnWhatChangedIsMadeAgain(t *testing.T) {
	onEach(t, aDecisionOnWhatChangedIsMadeAgain)
}

func aDecisionOnWhatChangedIsMadeAgain(t *testing.T, open opener) {
	type look = func(v *View) error
	one := func(v *View, err error) error { _ = v; return err }
	for name, c := range map[string]struct {
		prepare []func(f *fixture) event.Change
		look    func(f *fixture) look
		meddle  func(f *fixture) event.Change
	}{
		"a task that was not there": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Task("t2"); return one(v, err) } },
			meddle: func(f *fixture) event.Change { return change(f.taskOpened("t2", bot)) },
		},
		"a task's status": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Task("t1"); return err } },
			meddle: func(*fixture) event.Change { return change(taskChanged("t1", access.TaskEnded, "")) },
		},
		"a task's labels": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Task("t1"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot, touches("new"))) },
		},
		"the number of open tasks": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.OpenTasks(bot, "support"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.taskOpened("t2", bot)) },
		},
		"the tasks of a subject": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Tasks(bot, 1); return err } },
			meddle: func(f *fixture) event.Change { return change(f.taskOpened("t0", bot)) },
		},
		"an overdue task that completes": {
			look: func(f *fixture) look {
				return func(v *View) error { _, err := v.OverdueTasks(f.now.Add(time.Hour), 9); return err }
			},
			meddle: func(*fixture) event.Change { return change(taskChanged("t1", access.TaskEnded, access.EndCompleted)) },
		},
		"an ended task that is sealed": {
			prepare: []func(*fixture) event.Change{func(*fixture) event.Change {
				return change(taskChanged("t1", access.TaskEnded, ""), event.Draft{Event: &event.ApprovalLapsed{Approval: "q1"}})
			}},
			look: func(f *fixture) look {
				return func(v *View) error { _, err := v.EndedTasks(f.now.Add(time.Hour), 9); return err }
			},
			meddle: func(*fixture) event.Change {
				return change(event.Draft{Task: "t1", Event: &event.TaskSealed{ID: "t1", Count: 5}})
			},
		},
		"the number of a task's entries": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.TaskEntries("t1"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot)) },
		},
		"a grant's uses": {
			look: func(*fixture) look { return func(v *View) error { _, err := v.Grant("d1"); return err } },
			meddle: func(*fixture) event.Change {
				return change(event.Draft{Event: &event.UseDecided{Grant: "d1", Counted: []string{"d1"}}})
			},
		},
		"a grant that was not there": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Grant("d9"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot)) },
		},
		"a grant whose input is erased": {
			look: func(*fixture) look { return func(v *View) error { _, err := v.Grant("d1"); return err } },
			meddle: func(f *fixture) event.Change {
				return change(event.Draft{Event: &event.ValueErased{Index: f.indexOf("d1"), Slots: []string{event.SlotInput}}})
			},
		},
		"a new grant of the task (a phantom)": {
			look: func(f *fixture) look {
				return func(v *View) error { _, err := v.ActiveGrants("t1", f.now); return err }
			},
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot)) },
		},
		"the first grant of a task (a phantom)": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.GrantsOfTask("t9"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t9", bot)) },
		},
		"an approval": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Approval("q1"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.answered("q1", alice, true, access.ApprovalPending)) },
		},
		"an approval that was not there": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Approval("q9"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("q9", "t1", bot, f.asks)) },
		},
		"a question that lapses": {
			look: func(f *fixture) look {
				return func(v *View) error { _, err := v.LapsedApprovals(f.now.Add(time.Hour), 9); return err }
			},
			meddle: func(f *fixture) event.Change { return change(f.answered("q1", alice, true, access.ApprovalApproved)) },
		},
		"a fact": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Fact(doc); return err } },
			meddle: func(f *fixture) event.Change { return change(reported("s", f.now, f.Pseudonym(doc))) },
		},
		"a fact that was not there": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Fact(alice); return err } },
			meddle: func(f *fixture) event.Change { return change(reported("s", f.now, f.Pseudonym(alice))) },
		},
		"a fact that is erased": {
			look: func(*fixture) look { return func(v *View) error { _, err := v.Fact(doc); return err } },
			meddle: func(f *fixture) event.Change {
				index := f.number(`SELECT version FROM facts`)
				return change(event.Draft{Event: &event.ValueErased{Index: index, Slots: []string{"0"}}})
			},
		},
		"a counter": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.Usage(bot, "c", 0); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot, counts("c", 60, 1))) },
		},
		"what an identity touched": {
			look: func(*fixture) look {
				return func(v *View) error { _, err := v.Touched(bot, time.Time{}); return err }
			},
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot, touches("new"))) },
		},
		"precedent": {
			look: func(*fixture) look {
				return func(v *View) error { _, err := v.Precedent(bot, read1, "Docq1", "support"); return err }
			},
			meddle: func(f *fixture) event.Change { return change(f.answered("q1", alice, true, access.ApprovalApproved)) },
		},
		"the catalog": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.CatalogVersion(); return err } },
			meddle: func(f *fixture) event.Change { return change(f.object("resource", alice, event.OpAdded)) },
		},
		"an identity's status": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.CatalogVersion(); return err } },
			meddle: func(f *fixture) event.Change { return change(statusOf(f.Pseudonym(bot), access.Suspended)) },
		},
		"an idempotency key that was free": {
			look: func(*fixture) look {
				return func(v *View) error { _, _, err := v.Remembered(bot, "k"); return err }
			},
			meddle: func(f *fixture) event.Change {
				return event.Change{Remember: &event.Remember{Subject: f.Pseudonym(bot), Key: "k", Digest: []byte{1}, Expires: f.now.Add(time.Hour)}}
			},
		},
		"an idempotency key that has run out": {
			prepare: []func(*fixture) event.Change{func(f *fixture) event.Change {
				return event.Change{Remember: &event.Remember{Subject: f.Pseudonym(bot), Key: "k", Digest: []byte{1}, Expires: f.now}}
			}},
			look: func(*fixture) look {
				return func(v *View) error { _, _, err := v.Remembered(bot, "k"); return err }
			},
			meddle: func(f *fixture) event.Change {
				return event.Change{Remember: &event.Remember{Subject: f.Pseudonym(bot), Key: "k", Digest: []byte{2}, Expires: f.now.Add(time.Hour)}}
			},
		},
		"a decision that was not made": {
			look:   func(*fixture) look { return func(v *View) error { _, err := v.DecisionIndex("d9"); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot)) },
		},
		"an entry that was not there": {
			look:   func(f *fixture) look { return func(v *View) error { _, err := v.DecisionEvent(f.Size()); return err } },
			meddle: func(f *fixture) event.Change { return change(f.decided("d9", "t1", bot)) },
		},
		"a value that is erased": {
			look: func(f *fixture) look {
				return func(v *View) error { _, err := v.Input(f.indexOf("d1")); return err }
			},
			meddle: func(f *fixture) event.Change {
				return change(event.Draft{Event: &event.ValueErased{Index: f.indexOf("d1"), Slots: []string{event.SlotInput}}})
			},
		},
		"a bundle that was not there": {
			look: func(*fixture) look {
				return func(v *View) error { _, err := v.BundleContent(bundle("b").Hash); return err }
			},
			meddle: func(*fixture) event.Change {
				return event.Change{Bundle: bundle("b"), Drafts: []event.Draft{{Event: &event.PolicyActivated{Bundle: bundle("b").Hash}}}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.record(f.taskOpened("t1", bot), f.decided("d1", "t1", bot, uses(3), counts("c", 60, 1), touches("pii")),
				f.decided("q1", "t1", bot, f.asks), reported("s", f.now, f.Pseudonym(doc)), f.object(event.KindIdentity, bot, event.OpAdded))
			for _, p := range c.prepare {
				if _, err := f.try(p(f)); err != nil {
					t.Fatal(err)
				}
			}
			for _, meddles := range []bool{false, true} {
				runs := 0
				_, err := f.Update(t.Context(), func(v *View) (event.Change, error) {
					if err := c.look(f)(v); err != nil && !errors.Is(err, access.ErrNotFound) {
						t.Error(err)
					}
					if runs++; runs == 1 && meddles {
						if _, err := f.try(c.meddle(f)); err != nil {
							t.Error(err)
						}
					}
					return change(statusOf("p_unrelated", access.Active)), nil
				})
				if want := map[bool]int{false: 1, true: 2}[meddles]; runs != want || err != nil {
					t.Errorf("changed in between: %v, decided %d times, want %d (%v)", meddles, runs, want, err)
				}
			}
		})
	}
}

// A heartbeat that arrives while a sweep ends the task is not overlooked.
func TestAHeartbeatSavesATaskFromTheSweep(t *testing.T) { onEach(t, aHeartbeatSavesATaskFromTheSweep) }

func aHeartbeatSavesATaskFromTheSweep(t *testing.T, open opener) {
	f := open(t)
	f.record(f.taskOpened("t1", bot))
	opened := f.now
	f.now = f.now.Add(2 * time.Minute)
	runs := 0
	_, err := f.Revoke(t.Context(), func(v *View) (event.Change, error) {
		overdue, err := v.OverdueTasks(opened.Add(time.Minute), 9)
		if runs++; runs == 1 {
			if err := f.Beat(t.Context(), "t1", opened.Add(time.Minute)); err != nil {
				t.Error(err)
			}
		}
		var drafts []event.Draft
		for _, task := range overdue {
			drafts = append(drafts, taskChanged(task.ID, access.TaskEnded, access.EndHeartbeatLost))
		}
		return event.Change{Drafts: drafts}, err
	})
	if err != nil || runs != 2 {
		t.Error(runs, err)
	}
	if task, err := f.view().Task("t1"); err != nil || task.Status != access.TaskOpen {
		t.Error(task.Status, err)
	}
}

// Many at once for the last one of something: exactly as many get it as there are.
func TestTwoNeverTakeTheLastOne(t *testing.T) { onEach(t, twoNeverTakeTheLastOne) }

func twoNeverTakeTheLastOne(t *testing.T, open opener) {
	const callers, limit = 40, 7
	for name, take := range map[string]func(f *fixture, v *View, i int) (int64, event.Draft){
		"counter": func(f *fixture, v *View, i int) (int64, event.Draft) {
			n, err := v.Usage(bot, "c", 0)
			return n + failed(err), f.decided(fmt.Sprint("d", i), "t1", bot, counts("c", 60, 1))
		},
		"open tasks": func(f *fixture, v *View, i int) (int64, event.Draft) {
			n, err := v.OpenTasks(bot, "support")
			return n + failed(err), f.taskOpened(fmt.Sprint("n", i), bot)
		},
		"uses of a grant": func(_ *fixture, v *View, _ int) (int64, event.Draft) {
			g, err := v.Grant("d")
			return g.Uses + failed(err), event.Draft{Task: "t1", Event: &event.UseDecided{Grant: "d", Counted: []string{"d"}}}
		},
		"labels": func(f *fixture, v *View, i int) (int64, event.Draft) {
			task, err := v.Task("t1")
			return int64(len(task.Labels)) + failed(err), f.decided(fmt.Sprint("d", i), "t1", bot, touches(fmt.Sprint(i)))
		},
		"grants of a task": func(f *fixture, v *View, i int) (int64, event.Draft) {
			list, err := v.ActiveGrants("t2", f.now)
			return int64(len(list)) + failed(err), f.decided(fmt.Sprint("d", i), "t2", bot)
		},
		"entries of a task": func(_ *fixture, v *View, _ int) (int64, event.Draft) {
			n, err := v.TaskEntries("t3")
			return n - 1 + failed(err), taskChanged("t3", access.TaskPaused, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.record(f.decided("d", "t1", bot))
			f.record(event.Draft{Task: "t1", Event: &event.TaskOpened{ID: "t1", Type: "other", ExpiresAt: f.now.Add(time.Hour)}}, f.taskOpened("t3", other))
			var taken atomic.Int64
			full := errors.New("none is left")
			together(callers, func(i int) {
				_, err := f.Update(context.Background(), func(v *View) (event.Change, error) {
					n, draft := take(f, v, i)
					if n >= limit {
						return event.Change{}, full
					}
					return change(draft), nil
				})
				switch {
				case err == nil:
					taken.Add(1)
				case !errors.Is(err, full):
					t.Error(err)
				}
			})
			if got := taken.Load(); got != limit {
				t.Errorf("%d of %d were given", got, limit)
			}
			f.verifyClean()
		})
	}
}

func failed(err error) int64 {
	if err != nil {
		return 1 << 40
	}
	return 0
}

// One key, one approval, one catalog version: of many who want it, one gets it.
func TestOnlyOneGetsIt(t *testing.T) { onEach(t, onlyOneGetsIt) }

func onlyOneGetsIt(t *testing.T, open opener) {
	for name, take := range map[string]func(f *fixture, v *View, i int) (bool, event.Change){
		"idempotency key": func(f *fixture, v *View, i int) (bool, event.Change) {
			_, used, _ := v.Remembered(bot, "k")
			c := change(f.decided(fmt.Sprint("d", i), "t1", bot))
			c.Remember = &event.Remember{Subject: f.Pseudonym(bot), Key: "k", Digest: []byte{1}, Expires: f.now.Add(time.Hour)}
			return !used, c
		},
		"approval": func(f *fixture, v *View, i int) (bool, event.Change) {
			a, _ := v.Approval("q1")
			return a.Status == access.ApprovalApproved, change(f.decided(fmt.Sprint("d", i), "t1", bot, func(d *event.DecisionMade) { d.Consumed = "q1" }))
		},
		"catalog version": func(f *fixture, v *View, _ int) (bool, event.Change) {
			version, _ := v.CatalogVersion()
			return version == absent, change(f.object("resource", doc, event.OpAdded))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.record(f.taskOpened("t1", bot), f.decided("q1", "t1", bot, f.asks), f.answered("q1", alice, true, access.ApprovalApproved))
			var taken atomic.Int64
			late := errors.New("too late")
			together(30, func(i int) {
				_, err := f.Update(context.Background(), func(v *View) (event.Change, error) {
					free, c := take(f, v, i)
					if !free {
						return event.Change{}, late
					}
					return c, nil
				})
				if err == nil {
					taken.Add(1)
				} else if !errors.Is(err, late) {
					t.Error(err)
				}
			})
			if taken.Load() != 1 {
				t.Errorf("%d got it", taken.Load())
			}
			f.verifyClean()
		})
	}
}

func together(n int, do func(i int)) {
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { do(i) })
	}
	group.Wait()
}

// held is a store whose commits wait for a sign, so that a test can say who shares one.
type held struct {
	*fixture
	sizes chan int      // of each transaction, as it is about to commit
	next  chan error    // lets it go on, or fail
	done  chan struct{} // one for every answer
}

func hold(t *testing.T, open opener) *held {
	h := &held{fixture: open(t), sizes: make(chan int), next: make(chan error), done: make(chan struct{}, 5000)}
	h.beforeCommit = func(n int) error {
		h.sizes <- n
		return <-h.next
	}
	return h
}

// goUpdate starts an update and returns when it waits in the queue.
func (h *held) goUpdate(ctx context.Context, urgent bool, decide func(*View) (event.Change, error), answer func(event.Receipt, error)) {
	waiting := len(h.queue)
	go func() {
		answer(h.update(ctx, decide, urgent))
		h.done <- struct{}{}
	}()
	for len(h.queue) == waiting {
		time.Sleep(0) // yields: nobody takes from the queue while a commit is held
	}
}

// first starts an update that is held just before its commit.
func (h *held) first(answer func(event.Receipt, error)) {
	go func() {
		answer(h.try(change(statusOf("p_first", access.Active))))
		h.done <- struct{}{}
	}()
	<-h.sizes
}

func fine(t *testing.T) func(event.Receipt, error) {
	return func(_ event.Receipt, err error) {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestManyShareOneCommitAndABatchIsBounded(t *testing.T) {
	onEach(t, manyShareOneCommitAndABatchIsBounded)
}

func manyShareOneCommitAndABatchIsBounded(t *testing.T, open opener) {
	h := hold(t, open)
	h.first(fine(t))
	for i := range maxBatch + 3 {
		h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided(fmt.Sprint("d", i), "t1", bot)), nil }, fine(t))
	}
	h.next <- nil
	for _, want := range []int{maxBatch, 3} {
		if got := <-h.sizes; got != want {
			t.Errorf("%d operations share a commit, want %d", got, want)
		}
		h.next <- nil
	}
	for range maxBatch + 4 {
		<-h.done
	}
	h.beforeCommit = nil
	h.verifyClean()
}

// One that cannot be recorded does not fail the others, nor cost each of them a commit of its own.
func TestOneFailureInABatchIsItsOwn(t *testing.T) { onEach(t, oneFailureInABatchIsItsOwn) }

func oneFailureInABatchIsItsOwn(t *testing.T, open opener) {
	h := hold(t, open)
	h.first(fine(t))
	mine := errors.New("mine")
	var refused, own, gone error
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided("a", "t1", bot)), nil }, fine(t))
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) {
		return change(statusOf("p_half", access.Active), h.decided("a", "t1", bot)), nil
	}, func(_ event.Receipt, err error) { refused = err })
	runs := 0
	h.goUpdate(t.Context(), false, func(v *View) (event.Change, error) {
		if runs++; runs > 1 {
			return event.Change{}, mine
		}
		_, _ = v.DecisionIndex("a") // which the first of the batch makes
		return change(statusOf("p_never", access.Active)), nil
	}, func(_ event.Receipt, err error) { own = err })
	ctx, cancel := context.WithCancel(t.Context())
	h.goUpdate(ctx, false, func(*View) (event.Change, error) { return change(statusOf("p_gone", access.Active)), nil }, func(_ event.Receipt, err error) { gone = err })
	cancel()
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided("b", "t1", bot)), nil }, fine(t))
	size := h.Size()
	h.next <- nil // the first
	if got := <-h.sizes; got != 4 {
		t.Errorf("%d share the commit without the one that cannot be recorded", got)
	}
	h.next <- nil
	for range 6 {
		<-h.done
	}
	wantErr(t, "refused", refused, access.ErrUnavailable)
	wantErr(t, "cancelled", gone, access.ErrUnavailable, context.Canceled)
	if own != mine { //nolint:errorlint // exactly as it is
		t.Error("decide's error came back as", own)
	}
	same(t, "entries", h.Size()-size, int64(3))
	h.beforeCommit = nil
	h.verifyClean()
}

// What was decided inside a transaction that was undone is decided again: what it saw there may never come to be.
func TestADecisionOnAnUndoneStateIsMadeAgain(t *testing.T) {
	onEach(t, aDecisionOnAnUndoneStateIsMadeAgain)
}

func aDecisionOnAnUndoneStateIsMadeAgain(t *testing.T, open opener) {
	h := hold(t, open)
	h.first(fine(t))
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) {
		return change(h.object(event.KindIdentity, bot, event.OpAdded)), nil
	},
		func(_ event.Receipt, err error) { wantErr(t, "the catalog change", err, access.ErrUnavailable) })
	var saw []int64
	h.goUpdate(t.Context(), false, func(v *View) (event.Change, error) {
		version, err := v.CatalogVersion()
		state, _ := v.Catalog()
		saw = append(saw, version)
		return change(h.decided(fmt.Sprintf("seen%d", len(state.Objects)), "t1", bot)), err
	}, func(_ event.Receipt, err error) { wantErr(t, "the decision", err, access.ErrUnavailable) })
	h.next <- nil
	<-h.sizes
	h.next <- errors.New("the disk is gone") // for all
	<-h.done
	<-h.done
	<-h.done
	if len(saw) != 2 || saw[0] != absent || saw[1] >= absent {
		t.Errorf("the decision saw the versions %v: that of a catalog which is not committed must never stand for one that is", saw)
	}
	if size := h.Size(); size != 2 {
		t.Error("the log has", size)
	}
	// The next catalog gets the index that the undone one would have had.
	go func() { _, _ = h.try(change(h.object("resource", doc, event.OpAdded))); h.done <- struct{}{} }()
	<-h.sizes
	h.next <- nil
	<-h.done
	if version, err := h.view().CatalogVersion(); err != nil || slices.Contains(saw, version) {
		t.Error("another catalog has the version of the undone one:", version, saw, err)
	}
	h.beforeCommit = nil
	h.verifyClean()
}

// The same within one batch: its first fails alone, and the second, decided on it, is decided again.
func TestADecisionAfterAFailureInItsBatchIsMadeAgain(t *testing.T) {
	onEach(t, aDecisionAfterAFailureInItsBatchIsMadeAgain)
}

func aDecisionAfterAFailureInItsBatchIsMadeAgain(t *testing.T, open opener) {
	h := hold(t, open)
	h.first(fine(t))
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided("a", "t1", bot)), nil }, fine(t))
	var made []string
	h.goUpdate(t.Context(), false, func(v *View) (event.Change, error) {
		_, err := v.DecisionIndex("a")
		made = append(made, fmt.Sprint("after a: ", err == nil))
		return change(h.decided(fmt.Sprint("b", len(made)), "t1", bot)), nil
	}, fine(t))
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided("a", "t1", bot)), nil },
		func(_ event.Receipt, err error) { wantErr(t, "refused", err, access.ErrUnavailable) })
	h.next <- nil
	<-h.sizes
	h.next <- nil
	for range 4 {
		<-h.done
	}
	// Outside, with the others, with each by itself to find the one at fault, and without that one.
	same(t, "decided", made, []string{"after a: false", "after a: true", "after a: true", "after a: true"})
	if _, err := h.view().DecisionIndex("b4"); err != nil {
		t.Error("what was recorded is not what was decided last:", err)
	}
}

func TestAPanicInsideTheTransactionIsOneCallersError(t *testing.T) {
	onEach(t, aPanicInsideTheTransactionIsOneCallersError)
}

func aPanicInsideTheTransactionIsOneCallersError(t *testing.T, open opener) {
	h := hold(t, open)
	h.first(fine(t))
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided("a", "t1", bot)), nil }, fine(t))
	runs := 0
	h.goUpdate(t.Context(), false, func(v *View) (event.Change, error) {
		_, _ = v.DecisionIndex("a")
		if runs++; runs > 1 {
			panic("bug")
		}
		return change(h.decided("b", "t1", bot)), nil
	}, func(_ event.Receipt, err error) { wantErr(t, "panicked", err, access.ErrUnavailable) })
	h.next <- nil
	<-h.sizes
	h.next <- nil
	for range 3 {
		<-h.done
	}
}

// When too many wait, requests are refused at once; what takes access away waits for its turn.
func TestAFullQueueRefusesAllButRevoking(t *testing.T) {
	h := hold(t, open)
	h.first(fine(t))
	for len(h.queue) < cap(h.queue) {
		h.queue <- &operation{ctx: t.Context(), decide: nothing, done: make(chan result, 1)}
	}
	_, err := h.try(change(statusOf("p", access.Active)))
	wantErr(t, "a request", err, access.ErrUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.Revoke(ctx, func(*View) (event.Change, error) { return change(statusOf("p", access.Active)), nil })
	wantErr(t, "a revocation whose caller has gone", err, access.ErrUnavailable, context.Canceled)
	go func() {
		_, err := h.Revoke(t.Context(), func(*View) (event.Change, error) { return change(statusOf("p", access.Suspended)), nil })
		if err != nil {
			t.Error(err)
		}
		close(h.sizes)
	}()
	h.next <- nil
	for range h.sizes {
		h.next <- nil
	}
	h.beforeCommit = nil
}

// Alone, a commit waits for nobody; under load it gathers for at most the time that was set. Time is invented here.
func TestGatherWaitsOnlyUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{queue: make(chan *operation, maxWaiting)}
		start := time.Now()
		op := &operation{}
		for range 3 {
			if got := s.gather(op, 1, time.Millisecond); len(got) != 1 || time.Since(start) != 0 {
				t.Error("alone it waited", time.Since(start), "for", len(got))
			}
		}
		if got := s.gather(&operation{urgent: true}, 5, time.Millisecond); len(got) != 1 || time.Since(start) != 0 {
			t.Error("what takes access away waited", time.Since(start))
		}
		if got := s.gather(op, 5, time.Millisecond); len(got) != 1 || time.Since(start) != time.Millisecond {
			t.Error("the load is over, it waited", time.Since(start), "for", len(got))
		}
		start = time.Now()
		for range 4 {
			s.queue <- op
		}
		if got := s.gather(op, 5, time.Millisecond); len(got) != 5 || time.Since(start) != 0 {
			t.Error("as many as before came, it waited", time.Since(start), "for", len(got))
		}
		go func() {
			time.Sleep(time.Millisecond / 2)
			s.queue <- op
			s.queue <- op
		}()
		if got := s.gather(op, 3, time.Millisecond); len(got) != 3 || time.Since(start) != time.Millisecond/2 {
			t.Error("it went on when as many had come, after", time.Since(start), "with", len(got))
		}
	})
}

func TestOneCallerMakesOneCommitEach(t *testing.T) {
	f := open(t)
	commits := 0
	f.beforeCommit = func(n int) error { commits += n; return nil }
	for i := range 10 {
		f.record(statusOf(event.Pseudonym(fmt.Sprint("p", i)), access.Active))
	}
	same(t, "commits", commits, 10)
}

// Everything that was acknowledged is in the log, and nothing is there by half, when the store closes under load.
func TestCloseUnderLoad(t *testing.T) { onEach(t, closeUnderLoad) }

func closeUnderLoad(t *testing.T, open opener) {
	f := open(t)
	var mu sync.Mutex
	acknowledged := map[string]int64{}
	started := make(chan struct{})
	var once sync.Once
	go func() {
		<-started
		together(2, func(int) {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}()
	together(24, func(i int) {
		for n := 0; ; n++ {
			id := fmt.Sprintf("d%d.%d", i, n)
			receipt, err := f.try(change(f.decided(id, "t1", bot), f.decided(id+"b", "t1", bot)))
			if err != nil {
				wantErr(t, "closing", err, access.ErrUnavailable)
				return
			}
			mu.Lock()
			acknowledged[id] = receipt.Indexes[0]
			if len(acknowledged) > 100 {
				once.Do(func() { close(started) })
			}
			mu.Unlock()
		}
	})
	f.reopen()
	for id, index := range acknowledged {
		if got := f.indexOf(id); got != index {
			t.Errorf("%s was acknowledged at %d and is at %d", id, index, got)
		}
		f.indexOf(id + "b")
	}
	f.verifyClean()
	if f.Size()%2 != 1 {
		t.Error("half a change is in the log of", f.Size())
	}
}

// A catalog that was read earlier but comes later must not make the store forget who it knows.
func TestNamesKeepTheNewestCatalog(t *testing.T) {
	f := open(t)
	n := newNames(f.names.key)
	n.learn(5, []access.Ref{bot, alice})
	n.learn(4, []access.Ref{bot})
	if n.ref(f.Pseudonym(alice)) != alice {
		t.Error("an older catalog won")
	}
	n.add([]access.Ref{other})
	if n.ref(f.Pseudonym(alice)) != alice || n.ref(f.Pseudonym(other)) != other {
		t.Error("a catalog that is not committed yet made it forget")
	}
	n.learn(6, []access.Ref{bot})
	if n.ref(f.Pseudonym(alice)) != (access.Ref{}) {
		t.Error("who is no longer declared is still known")
	}
}

// The same when what it was decided on then fails by itself: what is recorded must be what its caller was told last.
func TestADecisionOnAFailedOneIsMadeAgain(t *testing.T) {
	h := hold(t, open)
	h.first(fine(t))
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided("a", "t1", bot)), nil },
		func(_ event.Receipt, err error) { wantErr(t, "without space", err, access.ErrUnavailable) })
	told := ""
	runs := 0
	h.goUpdate(t.Context(), false, func(v *View) (event.Change, error) {
		runs++
		_, _ = v.DecisionIndex("a")
		told = fmt.Sprint("b", runs)
		return change(h.decided(told, "t1", bot)), nil
	}, fine(t))
	h.next <- nil
	for _, outcome := range []error{syscall.ENOSPC, syscall.ENOSPC, nil} { // both, the first alone, the second alone
		<-h.sizes
		h.next <- outcome
	}
	for range 3 {
		<-h.done
	}
	same(t, "told", told, "b3")
	h.indexOf(told)
}
