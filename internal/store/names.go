package store

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// names turns entities into pseudonyms, and the pseudonyms of registered identities back.
type names struct {
	key *event.Pseudonymizer

	made sync.Map // access.Ref → event.Pseudonym, of some of those that were asked for
	many atomic.Int64

	mu      sync.RWMutex
	version int64 // of the catalog that known is from
	known   map[event.Pseudonym]access.Ref
}

func newNames(key *event.Pseudonymizer) *names {
	return &names{key: key, known: map[event.Pseudonym]access.Ref{}}
}

func (n *names) fingerprint() string { return n.key.Fingerprint() }

// maxMade bounds the memory of pseudonyms that need not be made again.
const maxMade = 16_384

func (n *names) of(ref access.Ref) event.Pseudonym {
	if made, ok := n.made.Load(ref); ok {
		return made.(event.Pseudonym) //nolint:forcetypeassert // only pseudonyms are stored
	}
	if n.many.Add(1) > maxMade {
		n.made.Clear()
		n.many.Store(0)
	}
	name := n.key.Of(ref)
	n.made.Store(ref, name)
	return name
}

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
