package main

import (
	"encoding/json"
	"reflect"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// TestEscapedJSONMeansTheSame for any text, and holds nothing that steers a terminal.
func TestEscapedJSONMeansTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			rapid.String(),
			rapid.StringOf(rapid.RuneFrom([]rune{0, '\t', '\n', '"', '\\', 0x7f, 0x85, 0x9b, 0x200b, 0x2028, 0x202e, 0xfeff, 0xfffd, 0xe0041, 0x1f600}, unicode.Cf)),
		).Draw(t, "text")
		raw, err := json.MarshalIndent(map[string]string{"a": value}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		escaped := escapeJSON(string(raw))
		var before, after map[string]string
		if err := json.Unmarshal(raw, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(escaped), &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%q: %q, %v", before, after, err)
		}
		for _, r := range escaped {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
				t.Fatalf("%U in %q", r, escaped)
			}
		}
	})
	if got := escapeJSON("\"\x9b\""); got != `"\ufffd"` {
		t.Errorf("a byte that is not UTF-8: %q", got)
	}
}
