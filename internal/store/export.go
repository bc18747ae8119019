package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
)

// ExportOptions say what beside the hashes is exported.
type ExportOptions struct {
	Entries  bool // entry bundles, for auditors
	Values   bool // what lies beside the entries, erasable and private; only together with Entries
	Progress Progress
}

// Exported is what an export has done.
type Exported struct {
	Size    int64 // of the log
	Written int   // files that were not there yet, or have changed
}

// Export writes the log as it is now into a folder as static files that any client of tiled logs reads
// (c2sp.org/tlog-tiles): checkpoint, tile/L/N, and tile/entries/N. Beside them it can write values/N, lines of JSON, one for each
// value. It may be repeated into the same folder, also after it was broken off: each file is whole or not there, full tiles are
// written once, the checkpoint comes last, and then partial tiles of former exports go. What was pruned since stays in the folder.
// A folder that holds another log, or a later state of this one, is refused with ErrArchive. verifierKey is the log's.
func (s *Store) Export(ctx context.Context, folder, verifierKey string, o ExportOptions) (Exported, error) {
	tree, checkpoint := s.snapshot()
	e := &export{ctx: ctx, store: s, folder: folder, options: o, size: tree.Size()}
	out := Exported{Size: e.size}
	old, err := OpenArchive(folder, verifierKey)
	switch {
	case err == nil:
		root, err := evidence.RootAt(tree, tileReader{ctx, s.reads}, old.Checkpoint.Size)
		if err != nil || root != old.Checkpoint.Root {
			return out, errors.Join(fmt.Errorf("%w: %s has a checkpoint of size %d that is not of this log's past: name another folder", ErrArchive, folder, old.Checkpoint.Size), err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return out, err
	}
	if err := e.tiles(); err != nil {
		return out, err
	}
	if o.Entries {
		if err := e.bundles(); err != nil {
			return out, err
		}
	}
	if err := e.write(checkpointFile, checkpoint, 0o644); err != nil {
		return out, err
	}
	out.Written = e.written
	return out, e.sweep()
}

type export struct {
	ctx     context.Context
	store   *Store
	folder  string
	options ExportOptions
	size    int64
	written int
}

// tiles writes the hashes. There is one tile of a level for 256 of the level below.
func (e *export) tiles() error {
	level := 0
	for width := e.size; width > 0; width /= evidence.TileWidth {
		for index := int64(0); index*evidence.TileWidth < width; index++ {
			filled := int(min(width-index*evidence.TileWidth, evidence.TileWidth))
			path := evidence.TilePath(level, index, filled)
			if filled == evidence.TileWidth && e.has(path) {
				continue
			}
			data, err := e.store.Tile(e.ctx, level, index, filled)
			if err != nil {
				return err
			}
			if err := e.write(path, data, 0o644); err != nil {
				return err
			}
		}
		level++
	}
	return nil
}

// bundles writes the entries, and the values beside them. Values can be erased, so those of former exports are looked at again.
func (e *export) bundles() error {
	for bundle := int64(0); bundle*evidence.TileWidth < e.size; bundle++ {
		width := int(min(e.size-bundle*evidence.TileWidth, evidence.TileWidth))
		path := evidence.TilePath(evidence.EntriesLevel, bundle, width)
		if width < evidence.TileWidth || !e.has(path) {
			data, err := e.store.EntryBundle(e.ctx, bundle, width)
			if errors.Is(err, access.ErrPruned) {
				err = fmt.Errorf("%s is not there: %w: export into the folder that it was pruned to", filepath.Join(e.folder, path), err)
			}
			if err != nil {
				return err
			}
			if err := e.write(path, data, 0o640); err != nil {
				return err
			}
		}
		if e.options.Values {
			if err := e.values(bundle, width); err != nil {
				return err
			}
		}
		e.options.Progress.tell("exporting entries", bundle*evidence.TileWidth+int64(width), e.size)
	}
	return nil
}

// values writes what lies beside the entries of a bundle. For entries that were pruned, what the folder holds stays.
func (e *export) values(bundle int64, width int) error {
	first := bundle * evidence.TileWidth
	last := first + int64(width) - 1
	there := map[int64]bool{}
	err := e.store.reads.each(e.ctx, `SELECT idx FROM entries WHERE idx >= $1 AND idx <= $2`, []any{first, last}, func(row func(...any) error) error {
		var index int64
		err := row(&index)
		there[index] = true
		return err
	})
	if err != nil {
		return unavailable(err)
	}
	var values []archivedValue
	err = e.store.reads.each(e.ctx, `SELECT idx, slot, salt, value FROM disclosures WHERE idx >= $1 AND idx <= $2`, []any{first, last},
		func(row func(...any) error) error {
			var v archivedValue
			err := row(&v.Index, &v.Slot, &v.Salt, (*[]byte)(&v.Value))
			values = append(values, v)
			return err
		})
	if err != nil {
		return unavailable(err)
	}
	path := valuesPath(bundle, width)
	if pruned := len(there) < width; pruned {
		kept, err := readValues(filepath.Join(e.folder, filepath.FromSlash(path)), bundle)
		if err != nil {
			return fmt.Errorf("%w: %w: export into the folder that they were pruned to", ErrArchive, err)
		}
		for index, slots := range kept {
			if there[index] {
				continue
			}
			for slot, d := range slots {
				values = append(values, archivedValue{index, slot, d})
			}
		}
	}
	content, err := encodeValues(values)
	if err != nil {
		return err
	}
	return e.write(path, content, 0o600)
}

func (e *export) has(name string) bool {
	_, err := os.Stat(filepath.Join(e.folder, filepath.FromSlash(name)))
	return err == nil
}

// write writes a file that is not there, or differs.
func (e *export) write(name string, content []byte, mode fs.FileMode) error {
	path := filepath.Join(e.folder, filepath.FromSlash(name))
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	e.written++
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return writeFile(path, content, mode)
}

// sweep removes the partial tiles of former exports: the checkpoint that needed them is gone.
func (e *export) sweep() error {
	for _, part := range []string{"tile", "values"} {
		root := filepath.Join(e.folder, part)
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() || !strings.HasSuffix(entry.Name(), ".p") {
				return err
			}
			if err := e.sweepPartial(path); err != nil {
				return err
			}
			return fs.SkipDir
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (e *export) sweepPartial(folder string) error {
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	kept := 0
	for _, file := range files {
		path := filepath.Join(folder, file.Name())
		name, err := filepath.Rel(e.folder, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if rest, ok := strings.CutPrefix(name, "values/"); ok {
			name = "tile/entries/" + rest
		}
		level, index, width, err := evidence.ParseTilePath(name)
		if err != nil || e.needs(level, index, width) {
			kept++ // not ours, or of this export
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if kept == 0 {
		return os.Remove(folder)
	}
	return nil
}

// needs reports whether a partial tile is one at the end of the log.
func (e *export) needs(level int, index int64, width int) bool {
	size := e.size
	for range max(level, 0) {
		size /= evidence.TileWidth
	}
	return index == size/evidence.TileWidth && int64(width) == size%evidence.TileWidth
}
