package policy

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/writ-project/writ/internal/access"
)

// Archive is a bundle as one piece of bytes, whose SHA-256 is the bundle's hash: each path and each file with its length
// (eight bytes, big-endian) before it, in path order, without the tests, which change nothing that is decided.
func Archive(src Source) []byte {
	var out []byte
	write := func(data []byte) {
		out = binary.BigEndian.AppendUint64(out, uint64(len(data)))
		out = append(out, data...)
	}
	for _, file := range slices.Sorted(maps.Keys(src)) {
		if kindOf(file) != fileTests {
			write([]byte(file))
			write(src[file])
		}
	}
	return out
}

var errArchive = errors.New("not an archive of a bundle: it is cut off or damaged")

// LoadArchive is Load on what Archive made.
func LoadArchive(archive []byte, catalog Catalog) (*Bundle, error) {
	src := Source{}
	for len(archive) > 0 {
		var path, content []byte
		var err error
		if path, archive, err = cutField(archive); err != nil {
			return nil, err
		}
		if content, archive, err = cutField(archive); err != nil {
			return nil, err
		}
		src[string(path)] = content
	}
	return Load(src, catalog)
}

func cutField(archive []byte) (field, rest []byte, err error) {
	const prefix = 8
	if len(archive) < prefix {
		return nil, nil, errArchive
	}
	length := binary.BigEndian.Uint64(archive)
	archive = archive[prefix:]
	if length > uint64(len(archive)) {
		return nil, nil, errArchive
	}
	return archive[:length], archive[length:], nil
}

// AnyCatalog lets policies name anything: for a bundle that was checked against its catalog when it was activated.
func AnyCatalog() Catalog { return anyCatalog{} }

type anyCatalog struct{}

func (anyCatalog) Has(access.Ref) bool  { return true }
func (anyCatalog) External(string) bool { return true }

// TakesArgument reports whether the schema declares the argument for the action.
func (b *Bundle) TakesArgument(action access.Ref, name string) bool {
	a := b.schema.actions[action]
	return a != nil && a.args().get(name) != nil
}
