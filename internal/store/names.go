package store

import (
	"maps"
	"sync"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// names turns entities into pseudonyms, and the pseudonyms of registered identities back.
type names struct {
	key *event.Pseudonymizer

	mu      sync.RWMutex
	version int64 // of the catalog that known is from
	known   map[event.Pseudonym]access.Ref
}

func newNames(key *event.Pseudonymizer) *names {
	return &names{key: key, known: map[event.Pseudonym]access.Ref{}}
}

func (n *names) fingerprint() string { return n.key.Fingerprint() }

func (n *names) of(ref access.Ref) event.Pseudonym { return n.key.Of(ref) }

// learn remembers who a pseudonym stands for; only what the catalog of a version declares is learnt, and one that was
// read earlier but comes later changes nothing.
func (n *names) learn(version int64, refs []access.Ref) {
	known := make(map[event.Pseudonym]access.Ref, len(refs))
	for _, ref := range refs {
		known[n.key.Of(ref)] = ref
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if version >= n.version {
		n.version, n.known = version, known
	}
}

// add learns from a catalog that is not committed yet, and so may never come to be: nothing known is forgotten for it.
func (n *names) add(refs []access.Ref) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = maps.Clone(n.known)
	for _, ref := range refs {
		n.known[n.key.Of(ref)] = ref
	}
}

// ref is who a pseudonym stands for; the zero Ref when the catalog no longer says.
func (n *names) ref(p event.Pseudonym) access.Ref {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.known[p]
}
