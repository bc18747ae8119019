package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

func constraints(t interface{ Fatalf(string, ...any) }, text string) Constraints {
	got, err := ParseConstraints([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

func TestConstraintsSayWhatFits(t *testing.T) {
	for _, c := range []struct{ constraint, fit, unfit string }{
		{`{"type":"exact","value":{"a":1,"b":[2]}}`, `{"b":[2], "a":1}`, `{"a":1}`},
		{`{"type":"exact","value":1}`, `1`, `"1"`},
		{`{"type":"exact","value":1}`, `1`, `1.0`},
		{`{"type":"range","min":1,"max":3}`, `3`, `4`},
		{`{"type":"range","min":1}`, `9223372036854775807`, `0`},
		{`{"type":"range","max":3}`, `-9223372036854775808`, `9223372036854775808`},
		{`{"type":"range","max":3}`, `3`, `2.5`},
		{`{"type":"range","max":3}`, `3`, `null`},
		{`{"type":"one_of","values":["a","b"]}`, `"b"`, `"c"`},
		{`{"type":"not_one_of","excluded":["a"]}`, `"b"`, `"a"`},
		{`{"type":"contains","required":["a"]}`, `["b","a"]`, `["b"]`},
		{`{"type":"contains","required":["a"]}`, `["a"]`, `"a"`},
		{`{"type":"subset","allowed":["a","b"]}`, `["b","b"]`, `["a","c"]`},
		{`{"type":"subset","allowed":["a"]}`, `[]`, `"a"`},
		{`{"type":"all","constraints":[{"type":"range","min":1},{"type":"not_one_of","excluded":[2]}]}`, `3`, `2`},
		{`{"type":"any","constraints":[{"type":"exact","value":1},{"type":"exact","value":"x"}]}`, `"x"`, `2`},
	} {
		cs := constraints(t, `{"arg":`+c.constraint+`}`)
		if !cs.Fit(json.RawMessage(`{"arg":` + c.fit + `}`)) {
			t.Errorf("%s does not fit %s", c.fit, c.constraint)
		}
		if cs.Fit(json.RawMessage(`{"arg":` + c.unfit + `}`)) {
			t.Errorf("%s fits %s", c.unfit, c.constraint)
		}
	}
	closed := constraints(t, `{"a":{"type":"wildcard"},"b":{"type":"wildcard"}}`)
	for args, want := range map[string]bool{`{"a":1,"b":null}`: true, `{"a":1}`: false, `{"a":1,"b":2,"c":3}`: false, ``: false, `{"a":1,"a":2,"b":3}`: false, `[]`: false} {
		if got := closed.Fit(json.RawMessage(args)); got != want {
			t.Errorf("%s: %v", args, got)
		}
	}
	if (Constraints{"a": {Kind: "later"}}).Fit(json.RawMessage(`{"a":1}`)) {
		t.Error("a kind that nobody knows is fitted")
	}
	later := Constraints{"a": {Kind: "later"}}
	if err := later.Narrower(later); !errors.Is(err, ErrWider) {
		t.Error("a kind that nobody knows is narrower:", err)
	}
	if none := (Constraints{}); none.Fit(json.RawMessage(`{"whatever":1}`)) || !none.Fit(nil) {
		t.Error("no constraints are for no arguments")
	}
}

func TestBadConstraintsAreRefused(t *testing.T) {
	deep := strings.Repeat(`{"type":"all","constraints":[`, 9) + `{"type":"wildcard"}` + strings.Repeat(`]}`, 9)
	for text, want := range map[string]string{
		`{"a":{"type":"regexp","value":".*"}}`:                            "no type",
		`{"a":{"type":"exact"}}`:                                          "has value beside it",
		`{"a":{"type":"exact","value":1,"values":[1]}}`:                   "and nothing else",
		`{"a":{"type":"wildcard","value":1}}`:                             "has nothing beside it",
		`{"a":{"type":"range"}}`:                                          "has min or max",
		`{"a":{"type":"range","min":1.5}}`:                                "constraints",
		`{"a":{"type":"range","min":1,"min_inclusive":false}}`:            "unknown",
		`{"a":{"type":"exact","value":1},"a":{"type":"exact","value":2}}`: "duplicate",
		`{"a":` + deep + `}`:                                              "deep",
		`[]`:                                                              "constraints",
		`{"a":{"type":"exact","value":` + strings.Repeat(`[`, 60) + strings.Repeat(`]`, 60) + `}}`:                          "deep",
		`{"a":{"type":"one_of","values":[1` + strings.Repeat(`,1`, maxListed) + `]}}`:                                       "lists 257 values",
		`{"a":{"type":"any","constraints":[{"type":"wildcard"}` + strings.Repeat(`,{"type":"wildcard"}`, maxListed) + `]}}`: "is made of 257",
		`{"a":{"type":"exact","value":"` + strings.Repeat("x", MaxConstraints) + `"}}`:                                      "limit",
	} {
		if _, err := ParseConstraints([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
}

func drawConstraint(depth int, kinds ...ConstraintKind) *rapid.Generator[Constraint] {
	return rapid.Custom(func(t *rapid.T) Constraint {
		value := func(name string) jsontext.Value {
			return jsontext.Value(rapid.SampledFrom([]string{`0`, `1`, `2`, `"a"`, `["a"]`, `["a","b"]`, `[]`, `null`}).Draw(t, name))
		}
		list := func(from ...string) (out []jsontext.Value) {
			for _, v := range rapid.SliceOfN(rapid.SampledFrom(from), 0, 3).Draw(t, "values") {
				out = append(out, jsontext.Value(v))
			}
			if out == nil {
				out = []jsontext.Value{}
			}
			return out
		}
		among := kinds
		if len(among) == 0 {
			among = []ConstraintKind{ConstraintExact, ConstraintRange, ConstraintOneOf, ConstraintNotOneOf, ConstraintContains, ConstraintSubset, ConstraintWildcard}
			if depth > 0 {
				among = append(among, ConstraintAll, ConstraintAny)
			}
		}
		c := Constraint{Kind: rapid.SampledFrom(among).Draw(t, "kind")}
		switch c.Kind {
		case ConstraintExact:
			c.Value = value("value")
		case ConstraintRange:
			low, high := rapid.Int64Range(-1, 3).Draw(t, "min"), rapid.Int64Range(-1, 3).Draw(t, "max")
			if rapid.Bool().Draw(t, "has min") {
				c.Min = &low
			}
			if c.Min == nil || rapid.Bool().Draw(t, "has max") {
				c.Max = &high
			}
		case ConstraintOneOf:
			c.Values = list(`0`, `1`, `"a"`, `["a"]`)
		case ConstraintNotOneOf:
			c.Excluded = list(`0`, `1`, `"a"`, `["a"]`)
		case ConstraintContains:
			c.Required = list(`"a"`, `"b"`)
		case ConstraintSubset:
			c.Allowed = list(`"a"`, `"b"`)
		case ConstraintAll, ConstraintAny:
			c.Constraints = rapid.SliceOfN(drawConstraint(depth-1), 0, 3).Draw(t, "constraints")
			if c.Constraints == nil {
				c.Constraints = []Constraint{}
			}
		case ConstraintWildcard:
		}
		return c
	})
}

// Whatever fits what was passed on fits what it was passed on from, in every dimension and through every hop.
func TestI3_WhatIsNarrowerNeverFitsMore(t *testing.T) {
	values := []string{`-1`, `0`, `1`, `2`, `3`, `4`, `"a"`, `"b"`, `[]`, `["a"]`, `["b"]`, `["a","b"]`, `["a","c"]`, `null`, `true`, `{"a":1}`}
	narrowed, kinds := 0, map[string]bool{}
	pair := func(t *rapid.T) {
		parent := drawConstraint(2).Draw(t, "parent")
		child := rapid.OneOf(drawConstraint(2), drawConstraint(2, parent.Kind), drawConstraint(2, parent.Kind)).Draw(t, "child")
		if !child.narrower(&parent) {
			return
		}
		narrowed++
		kinds[fmt.Sprint(child.Kind, parent.Kind)] = true
		for _, text := range values {
			if v := jsontext.Value(text); child.fits(v) && !parent.fits(v) {
				t.Fatalf("%s fits the child only", text)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 50 { // few of all pairs are close enough to tell
			pair(t)
		}
	})
	if narrowed < 500 || len(kinds) < 12 {
		t.Errorf("only %d pairs of %d kinds were narrower: the test is blind", narrowed, len(kinds))
	}
}

func TestI3_NarrowerIsNotWider(t *testing.T) {
	for _, c := range []struct {
		child, parent string
		narrower      bool
	}{
		{`{"a":{"type":"exact","value":1}}`, `{"a":{"type":"range","min":1,"max":2}}`, true},
		{`{"a":{"type":"exact","value":3}}`, `{"a":{"type":"range","min":1,"max":2}}`, false},
		{`{"a":{"type":"exact","value":1}}`, `{"a":{"type":"one_of","values":[1,2]}}`, true},
		{`{"a":{"type":"range","min":1,"max":3}}`, `{"a":{"type":"range","min":1,"max":2}}`, false},
		{`{"a":{"type":"range","min":1}}`, `{"a":{"type":"range","min":1,"max":2}}`, false},
		{`{"a":{"type":"range","min":0,"max":2}}`, `{"a":{"type":"range","min":1,"max":2}}`, false},
		{`{"a":{"type":"wildcard"}}`, `{"a":{"type":"range","min":1,"max":2}}`, false},
		{`{"a":{"type":"not_one_of","excluded":[1]}}`, `{"a":{"type":"not_one_of","excluded":[1,2]}}`, false},
		{`{"a":{"type":"contains","required":["x","y"]}}`, `{"a":{"type":"contains","required":["x"]}}`, true},
		{`{"a":{"type":"subset","allowed":["x","y"]}}`, `{"a":{"type":"subset","allowed":["x"]}}`, false},
		{`{}`, `{"a":{"type":"wildcard"}}`, false},
		{`{"a":{"type":"wildcard"},"b":{"type":"wildcard"}}`, `{"a":{"type":"wildcard"}}`, false},
		{`{"b":{"type":"wildcard"}}`, `{"a":{"type":"wildcard"}}`, false},
		{`{"a":{"type":"exact","value":1}}`, `{}`, false},
		{`{}`, `{}`, true},
	} {
		err := constraints(t, c.child).Narrower(constraints(t, c.parent))
		if (err == nil) != c.narrower || err != nil && !errors.Is(err, ErrWider) {
			t.Errorf("%s under %s: %v", c.child, c.parent, err)
		}
	}
}

func TestWhatIsFixed(t *testing.T) {
	cs := constraints(t, `{"b":{"type":"range","max":3},"z":{"type":"exact","value":{"y":1,"x":2}},"a":{"type":"exact","value":"<"},"c":{"type":"wildcard"}}`)
	args, open := cs.Fixed()
	if string(args) != `{"a":"<","z":{"x":2,"y":1}}` || fmt.Sprint(open) != "[b c]" {
		t.Errorf("%s, open %v", args, open)
	}
	if args, open := (Constraints{}).Fixed(); string(args) != `{}` || open != nil {
		t.Errorf("%s, open %v", args, open)
	}
	exact, err := ExactArgs(args)
	if err != nil {
		t.Fatal(err)
	}
	if again, open := exact.Fixed(); string(again) != string(args) || open != nil {
		t.Errorf("%s, open %v", again, open)
	}
}
