package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// compare walks a table and its rebuilt twin side by side, in the order of their key.
func (v *verification) compare(t table) error {
	columns, err := v.columns(t.name)
	if err != nil {
		return err
	}
	order := strings.Join(columns[:t.keys], ", ")
	text := `SELECT ` + strings.Join(columns, ", ") + ` FROM ` + t.name + ` ORDER BY ` + order
	want, have := newCursor(v.ctx, v.rebuilt, text, len(columns)), newCursor(v.ctx, v.stored, text, len(columns))
	defer want.stop()
	defer have.stop()
	for want.next() || have.next() {
		have.next() // it stands on a row already, or moves to the next
		v.out.Rows++
		switch c := compareKeys(want, have, t.keys); {
		case c < 0:
			v.find(t.name, want.key(t.keys), "deleted", "the log explains this row, but it is not there")
			want.taken = true
		case c > 0:
			v.find(t.name, have.key(t.keys), "inserted", "no entry explains this row")
			have.taken = true
		default:
			v.compareRow(t, columns, want, have)
			want.taken, have.taken = true, true
		}
	}
	return errors.Join(want.err, have.err)
}

func (v *verification) compareRow(t table, columns []string, want, have *cursor) {
	for i := t.keys; i < len(columns); i++ {
		if compareValues(want.values[i], have.values[i]) != 0 {
			v.find(t.name, have.key(t.keys), "changed", "%s is %v, the log says %v", columns[i], show(have.values[i]), show(want.values[i]))
		}
	}
}

// columns are the names of a table's columns, as this version has them.
func (v *verification) columns(table string) (names []string, err error) {
	err = v.rebuilt.each(v.ctx, `SELECT name FROM pragma_table_info($1) ORDER BY cid`, []any{table}, func(row func(...any) error) error {
		var name string
		err := row(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// cursor stands on one row of a table.
type cursor struct {
	values []any
	pull   func() ([]any, bool)
	stop   func()
	err    error
	ok     bool   // it stands on a row
	taken  bool   // which has been dealt with
	moved  func() // called at each row; may be nil
}

func newCursor(ctx context.Context, on session, text string, width int) *cursor {
	c := &cursor{taken: true}
	c.pull, c.stop = iter.Pull(func(yield func([]any) bool) {
		values, into := make([]any, width), make([]any, width)
		for i := range values {
			into[i] = &values[i]
		}
		c.err = on.each(ctx, text, nil, func(row func(...any) error) error {
			if err := row(into...); err != nil {
				return err
			}
			if !yield(values) {
				return errStopped
			}
			return nil
		})
	})
	return c
}

var errStopped = errors.New("no more rows are wanted")

// next moves on if the present row has been dealt with, and reports whether the cursor stands on a row.
func (c *cursor) next() bool {
	if c.taken {
		c.values, c.ok = c.pull()
		c.taken = !c.ok
		if c.ok && c.moved != nil {
			c.moved()
		}
	}
	return c.ok
}

func (c *cursor) key(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprint(show(c.values[i]))
	}
	return strings.Join(parts, ", ")
}

func show(value any) any {
	if b, ok := value.([]byte); ok {
		return string(b)
	}
	return value
}

// compareKeys orders two cursors; one that is at its end comes last.
func compareKeys(a, b *cursor, keys int) int {
	switch {
	case !a.ok:
		return 1
	case !b.ok:
		return -1
	}
	return slices.CompareFunc(a.values[:keys], b.values[:keys], compareValues)
}

// compareValues orders what the databases return, as SQLite does: integers, then texts, then blobs by their bytes. A text
// that was made a blob looks the same, but no query finds it.
func compareValues(a, b any) int {
	if c := cmp.Compare(class(a), class(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case int64:
		return cmp.Compare(a, b.(int64)) //nolint:forcetypeassert // of the same class
	case string:
		return strings.Compare(a, b.(string)) //nolint:forcetypeassert // of the same class
	case []byte:
		return bytes.Compare(a, b.([]byte)) //nolint:forcetypeassert // of the same class
	default:
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}
}

func class(value any) int {
	switch value.(type) {
	case int64:
		return 1
	case string:
		return 2
	case []byte:
		return 3
	default: // the schema has no other
		return 0
	}
}
