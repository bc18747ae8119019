package store

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/strace"
)

// told is what a child says of one change.
type told struct {
	id         string
	index      int64 // of its first entry; -1: it was refused, or nobody knows
	checkpoint string
	err        string
}

func parseTold(line string) (told, error) {
	var one told
	parts := strings.SplitN(strings.TrimSpace(line), " ", 4)
	if len(parts) != 4 {
		return one, fmt.Errorf("the child said %q", line)
	}
	one.id, one.checkpoint, one.err = parts[0], parts[2], parts[3]
	_, err := fmt.Sscan(parts[1], &one.index)
	return one, err
}

// child is a running child and what it has said.
type child struct {
	t       *testing.T
	process *exec.Cmd
	in      io.WriteCloser
	lines   *bufio.Reader
	told    []told
}

// start runs a child; set may change how.
func (o orders) start(t *testing.T, set ...func(*exec.Cmd)) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, process: exec.CommandContext(t.Context(), self)}
	c.process.Env = append(os.Environ(), o.text())
	c.process.Stderr = t.Output()
	if c.in, err = c.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	for _, s := range set {
		s(c.process)
	}
	out, err := c.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewReader(out)
	if err := c.process.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// untilReady reads what the child says until it waits, and returns the thread that it names.
func (c *child) untilReady() (thread int) {
	c.t.Helper()
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			c.t.Fatalf("the child ended: %v, %v, after %+v", err, c.process.Wait(), c.told)
		}
		if _, err := fmt.Sscanf(line, "ready,%d\n", &thread); err == nil {
			return thread
		}
		one, err := parseTold(line)
		if err != nil {
			c.t.Fatal(err)
		}
		c.told = append(c.told, one)
	}
}

func (c *child) goOn() {
	c.t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		c.t.Fatal(err)
	}
}

// untilEnd reads what the child says until it ends.
func (c *child) untilEnd() {
	c.t.Helper()
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return // a line that was cut off was not said
		}
		one, err := parseTold(line)
		if err != nil {
			c.t.Fatal(err)
		}
		c.told = append(c.told, one)
	}
}

// ends lets the child close its store, or kills it.
func (c *child) ends(kill bool) {
	c.t.Helper()
	if kill {
		if err := c.process.Process.Kill(); err != nil {
			c.t.Error(err)
		}
		_ = c.process.Wait() // by the signal
		return
	}
	c.goOn()
	if err := c.process.Wait(); err != nil {
		c.t.Error("the child could not close its store:", err)
	}
}

// holds checks what must be so whatever happened to those who wrote: all that was acknowledged is there, where it was said to be;
// what was refused is there as a whole or not at all; the log verifies, and is the one that everybody saw. It returns what is there.
func (o orders) holds(t *testing.T, all []told) (there map[string]bool) {
	t.Helper()
	there = map[string]bool{}
	s, err := Open(t.Context(), o.options())
	for n := 0; n < 100 && err != nil && isPostgres(o.Database); n++ { // the server may be recovering
		time.Sleep(50 * time.Millisecond)
		s, err = Open(t.Context(), o.options())
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	f := &fixture{Store: s, t: t, path: o.Database, key: o.Public, opts: o.options()}
	at := map[string]int64{} // the entry of each decision
	err = s.reads.each(t.Context(), `SELECT id, version FROM decisions`, nil, func(row func(...any) error) error {
		var id string
		var index int64
		err := row(&id, &index)
		at[id] = index
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Size() != int64(1+len(at)) {
		t.Errorf("the log has %d entries, of which %d are explained", s.Size(), 1+len(at))
	}
	kept := map[string]evidence.Checkpoint{}
	for _, one := range all {
		o.keep(t, kept, one.checkpoint)
		first, found := at[one.id]
		second, found2 := at[one.id+"b"]
		delete(at, one.id)
		delete(at, one.id+"b")
		switch {
		case found && found2 && second == first+1 && (one.index < 0 || first == one.index):
			there[one.id] = true
		case one.index < 0 && !found && !found2:
		default:
			t.Errorf("%s, told at %d (%s), is at %d (%t) and %d (%t)", one.id, one.index, one.err, first, found, second, found2)
		}
	}
	for id, index := range at {
		t.Errorf("nobody has tried %s, which is at %d", id, index)
	}
	f.verifyClean(slices.Collect(maps.Values(kept))...)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return there
}

// keep adds a checkpoint that somebody saw.
func (o orders) keep(t *testing.T, kept map[string]evidence.Checkpoint, text string) {
	t.Helper()
	if _, known := kept[text]; known || text == "" {
		return
	}
	signed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if kept[text], err = evidence.OpenCheckpoint(signed, o.Public); err != nil {
		t.Error(err)
	}
}

// fault is a system call that fails.
type fault struct {
	call string
	as   string // what strace injects
	stay bool   // all calls from then on fail, until the fault passes
}

func (f fault) String() string {
	if f.stay {
		return f.call + " " + f.as + " and on"
	}
	return f.call + " " + f.as
}

// strike lets the n-th call of a child fail while it runs its history, and reports how many did.
func (o orders) strike(t *testing.T, f fault, n int) (failed int) {
	t.Helper()
	when := fmt.Sprintf("inject=%s:%s:when=%d", f.call, f.as, n)
	if f.stay {
		when += "+"
	}
	options := []string{"-f", "-s", "65536", "-e", "trace=" + traced, "-e", when}
	if o.Do == "opening" { // other threads would count for themselves, and the one counts what it says, too
		options = []string{"-e", "trace=" + f.call, "-e", when, "-P", filepath.Dir(o.Database)}
		for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".lock", ".reserve"} {
			options = append(options, "-P", o.Database+suffix)
		}
	}
	all, calls := o.disturb(t, n, options)
	for _, call := range calls {
		if call.Injected() {
			failed++
		}
	}
	refused := 0
	for _, one := range all {
		if one.index < 0 {
			refused++
		}
		if one.index < 0 && strings.HasPrefix(one.id, "revoke") && f == (fault{"pwrite64", "error=ENOSPC", false}) {
			t.Errorf("%s was not revoked with the reserve: %s", one.id, one.err)
		}
	}
	if o.Do == "script" && !f.stay && refused > 1 && f.as != "error=ENOSPC" {
		t.Errorf("one fault made %d changes fail", refused)
	}
	return failed
}

// disturb runs a child, under strace with the given options while it runs its history, and checks what must be so
// afterwards. It returns what the child said meanwhile, and its calls. How the child ends depends on n.
func (o orders) disturb(t *testing.T, n int, options []string) ([]told, []strace.Call) {
	t.Helper()
	c := o.start(t)
	thread := c.untilReady()
	before := len(c.told)
	attached, err := strace.Attach(t.Context(), filepath.Join(t.TempDir(), "trace"), options, thread)
	if err != nil {
		t.Fatal(err)
	}
	c.goOn()
	c.untilReady()
	calls, err := attached.Stop()
	if err != nil {
		t.Fatal(err)
	}
	during := c.told[before:]
	if n%3 > 0 { // else it is killed before anything was written over what failed
		c.goOn()
		c.untilReady()
	}
	c.ends(n%3 < 2)
	if o.Do == "script" {
		acknowledged := 0
		for _, one := range during {
			if one.index >= 0 {
				acknowledged++
			}
		}
		given := answers(calls)
		if wrong := strace.TooEarly(calls, given, strace.InSQLite(calls)); len(given) != acknowledged || len(wrong) > 0 {
			t.Errorf("%d of %d acknowledgements are in the trace; too early: %q", len(given), acknowledged, wrong)
		}
	}
	o.holds(t, append(c.told, o.before...))
	return during, calls
}

// everywhere runs a test for the first, the second, … call that it disturbs, until there are no more.
func everywhere(t *testing.T, step int, strike func(t *testing.T, n int) (disturbed int)) {
	t.Helper()
	n, disturbed := 1, 1
	for ; disturbed > 0 && !t.Failed(); n += step {
		t.Run(fmt.Sprint(n), func(t *testing.T) { disturbed = strike(t, n) })
	}
	if n == 1+step {
		t.Error("nothing was disturbed")
	}
}

// Every write, flush and truncation of a few changes fails once, or from then on for a while.
func TestI1_AFaultAtEveryCall(t *testing.T) {
	for _, f := range []fault{
		{"pwrite64", "error=EIO", false}, {"pwrite64", "error=ENOSPC", false}, {"pwrite64", "error=EIO", true}, {"pwrite64", "error=ENOSPC", true},
		{"fsync", "error=EIO", false}, {"fsync", "error=ENOSPC", false}, {"fsync", "error=EIO", true}, {"ftruncate", "error=EIO", false},
	} {
		step := sample
		if f.call == "pwrite64" && (f.stay || f.as == "error=ENOSPC") {
			step *= 3 // they are many, and each meets headers of frames, pages and checkpoints as well
		}
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			everywhere(t, step, func(t *testing.T, n int) int {
				return newOrders(t, "script", filepath.Join(t.TempDir(), "writ.db")).strike(t, f, n)
			})
		})
	}
}

// Every call by which a database is made or recovered, opened and closed fails once. Afterwards it can be opened, and nothing is lost.
func TestI1_AFaultAtEveryCallOfOpening(t *testing.T) {
	crashed := newOrders(t, "", filepath.Join(t.TempDir(), "writ.db")).crashed(t)
	for _, f := range []fault{
		{"pwrite64", "error=EIO", false}, {"pwrite64", "error=ENOSPC", false}, {"fsync", "error=EIO", false}, {"ftruncate", "error=EIO", false},
		{"openat", "error=EMFILE", false}, {"write", "error=ENOSPC", false}, {"unlink", "error=EIO", false}, {"mmap", "error=ENOMEM", false},
	} {
		step := sample
		if f.call == "pwrite64" {
			step *= 3
		}
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			everywhere(t, step, func(t *testing.T, n int) int {
				return newOrders(t, "opening", filepath.Join(t.TempDir(), "writ.db")).strike(t, f, n)
			})
		})
		t.Run("after a crash: "+f.String(), func(t *testing.T) {
			t.Parallel()
			everywhere(t, sample, func(t *testing.T, n int) int {
				o := crashed.copied(t)
				o.Do = "opening"
				return o.strike(t, f, n)
			})
		})
	}
}

// crashed makes a database whose last changes are in the write-ahead log only, as after the end of its process.
func (o orders) crashed(t *testing.T) orders {
	t.Helper()
	s, err := Open(t.Context(), o.options())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := &fixture{Store: s, t: t, now: time.Now()}
	for i := range 5 {
		id := fmt.Sprint("before", i)
		receipt, err := f.gives(id)
		if err != nil {
			t.Fatal(err)
		}
		o.before = append(o.before, told{id: id, index: receipt.Indexes[0], checkpoint: base64.StdEncoding.EncodeToString(f.Checkpoint())})
	}
	return o.copied(t)
}

// copied has its own copy of the files.
func (o orders) copied(t *testing.T) orders {
	t.Helper()
	from := o.Database
	o.Database = filepath.Join(t.TempDir(), "writ.db")
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(from + suffix)
		if err == nil {
			err = os.WriteFile(o.Database+suffix, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// Writes end in the middle of a frame's header and of a page, because files may not become longer.
func TestI1_ShortWrites(t *testing.T) {
	const step = 5501 // prime, so that it meets everything
	short := 0
	for limit := int64(step); limit < 40*4120; limit += step * sample {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			o := newOrders(t, "script", filepath.Join(t.TempDir(), "writ.db"))
			o.FileLimit = limit
			_, calls := o.disturb(t, int(limit), []string{"-f", "-s", "65536", "-e", "trace=" + traced})
			for _, call := range calls {
				args := strings.Split(call.Args, ", ")
				if call.Name == "pwrite64" && call.OK() && call.Result != args[len(args)-2] {
					short++
				}
			}
		})
	}
	if short == 0 {
		t.Error("no write was short")
	}
	t.Logf("%d writes were short", short)
}

// A disk that is really full, if this machine lets a process have one: nothing is granted, revoking works, and when there is
// room again everything does.
func TestI7_ARealFullDisk(t *testing.T) {
	o := newOrders(t, "full", filepath.Join(t.TempDir(), "writ.db"))
	o.Copy = t.TempDir()
	c := o.start(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings:  []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	})
	if line, err := c.lines.Peek(len("no disk")); err == nil && string(line) == "no disk" {
		t.Log("this machine mounts nothing: injected faults have to do")
		return
	}
	c.untilReady()
	granted := len(c.told) - 1
	c.goOn()
	c.untilReady()
	c.goOn()
	c.untilReady()
	c.ends(false)
	for i, one := range c.told {
		if works := i != granted && i != granted+2; works != (one.index >= 0) { // the one that met the full disk, and the one in the reserve
			t.Errorf("%s: index %d, %s", one.id, one.index, one.err)
		}
	}
	t.Logf("%d changes filled the disk", granted)
	o.Database = filepath.Join(o.Copy, "writ.db")
	o.holds(t, c.told)
}

// Every write and flush of the process that serves our commits fails once. PostgreSQL takes that for the end of the server,
// and starts it again.
func TestI1_AFaultAtEveryCallOfPostgres(t *testing.T) {
	server := startServer(t)
	o := onServer(t, server, "rounds")
	c := o.start(t)
	process := c.untilReady()
	for _, f := range []fault{{"pwrite64", "error=EIO", false}, {"pwrite64", "error=ENOSPC", false}, {"fdatasync", "error=EIO", false}} {
		t.Run(f.String(), func(t *testing.T) {
			everywhere(t, sample, func(t *testing.T, n int) (failed int) {
				c.t = t
				options := []string{"-e", "trace=" + traced, "-e", fmt.Sprintf("inject=%s:%s:when=%d", f.call, f.as, n)}
				attached, err := strace.Attach(t.Context(), filepath.Join(t.TempDir(), "trace"), options, process)
				if err != nil {
					t.Fatal(err)
				}
				c.goOn()
				process = c.untilReady()
				calls, err := attached.Stop()
				if err != nil {
					t.Fatal(err)
				}
				for _, call := range calls {
					if call.Injected() {
						failed++
					}
				}
				return failed
			})
		})
	}
	c.t = t
	c.ends(true)
	o.holds(t, c.told)
}
