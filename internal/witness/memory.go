package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/writ-project/writ/evidence"
)

// The files of a witness's memory.
const (
	stateFile     = "witness.state"
	lockFileName  = "witness.lock"
	forgottenFile = "witness.forgotten"

	noCopy = "an older copy would let this witness cosign a fork; put back this very file, or make a new witness with a new key"
)

var (
	// ErrInUse: another process holds the memory.
	ErrInUse = errors.New("another witness process uses this folder: stop it first")
	// ErrMemory: the memory is missing, damaged, or of another witness. Nothing is cosigned without it.
	ErrMemory = errors.New("the memory of this witness cannot be trusted")
)

// record is the largest checkpoint of one log that was cosigned.
type record struct {
	checkpoint evidence.Checkpoint
	at         time.Time // of the cosignature
	note       []byte    // signed by the log and the witness
}

// next is the time of the next cosignature: never before the last one, or one would deny the other. A clock that is far behind is
// refused.
func (r record) next(now time.Time) (time.Time, error) {
	now = now.Truncate(time.Second)
	if behind := r.at.Sub(now); behind > maxClockBehind {
		return time.Time{}, fmt.Errorf("the clock is %s behind the last cosignature of %.80q: correct it", behind, r.checkpoint.Origin)
	} else if behind > 0 {
		return r.at, nil
	}
	return now, nil
}

// memory is what a witness has cosigned. The file holds the cosigned checkpoints themselves, so each says under which key
// the witness vouched for it, and a changed one is seen.
type memory struct {
	folder string
	key    string // verifier key of the witness
	lock   *fileLock

	mu        sync.Mutex
	records   map[string]record // by origin
	forgotten []forgotten
	broken    error // set when nobody knows what is on the disk
}

// stateJSON is the state file.
type stateJSON struct {
	Witness     string   `json:"witness"`
	Checkpoints []string `json:"checkpoints"` // by origin
	Sum         string   `json:"sum"`         // so that a lost or half-written record is seen
}

// sum covers what the state says.
func (s stateJSON) sum() string {
	text, _ := json.Marshal(append([]string{s.Witness}, s.Checkpoints...)) // strings always can
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// forgotten is a line of the file of what the operator had the witness forget.
type forgotten struct {
	Time       time.Time `json:"time"`
	Origin     string    `json:"origin"`
	Size       int64     `json:"size"`
	Reason     string    `json:"reason"`
	Checkpoint string    `json:"checkpoint"`
	Accepted   string    `json:"accepted,omitempty"` // the checkpoint that the witness goes on from, cosigned

	last time.Time // of the cosignature that was forgotten
}

// createMemory makes the empty memory of a new witness. There is no other way to an empty one.
func createMemory(folder, key string) error {
	m := &memory{folder: folder, key: key}
	return m.save(nil)
}

// openMemory reads the memory of the witness with this verifier key and holds it until close.
// The error wraps [ErrInUse] or [ErrMemory].
func openMemory(folder, key string) (*memory, error) {
	lock, err := lockFile(filepath.Join(folder, lockFileName))
	if err != nil {
		return nil, err
	}
	m := &memory{folder: folder, key: key, lock: lock}
	if err := errors.Join(m.load(), m.loadForgotten()); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrMemory, err), lock.unlock())
	}
	return m, nil
}

func (m *memory) close() error { return m.lock.unlock() }

func (m *memory) load() error {
	path := filepath.Join(m.folder, stateFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing. A witness that has forgotten what it cosigned can be led to cosign a fork: put back this very file, or make a new witness with a new key", path)
	}
	if err != nil {
		return err
	}
	var state stateJSON
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&state); err != nil {
		return fmt.Errorf("%s is damaged (%w): %s", path, err, noCopy)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is damaged (it goes on after its end): %s", path, noCopy)
	}
	if state.Witness != m.key {
		return fmt.Errorf("%s belongs to the witness %.300q, the key here is %.300q: put back the key or the file", path, state.Witness, m.key)
	}
	if state.Sum != state.sum() {
		return fmt.Errorf("%s is damaged (its checksum differs): %s", path, noCopy)
	}
	m.records = make(map[string]record)
	for i, text := range state.Checkpoints {
		r, err := m.read(text)
		if err != nil {
			return fmt.Errorf("%s is damaged (checkpoint %d: %w): %s", path, i, err, noCopy)
		}
		if _, twice := m.records[r.checkpoint.Origin]; twice {
			return fmt.Errorf("%s is damaged (two checkpoints of %.80q): %s", path, r.checkpoint.Origin, noCopy)
		}
		m.records[r.checkpoint.Origin] = r
	}
	return nil
}

// read takes a checkpoint on the word of this very witness.
func (m *memory) read(text string) (record, error) {
	c, found, err := evidence.OpenCosigned([]byte(text), m.key)
	if err != nil {
		return record{}, err
	}
	return record{c, found[0].Time, []byte(text)}, nil
}

func (m *memory) loadForgotten() error {
	content, err := os.ReadFile(filepath.Join(m.folder, forgottenFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	for decoder.More() {
		var f forgotten
		if err := decoder.Decode(&f); err != nil {
			return fmt.Errorf("%s is damaged: %w", filepath.Join(m.folder, forgottenFile), err)
		}
		r, err := m.read(f.Checkpoint)
		if err != nil {
			return fmt.Errorf("%s is damaged: %w", filepath.Join(m.folder, forgottenFile), err)
		}
		f.last = r.at
		m.forgotten = append(m.forgotten, f)
	}
	return nil
}

// known is the record of a log, or the empty tree. The time of a cosignature is not forgotten.
func (m *memory) known(origin string) record {
	if r, found := m.records[origin]; found {
		return r
	}
	r := record{checkpoint: evidence.Checkpoint{Origin: origin, Root: evidence.NewTree().Root()}}
	for _, f := range m.forgotten {
		if f.Origin == origin && f.last.After(r.at) {
			r.at = f.last
		}
	}
	return r
}

// all returns the records and what was forgotten.
func (m *memory) all() ([]record, []forgotten) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var records []record
	for _, origin := range slices.Sorted(maps.Keys(m.records)) {
		records = append(records, m.records[origin])
	}
	return records, slices.Clone(m.forgotten)
}

// advance lets next decide on what is known of a log, and returns after its answer is on the disk. Nobody else is between
// the two. An error of next changes nothing; an error of the disk leaves the memory as it was.
func (m *memory) advance(origin string, next func(known record) (record, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	known := m.known(origin)
	r, err := next(known)
	if err != nil {
		return err
	}
	records := maps.Clone(m.records)
	records[origin] = r
	if known.note == nil || r.checkpoint != known.checkpoint || !r.at.Equal(known.at) { // else the disk says it already
		if err := m.save(records); err != nil {
			return err
		}
	}
	m.records = records
	return nil
}

// save replaces the state file: whoever opens it, also after a crash, finds the old records or the new ones.
func (m *memory) save(records map[string]record) error {
	state := stateJSON{Witness: m.key, Checkpoints: []string{}}
	for _, origin := range slices.Sorted(maps.Keys(records)) {
		state.Checkpoints = append(state.Checkpoints, string(records[origin].note))
	}
	state.Sum = state.sum()
	content, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return m.replace(stateFile, append(content, '\n'))
}

// forget moves what is known of a log into the file of forgotten records, and puts in its place what instead returns, if that has
// a note. It is on the disk there before it is gone here.
func (m *memory) forget(origin, reason string, at time.Time, instead func(known record) (record, error)) (record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, found := m.records[origin]
	if !found {
		return record{}, fmt.Errorf("nothing is known of the log %.80q: the name must be exactly its origin", origin)
	}
	next, err := instead(known)
	if err != nil {
		return record{}, err
	}
	gone := append(slices.Clone(m.forgotten), forgotten{at.UTC(), origin, known.checkpoint.Size, reason, string(known.note), string(next.note), known.at})
	var lines bytes.Buffer
	for _, f := range gone {
		line, err := json.Marshal(f)
		if err != nil {
			return record{}, err
		}
		lines.Write(append(line, '\n'))
	}
	if err := m.replace(forgottenFile, lines.Bytes()); err != nil {
		return record{}, err
	}
	records := maps.Clone(m.records)
	delete(records, origin)
	if next.note != nil {
		records[origin] = next
	}
	if err := m.save(records); err != nil {
		return record{}, err
	}
	m.records, m.forgotten = records, gone
	return known, nil
}

// replace makes a file have this content, durably, or leaves it as it was.
func (m *memory) replace(name string, content []byte) error {
	path := filepath.Join(m.folder, name)
	if err := writeFlushed(path+".new", content, os.O_TRUNC, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	if err := flushFolder(m.folder); err != nil {
		m.broken = fmt.Errorf("%w: nobody knows what is on the disk; restart the witness, which reads it: %w", ErrMemory, err)
		return m.broken
	}
	return nil
}

// writeFlushed writes a file and waits until its content is on the disk. The flag is O_TRUNC or O_EXCL.
func writeFlushed(path string, content []byte, flag int, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flag, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// flushFolder makes the names in a folder durable.
func flushFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
