package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxNesting is how deep brackets may stand in each other in a policy or a schema: the parsers recurse.
const MaxNesting = 64

// piece is the text of one policy, from its first annotation or effect to the semicolon.
type piece struct {
	text         string
	offset       int
	line, column int
}

// splitter cuts a Cedar file at its semicolons, so that one syntax error does not hide the others.
type splitter struct {
	text         string
	pos          int
	line, column int
	depth        int
	pieces       []piece
	start        piece // of the open piece; its line is 0 if there is none
}

var (
	errBlockComment = errors.New("/* is no comment in Cedar: write // on each line")
	errNesting      = fmt.Errorf("brackets stand more than %d deep in each other", MaxNesting)
)

// split cuts a Cedar file into policies. An error comes with the line and column where it stands.
func split(text string) (pieces []piece, line, column int, err error) {
	s := splitter{text: text, line: 1, column: 1}
	for s.pos < len(s.text) {
		if err := s.next(); err != nil {
			return nil, s.line, s.column, err
		}
	}
	s.close()
	return s.pieces, 0, 0, nil
}

func (s *splitter) next() error {
	rest := s.text[s.pos:]
	switch c := rest[0]; {
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		s.advance(1)
		return nil
	case strings.HasPrefix(rest, "//"):
		s.advance(lineLength(rest))
		return nil
	case strings.HasPrefix(rest, "/*"):
		return errBlockComment
	}
	s.open()
	switch c := rest[0]; c {
	case '"':
		s.advance(stringLength(rest))
	case ';':
		s.advance(1)
		s.close()
	default:
		if s.depth += nesting(c); s.depth > MaxNesting {
			return errNesting
		}
		_, size := utf8.DecodeRuneInString(rest)
		s.advance(size)
	}
	return nil
}

func nesting(c byte) int {
	switch c {
	case '(', '[', '{':
		return 1
	case ')', ']', '}':
		return -1
	default:
		return 0
	}
}

func (s *splitter) open() {
	if s.start.line == 0 {
		s.start = piece{offset: s.pos, line: s.line, column: s.column}
	}
}

func (s *splitter) close() {
	if s.start.line == 0 {
		return
	}
	s.start.text = s.text[s.start.offset:s.pos]
	s.pieces = append(s.pieces, s.start)
	s.start = piece{}
	s.depth = 0
}

func (s *splitter) advance(size int) {
	for _, c := range s.text[s.pos : s.pos+size] {
		if c == '\n' {
			s.line++
			s.column = 1
		} else {
			s.column++
		}
	}
	s.pos += size
}

func lineLength(text string) int {
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return i
	}
	return len(text)
}

// stringLength is how long the string literal is that the text begins with; one that is not closed ends with its line.
func stringLength(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\n':
			return i
		case '\\':
			i++
		}
	}
	return len(text)
}

// tooDeep reports where brackets stand too deep in each other in a schema, or 0.
func tooDeep(text string) (line int) {
	depth := 0
	line = 1
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			i += stringLength(text[i:]) - 1
		case '/':
			if strings.HasPrefix(text[i:], "//") {
				i += lineLength(text[i:]) - 1
			}
		case '\n':
			line++
		case '<':
			depth++
		case '>':
			depth--
		default:
			depth += nesting(c)
		}
		if depth > MaxNesting {
			return line
		}
	}
	return 0
}
