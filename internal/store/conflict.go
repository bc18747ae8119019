package store

import (
	"slices"
	"sync/atomic"
)

// changes remembers what the last commits wrote, so that what a decision has read is read again only where it may have
// changed. It may suspect too much, never too little. A write cannot have changed what was read if
//   - the text of the read does not name the table that was written, or
//   - both fix a column, to different values, or
//   - it added to the log, and the read does not look for it by its index: a row that was there before names no later entry.
type changes struct {
	forms  *forms
	cache  *cache // forgets first what a commit changes; nil if there is none
	kept   []commit
	oldest int64 // commits before this one are forgotten
	latest atomic.Int64
}

// commit is what one transaction wrote.
type commit struct {
	foreign bool // another process wrote it, so it may have changed anything
	tables  map[string]*writes
}

// writes are those of one table. Those that fix its first column are found by that.
type writes struct {
	byKey map[any][]statement
	loose []statement
	other bool // something else than rows was added
}

// onlyAddsToLog says that the writes cannot change what was read, but for who looks for a new entry by its index.
func (w *writes) onlyAddsToLog(table string) bool {
	return !w.other && (table == "entries" || table == "disclosures")
}

// keptCommits is how many commits are remembered. A decision that takes longer than these is checked in full.
const keptCommits = 64

func newChanges(f *forms) *changes {
	return &changes{forms: f, kept: make([]commit, keptCommits), oldest: 1}
}

// now is where the changes stand; whatever is read after it sees all that came before. It is for everybody; the other
// methods are for the committing goroutine.
func (c *changes) now() int64 { return c.latest.Load() }

func (c *changes) add(done commit) {
	next := c.latest.Load() + 1
	if c.cache != nil {
		c.cache.commit(&done, next)
	}
	c.kept[next%keptCommits] = done
	c.oldest = max(c.oldest, next-keptCommits+1)
	c.latest.Store(next)
}

// since reports whether what was read when the changes stood at from may have changed, by a commit or by the one under way.
func (c *changes) since(from int64, r *read, under *commit) bool {
	if from+1 < c.oldest || c.touches(under, r) {
		return true
	}
	for n := from + 1; n <= c.latest.Load(); n++ {
		if c.touches(&c.kept[n%keptCommits], r) {
			return true
		}
	}
	return false
}

func (c *changes) touches(done *commit, r *read) bool {
	if done.foreign {
		return true
	}
	for table, looks := range c.forms.looksOf(r.text) {
		w := done.tables[table]
		if w != nil && (len(looks) > 0 || !w.onlyAddsToLog(table)) && c.touch(table, w, looks, r.args) {
			return true
		}
	}
	return false
}

func (c *changes) touch(table string, w *writes, looks []condition, args []any) bool {
	key := slices.IndexFunc(looks, func(l condition) bool { return l.column == c.forms.keys[table] })
	if key >= 0 {
		sought := plainArg(args[looks[key].arg])
		return sought == nil || c.any(w.byKey[sought], looks, args) || c.any(w.loose, looks, args)
	}
	for _, same := range w.byKey {
		if c.any(same, looks, args) {
			return true
		}
	}
	return c.any(w.loose, looks, args)
}

func (c *changes) any(list []statement, looks []condition, args []any) bool {
	return slices.ContainsFunc(list, func(s statement) bool {
		form := c.forms.of(s.text)
		return !slices.ContainsFunc(looks, func(l condition) bool {
			n, fixed := form.fixed[l.column]
			return fixed && s.args[n] != nil && plainArg(args[l.arg]) != nil && s.args[n] != plainArg(args[l.arg])
		})
	})
}

// note adds a write to the commit under way.
func (c *changes) note(to *commit, s statement) {
	form := c.forms.of(s.text)
	s = statement{s.text, slices.Clone(s.args)}
	for i := range s.args {
		s.args[i] = plainArg(s.args[i])
	}
	w := to.tables[form.table]
	if w == nil {
		if to.tables == nil {
			to.tables = map[string]*writes{}
		}
		w = &writes{byKey: map[any][]statement{}}
		to.tables[form.table] = w
	}
	w.other = w.other || !form.adds
	n, fixed := form.fixed[c.forms.keys[form.table]]
	if !fixed || s.args[n] == nil {
		w.loose = append(w.loose, s)
		return
	}
	w.byKey[s.args[n]] = append(w.byKey[s.args[n]], s)
}

// plainArg makes arguments of the same value equal. Bytes, which nothing looks for, are not kept.
func plainArg(arg any) any {
	switch arg := arg.(type) {
	case string, int64:
		return arg
	case int:
		return int64(arg)
	default:
		return nil
	}
}
