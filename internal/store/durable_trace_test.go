package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/strace"
)

// traced are the calls by which entries become durable and acknowledgements leave.
const traced = "pwrite64,pwritev,write,fdatasync,fsync,ftruncate"

// answers are the acknowledgements in a child's trace: lines with an id and an index.
func answers(calls []strace.Call) (found []strace.Answer) {
	for _, c := range calls {
		var id string
		var index int64
		if fd, _ := c.File(); c.Name != "write" || fd != 1 {
			continue
		}
		if n, err := fmt.Sscan(string(c.Data()), &id, &index); n == 2 && err == nil && index >= 0 {
			found = append(found, strace.Answer{ID: id, Line: c.Began})
		}
	}
	return found
}

// traceLoad runs writers under strace and returns what they did.
func traceLoad(t *testing.T, o orders) []strace.Call {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trace")
	child := strace.Command(t.Context(), file, traced, 1<<16, self)
	child.Env = append(os.Environ(), o.text())
	child.Stderr = t.Output()
	var out bytes.Buffer
	child.Stdout = &out
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	calls, err := strace.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 1+o.Writers*o.Changes {
		t.Errorf("the child said %d lines", lines)
	}
	return calls
}

// No acknowledgement began before a flush had ended that began after everything was written that makes the entry count.
func TestI2_NoAcknowledgementBeforeItsFlush(t *testing.T) {
	for synchronous, safe := range map[string]bool{"": true, "NORMAL": false, "OFF": false} {
		t.Run("synchronous="+synchronous, func(t *testing.T) {
			o := newOrders(t, "load", filepath.Join(t.TempDir(), "writ.db"))
			o.Name, o.Writers, o.Changes, o.Synchronous = "d", 12, 50, synchronous
			calls := traceLoad(t, o)
			told := answers(calls)
			violations := strace.TooEarly(calls, told, strace.InSQLite(calls))
			if len(told) != o.Writers*o.Changes {
				t.Errorf("%d acknowledgements are in the trace", len(told))
			}
			flushes := 0
			for _, c := range calls {
				if c.Name == "fdatasync" || c.Name == "fsync" {
					flushes++
				}
			}
			t.Logf("%d acknowledgements, %d flushes, %d too early", len(told), flushes, len(violations))
			switch {
			case safe && len(violations) > 0:
				t.Errorf("%d acknowledgements came too early, the first: %s", len(violations), violations[0])
			case safe && flushes >= len(told):
				t.Error("nothing shared a flush")
			case !safe && len(violations) == 0:
				t.Error("acknowledgements that wait for no flush were not found")
			}
		})
	}
}
