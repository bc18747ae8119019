package evidence

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of objects and arrays, so that no input exhausts the stack of a reader.
const maxDepth = 64

// syntaxError says where strict JSON ends.
type syntaxError struct {
	offset int
	reason string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s (byte %d)", e.reason, e.offset) }

// checkJSON reports whether data is exactly one JSON value, as strict as I-JSON (RFC 7493): valid UTF-8,
// no duplicate names at any level, no lone surrogates; and nested at most maxDepth deep.
func checkJSON(data []byte) error {
	return newScanner(data).document(nil)
}

// members calls visit for each member of the JSON object data, in order, with the exact bytes of its value.
// The name is decoded and compared exactly (encoding/json would ignore its case). Both are valid during the call only.
func members(data []byte, visit func(name, value []byte) error) error {
	s := newScanner(data)
	s.space()
	if s.peek() != '{' {
		return s.fail("a JSON object is expected")
	}
	return s.document(visit)
}

// stringValue decodes a JSON string that members has handed out.
func stringValue(value []byte) (string, error) {
	s := scanner{data: value}
	if s.peek() != '"' {
		return "", s.fail("a string is expected")
	}
	text, err := s.text()
	return string(text), err
}

// scanner walks one JSON text once, without building values.
type scanner struct {
	data  []byte
	pos   int
	depth int
	names names // of the objects that are open, innermost last
}

func newScanner(data []byte) *scanner { return &scanner{data: data} }

// names are a list whose first ones need no memory of their own: most texts have no more.
type names struct {
	first [24][]byte
	rest  [][]byte
	count int
}

func (n *names) at(i int) []byte {
	if i < len(n.first) {
		return n.first[i]
	}
	return n.rest[i-len(n.first)]
}

func (n *names) add(name []byte) {
	if n.count < len(n.first) {
		n.first[n.count] = name
	} else {
		n.rest = append(n.rest, name)
	}
	n.count++
}

func (n *names) cut(count int) {
	n.count, n.rest = count, n.rest[:max(count-len(n.first), 0)]
}

func (s *scanner) fail(reason string) error { return &syntaxError{s.pos, reason} }

// peek returns the next byte, or 0 at the end; a NUL byte is legal nowhere, so the two need no telling apart.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) document(visit func(name, value []byte) error) error {
	if !utf8.Valid(s.data) {
		return s.fail("the text is not valid UTF-8")
	}
	s.space()
	if err := s.value(visit); err != nil {
		return err
	}
	s.space()
	if s.pos != len(s.data) {
		return s.fail("there is data after the JSON value")
	}
	return nil
}

func (s *scanner) value(visit func(name, value []byte) error) error {
	switch c := s.peek(); {
	case c == '{', c == '[':
		return s.nested(c, visit)
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || isDigit(c):
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	default:
		return s.fail("a JSON value is expected")
	}
}

func (s *scanner) nested(opening byte, visit func(name, value []byte) error) error {
	if s.depth == maxDepth {
		return s.fail(fmt.Sprintf("values are nested more than %d deep", maxDepth))
	}
	s.depth++
	s.pos++ // the opening bracket
	s.space()
	defer func() { s.depth-- }()
	if opening == '[' {
		return s.array()
	}
	return s.object(visit)
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.fail("a JSON value is expected")
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) array() error {
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := s.value(nil); err != nil {
			return err
		}
		if done, err := s.separator(']'); done || err != nil {
			return err
		}
	}
}

func (s *scanner) object(visit func(name, value []byte) error) error {
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	seen := nameSet{from: s.names.count}
	defer func() { s.names.cut(seen.from) }()
	for {
		if err := s.member(&seen, visit); err != nil {
			return err
		}
		if done, err := s.separator('}'); done || err != nil {
			return err
		}
	}
}

func (s *scanner) member(seen *nameSet, visit func(name, value []byte) error) error {
	if s.peek() != '"' {
		return s.fail("a member name is expected")
	}
	name, err := s.text()
	if err != nil {
		return err
	}
	if seen.has(&s.names, name) {
		return s.fail(fmt.Sprintf("the name %.40q appears twice", name))
	}
	s.names.add(name)
	s.space()
	if s.peek() != ':' {
		return s.fail("a colon is expected")
	}
	s.pos++
	s.space()
	start := s.pos
	if err := s.value(nil); err != nil || visit == nil {
		return err
	}
	return visit(name, s.data[start:s.pos])
}

// separator steps over a comma, or over the closing bracket and says so.
func (s *scanner) separator(closing byte) (done bool, err error) {
	s.space()
	switch s.peek() {
	case closing:
		s.pos++
		return true, nil
	case ',':
		s.pos++
		s.space()
		return false, nil
	default:
		return false, s.fail(fmt.Sprintf("a comma or %q is expected", closing))
	}
}

// nameSet finds duplicate names: by looking through a short list, by a map once it is long,
// so that an object of ten thousand names costs no more per name than one of ten.
type nameSet struct {
	from int
	long map[string]struct{}
}

func (n *nameSet) has(all *names, name []byte) bool {
	const short = 16
	if all.count-n.from < short {
		for i := n.from; i < all.count; i++ {
			if bytes.Equal(all.at(i), name) {
				return true
			}
		}
		return false
	}
	if n.long == nil {
		n.long = make(map[string]struct{})
		for i := n.from; i < all.count; i++ {
			n.long[string(all.at(i))] = struct{}{}
		}
	}
	_, found := n.long[string(name)]
	n.long[string(name)] = struct{}{}
	return found
}

// text steps over a string and returns it decoded: a part of the input when it holds no escapes.
func (s *scanner) text() ([]byte, error) {
	s.pos++            // the opening quote
	var decoded []byte // nil until the first escape
	for {
		run := s.plainRun()
		switch s.peek() {
		case '"':
			s.pos++
			if decoded == nil {
				return run, nil
			}
			return append(decoded, run...), nil
		case '\\':
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			decoded = utf8.AppendRune(append(decoded, run...), r)
		default:
			return nil, s.fail("a string is not closed or holds a control character")
		}
	}
}

// plainRun steps over the part of a string that stands for itself.
func (s *scanner) plainRun() []byte {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= ' ' && s.data[s.pos] != '"' && s.data[s.pos] != '\\' {
		s.pos++
	}
	return s.data[start:s.pos]
}

func (s *scanner) escape() (rune, error) {
	s.pos++ // the backslash
	c := s.peek()
	s.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return s.unicode()
	default:
		s.pos--
		return 0, s.fail("a string holds an unknown escape")
	}
}

func (s *scanner) unicode() (rune, error) {
	r, err := s.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !bytes.HasPrefix(s.data[s.pos:], []byte(`\u`)) {
		return 0, s.fail("a string holds half of a surrogate pair")
	}
	s.pos += 2
	low, err := s.hex4()
	if err != nil {
		return 0, err
	}
	pair := utf16.DecodeRune(r, low)
	if pair == utf8.RuneError {
		return 0, s.fail("a string holds half of a surrogate pair")
	}
	return pair, nil
}

func (s *scanner) hex4() (rune, error) {
	var r rune
	for range 4 {
		c := s.peek()
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, s.fail(`four hexadecimal digits are expected after \u`)
		}
		s.pos++
	}
	return r, nil
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail("a number needs digits")
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.fail("a number needs digits after its point")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.fail("a number needs digits in its exponent")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.pos
	for isDigit(s.peek()) {
		s.pos++
	}
	return s.pos > start
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// decimal reads a number as logs write it: no sign, no leading zeros, at most limit.
func decimal[T []byte | string](text T, limit int64) (n int64, ok bool) {
	if len(text) == 0 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || !isDigit(text[0]) || n > limit {
		return 0, false
	}
	return n, true
}
