package strace_test

import (
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/strace"
)

// What counts as a flush in between.
func TestTooEarly(t *testing.T) {
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
		var answers []strace.Answer
		for _, call := range calls {
			if call.Name == "write" {
				answers = append(answers, strace.Answer{ID: "d", Line: call.Began})
			}
		}
		if got := strace.TooEarly(calls, answers, strace.InSQLite(calls)); len(got) != c.want || len(answers) != 1 {
			t.Errorf("%s: %q", name, got)
		}
	}
}
