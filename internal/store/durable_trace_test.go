package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/strace"
)

// traced are the calls by which entries become durable and acknowledgements leave.
const traced = "pwrite64,pwritev,write,fdatasync,fsync,ftruncate"

// A trace is read for one statement: no acknowledgement began before a flush had ended that began after everything was
// written that makes the acknowledged entry count (I2).

// logged says when an entry is completely in the log's file: the file, and the line of the trace.
type logged struct {
	file string
	line int
}

// flush is a call that made a file durable.
type flush struct{ began, ended int }

// unflushed returns the acknowledgements in a trace, and for each that came too early what is wrong. A change is where
// seen says by its id; an index may have been tried for one change and given to another.
func unflushed(calls []strace.Call, seen map[string]logged) (acknowledged int, violations []string) {
	flushes := map[string][]flush{}
	for _, c := range calls {
		if _, file := c.File(); (c.Name == "fdatasync" || c.Name == "fsync") && c.OK() {
			flushes[file] = append(flushes[file], flush{c.Began, c.Ended})
		}
	}
	for _, c := range calls {
		fd, _ := c.File()
		var id string
		var index int64
		if c.Name != "write" || fd != 1 {
			continue
		}
		if n, err := fmt.Sscan(string(c.Data()), &id, &index); n != 2 || err != nil || index < 0 {
			continue
		}
		acknowledged++
		entry, found := seen[id]
		if !found {
			violations = append(violations, fmt.Sprintf("%s was acknowledged in line %d and never written", id, c.Began))
			continue
		}
		covered := false
		for _, f := range flushes[entry.file] {
			covered = covered || entry.line < f.began && f.ended < c.Began
		}
		if !covered {
			violations = append(violations, fmt.Sprintf("%s was written in line %d and acknowledged in line %d without a flush between", id, entry.line, c.Began))
		}
	}
	return acknowledged, violations
}

// inSQLite finds where each change was in SQLite's write-ahead log for the first time together with the frame that
// commits it: one whose header says how large the database is after it.
func inSQLite(calls []strace.Call) map[string]logged {
	seen, waiting := map[string]logged{}, map[string]bool{}
	commits := false // the page that follows does
	for _, c := range calls {
		_, file := c.File()
		if c.Name != "pwrite64" || !strings.HasSuffix(file, "-wal") || !c.OK() || c.Injected() {
			continue
		}
		data := c.Data()
		if len(data) == 24 { // the header of a frame: page, size after commit, salt, checksum
			commits = binary.BigEndian.Uint32(data[4:]) != 0
			continue
		}
		for _, id := range idsIn(data) {
			waiting[id] = true
		}
		if !commits {
			continue
		}
		for id := range waiting {
			if _, found := seen[id]; !found {
				seen[id] = logged{file, c.Ended}
			}
		}
		commits = false
		clear(waiting)
	}
	return seen
}

// idsIn are the ids that the entries in data name.
func idsIn(data []byte) []string {
	var found []string
	for _, m := range regexp.MustCompile(`"id":"([a-z0-9.-]+)"`).FindAllSubmatch(data, -1) {
		found = append(found, string(m[1]))
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

// What counts as a flush in between.
func TestUnflushed(t *testing.T) {
	for name, c := range map[string]struct {
		trace string
		want  int
	}{
		"written, flushed, acknowledged":         {"W|F) = 0|A", 0},
		"not flushed":                            {"W|A|F) = 0", 1},
		"flushed before it was written":          {"F) = 0|W|A", 1},
		"the flush began too early":              {"F <unfinished ...>|W|2 <... fsync resumed>) = 0|A", 1},
		"the flush ended too late":               {"W|F <unfinished ...>|A|2 <... fsync resumed>) = 0", 1},
		"the flush never ended":                  {"W|F <unfinished ...>|A", 1},
		"the flush failed":                       {"W|F) = -1 EIO (Input/output error)|A", 1},
		"another file was flushed":               {"W|2 fsync(5</d/writ.db>) = 0|A", 1},
		"never written":                          {"F) = 0|A", 1},
		"only the page that commits comes later": {"W|F) = 0|H|P|A", 1},
		"that page is flushed too":               {"W|H|P|F) = 0|A", 0},
	} {
		text := strings.NewReplacer(
			"W", `1 pwrite64(4</d/writ.db-wal>, "{\"id\":\"d\"", 4096, 56) = 4096`, "H", `1 pwrite64(4</d/writ.db-wal>, "\0\0\0\1\0\0\0\2abcdefghijklmnop", 24, 32) = 24`,
			"P", `1 pwrite64(4</d/writ.db-wal>, "page", 4096, 56) = 4096`, "F", "2 fsync(4</d/writ.db-wal>", "A", `3 write(1<pipe:[1]>, "d 7\n", 4) = 4`, "|", "\n",
		).Replace(c.trace)
		if !strings.Contains(c.trace, "H") { // then the entry's own page commits
			text = `1 pwrite64(4</d/writ.db-wal>, "\0\0\0\1\0\0\0\2abcdefghijklmnop", 24, 32) = 24` + "\n" + text
		}
		calls, err := strace.Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if acknowledged, got := unflushed(calls, inSQLite(calls)); len(got) != c.want || acknowledged != 1 {
			t.Errorf("%s: %q, %d acknowledgements", name, got, acknowledged)
		}
	}
}

func TestI2_NoAcknowledgementBeforeItsFlush(t *testing.T) {
	for synchronous, safe := range map[string]bool{"": true, "NORMAL": false, "OFF": false} {
		t.Run("synchronous="+synchronous, func(t *testing.T) {
			o := newOrders(t, "load", filepath.Join(t.TempDir(), "writ.db"))
			o.Name, o.Writers, o.Changes, o.Synchronous = "d", 12, 50, synchronous
			calls := traceLoad(t, o)
			acknowledged, violations := unflushed(calls, inSQLite(calls))
			if acknowledged != o.Writers*o.Changes {
				t.Errorf("%d acknowledgements are in the trace", acknowledged)
			}
			flushes := 0
			for _, c := range calls {
				if c.Name == "fdatasync" || c.Name == "fsync" {
					flushes++
				}
			}
			t.Logf("%d acknowledgements, %d flushes, %d too early", acknowledged, flushes, len(violations))
			switch {
			case safe && len(violations) > 0:
				t.Errorf("%d acknowledgements came too early, the first: %s", len(violations), violations[0])
			case safe && flushes >= acknowledged:
				t.Error("nothing shared a flush")
			case !safe && len(violations) == 0:
				t.Error("acknowledgements that wait for no flush were not found")
			}
		})
	}
}
