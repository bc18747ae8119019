package api

import (
	"sync"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// waiting counts the long-polls, so that neither all together nor one identity's can hold every connection.
// It is safe for concurrent use.
type waiting struct {
	most, mostEach int

	mu   sync.Mutex
	all  int
	each map[access.Ref]int // only of who waits
}

func newWaiting(most, mostEach int) *waiting {
	return &waiting{most: most, mostEach: mostEach, each: map[access.Ref]int{}}
}

// enter takes a place; whoever got one must leave.
func (w *waiting) enter(who access.Ref) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.each[who] >= w.mostEach:
		return &control.Refusal{Code: access.CodeLimitExceeded, Detail: "too many of your calls wait already: ask without wait, or when one of them has returned"}
	case w.all >= w.most:
		return &control.Refusal{Code: access.CodeLimitExceeded, Detail: "too many calls wait already: ask without wait, or later"}
	}
	w.all++
	w.each[who]++
	return nil
}

func (w *waiting) leave(who access.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.each[who]--; w.each[who] == 0 {
		delete(w.each, who)
	}
}
