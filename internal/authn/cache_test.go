package authn

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sumOf(n int) [32]byte { return sha256.Sum256(fmt.Append(nil, n)) }

// TestCacheProperties: it never holds more than its limit, never gives back
// anything but what was last put under that very sum, and nothing removed.
func TestCacheProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{1, 2, 5, 1024}).Draw(t, "limit")
		c, model := newCache(limit), map[int]*entry{}
		number := rapid.IntRange(0, 2*limit)
		now := epoch()
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n := number.Draw(t, "n")
				e := &entry{claims: Claims{Expiry: now.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "ttl")) * time.Second)}}
				c.put(sumOf(n), e, now)
				model[n] = e
				if c.get(sumOf(n)) != e {
					t.Fatalf("%d is not there right after put", n)
				}
			},
			"get": func(t *rapid.T) {
				n := number.Draw(t, "n")
				if got := c.get(sumOf(n)); got != nil && got != model[n] {
					t.Fatalf("get %d gave another entry", n)
				}
			},
			"remove": func(t *rapid.T) {
				n := number.Draw(t, "n")
				c.remove(sumOf(n))
				delete(model, n)
			},
			"wait": func(*rapid.T) { now = now.Add(time.Second) },
			"": func(t *rapid.T) {
				held := 0
				for i := range c.shards {
					s := &c.shards[i]
					held += len(s.index)
					for sum, at := range s.index {
						if s.slots[at].sum != sum || s.slots[at].entry == nil {
							t.Fatal("index and slots disagree")
						}
					}
				}
				for i := range c.shards {
					for _, slot := range c.shards[i].slots {
						if _, indexed := c.shards[i].index[slot.sum]; slot.entry != nil && !indexed {
							t.Fatal("a slot is taken by an entry that nobody can reach")
						}
					}
				}
				if held > limit {
					t.Fatalf("%d entries, limit %d", held, limit)
				}
			},
		})
	})
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c, now := newCache(4), epoch()
	live := &entry{claims: Claims{Expiry: now.Add(time.Hour)}}
	c.put(sumOf(-1), live, now)
	for n := range 100 {
		if c.get(sumOf(-1)) == nil {
			t.Fatalf("the entry in use was evicted after %d others", n)
		}
		c.put(sumOf(n), &entry{claims: Claims{Expiry: now.Add(time.Hour)}}, now)
	}
}

func TestCacheEvictsTheExpiredThoughUsed(t *testing.T) {
	c, now := newCache(2), epoch()
	dead, live := &entry{claims: Claims{Expiry: now}}, &entry{claims: Claims{Expiry: now.Add(time.Hour)}}
	c.put(sumOf(1), live, now)
	c.put(sumOf(2), dead, now)
	c.get(sumOf(1))
	c.get(sumOf(2))
	c.put(sumOf(3), live, now)
	if c.get(sumOf(1)) == nil || c.get(sumOf(2)) != nil {
		t.Error("a live entry was evicted in place of an expired one")
	}
}

func TestCacheOfDefaultSizeIsFull(t *testing.T) {
	c := newCache(defaultCacheSize)
	total := 0
	for i := range c.shards {
		total += c.shards[i].limit
	}
	if total != defaultCacheSize {
		t.Errorf("shards hold %d, want %d", total, defaultCacheSize)
	}
}
