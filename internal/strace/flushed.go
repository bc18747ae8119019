package strace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Answer is the moment at which somebody was told that an entry is recorded.
type Answer struct {
	ID   string // of the entry, or of what it records
	Line int    // in which the call began that told it
}

// Written is the moment from which an entry counts, if the file is flushed.
type Written struct {
	File string
	Line int // in which the last write ended that it needs
}

// TooEarly says what is wrong with each answer before which no flush had ended that began after its entry was written.
func TooEarly(calls []Call, answers []Answer, written map[string]Written) (wrong []string) {
	flushes := map[string][]Call{}
	for _, c := range calls {
		if _, file := c.File(); (c.Name == "fdatasync" || c.Name == "fsync") && c.OK() {
			flushes[file] = append(flushes[file], c)
		}
	}
	for _, answer := range answers {
		entry, found := written[answer.ID]
		if !found {
			wrong = append(wrong, fmt.Sprintf("%s was answered in line %d and never written", answer.ID, answer.Line))
			continue
		}
		covered := false
		for _, flush := range flushes[entry.File] {
			covered = covered || entry.Line < flush.Began && flush.Ended < answer.Line
		}
		if !covered {
			wrong = append(wrong, fmt.Sprintf("%s was written in line %d and answered in line %d without a flush between", answer.ID, entry.Line, answer.Line))
		}
	}
	return wrong
}

// InSQLite finds the ids that entries name in SQLite's write-ahead log: each counts once it was written for the first time
// together with the frame that commits it, one whose header says how large the database is after it.
func InSQLite(calls []Call) map[string]Written {
	written, waiting := map[string]Written{}, map[string]bool{}
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
			if _, found := written[id]; !found {
				written[id] = Written{file, c.Ended}
			}
		}
		commits = false
		clear(waiting)
	}
	return written
}

// InPostgres finds the ids that entries name in PostgreSQL's write-ahead log: each counts once its record was written for the
// first time. (The record that commits comes after it, and is flushed with it.)
func InPostgres(calls []Call) map[string]Written {
	const page, short, long = 8192, 24, 40 // bytes; of the headers of a page, and of the first of a file
	written := map[string]Written{}
	type end struct {
		at   int64
		tail []byte // a record may go on in the next write
	}
	ends := map[string]end{}
	for _, c := range calls {
		_, file := c.File()
		if c.Name != "pwrite64" || !strings.Contains(file, "/pg_wal/") || !c.OK() || c.Injected() {
			continue
		}
		start, err := strconv.ParseInt(c.Args[strings.LastIndex(c.Args, " ")+1:], 10, 64)
		if err != nil {
			continue
		}
		data, at := c.Data(), start
		var text []byte
		if before := ends[file]; before.at == at {
			text = before.tail
		}
		for len(data) > 0 {
			n := min(int64(len(data)), page-at%page)
			header := int64(0)
			if at%page == 0 {
				header = short
			}
			if at == 0 {
				header = long
			}
			text = append(text, data[min(header, n):n]...)
			data, at = data[n:], at+n
		}
		for _, id := range idsIn(text) {
			if _, found := written[id]; !found {
				written[id] = Written{file, c.Ended}
			}
		}
		ends[file] = end{at, bytes.Clone(text[max(0, len(text)-100):])}
	}
	return written
}

// idsIn are the ids in the JSON somewhere in data.
func idsIn(data []byte) []string {
	var found []string
	for _, m := range regexp.MustCompile(`"id":"([A-Za-z0-9.-]+)"`).FindAllSubmatch(data, -1) {
		found = append(found, string(m[1]))
	}
	return found
}
