package authn

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	cacheShards      = 16   // a power of two
	shardedCacheSize = 1024 // below it one shard keeps the bound exact
)

// entry is a token or an SVID that was verified. It holds no verdict about the identity.
type entry struct {
	claims     Claims
	audience   []string  // looked at in every call: what is good for one purpose is not for another
	notBefore  time.Time // the latest of nbf and iat
	issuer     *issuer
	bundle     *bundle // that an SVID was verified with; nil for OIDC tokens
	key        keyID
	generation atomic.Uint64 // of the key set in which key was last seen
}

// cache remembers verified tokens by their SHA-256, at most limit of them.
// Each shard evicts by the clock algorithm: a hit costs one flag, not a list move.
type cache struct {
	shards []shard
}

type shard struct {
	mu    sync.Mutex
	limit int
	index map[[32]byte]int
	slots []slot
	hand  int
}

type slot struct {
	sum   [32]byte
	entry *entry // nil when the slot is free
	used  bool
}

func newCache(limit int) *cache {
	shards := 1
	if limit >= shardedCacheSize {
		shards = cacheShards
	}
	c := &cache{shards: make([]shard, shards)}
	for i := range c.shards {
		c.shards[i].limit = limit / shards
		c.shards[i].index = make(map[[32]byte]int)
	}
	return c
}

func (c *cache) shard(sum [32]byte) *shard { return &c.shards[int(sum[0])&(len(c.shards)-1)] }

func (c *cache) get(sum [32]byte) *entry {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[sum]
	if !ok {
		return nil
	}
	s.slots[i].used = true
	return s.slots[i].entry
}

func (c *cache) remove(sum [32]byte) {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.index[sum]; ok {
		delete(s.index, sum)
		s.slots[i] = slot{}
	}
}

func (c *cache) put(sum [32]byte, e *entry, now time.Time) {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[sum]
	if !ok {
		i = s.free(now)
	}
	s.index[sum] = i
	s.slots[i] = slot{sum: sum, entry: e}
}

// free is a slot to write to; the victim is an expired entry, or one that was
// not used since the hand last passed. It ends within two rounds.
func (s *shard) free(now time.Time) int {
	if len(s.slots) < s.limit {
		s.slots = append(s.slots, slot{})
		return len(s.slots) - 1
	}
	for {
		i := s.hand
		s.hand = (s.hand + 1) % len(s.slots)
		victim := &s.slots[i]
		if victim.entry == nil {
			return i
		}
		if !victim.used || !now.Before(victim.entry.claims.Expiry) {
			delete(s.index, victim.sum)
			return i
		}
		victim.used = false
	}
}
