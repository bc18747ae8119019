package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
)

// json prints a value as indented JSON, in which no text of an agent can steer a terminal.
func (e *environment) json(value any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := io.WriteString(e.out, escapeJSON(text.String()))
	return err
}

// escapeJSON writes what steers a terminal, or hides or reorders text, as \uXXXX. JSON has such characters inside strings
// only, but for the line ends of the indentation, so it means the same as before.
func escapeJSON(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || !steers(r) && r != unicode.ReplacementChar: // as which bytes that are not UTF-8 are read
			out.WriteRune(r)
		case r > maxBasic:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

const maxBasic = 0xffff // beyond it JSON needs a pair of surrogates

// steers reports whether a character is not text: a control (C0, DEL, C1), a format character such as a change of the writing
// direction, or a line end that only some programs see.
func steers(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// table prints rows in columns.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if len(header) > 0 {
		fmt.Fprintln(t, strings.Join(header, "\t"))
	}
	for _, row := range rows {
		for i := range row {
			row[i] = plain(row[i])
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// plain makes text that an agent wrote safe to print: no control characters that could steer a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// colors are ANSI sequences, empty where the output is not a terminal or NO_COLOR is set.
type colors struct{ bold, dim, green, yellow, red, blue, off string }

func colorsFor(w io.Writer) colors {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return colors{}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return colors{}
	}
	return colors{bold: "\x1b[1m", dim: "\x1b[2m", green: "\x1b[32m", yellow: "\x1b[33m", red: "\x1b[31m", blue: "\x1b[34m", off: "\x1b[0m"}
}
