package strace_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/strace"
)

// What strace 6.1 recorded: three threads, one of which was killed; shortened.
const recorded = `26243 1795573515.049146 pwrite64(3</tmp/writ.db-wal>, "\0\1\"id\":\"4\"\\ \n\t\1779) = 3 \377"..., 23, 32) = 23
26308 1795573515.049716 fdatasync(3</tmp/writ.db-wal> <unfinished ...>
26243 1795573515.049760 --- SIGURG {si_signo=SIGURG, si_code=SI_TKILL, si_pid=26243, si_uid=0} ---
26243 1795573515.071091 write(1<pipe:[63329]>, "d1 4\n", 5 <unfinished ...>
26308 1795573515.071431 <... fdatasync resumed>) = 0
26243 1795573515.071432 <... write resumed>)        = 5
26309 1795573515.071433 pread64(3</tmp/writ.db-wal>,  <unfinished ...>
26308 1795573515.071434 fsync(4</tmp/a (deleted)>)   = -1 EIO (Input/output error) (INJECTED)
26309 1795573515.071435 <... pread64 resumed>"abc", 4096, 0) = 3
26308 1795573515.071820 fdatasync(3</tmp/writ.db-wal> <unfinished ...>) = ?
26309 1795573515.071821 fdatasync(3</tmp/writ.db-wal> <unfinished ...>
26308 1795573515.071822 write(1<pipe:[63329]>, "d2", 2 <detached ...>
26309 1795573515.071823 +++ killed by SIGKILL +++
`

func TestRead(t *testing.T) {
	got, err := strace.Read(strings.NewReader(recorded))
	if err != nil {
		t.Fatal(err)
	}
	const wal = "3</tmp/writ.db-wal>"
	want := []strace.Call{
		{PID: 26243, Name: "pwrite64", Args: wal + `, "\0\1\"id\":\"4\"\\ \n\t\1779) = 3 \377"..., 23, 32`, Result: "23", Began: 1, Ended: 1},
		{PID: 26308, Name: "fdatasync", Args: wal, Result: "0", Began: 2, Ended: 5},
		{PID: 26243, Name: "write", Args: `1<pipe:[63329]>, "d1 4\n", 5`, Result: "5", Began: 4, Ended: 6},
		{PID: 26309, Name: "pread64", Args: wal + `, "abc", 4096, 0`, Result: "3", Began: 7, Ended: 9},
		{PID: 26308, Name: "fsync", Args: "4</tmp/a (deleted)>", Result: "-1 EIO (Input/output error) (INJECTED)", Began: 8, Ended: 8},
		{PID: 26308, Name: "fdatasync", Args: wal + " <unfinished ...>", Result: "?", Began: 10, Ended: 10},
		{PID: 26309, Name: "fdatasync", Args: wal, Began: 11},
		{PID: 26308, Name: "write", Args: `1<pipe:[63329]>, "d2", 2`, Began: 12},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if data := got[0].Data(); !bytes.Equal(data, []byte("\x00\x01\"id\":\"4\"\\ \n\t\x7f9) = 3 \xff")) {
		t.Errorf("data %q", data)
	}
	if fd, path := got[4].File(); fd != 4 || path != "/tmp/a" {
		t.Error(fd, path)
	}
	for i, ok := range []bool{true, true, true, true, false, false, false, false} {
		if got[i].OK() != ok || got[i].Injected() != (i == 4) {
			t.Error(i, got[i].OK(), got[i].Injected())
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{
		"12 1.5 fsync(3", "12 1.5 <... fsync resumed>) = 0", "12 fsync(3 <unfinished ...>\n12 <... write resumed>) = 0",
		"12 no call at all", "12 fsync(3 <unfinished ...>\n12 <... fsync resumed>", "strace: something",
	} {
		if _, err := strace.Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// Attach is there when it says so: the next call of the process is recorded, and made to fail.
func TestAttach(t *testing.T) {
	cat := exec.CommandContext(t.Context(), "cat")
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if cat.Stdout, err = os.Create(out); err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	attached, err := strace.Attach(t.Context(), filepath.Join(t.TempDir(), "trace"), []string{"-e", "trace=write", "-P", out, "-e", "inject=write:error=ENOSPC:when=1"}, cat.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = in.Write([]byte("hello\n")); err != nil {
		t.Error(err)
	}
	if err := cat.Wait(); err == nil {
		t.Error("nothing failed")
	}
	calls, err := attached.Stop()
	if err != nil || len(calls) != 1 || !calls[0].Injected() || string(calls[0].Data()) != "hello\n" {
		t.Error(calls, err)
	}
}
