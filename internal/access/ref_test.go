package access

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	long := strings.Repeat("x", MaxIDLength)
	for text, want := range map[string]Ref{
		`Agent::"refund-bot"`:        {"Agent", "refund-bot"},
		`PgTable::"billing.\"a\""`:   {"PgTable", `billing."a"`},
		`Shop::Order::"7"`:           {"Shop::Order", "7"},
		`A::"b::\"c"`:                {"A", `b::"c`},
		`A::"back\\slash\\"`:         {"A", `back\slash\`},
		`_a1::"ünï cødé"`:            {"_a1", "ünï cødé"},
		`A::"line` + "\n" + `break"`: {"A", "line\nbreak"},
		`A::"` + long + `"`:          {"A", long},
		long + `::"a"`:               {long, "a"},
	} {
		got, err := ParseRef(text)
		if err != nil || got != want {
			t.Errorf("ParseRef(%.40q) = %v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("String() = %.40q, want %.40q", got.String(), text)
		}
	}
	for name, text := range map[string]string{
		"nothing":             ``,
		"no type":             `::"a"`,
		"no id":               `A::""`,
		"no quotes":           `A::a`,
		"one quote":           `A::"`,
		"an open quote":       `A::"a`,
		"an escaped end":      `A::"a\"`,
		"a quote inside":      `A::"a"b"`,
		"another escape":      `A::"a\nb"`,
		"text behind":         `A::"a" `,
		"space before":        ` A::"a"`,
		"a digit first":       `1A::"a"`,
		"an empty namespace":  `A::::"a"`,
		"a newline in a type": "A\n" + `::"a"`,
		"an id too long":      `A::"` + long + `x"`,
		"a type too long":     long + `x::"a"`,
		"not UTF-8":           "A::\"\xff\"",
	} {
		if got, err := ParseRef(text); err == nil || !got.IsZero() {
			t.Errorf("%s: ParseRef(%.40q) = %v, %v", name, text, got, err)
		}
	}
	if _, err := ParseRef(strings.Repeat("y", 5000)); err == nil || len(err.Error()) > 200 {
		t.Errorf("an error repeats all of a long text: %v", err)
	}
	if whole := strings.Repeat("y", 80); clip(whole) != whole || clip(whole+"y") != whole+"…" {
		t.Error("a text of 80 bytes is repeated whole, a longer one is cut there")
	}
}

func TestRefIsTextInJSON(t *testing.T) {
	type pair struct {
		A Ref
		B Ref `json:",omitzero"`
		M map[Ref]int
	}
	before := pair{A: agent(`a"b`), M: map[Ref]int{human("h"): 1}}
	text, err := json.Marshal(before)
	if err != nil || string(text) != `{"A":"Agent::\"a\\\"b\"","M":{"Human::\"h\"":1}}` {
		t.Fatalf("%s, %v", text, err)
	}
	var got pair
	if err := json.Unmarshal(text, &got); err != nil || got.A != before.A || got.M[human("h")] != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"A":""}`), &got); err != nil || !got.A.IsZero() {
		t.Errorf("the empty text must be the zero Ref: %v, %v", got.A, err)
	}
	got.A = agent("kept")
	if err := json.Unmarshal([]byte(`{"A":"Agent"}`), &got); err == nil || got.A != agent("kept") {
		t.Errorf("a bad text must change nothing: %v, %v", got.A, err)
	}
}

func TestRefOrder(t *testing.T) {
	for _, pair := range [][2]Ref{{{"A", "z"}, {"B", "a"}}, {{"A", "a"}, {"A", "b"}}, {{}, {"A", "a"}}} {
		if pair[0].Compare(pair[1]) >= 0 || pair[1].Compare(pair[0]) <= 0 || pair[0].Compare(pair[0]) != 0 {
			t.Errorf("%v must come before %v", pair[0], pair[1])
		}
	}
}

func TestRefKinds(t *testing.T) {
	for typ, want := range map[string]bool{TypeAgent: true, TypeWorkload: true, TypeHuman: true, TypeTeam: false, "agent": false, "": false} {
		if got := (Ref{typ, "x"}).IsIdentity(); got != want {
			t.Errorf("IsIdentity of %q = %v", typ, got)
		}
	}
	if got := Act(ActRevoke).String(); got != `Writ::Action::"revoke"` {
		t.Error(got)
	}
	if got := Installation().String(); got != `Writ::Installation::"this"` {
		t.Error(got)
	}
	if got := (Ref{}).String(); got != "" {
		t.Errorf("the zero Ref reads %q", got)
	}
}

func TestMustRefPanicsOnAFault(t *testing.T) {
	if MustRef(`Agent::"a"`) != agent("a") {
		t.Error("a sound text must be read")
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	MustRef("Agent")
}

func FuzzParseRef(f *testing.F) {
	for _, text := range []string{`Agent::"a"`, `A::B::"\"\\"`, `A::"`, `A::"\"`, "A::\"\xff\"", ``} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := ParseRef(text)
		if err != nil {
			if !ref.IsZero() {
				t.Fatal("an error with a value")
			}
			return
		}
		if ref.String() != text {
			t.Fatalf("%q reads as %q", text, ref.String())
		}
		var again Ref
		doc, err := json.Marshal(ref)
		if err != nil || json.Unmarshal(doc, &again) != nil || again != ref {
			t.Fatalf("through JSON %q becomes %q (%v)", ref, again, err)
		}
	})
}

func FuzzUnmarshalText(f *testing.F) {
	for _, text := range []string{``, `Agent::"a"`, `2 of team:x`, `confirm`, "\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ref, form := agent("kept"), ApprovalForm{Kind: "kept"}
		if err := ref.UnmarshalText(text); err != nil {
			if ref != agent("kept") {
				t.Fatal("a bad text changed the Ref")
			}
		} else if back, err := ref.MarshalText(); err != nil || !bytes.Equal(back, text) {
			t.Fatalf("%q reads as %q (%v)", text, back, err)
		}
		if form.UnmarshalText(text) != nil && form.Kind != "kept" {
			t.Fatal("a bad text changed the form")
		}
	})
}

func TestValidID(t *testing.T) {
	for text, want := range map[string]bool{
		"0198-ab_C.9": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a b": false, "a/b": false, "ä": false, "a\n": false, "a\"": false,
	} {
		if ValidID(text) != want {
			t.Errorf("ValidID(%q) = %t", text, !want)
		}
	}
}
