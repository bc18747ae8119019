package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/pgtest"
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

// traceLoad runs writers under strace, together with the server's processes if there is one, and returns what they did.
func traceLoad(t *testing.T, o orders, server *pgtest.Server) []strace.Call {
	t.Helper()
	c := o.start(t)
	pids := []int{c.untilReady()}
	if server != nil { // only now: those that serve the child's connections are among its processes
		pids = append(pids, processes(t, server.PID())...)
	}
	attached, err := strace.Attach(t.Context(), filepath.Join(t.TempDir(), "trace"), []string{"-f", "-s", "1048576", "-e", "trace=" + traced}, pids...)
	if err != nil {
		t.Fatal(err)
	}
	c.goOn()
	c.untilEnd()
	if err := c.process.Wait(); err != nil {
		t.Error(err)
	}
	calls, err := attached.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// waited checks a trace of a load: if it is safe, no acknowledgement began before a flush had ended that began after everything
// was written that makes the entry count; if it is not, the check must find that.
func (o orders) waited(t *testing.T, calls []strace.Call, written map[string]strace.Written, safe bool) {
	t.Helper()
	told := answers(calls)
	if len(told) != o.Writers*o.Changes {
		t.Errorf("%d acknowledgements are in the trace", len(told))
	}
	flushes := 0
	for _, c := range calls {
		if c.Name == "fdatasync" || c.Name == "fsync" {
			flushes++
		}
	}
	wrong := strace.TooEarly(calls, told, written)
	t.Logf("%d acknowledgements, %d flushes, %d too early", len(told), flushes, len(wrong))
	switch {
	case safe && len(wrong) > 0:
		t.Errorf("%d acknowledgements came too early, the first: %s", len(wrong), wrong[0])
	case safe && flushes >= len(told):
		t.Error("nothing shared a flush")
	case !safe && len(wrong) == 0:
		t.Error("acknowledgements that wait for no flush were not found")
	}
}

func TestI2_NoAcknowledgementBeforeItsFlush(t *testing.T) {
	for synchronous, safe := range map[string]bool{"": true, "NORMAL": false, "OFF": false} {
		t.Run("SQLite "+synchronous, func(t *testing.T) {
			o := newOrders(t, "load", filepath.Join(t.TempDir(), "writ.db"))
			o.Name, o.Writers, o.Changes, o.Synchronous = "d", 12, 50/min(sample, 2), synchronous
			calls := traceLoad(t, o, nil)
			o.waited(t, calls, strace.InSQLite(calls), safe)
		})
	}
	for synchronous, safe := range map[string]bool{"on": true, "off": false} {
		t.Run("PostgreSQL "+synchronous, func(t *testing.T) {
			server := startServer(t)
			o := onServer(t, server, "load")
			if err := server.SQL(t.Context(), "writ1", "ALTER DATABASE writ1 SET synchronous_commit = "+synchronous); err != nil {
				t.Fatal(err)
			}
			o.Name, o.Writers, o.Changes, o.Unchecked = "d", 12, 50/min(sample, 2), !safe
			calls := traceLoad(t, o, server)
			o.waited(t, calls, strace.InPostgres(calls), safe)
		})
	}
}

// startServer runs a PostgreSQL server that may be hurt.
func startServer(t *testing.T, settings ...string) *pgtest.Server {
	t.Helper()
	server, err := pgtest.Start(t.Context(), append(settings, "autovacuum=off", "recovery_init_sync_method=syncfs")...) // no processes come and go, and recovery is quick
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func onServer(t *testing.T, server *pgtest.Server, do string) orders {
	t.Helper()
	database, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return newOrders(t, do, database)
}

// processes are a process and its children.
func processes(t *testing.T, pid int) []int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	all := []int{pid}
	for _, word := range strings.Fields(string(text)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, child)
	}
	return all
}
