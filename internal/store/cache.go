package store

import (
	"errors"
	"slices"
	"sync"

	"github.com/writ-project/writ/internal/access"
)

// cache remembers what views have read, until a commit may have changed it: the writes of a commit say so, as they do for the
// check of a decision (conflict.go). So what is found here is what the database would answer. Only a process that sees every
// commit can have one. It is for everybody.
type cache struct {
	forms *forms

	mu    sync.RWMutex
	at    int64 // how many commits it has seen
	under bool  // one is under way: what is read now may hold it already
	names int64 // how often it was told that pseudonyms have become known
	found map[cacheKey]*cached
	usage map[usageKey][]bucketTotal           // never changed in place
	rows  map[string]map[any]map[cacheKey]bool // what depends on a row, by table and first column, or with a nil key on a table
	links int                                  // in rows
}

// cacheKey is a method of View and what it was asked for.
type cacheKey struct{ method, args string }

// cached is an answer and the reads behind it.
type cached struct {
	value any
	err   error  // nil or access.ErrNotFound
	reads []read // that the decision depends on
	also  []read // that only the answer does
}

const (
	maxCached = 16_384 // answers
	maxLinks  = 8 * maxCached
)

// usageKey is a subject's counter. Counters change with nearly every decision, so what a commit adds to them is added here, too.
type usageKey struct{ subject, counter string }

// bucketTotal is a row of a counter.
type bucketTotal struct{ bucket, total int64 }

func newCache() *cache {
	return &cache{forms: newForms(), found: map[cacheKey]*cached{}, usage: map[usageKey][]bucketTotal{}, rows: map[string]map[any]map[cacheKey]bool{}}
}

func (c *cache) get(key cacheKey) *cached {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.found[key]
}

// cacheMark is where the cache stands; only what is read after it may be put there, and only while it stands.
type cacheMark struct {
	commits, names int64
	under          bool
}

func (c *cache) mark() cacheMark {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.now()
}

func (c *cache) now() cacheMark { return cacheMark{c.at, c.names, c.under} }

// committing is told before a commit, and after one that failed.
func (c *cache) committing(under bool) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under = under
}

// named forgets everything: who a pseudonym stands for is part of many answers.
func (c *cache) named() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names++
	c.clear()
}

// put keeps what was read at a moment.
func (c *cache) put(key cacheKey, read cacheMark, got *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now() != read {
		return
	}
	if len(c.found) >= maxCached || c.links >= maxLinks {
		c.clear()
	}
	c.found[key] = got
	for _, r := range slices.Concat(got.reads, got.also) {
		for table, looks := range c.forms.looksOf(r.text) {
			c.link(table, c.keyOf(table, looks, r.args), key)
		}
	}
}

// keyOf is the first column of the rows that a read looks for; nil if it does not look by that.
func (c *cache) keyOf(table string, looks []condition, args []any) any {
	for _, l := range looks {
		if l.column == c.forms.keys[table] {
			return plainArg(args[l.arg])
		}
	}
	return nil
}

func (c *cache) link(table string, row any, key cacheKey) {
	if c.rows[table] == nil {
		c.rows[table] = map[any]map[cacheKey]bool{}
	}
	if c.rows[table][row] == nil {
		c.rows[table][row] = map[cacheKey]bool{}
	}
	if !c.rows[table][row][key] {
		c.rows[table][row][key] = true
		c.links++
	}
}

func (c *cache) clear() {
	clear(c.found)
	clear(c.usage)
	clear(c.rows)
	c.links = 0
}

// commit forgets what a commit may have changed. It is called before anybody is told of the commit.
func (c *cache) commit(done *commit, commits int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.under = commits, false
	if done.foreign {
		c.clear()
		return
	}
	for table, w := range done.tables {
		switch {
		case table == "usage":
			c.count(w)
		case c.rows[table] == nil:
		case len(w.loose) > 0:
			for row := range c.rows[table] {
				c.forget(table, row)
			}
		default:
			for row := range w.byKey {
				c.forget(table, row)
			}
			if !w.onlyAddsToLog(table) {
				c.forget(table, nil)
			}
		}
	}
}

func (c *cache) forget(table string, row any) {
	for key := range c.rows[table][row] {
		delete(c.found, key)
	}
	c.links -= len(c.rows[table][row])
	delete(c.rows[table], row)
}

// memo answers from the cache, or loads and remembers.
func memo[T any](v *View, method, args string, load func() (T, error)) (T, error) {
	c := v.store.cache
	if c == nil || v.inside {
		return load()
	}
	key := cacheKey{method, args}
	if got := c.get(key); got != nil {
		v.seen = append(v.seen, got.reads...)
		return got.value.(T), got.err //nolint:forcetypeassert // of this method
	}
	at, before, also := c.mark(), len(v.seen), len(v.also)
	value, err := load()
	if err == nil || errors.Is(err, access.ErrNotFound) {
		c.put(key, at, &cached{value, err, v.seen[before:len(v.seen):len(v.seen)], v.also[also:]})
	}
	return value, err
}

// count does to the counters what the writes of a commit did to their table.
func (c *cache) count(w *writes) {
	if len(w.loose) > 0 {
		clear(c.usage)
		return
	}
	for _, same := range w.byKey {
		for _, s := range same {
			c.countOne(s)
		}
	}
}

func (c *cache) countOne(s statement) {
	subject, _ := s.args[0].(string)
	counter, _ := s.args[1].(string)
	bucket, isBucket := s.args[2].(int64)
	key := usageKey{subject, counter}
	rows, known := c.usage[key]
	switch {
	case !known:
	case s.text == usageForget && isBucket:
		c.usage[key] = slices.DeleteFunc(slices.Clone(rows), func(r bucketTotal) bool { return r.bucket < bucket })
	case s.text == usageAdd && isBucket:
		add, _ := s.args[3].(int64)
		rows = slices.Clone(rows)
		if i := slices.IndexFunc(rows, func(r bucketTotal) bool { return r.bucket == bucket }); i >= 0 {
			if rows[i].total += add; (rows[i].total < 0) != (add < 0) && add != 0 {
				delete(c.usage, key) // beyond 64 bits: it is for the database to say
				return
			}
		} else {
			rows = append(rows, bucketTotal{bucket, add})
		}
		c.usage[key] = rows
	default:
		delete(c.usage, key)
	}
}

// counter answers from the cache, or loads and remembers.
func (c *cache) counter(key usageKey, load func() ([]bucketTotal, error)) ([]bucketTotal, error) {
	c.mu.RLock()
	rows, known := c.usage[key]
	c.mu.RUnlock()
	if known {
		return rows, nil
	}
	at := c.mark()
	rows, err := load()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now() == at && !at.under {
		if len(c.usage) >= maxCached {
			clear(c.usage)
		}
		c.usage[key] = rows
	}
	return rows, nil
}
