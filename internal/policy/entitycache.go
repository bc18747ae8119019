package policy

import (
	"bytes"
	"slices"
	"sync"

	"github.com/writ-project/writ/internal/access"
)

// entityCache remembers how entities read, by the text that they were read from: the same text always reads the same. It is
// safe for concurrent use.
type entityCache struct {
	mu   sync.RWMutex
	read map[access.Ref]readEntity
}

type readEntity struct {
	from access.Entity
	node node
}

// maxReadEntities bounds the memory of the cache.
const maxReadEntities = 8192

func newEntityCache() *entityCache { return &entityCache{read: map[access.Ref]readEntity{}} }

func (c *entityCache) get(e *access.Entity) (node, bool) {
	c.mu.RLock()
	known, ok := c.read[e.ID]
	c.mu.RUnlock()
	if !ok || !bytes.Equal(known.from.Attributes, e.Attributes) || !slices.Equal(known.from.Parents, e.Parents) {
		return node{}, false
	}
	return known.node, true
}

func (c *entityCache) put(e *access.Entity, n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.read) >= maxReadEntities {
		clear(c.read)
	}
	// A copy of the text: who owns the entity may change it.
	c.read[e.ID] = readEntity{access.Entity{Attributes: bytes.Clone(e.Attributes), Parents: slices.Clone(e.Parents)}, *n}
}
