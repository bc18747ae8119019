package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestStrictJSON(t *testing.T) {
	many := func(names int, last string) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range names {
			fmt.Fprintf(&b, `"n%d":0,`, i)
		}
		return b.String() + last + "}"
	}
	for _, c := range []struct {
		text string
		want string // part of the reason; "" for well-formed
	}{
		{`{}`, ""},
		{` { "a" : [ 1 , -2.5e+3 , 0 , 1E9, true, false, null, "x" ] , "b" : {} } `, ""},
		{`"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00é"`, ""},
		{`{"a":{"b":1},"b":{"b":1}}`, ""},
		{strings.Repeat("[", 64) + strings.Repeat("]", 64), ""},
		{many(40, `"last":0`), ""},
		{"[" + strings.Repeat("[],", 70) + "{}]", ""}, // beside each other, not inside
		{"[[" + strings.Repeat("[],", 70) + "{}]]", ""},
		{`[0,-0,10,9.09e0,1E-9]`, ""},

		{``, "value is expected"},
		{`{"a":}`, "value is expected"},
		{`nul`, "value is expected"},
		{`tru`, "value is expected"},
		{`falsch`, "value is expected"},
		{`{} {}`, "after the JSON value"},
		{`{}x`, "after the JSON value"},
		{"{}\x00", "after the JSON value"},
		{"\"\xff\"", "UTF-8"},
		{`{"a":1,"a":2}`, `"a" appears twice`},
		{`{"a":1,"\u0061":2}`, `"a" appears twice`},
		{`{"x":[{"a":1,"b":{"c":1,"c":2}}]}`, `"c" appears twice`},
		{many(40, `"n3":0`), `"n3" appears twice`},
		{many(40, `"n39":0`), `"n39" appears twice`},
		{many(15, `"n14":0`), `"n14" appears twice`},
		{many(16, `"n15":0`), `"n15" appears twice`},
		{many(17, `"n16":0`), `"n16" appears twice`},
		{strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested more than 64"},
		{`[1 2]`, "a comma or"},
		{`[1,]`, "value is expected"},
		{`{"a":1,}`, "name is expected"},
		{`{a:1}`, "name is expected"},
		{`{"a" 1}`, "colon"},
		{`{"a":1`, "a comma or"},
		{`{"a`, "not closed"},
		{"\"a\nb\"", "control character"},
		{`"\x"`, "unknown escape"},
		{`"\`, "unknown escape"},
		{`"\u12g4"`, "four hexadecimal digits"},
		{`"\u12G4"`, "four hexadecimal digits"},
		{`"\u12:4"`, "four hexadecimal digits"},
		{`"\u12/4"`, "four hexadecimal digits"},
		{`"\u12@4"`, "four hexadecimal digits"},
		{"\"\\u12`4\"", "four hexadecimal digits"},
		{`"\ud800"`, "surrogate"},
		{`"\ud800\u0041"`, "surrogate"},
		{`"\ud800\u00"`, "four hexadecimal digits"},
		{`"\udc00"`, "surrogate"},
		{`-`, "needs digits"},
		{`01`, "after the JSON value"},
		{`1.`, "after its point"},
		{`1e`, "in its exponent"},
		{`1e+`, "in its exponent"},
	} {
		err := checkJSON([]byte(c.text))
		if c.want == "" && err != nil {
			t.Errorf("%.60q: %v", c.text, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.60q: error %v does not say %q", c.text, err, c.want)
		}
	}
}

func TestTextIsDecoded(t *testing.T) {
	for text, want := range map[string]string{
		`"\u0041\u007A\u00aF\u00Fa\u09f0\u1eE9"`: "Az¯úৰứ", `"a\ud83D\uDe00b"`: "a😀b", `"\uD800\uDC00\udbff\udfff"`: "\U00010000\U0010ffff",
		`"a\"b\\c\/d\b\f\n\r\te"`: "a\"b\\c/d\b\f\n\r\te", `""`: "",
	} {
		if got, err := stringValue([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestStrictJSONSaysWhere(t *testing.T) {
	for text, offset := range map[string]int{
		``: 0, `[1 2]`: 3, `{"a":tru}`: 5, `["\x"]`: 3, `"\`: 2, "[\"a\n\"]": 3, `"\u12g4"`: 5, `"\u123`: 6, `"\ud800x"`: 7, `"\ud800\u0041"`: 13, `{}x`: 2, `1.x`: 2, `[1e+]`: 4, "[ \t\r\n ?]": 6,
	} {
		var at *syntaxError
		if err := checkJSON([]byte(text)); !errors.As(err, &at) || at.offset != offset {
			t.Errorf("%q: %v, want byte %d", text, err, offset)
		}
	}
}

func TestDecimal(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "9": 9, "10": 10, "1000": 1000, "1001": -1, "00": -1, "01": -1, "": -1, "+1": -1, "-1": -1, "1a": -1, "a": -1, "/": -1, ":": -1,
		"9223372036854775808": -1, "10000000000000000000": -1,
	} {
		if n, ok := decimal(text, 1000); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q is %d, %t, want %d", text, n, ok, want)
		}
	}
}

func TestMembersHandsOutExactBytes(t *testing.T) {
	var got []string
	err := members([]byte(` {"a" : {"x": 1 } ,"\u0062":[ 2]} `), func(name, value []byte) error {
		got = append(got, string(name)+"="+string(value))
		return nil
	})
	if want := `[a={"x": 1 } b=[ 2]]`; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
	stop := errors.New("stop")
	if err := members([]byte(`{"a":1}`), func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the visitor's error is lost: %v", err)
	}
	if err := members([]byte(`[]`), nil); err == nil {
		t.Error("an array passes for an object")
	}
}

func TestSealCountNeedsReadableData(t *testing.T) {
	for data, want := range map[string]int64{`{"count":3}`: 3, `{"count":"3"}`: -1, `{}`: -1, ``: -1, `{"count":3`: -1, `{"Count":3}`: -1} {
		n, ok := Entry{Data: []byte(data)}.sealCount()
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q counts %d, %t", data, n, ok)
		}
	}
}

// FuzzStrictJSON has an independent strict reader as its judge.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0.5e7,"\ud83d\ude00"],"b":null}`, `{"a":1,"a":2}`, "\"\xff\"", `"\ud800"`, `[[[[`, ` 0 `, `01`, `{"a":tru}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := checkJSON(data)
		judge := judgeJSON(data)
		if (err == nil) != (judge == nil) {
			t.Errorf("%q: we say %v, the judge says %v", data, err, judge)
		}
	})
}

func judgeJSON(data []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	started := false
	for {
		token, err := d.ReadToken()
		switch {
		case errors.Is(err, io.EOF) && started:
			return nil
		case err != nil:
			return err
		case d.StackDepth() > maxDepth:
			return fmt.Errorf("too deep at %v", token)
		case started && d.StackDepth() == 0 && token.Kind() != '}' && token.Kind() != ']':
			return errors.New("a second value")
		case started && d.StackDepth() == 1 && d.InputOffset() > 1 && firstOfSecond(d, token):
			return errors.New("a second value")
		}
		started = true
	}
}

// firstOfSecond tells an opening bracket at the top level that is not the first token.
func firstOfSecond(d *jsontext.Decoder, token jsontext.Token) bool {
	if k := token.Kind(); k != '{' && k != '[' {
		return false
	}
	_, length := d.StackIndex(1)
	_, top := d.StackIndex(0)
	return length == 0 && top > 1
}
