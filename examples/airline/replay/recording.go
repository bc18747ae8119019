package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Limits on a recording.
const (
	MaxDataFile = 64 << 20 // bytes of users.json, reservations.json or flights.json
	MaxLine     = 4 << 20  // bytes of one line of calls.jsonl
	MaxCalls    = 1_000_000
)

const (
	callsFile   = "calls.jsonl"
	usersFile   = "users.json"
	tripsFile   = "reservations.json"
	flightsFile = "flights.json"
)

// ErrLimit is wrapped by errors about a recording that is too large.
var ErrLimit = errors.New("larger than a replay reads")

// FileError is a fault in a file of a recording.
type FileError struct {
	File string
	Line int // from 1; 0 means the whole file
	Err  error
}

// Error is file:line: what is wrong.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap is the fault itself.
func (e *FileError) Unwrap() error { return e.Err }

// Now is the moment at which every recorded call was made: 15:00 local time, which is 20:00 UTC.
func Now() time.Time { return time.Date(2024, time.May, 15, 15, 0, 0, 0, local()) }

// local is the airline's time zone. One offset for all places and the whole year, as the recordings have it.
func local() *time.Location { return time.FixedZone("EST", -5*60*60) }

// Recording is a recording that was read whole and checked. It is immutable and safe for concurrent use.
type Recording struct {
	start airline
	runs  [][]call
	notes []FileError
}

// Open reads the recording in a folder. Faults are *FileError.
func Open(dir string) (*Recording, error) { return Read(os.DirFS(dir)) }

// Read is Open for any file system.
func Read(fsys fs.FS) (*Recording, error) {
	customers, err := readEntries[customer](fsys, usersFile)
	if err != nil {
		return nil, err
	}
	trips, err := readEntries[trip](fsys, tripsFile)
	if err != nil {
		return nil, err
	}
	flights, err := readEntries[flight](fsys, flightsFile)
	if err != nil {
		return nil, err
	}
	r := &Recording{start: airline{customers: customers, trips: trips, flights: flights}}
	calls, err := r.readCalls(fsys)
	if err != nil {
		return nil, err
	}
	r.runs = inRuns(calls)
	return r, nil
}

// Len is the number of calls.
func (r *Recording) Len() int {
	n := 0
	for _, run := range r.runs {
		n += len(run)
	}
	return n
}

// Notes are the successful calls whose result could not be read, so that what they changed is not known. The replay goes
// on as if they had changed nothing.
func (r *Recording) Notes() []FileError { return slices.Clone(r.notes) }

// entry is a value of a data file that can check itself under its key.
type entry interface{ check(key string) error }

// readEntries reads one JSON object of named entries.
func readEntries[T any, P interface {
	*T
	entry
}](fsys fs.FS, name string) (map[string]*T, error) {
	data, err := readAll(fsys, name)
	if err != nil {
		return nil, &FileError{File: name, Err: err}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	fault := func(offset int64, err error) error {
		return &FileError{File: name, Line: 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n")), Err: err}
	}
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, fault(0, fmt.Errorf("want one JSON object, from ids to entries"))
	}
	out := map[string]*T{}
	for dec.More() {
		token, err := dec.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return nil, fault(dec.InputOffset(), fmt.Errorf("want the id of an entry: %w", err))
		}
		at, value := dec.InputOffset(), new(T)
		if err := dec.Decode(value); err != nil {
			return nil, fault(at, fmt.Errorf("%q: %w", clip(key), err))
		}
		if out[key] != nil {
			return nil, fault(at, fmt.Errorf("%q stands here twice", clip(key)))
		}
		if err := P(value).check(key); err != nil {
			return nil, fault(at, fmt.Errorf("%q: %w", clip(key), err))
		}
		out[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, fault(dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fault(dec.InputOffset(), fmt.Errorf("something follows the object: remove it"))
	}
	return out, nil
}

func readAll(fsys fs.FS, name string) (data []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, missing(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, MaxDataFile+1))
	if err == nil && len(data) > MaxDataFile {
		err = fmt.Errorf("%w: at most %d bytes", ErrLimit, MaxDataFile)
	}
	return data, err
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("a recording has %s, %s, %s and %s: %w", callsFile, usersFile, tripsFile, flightsFile, err)
	}
	return err
}

// call is one recorded tool call.
type call struct {
	Task            int             `json:"task"`
	Trial           int             `json:"trial"`
	Step            int             `json:"step"`
	Customer        string          `json:"customer"`
	Intent          string          `json:"intent"`
	LastUserMessage string          `json:"last_user_message"`
	Tool            string          `json:"tool"`
	Label           string          `json:"label"`
	Failed          bool            `json:"failed"`
	Args            json.RawMessage `json:"args"`
	Result          json.RawMessage `json:"result"`

	args   map[string]any
	effect effect // nil for a call that changed nothing
}

func (r *Recording) readCalls(fsys fs.FS) (calls []call, err error) {
	f, err := fsys.Open(callsFile)
	if err != nil {
		return nil, &FileError{File: callsFile, Err: missing(err)}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, MaxLine)
	number := 0
	for lines.Scan() {
		number++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		c, err := parseCall(lines.Bytes())
		if err == nil && len(calls) == MaxCalls {
			err = fmt.Errorf("%w: at most %d calls", ErrLimit, MaxCalls)
		}
		if err != nil {
			return nil, &FileError{File: callsFile, Line: number, Err: err}
		}
		if err := c.readEffect(); err != nil {
			r.notes = append(r.notes, FileError{File: callsFile, Line: number, Err: err})
		}
		c.Result = nil // what a look-up answered is long, and never needed again
		calls = append(calls, c)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, &FileError{File: callsFile, Line: number + 1, Err: fmt.Errorf("%w: a line has at most %d bytes", ErrLimit, MaxLine)}
	} else if err != nil {
		return nil, &FileError{File: callsFile, Line: number + 1, Err: err}
	}
	return calls, nil
}

func parseCall(line []byte) (call, error) {
	var c call
	if err := json.Unmarshal(line, &c); err != nil {
		return call{}, err
	}
	if c.Tool == "" || c.Label == "" {
		return call{}, fmt.Errorf("a call names its tool and its label")
	}
	args, err := parseArgs(c.Args)
	if err != nil {
		return call{}, fmt.Errorf("args: %w", err)
	}
	c.args, c.Args = args, nil
	return c, nil
}

// inRuns parts calls into runs, in the order in which runs first appear, each ordered by step.
func inRuns(calls []call) [][]call {
	type key struct{ task, trial int }
	index := map[key]int{}
	var runs [][]call
	for _, c := range calls {
		k := key{c.Task, c.Trial}
		at, ok := index[k]
		if !ok {
			at = len(runs)
			index[k] = at
			runs = append(runs, nil)
		}
		runs[at] = append(runs[at], c)
	}
	for _, run := range runs {
		slices.SortStableFunc(run, func(a, b call) int { return a.Step - b.Step })
	}
	return runs
}

func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
