package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document reads one file into its mapping, or names what is wrong and returns nil.
// Nodes that are faulty in themselves are in bad afterwards, so that nothing is told twice.
func (r *reader) document(data []byte) *yaml.Node {
	whole := place{file: r.file}
	if len(data) > MaxFileSize {
		r.add(whole, "the file has %d bytes: split it into files of at most %d", len(data), MaxFileSize)
		return nil
	}
	if at, ok := invalidUTF8(data); ok {
		r.add(place{r.file, at, 0}, "the file is not UTF-8: save it as UTF-8")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	first, err := next(decoder)
	switch {
	case errors.Is(err, io.EOF):
		r.add(whole, "the file is empty: declare something or remove the file")
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	if !r.single(decoder) {
		return nil
	}
	root := first.Content[0]
	if root.Kind != yaml.MappingNode {
		r.add(r.at(root), "a catalog is a mapping: begin with a key such as identities:")
		return nil
	}
	r.shape(root, 1)
	return root
}

// single reports whether nothing follows the first document.
func (r *reader) single(decoder *yaml.Decoder) bool {
	second, err := next(decoder)
	switch {
	case errors.Is(err, io.EOF):
		return true
	case err != nil:
		r.syntax(err)
	default:
		r.add(r.at(second), "a second document begins here: put it into a file of its own")
	}
	return false
}

// next reads a document. The YAML library panics on some malformed comments; that is a fault of the file, not of ours.
func next(decoder *yaml.Decoder) (node *yaml.Node, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("yaml: %v", problem)
		}
	}()
	node = new(yaml.Node)
	return node, decoder.Decode(node)
}

var yamlError = regexp.MustCompile(`(?s)^(?:yaml: )?(?:line (\d+): )?(.*)$`)

func (r *reader) syntax(err error) {
	parts := yamlError.FindStringSubmatch(err.Error())
	line, _ := strconv.Atoi(parts[1]) // no line: 0, the whole file
	r.add(place{r.file, line, 0}, "not valid YAML, correct it here or just above: %s", parts[2])
}

func invalidUTF8(data []byte) (line int, found bool) {
	if utf8.Valid(data) {
		return 0, false
	}
	good := 0
	for {
		c, size := utf8.DecodeRune(data[good:])
		if c == utf8.RuneError && size == 1 {
			return 1 + bytes.Count(data[:good], []byte("\n")), true
		}
		good += size
	}
}

// shape names everything in a tree that no catalog may contain, and marks it.
func (r *reader) shape(n *yaml.Node, depth int) {
	if n.Anchor != "" {
		r.add(r.at(n), "anchors are not read: remove &%s and write values out where they are used", clipName(n.Anchor))
	}
	switch {
	case n.Kind == yaml.AliasNode:
		r.spoil(n, "aliases are not read: write the value out instead of *%s", clipName(n.Value))
	case n.Style&yaml.TaggedStyle != 0:
		r.spoil(n, "tags are not read: remove %s", clipName(n.Tag))
	case n.Kind != yaml.ScalarNode && depth > MaxDepth:
		r.spoil(n, "nested deeper than %d: flatten it", MaxDepth)
		return
	}
	if n.Kind == yaml.MappingNode {
		r.mappingShape(n, depth)
		return
	}
	for _, item := range n.Content { // none but a list's
		r.shape(item, depth+1)
	}
}

func (r *reader) mappingShape(n *yaml.Node, depth int) {
	first := make(map[string]*yaml.Node, len(n.Content)/2)
	for key, value := range pairs(n) {
		r.shape(key, depth+1)
		r.shape(value, depth+1)
		switch before := first[key.Value]; {
		case r.bad[key]:
		case key.Kind != yaml.ScalarNode:
			r.spoil(key, "a key is a text: write it as one word")
		case key.Tag == "!!merge":
			r.spoil(key, "merge keys are not read: write the values out instead of <<")
		case before != nil:
			r.spoil(key, "key %s is given twice, first on line %d: remove one", quote(key.Value), before.Line)
		default:
			first[key.Value] = key
		}
	}
}

func (r *reader) spoil(n *yaml.Node, format string, args ...any) {
	r.bad[n] = true
	r.add(r.at(n), format, args...)
}

// pairs yields the keys and values of a mapping in the order of the file.
func pairs(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		more := true
		for i := 0; more && i+1 < len(n.Content); i += 2 {
			more = yield(n.Content[i], n.Content[i+1])
		}
	}
}

func clipName(name string) string {
	return strings.Trim(quote(name), `"`)
}
