package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/writ-project/writ/evidence"
)

// ErrArchive says that an archive is not what it should be.
var ErrArchive = errors.New("the archive does not hold the log")

const (
	checkpointFile  = "checkpoint"
	maxCheckpoint   = 1 << 16
	maxArchivedLine = 8 << 20 // a value is at most 1 MiB, and a byte of it at most six in JSON
)

// Archive reads a folder that Export has written: entries, and values beside them where they were exported. What it returns
// is not verified: entries are, by their hashes, and values, by the commitments in the entries. It is for one goroutine.
type Archive struct {
	Checkpoint evidence.Checkpoint // verified by its signature

	folder  string
	bundle  int64 // whose entries are at hand; -1 is none
	entries [][]byte
	beside  int64 // whose values are at hand; -1 is none
	values  map[int64]map[string]evidence.Disclosure
}

// OpenArchive opens an exported folder, whose checkpoint must verify under the log's key. Errors wrap ErrArchive.
func OpenArchive(folder, verifierKey string) (*Archive, error) {
	signed, err := readLimited(filepath.Join(folder, checkpointFile), maxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: `writ evidence export` writes one", ErrArchive, err)
	}
	checkpoint, err := evidence.OpenCheckpoint(signed, verifierKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, filepath.Join(folder, checkpointFile), err)
	}
	return &Archive{Checkpoint: checkpoint, folder: folder, bundle: -1, beside: -1}, nil
}

// Entry reads the bytes of an entry.
func (a *Archive) Entry(index int64) ([]byte, error) {
	if index < 0 || index >= a.Checkpoint.Size {
		return nil, fmt.Errorf("%w: it ends before entry %d: export again", ErrArchive, index)
	}
	bundle := index / evidence.TileWidth
	if bundle != a.bundle {
		path := filepath.Join(a.folder, filepath.FromSlash(evidence.TilePath(evidence.EntriesLevel, bundle, a.width(bundle))))
		entries, err := readBundle(path, a.width(bundle))
		if err != nil {
			return nil, err
		}
		a.bundle, a.entries = bundle, entries
	}
	return a.entries[index%evidence.TileWidth], nil
}

func (a *Archive) width(bundle int64) int {
	return int(min(a.Checkpoint.Size-bundle*evidence.TileWidth, evidence.TileWidth))
}

func readBundle(path string, width int) ([][]byte, error) {
	content, err := readLimited(path, evidence.TileWidth*(evidence.MaxEntrySize+2))
	if err != nil {
		return nil, fmt.Errorf("%w: %w: export the entries again", ErrArchive, err)
	}
	entries, err := evidence.DecodeBundle(content)
	if err == nil && len(entries) != width {
		err = fmt.Errorf("it has %d entries, not %d", len(entries), width)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: delete it and export again", ErrArchive, path, err)
	}
	return entries, nil
}

// Values reads what lies beside an entry, by slot.
func (a *Archive) Values(index int64) (map[string]evidence.Disclosure, error) {
	bundle := index / evidence.TileWidth
	if bundle != a.beside {
		values, err := readValues(filepath.Join(a.folder, filepath.FromSlash(valuesPath(bundle, a.width(bundle)))), bundle)
		if err != nil {
			return nil, fmt.Errorf("%w: %w: `writ evidence export --values` writes them", ErrArchive, err)
		}
		a.beside, a.values = bundle, values
	}
	return a.values[index], nil
}

// Recall reads an entry that was pruned, and what lay beside it, from an archive, and compares it with the tree and with the
// entry's commitments. Errors wrap ErrArchive, or are the store's.
func (s *Store) Recall(ctx context.Context, a *Archive, index int64) (evidence.Entry, map[string]evidence.Disclosure, error) {
	raw, err := a.Entry(index)
	if err != nil {
		return evidence.Entry{}, nil, err
	}
	tile, err := s.Tile(ctx, 0, index/evidence.TileWidth, int(index%evidence.TileWidth)+1)
	if err != nil {
		return evidence.Entry{}, nil, err
	}
	leaf := evidence.LeafHash(raw)
	if !bytes.HasSuffix(tile, leaf[:]) {
		return evidence.Entry{}, nil, fmt.Errorf("%w: entry %d is not the one in the tree", ErrArchive, index)
	}
	entry, err := evidence.Parse(raw)
	if err != nil {
		return entry, nil, fmt.Errorf("%w: entry %d: %w", ErrArchive, index, err)
	}
	commitments, err := entry.Commitments()
	if err != nil || len(commitments) == 0 {
		return entry, nil, err
	}
	values, err := a.Values(index)
	if err != nil {
		return entry, nil, err
	}
	for slot, d := range values {
		if !commitments[slot].Opens(d) {
			return entry, nil, fmt.Errorf("%w: the value %q beside entry %d is not the one that the entry commits to", ErrArchive, slot, index)
		}
	}
	return entry, values, nil
}

// valuesPath is where the values beside the entries of a bundle lie: the path of the bundle, below another folder.
func valuesPath(bundle int64, width int) string {
	return "values/" + strings.TrimPrefix(evidence.TilePath(evidence.EntriesLevel, bundle, width), "tile/entries/")
}

// archivedValue is one line of a file of values.
type archivedValue struct {
	Index int64  `json:"index"`
	Slot  string `json:"slot"`
	evidence.Disclosure
}

// archivedLine is how it is written: the value's exact bytes, inside a string.
type archivedLine struct {
	Index int64           `json:"index"`
	Slot  string          `json:"slot"`
	Opens json.RawMessage `json:"opens"` // a Disclosure
}

func readValues(path string, bundle int64) (map[int64]map[string]evidence.Disclosure, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	values := map[int64]map[string]evidence.Disclosure{}
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 1<<16), maxArchivedLine)
	for lines.Scan() {
		var line archivedLine
		var d evidence.Disclosure
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := json.Unmarshal(line.Opens, &d); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", path, line.Index, err)
		}
		if line.Index/evidence.TileWidth != bundle || line.Index < 0 {
			return nil, fmt.Errorf("%s: it holds a value of entry %d", path, line.Index)
		}
		if values[line.Index] == nil {
			values[line.Index] = map[string]evidence.Disclosure{}
		}
		values[line.Index][line.Slot] = d
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return values, nil
}

// encodeValues writes values as lines of JSON, in the order of the entries and slots.
func encodeValues(values []archivedValue) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	slices.SortFunc(values, func(a, b archivedValue) int {
		if a.Index != b.Index {
			return int(a.Index - b.Index) // of one bundle
		}
		return strings.Compare(a.Slot, b.Slot)
	})
	for _, v := range values {
		opens, err := json.Marshal(v.Disclosure)
		if err != nil {
			return nil, err
		}
		if err := encoder.Encode(archivedLine{v.Index, v.Slot, opens}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// readLimited reads a small file whole.
func readLimited(path string, most int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	if err == nil && len(content) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return content, err
}

// writeFile puts a file in its place whole or not at all, and its content on the disk before its name.
func writeFile(path string, content []byte, mode fs.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(content)
	if err := errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
