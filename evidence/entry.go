package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxEntrySize is the largest entry in bytes. It stays below the 65,535 that an entry bundle can hold.
const MaxEntrySize = 60_000

const (
	specVersion     = "1.0"
	jsonContentType = "application/json"
	// timeLayout has a fixed width, so that times compare as text too.
	timeLayout = "2006-01-02T15:04:05.000000Z"
)

// The types of entries that verification itself depends on.
const (
	// TypeTaskSealed ends a task's entries. Its data holds the member "count": how many entries the task has, this one included.
	TypeTaskSealed = "writ.task.sealed"
	// TypeValueErased says that values were erased. Its data is an [ErasedData].
	TypeValueErased = "writ.value.erased"
)

// Entry is one piece of evidence, a CloudEvents 1.0 event (its JSON format, structured mode).
type Entry struct {
	ID       string          // index in the log, decimal; required
	Source   string          // origin of the log; required
	Type     string          // what happened, such as "writ.decision.made"; required
	Subject  string          // what it is about; may be empty
	Time     time.Time       // when; required, year 1 to 9999; written in UTC, cut to microseconds
	Task     string          // the task it belongs to, or empty
	TaskSeq  int             // its number in that task, from 1 to 2^31-1; 0 without a task
	TaskPrev string          // index of the task's entry before this one, decimal; empty for the first
	Data     json.RawMessage // a JSON object on one line, or empty
}

// Marshal writes the entry as JSON on one line, with its attributes in a fixed order.
// What it returns are the bytes to store and to hash; [Parse] reads them.
// The error wraps [ErrEntry] or [ErrTooLarge].
func (e Entry) Marshal() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	if err := e.checkData(); err != nil {
		return nil, err
	}
	const around = 512 // room for what usually stands around the data
	raw := e.append(make([]byte, 0, around+len(e.Data)))
	if len(raw) > MaxEntrySize {
		return nil, fmt.Errorf("%w: the entry has %d bytes, the limit is %d; keep large values beside the log and commit to them", ErrTooLarge, len(raw), MaxEntrySize)
	}
	return raw, nil
}

func (e Entry) append(b []byte) []byte {
	b = append(b, `{"specversion":"`+specVersion+`"`...)
	b = appendText(b, "id", e.ID)
	b = appendText(b, "source", e.Source)
	b = appendText(b, "type", e.Type)
	if e.Subject != "" {
		b = appendText(b, "subject", e.Subject)
	}
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, timeLayout)
	b = append(b, '"')
	if e.Task != "" {
		b = appendText(b, "task", e.Task)
		b = append(b, `,"taskseq":`...)
		b = strconv.AppendInt(b, int64(e.TaskSeq), 10)
	}
	if e.TaskPrev != "" {
		b = appendText(b, "taskprev", e.TaskPrev)
	}
	if len(e.Data) > 0 {
		b = append(b, `,"datacontenttype":"`+jsonContentType+`","data":`...)
		b = append(b, e.Data...)
	}
	return append(b, '}')
}

// appendText escapes quotes and backslashes only: validate has refused control characters.
func appendText(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	for i := range len(value) {
		if value[i] == '"' || value[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, value[i])
	}
	return append(b, '"')
}

// Parse reads an entry. It refuses what two readers could understand differently (duplicate names at any
// level, invalid UTF-8, data after the object), what is over [MaxEntrySize] or nested over 64 deep, more than
// one line, missing attributes and other versions of CloudEvents. It ignores attributes that it does not know,
// so that it can read the entries of later versions. The error wraps [ErrEntry] or [ErrTooLarge].
func Parse(raw []byte) (Entry, error) {
	if len(raw) > MaxEntrySize {
		return Entry{}, fmt.Errorf("%w: the entry has %d bytes, the limit is %d", ErrTooLarge, len(raw), MaxEntrySize)
	}
	if !oneLine(raw) {
		return Entry{}, fmt.Errorf("%w: it has more than one line; hand over exactly the stored bytes", ErrEntry)
	}
	var p entryParser
	if err := members(raw, p.attribute); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	if p.version != specVersion {
		return Entry{}, fmt.Errorf("%w: specversion is %.20q, this reader knows %q", ErrEntry, p.version, specVersion)
	}
	if err := p.entry.validate(); err != nil {
		return Entry{}, err
	}
	return p.entry, nil
}

// entryParser collects the attributes of one entry.
type entryParser struct {
	entry   Entry
	version string
}

func (p *entryParser) attribute(name, value []byte) error {
	switch string(name) {
	case "specversion":
		return setText(&p.version, name, value)
	case "id":
		return setText(&p.entry.ID, name, value)
	case "source":
		return setText(&p.entry.Source, name, value)
	case "type":
		return setText(&p.entry.Type, name, value)
	case "subject":
		return setText(&p.entry.Subject, name, value)
	case "time":
		return p.setTime(value)
	case "datacontenttype":
		return checkContentType(value)
	case "task":
		return setText(&p.entry.Task, name, value)
	case "taskseq":
		return p.setTaskSeq(value)
	case "taskprev":
		return setText(&p.entry.TaskPrev, name, value)
	case "data":
		return p.setData(value)
	default:
		return checkExtension(name)
	}
}

func setText(to *string, name, value []byte) error {
	text, err := stringValue(value)
	if err != nil || text == "" {
		return fmt.Errorf("attribute %s must be a string that is not empty", name)
	}
	*to = text
	return nil
}

func (p *entryParser) setTime(value []byte) error {
	text, err := stringValue(value)
	if err != nil {
		return fmt.Errorf("attribute time must be a string: %w", err)
	}
	at, err := time.Parse(timeLayout, text)
	// Formatting it again refuses the variants that time.Parse lets pass, such as a comma for the point.
	if err != nil || at.Format(timeLayout) != text {
		return fmt.Errorf("attribute time is %.40q, not of the form %q", text, timeLayout)
	}
	p.entry.Time = at
	return nil
}

func (p *entryParser) setTaskSeq(value []byte) error {
	n, ok := decimal(value, math.MaxInt32)
	if !ok || n == 0 {
		return fmt.Errorf("attribute taskseq is %.20s, not a number from 1 to %d", value, math.MaxInt32)
	}
	p.entry.TaskSeq = int(n)
	return nil
}

func (p *entryParser) setData(value []byte) error {
	if value[0] != '{' {
		return errors.New("attribute data must be a JSON object")
	}
	p.entry.Data = bytes.Clone(value)
	return nil
}

func checkContentType(value []byte) error {
	if text, err := stringValue(value); err != nil || text != jsonContentType {
		return fmt.Errorf("attribute datacontenttype must be %q", jsonContentType)
	}
	return nil
}

// checkExtension holds unknown attributes to the names that CloudEvents allows: what differs from
// a known one by its case, or is data_base64, would mean something to other readers.
func checkExtension(name []byte) error {
	if len(name) == 0 {
		return errors.New("an attribute has no name")
	}
	for _, c := range name {
		if !isDigit(c) && (c < 'a' || c > 'z') {
			return fmt.Errorf("attribute name %.40q is not lower-case letters and digits", name)
		}
	}
	return nil
}

func (e Entry) validate() error {
	if err := e.validateTexts(); err != nil {
		return err
	}
	id, ok := decimal(e.ID, MaxSize)
	if !ok {
		return fmt.Errorf("%w: id %.40q is not an index of a log, in decimal", ErrEntry, e.ID)
	}
	if year := e.Time.UTC().Year(); e.Time.IsZero() || year < 1 || year > 9999 {
		return fmt.Errorf("%w: time is missing or outside the years 1 to 9999", ErrEntry)
	}
	return e.validateTask(id)
}

func (e Entry) validateTexts() error {
	for _, a := range [...]struct {
		name, value string
		required    bool
	}{
		{"source", e.Source, true},
		{"type", e.Type, true},
		{"subject", e.Subject, false},
		{"task", e.Task, false},
	} {
		if a.required && a.value == "" {
			return fmt.Errorf("%w: required attribute %s is missing", ErrEntry, a.name)
		}
		if !plainText(a.value) {
			return fmt.Errorf("%w: attribute %s holds invalid UTF-8 or control characters", ErrEntry, a.name)
		}
	}
	return nil
}

func (e Entry) validateTask(id int64) error {
	switch {
	case e.Task == "":
		if e.TaskSeq != 0 || e.TaskPrev != "" {
			return fmt.Errorf("%w: taskseq or taskprev without task", ErrEntry)
		}
		return nil
	case e.TaskSeq < 1 || e.TaskSeq > math.MaxInt32:
		return fmt.Errorf("%w: task without a taskseq from 1 to %d", ErrEntry, math.MaxInt32)
	case e.TaskSeq == 1:
		if e.TaskPrev != "" {
			return fmt.Errorf("%w: the first entry of a task has no taskprev", ErrEntry)
		}
		return nil
	}
	if prev, ok := decimal(e.TaskPrev, MaxSize); !ok || prev >= id {
		return fmt.Errorf("%w: taskprev %.40q is not the index of an earlier entry", ErrEntry, e.TaskPrev)
	}
	return nil
}

// checkData is for writing only: Parse has walked the data as part of the whole.
func (e Entry) checkData() error {
	if len(e.Data) == 0 {
		return nil
	}
	if len(e.Data) > MaxEntrySize {
		return fmt.Errorf("%w: the data has %d bytes, the limit of an entry is %d", ErrTooLarge, len(e.Data), MaxEntrySize)
	}
	if !oneLine(e.Data) {
		return fmt.Errorf("%w: data has more than one line; compact it first", ErrEntry)
	}
	s := newScanner(e.Data)
	s.depth = 1 // it will stand inside the entry's own object
	if s.peek() != '{' || e.Data[len(e.Data)-1] != '}' {
		return fmt.Errorf("%w: data must be a JSON object, without space around it", ErrEntry)
	}
	if err := s.document(nil); err != nil {
		return fmt.Errorf("%w: data: %w", ErrEntry, err)
	}
	return nil
}

func oneLine(text []byte) bool {
	return bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(text, '\r') < 0
}

// plainText reports whether s is valid UTF-8 without control characters (CloudEvents 1.0, section 3.1: String).
func plainText(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, isControl) < 0
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r <= 0x9f }

// LeafHash is the hash of an entry's exact bytes as a leaf of the tree (RFC 6962, section 2.1: SHA-256 of 0x00 and the bytes).
func LeafHash(raw []byte) Hash { return Hash(tlog.RecordHash(raw)) }
