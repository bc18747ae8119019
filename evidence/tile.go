package evidence

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

const (
	// EntriesLevel stands for entry bundles where a tile level is asked for.
	EntriesLevel = -1

	maxLevel       = 63
	maxBundleEntry = 1<<16 - 1
)

// TilePath returns where c2sp.org/tlog-tiles serves a tile ("tile/0/x001/067.p/12") or, for [EntriesLevel],
// an entry bundle ("tile/entries/x001/067"). A width below [TileWidth] makes it partial.
func TilePath(level int, index int64, width int) string {
	path := fmt.Sprintf("%03d", index%1000)
	for index /= 1000; index > 0; index /= 1000 {
		path = fmt.Sprintf("x%03d/%s", index%1000, path)
	}
	if width < TileWidth {
		path += ".p/" + strconv.Itoa(width)
	}
	if level == EntriesLevel {
		return "tile/entries/" + path
	}
	return "tile/" + strconv.Itoa(level) + "/" + path
}

// ParseTilePath is the inverse of [TilePath]: it accepts exactly what that writes for a level from
// [EntriesLevel] to 63, an index up to [MaxSize] and a width from 1 to [TileWidth]. The error wraps [ErrTile].
func ParseTilePath(path string) (level int, index int64, width int, err error) {
	malformed := fmt.Errorf("%w: path %.60q is none of c2sp.org/tlog-tiles", ErrTile, path)
	const maxPath = len("tile/entries/x281/x474/x976/x710/656.p/255")
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > maxPath {
		return 0, 0, 0, malformed
	}
	kind, rest, _ := strings.Cut(rest, "/")
	level = EntriesLevel
	if kind != "entries" {
		n, ok := decimal(kind, maxLevel)
		if !ok {
			return 0, 0, 0, malformed
		}
		level = int(n)
	}
	number, part, partial := strings.Cut(rest, ".p/")
	width = TileWidth
	if partial {
		n, ok := decimal(part, TileWidth-1)
		if !ok || n == 0 {
			return 0, 0, 0, malformed
		}
		width = int(n)
	}
	digits := strings.NewReplacer("/", "", "x", "").Replace(number)
	index, err = strconv.ParseInt(digits, 10, 64)
	// Writing it again refuses every other spelling of the same number.
	if err != nil || index < 0 || index > MaxSize || TilePath(level, index, width) != path {
		return 0, 0, 0, malformed
	}
	return level, index, width, nil
}

// EncodeBundle joins from 1 to [TileWidth] entries, each with its length in two bytes before it (c2sp.org/tlog-tiles).
// The error wraps [ErrBundle].
func EncodeBundle(entries [][]byte) ([]byte, error) {
	if len(entries) < 1 || len(entries) > TileWidth {
		return nil, fmt.Errorf("%w: it cannot hold %d entries, only 1 to %d", ErrBundle, len(entries), TileWidth)
	}
	size := 0
	for i, entry := range entries {
		if len(entry) > maxBundleEntry {
			return nil, fmt.Errorf("%w: entry %d has %d bytes, the limit is %d", ErrBundle, i, len(entry), maxBundleEntry)
		}
		size += 2 + len(entry)
	}
	bundle := make([]byte, 0, size)
	for _, entry := range entries {
		bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
		bundle = append(bundle, entry...)
	}
	return bundle, nil
}

// DecodeBundle is the inverse of [EncodeBundle]. The entries are parts of bundle. The error wraps [ErrBundle].
func DecodeBundle(bundle []byte) ([][]byte, error) {
	var entries [][]byte
	for rest := bundle; len(rest) > 0; {
		if len(entries) == TileWidth {
			return nil, fmt.Errorf("%w: there is data after %d entries", ErrBundle, TileWidth)
		}
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("%w: it ends inside entry %d", ErrBundle, len(entries))
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		entries = append(entries, rest[2:end:end])
		rest = rest[end:]
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrBundle)
	}
	return entries, nil
}
