package control

import "sync"

// notifier wakes those who wait for a thing to change.
type notifier struct {
	mu      *sync.Mutex
	waiting map[string]chan struct{}
}

func newNotifier() notifier {
	return notifier{mu: new(sync.Mutex), waiting: map[string]chan struct{}{}}
}

// wait returns a channel that is closed at the next change of the thing. Take it before looking.
func (n notifier) wait(id string) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	ch := n.waiting[id]
	if ch == nil {
		ch = make(chan struct{})
		n.waiting[id] = ch
	}
	return ch
}

func (n notifier) wake(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch := n.waiting[id]; ch != nil {
		close(ch)
		delete(n.waiting, id)
	}
}
