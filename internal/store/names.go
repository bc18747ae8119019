package store

import (
	"sync"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// names turns entities into pseudonyms, and the pseudonyms of registered identities back.
type names struct {
	key *event.Pseudonymizer

	mu    sync.RWMutex
	known map[event.Pseudonym]access.Ref
}

func newNames(key *event.Pseudonymizer) *names {
	return &names{key: key, known: map[event.Pseudonym]access.Ref{}}
}

func (n *names) of(ref access.Ref) event.Pseudonym { return n.key.Of(ref) }

// learn remembers who a pseudonym stands for; only what the catalog declares is learnt.
func (n *names) learn(refs []access.Ref) {
	known := make(map[event.Pseudonym]access.Ref, len(refs))
	for _, ref := range refs {
		known[n.key.Of(ref)] = ref
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = known
}

// ref is who a pseudonym stands for; the zero Ref when the catalog no longer says.
func (n *names) ref(p event.Pseudonym) access.Ref {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.known[p]
}
