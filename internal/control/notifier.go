package control

import "sync"

// notifier wakes those who wait for a thing to change.
type notifier struct {
	mu      *sync.Mutex
	waiting map[string]*waiters
}

// waiters are those who wait for one thing; the last one to leave forgets it.
type waiters struct {
	changed chan struct{}
	count   int
}

func newNotifier() notifier {
	return notifier{mu: new(sync.Mutex), waiting: map[string]*waiters{}}
}

// wait returns a channel that is closed at the next change of the thing. Take it before looking, and leave afterwards.
func (n notifier) wait(id string) (changed <-chan struct{}, leave func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.waiting[id]
	if w == nil {
		w = &waiters{changed: make(chan struct{})}
		n.waiting[id] = w
	}
	w.count++
	return w.changed, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if w.count--; w.count == 0 && n.waiting[id] == w {
			delete(n.waiting, id)
		}
	}
}

func (n notifier) wake(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.waiting[id]; w != nil {
		close(w.changed)
		delete(n.waiting, id)
	}
}

func (n notifier) wakeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.waiting {
		close(w.changed)
	}
	clear(n.waiting)
}

// Wake lets everybody who waits for something look again: another process may have changed it.
func (c *Control) Wake() { c.changed.wakeAll() }
