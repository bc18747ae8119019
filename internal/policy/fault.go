package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with a bundle.
type Fault struct {
	File    string
	Line    int // from 1; 0 means the whole file
	Column  int // from 1, in characters; 0 if the line is all that is known
	Message string
}

// String is file:line:column: message, as far as they are known.
func (f Fault) String() string {
	switch {
	case f.Line == 0:
		return f.File + ": " + f.Message
	case f.Column == 0:
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
	default:
		return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
	}
}

// Faults are all faults of all files of a bundle, ordered by place, then message. They are an error.
type Faults []Fault

// Error is one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// place is where something stands in a file.
type place struct {
	file         string
	line, column int
}

func (p place) fault(format string, args ...any) Fault {
	return Fault{File: p.file, Line: p.line, Column: p.column, Message: fmt.Sprintf(format, args...)}
}

// faultList gathers faults while loading.
type faultList struct{ list Faults }

func (l *faultList) add(at place, format string, args ...any) {
	l.list = append(l.list, at.fault(format, args...))
}

// sorted orders the faults and drops repeated ones; it is nil if there is none.
func (l *faultList) sorted() Faults {
	slices.SortFunc(l.list, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
	})
	return slices.Compact(l.list)
}
