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

// argsCache remembers how arguments read, by the text that they were read from: one decision reads the same several times. It
// is safe for concurrent use.
type argsCache struct {
	mu   sync.RWMutex
	read map[argsText]tree
}

type argsText struct {
	action *action
	text   string
}

// What a cache of arguments keeps at most. It keeps no lists: a short text can make many records of them.
const (
	maxReadArgs     = 1024
	maxReadArgsText = 512 // bytes
)

func (t tree) hasList() bool { return t.items != nil || slices.ContainsFunc(t.fields, tree.hasList) }

func newArgsCache() *argsCache { return &argsCache{read: map[argsText]tree{}} }

func (c *argsCache) get(a *action, text []byte) (tree, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	known, ok := c.read[argsText{a, string(text)}]
	return known, ok
}

func (c *argsCache) put(a *action, text []byte, read tree) {
	if len(text) > maxReadArgsText || read.hasList() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.read) >= maxReadArgs {
		clear(c.read)
	}
	c.read[argsText{a, string(text)}] = read
}
