package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/writ-project/writ/internal/access"
)

// Fault is one thing wrong with a catalog, and what to do about it.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0: the whole file
	Column  int    `json:"column,omitempty"` // from 1; 0: the whole line
	Message string `json:"message"`
}

// String is file:line:column: message, without the parts that are not known.
func (f Fault) String() string {
	switch {
	case f.File == "":
		return f.Message
	case f.Line == 0:
		return f.File + ": " + f.Message
	case f.Column == 0:
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
	default:
		return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
	}
}

// Faults are all faults of all files, ordered by file, line, column and message.
// Beyond MaxFaults only their number is told, in a last Fault without a file.
type Faults []Fault

// Error is one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// place is where something stands in the files.
type place struct {
	file         string
	line, column int
}

func (p place) String() string { return fmt.Sprintf("%s:%d:%d", p.file, p.line, p.column) }

// collector gathers faults, of which hostile files could have millions.
type collector struct {
	list []Fault
	more int
}

func (c *collector) add(at place, format string, args ...any) {
	if len(c.list) == MaxFaults {
		c.more++
		return
	}
	c.list = append(c.list, Fault{at.file, at.line, at.column, fmt.Sprintf(format, args...)})
}

// err is the Faults in their order, or nil.
func (c *collector) err() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortFunc(c.list, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
	})
	if c.more > 0 {
		c.list = append(c.list, Fault{Message: fmt.Sprintf("and %d more faults: mend these first", c.more)})
	}
	return Faults(c.list)
}

// quote shows a text from outside, in quotes and cut to a readable length.
func quote(text string) string { return fmt.Sprintf("%q", cut(text)) }

// shown is an entity for a message; what is printable needs no escapes.
func shown(ref access.Ref) string { return cut(ref.String()) }

func cut(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
