package replay

import (
	"iter"

	"github.com/writ-project/writ/internal/access"
)

// Step is one recorded call as a governed agent would have made it.
type Step struct {
	Task, Trial, Step int
	First, Last       bool // of its run: a task is opened before the first and completed after the last
	Customer          string
	Intent            string // the customer's first message
	LastUserMessage   string
	Tool              string
	Label             string
	Failed            bool // the tool itself refused

	// Facts are told before the request: whole entities, ordered by id, only those new to the run or changed.
	// Gone are entities that were told before, perhaps in another run, and do not exist now.
	Facts []access.Entity
	Gone  []access.Ref

	// Request lacks only the task that was opened for the run.
	Request access.Request
}

// Steps gives the calls in order, run by run. Each time it begins with nothing told. What a step holds is the caller's.
func (r *Recording) Steps() iter.Seq[Step] {
	return func(yield func(Step) bool) {
		t := &teller{told: map[access.Ref]told{}}
		for i, calls := range r.runs {
			t.run = i
			if !r.steps(t, calls, yield) {
				return
			}
		}
	}
}

func (r *Recording) steps(t *teller, calls []call, yield func(Step) bool) bool {
	state := newRun(&r.start)
	for i := range calls {
		c := &calls[i]
		facts, gone := t.tell(state.concerned(c))
		step := Step{
			Task: c.Task, Trial: c.Trial, Step: c.Step, First: i == 0, Last: i == len(calls)-1,
			Customer: c.Customer, Intent: c.Intent, LastUserMessage: c.LastUserMessage,
			Tool: c.Tool, Label: c.Label, Failed: c.Failed,
			Facts: facts, Gone: gone, Request: c.request(state),
		}
		if !yield(step) {
			return false
		}
		if c.effect != nil {
			c.effect.apply(state)
		}
	}
	return true
}
