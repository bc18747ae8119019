// Package strace runs programs under strace(1) for tests, and reads what it recorded: which system calls were made in
// which order, by all threads of all processes traced. That is how a test can prove that a flush came before an answer.
package strace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Call is one system call.
type Call struct {
	PID  int    // of the thread; 0 if strace followed one only, and did not say which
	Name string // such as fdatasync
	Args string // as strace writes them
	// Result is what stands after the equals sign, such as "24" or "-1 EIO (Input/output error) (INJECTED)".
	Result string
	// Began and Ended are lines of the recording, from 1. A call ended before another began if its Ended is smaller than
	// the other's Began: strace stops a thread at both ends of a call, so nothing that followed from a call's end can
	// have been recorded before it. Ended is 0 if the call never returned.
	Began, Ended int
}

// errLine says that a recording is not what strace writes.
var errLine = errors.New("not a line of strace")

// maxLine bounds one line: a write of 1 MiB, four characters for each byte.
const maxLine = 4<<20 + 4096

// Read reads a recording made with -f or -p, and -o, with or without -ttt. Calls are in the order in which they began.
// Signals and ends of processes are left out.
func Read(r io.Reader) ([]Call, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var calls []Call
	open := map[int]int{} // PID → the call that has not returned
	for n := 1; lines.Scan(); n++ {
		pid, text := head(lines.Text())
		switch {
		case text == "" || strings.HasPrefix(text, "--- ") || strings.HasPrefix(text, "+++ "):
			// A call that was under way when its process was killed stays without an end.
		case strings.HasPrefix(text, "<... "):
			i, found := open[pid]
			name, rest, ok := strings.Cut(text[len("<... "):], " resumed>")
			if !found || !ok || calls[i].Name != name {
				return nil, fmt.Errorf("%w: %d: nothing to resume: %.80q", errLine, n, text)
			}
			delete(open, pid)
			if calls[i].end(calls[i].Args+rest, n) != nil {
				return nil, fmt.Errorf("%w: %d: %.80q", errLine, n, text)
			}
		default:
			call := Call{PID: pid, Began: n}
			name, rest, ok := strings.Cut(text, "(")
			if call.Name = name; !ok || strings.ContainsAny(name, " \"<") {
				return nil, fmt.Errorf("%w: %d: %.80q", errLine, n, text)
			}
			if args, detached := strings.CutSuffix(rest, " <detached ...>"); detached {
				call.Args = args
			} else if args, unfinished := strings.CutSuffix(rest, " <unfinished ...>"); unfinished {
				call.Args = args
				open[pid] = len(calls)
			} else if call.end(rest, n) != nil {
				return nil, fmt.Errorf("%w: %d: %.80q", errLine, n, text)
			}
			calls = append(calls, call)
		}
	}
	return calls, lines.Err()
}

// head takes the thread and the time off a line.
func head(line string) (pid int, rest string) {
	for {
		word, after, _ := strings.Cut(line, " ")
		if word == "" || strings.Trim(word, "0123456789.") != "" {
			return pid, line
		}
		if n, err := strconv.Atoi(word); err == nil {
			pid = n
		}
		line = strings.TrimLeft(after, " ")
	}
}

// end parts the arguments from the result: at the last ") = ", because a string among the arguments may hold one.
func (c *Call) end(text string, line int) error {
	at := strings.LastIndex(text, ") ")
	for at >= 0 && !strings.HasPrefix(strings.TrimLeft(text[at+1:], " "), "= ") { // a result may hold brackets too
		at = strings.LastIndex(text[:at], ") ")
	}
	if at < 0 {
		return errLine
	}
	c.Args, c.Result, c.Ended = text[:at], strings.TrimLeft(text[at+1:], " ")[len("= "):], line
	return nil
}

// OK reports whether the call returned without an error.
func (c Call) OK() bool {
	return c.Ended > 0 && !strings.HasPrefix(c.Result, "-1 ") && !strings.HasPrefix(c.Result, "?")
}

// Injected reports whether strace made the result up.
func (c Call) Injected() bool { return strings.HasSuffix(c.Result, "(INJECTED)") }

// File is the number and the path of the descriptor in the first argument, as -y shows them.
func (c Call) File() (fd int, path string) {
	number, rest, _ := strings.Cut(c.Args, "<")
	fd, err := strconv.Atoi(number)
	if err != nil {
		return -1, ""
	}
	path, _, _ = strings.Cut(rest, ">")
	return fd, strings.TrimSuffix(path, " (deleted)")
}

// Data is the bytes of the first string among the arguments; -s bounds how many strace shows.
func (c Call) Data() []byte {
	_, text, found := strings.Cut(c.Args, `"`)
	if !found {
		return nil
	}
	data := make([]byte, 0, len(text))
	for i := 0; i < len(text) && text[i] != '"'; i++ {
		if text[i] != '\\' || i+1 == len(text) {
			data = append(data, text[i])
			continue
		}
		i++
		if octal := digits(text[i:]); octal > 0 {
			n, _ := strconv.ParseUint(text[i:i+octal], 8, 16) // at most 0777
			data = append(data, byte(n))
			i += octal - 1
			continue
		}
		if at := strings.IndexByte("nrtvf", text[i]); at >= 0 {
			data = append(data, "\n\r\t\v\f"[at])
		} else {
			data = append(data, text[i])
		}
	}
	return data
}

// digits is how many octal digits text starts with, at most three.
func digits(text string) int {
	n := 0
	for n < min(3, len(text)) && text[n] >= '0' && text[n] <= '7' {
		n++
	}
	return n
}
