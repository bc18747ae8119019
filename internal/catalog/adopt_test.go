package catalog

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
)

const adopters = `
identities:
  - id: Human::"ada"
  - id: Agent::"bot"
    owner: Human::"ada"
    purpose: p
    review_by: 2027-01-01
    match: [{issuer: https://idp.example, subject: bot}]
  - id: Workload::"night"
    owner: Human::"ada"
    purpose: p
    review_by: 2027-01-01
    match: [{issuer: https://idp.example, subject: {prefix: "night-"}}]
  - id: Workload::"ci"
    owner: Human::"ada"
    purpose: p
    review_by: 2027-01-01
    match: [{issuer: https://ci.example, claims: {repository: acme/shop}}]
`

func adopted(issuer, subject string, change func(*access.Identity)) access.Identity {
	i := access.Identity{
		ID: access.MustRef(`Agent::"new"`), Owner: access.MustRef(`Human::"ada"`), Purpose: "answers", ReviewBy: "2027-06-30",
		Match: []access.Match{{Issuer: issuer, Subject: access.Exactly(subject)}},
	}
	if change != nil {
		change(&i)
	}
	return i
}

// Whatever a subject holds, the file says exactly that, and it is accepted with the others.
func TestAdopted(t *testing.T) {
	files := map[string][]byte{"a.yaml": []byte(adopters)}
	for _, subject := range []string{
		"x", "system:serviceaccount:shop:bot", "123", "1e3", "true", "null", "~", "2027-01-01", "0x10", "- a", "a: b", "a #b", "#a", "{a}", "[a]", "*a", "&a", "!a", "%a", "@a", "`a", "'", `"`,
		`\n`, "a'b\"c\\d", "…ünï", "=", "<<", "? a", strings.Repeat("s", 2048), strings.Repeat("s ", 1000) + "e", "night", "spiffe://example.org/agent/x",
	} {
		identity := adopted("https://idp.example", subject, nil)
		text, err := Adopt(files, "new.yaml", identity)
		if err != nil {
			t.Errorf("%q: %v", subject, err)
			continue
		}
		both := maps.Clone(files)
		both["new.yaml"] = text
		parsed, err := Parse(both)
		if err != nil {
			t.Fatalf("%q: %v\n%s", subject, err, text)
		}
		found, ok := access.NewIndex(parsed).Identify("https://idp.example", subject, nil)
		if !ok || !reflect.DeepEqual(*found, identity) {
			t.Errorf("%q is known as %+v\n%s", subject, found, text)
		}
	}
	if len(files) != 1 {
		t.Error("the other files were changed")
	}
	human := access.Identity{ID: access.MustRef(`Human::"eve"`), Match: adopted("https://idp.example", "eve", nil).Match}
	for _, others := range []map[string][]byte{files, nil} {
		if _, err := Adopt(others, "new.yaml", human); err != nil {
			t.Errorf("a human: %v", err)
		}
	}
	several := adopted("https://idp.example", "x", func(i *access.Identity) { i.Purpose = "one line\n  and another: #2" })
	if _, err := Adopt(files, "new.yaml", several); err != nil {
		t.Errorf("a purpose of several lines: %v", err)
	}
}

func TestWhatCannotBeAdopted(t *testing.T) {
	files := map[string][]byte{"a.yaml": []byte(adopters)}
	const idp = "https://idp.example"
	for name, c := range map[string]struct {
		identity access.Identity
		want     string
	}{
		"one token could be two":         {adopted(idp, "bot", nil), `new.yaml:7:11: Agent::"new" and Agent::"bot" (a.yaml:8:13) could both be meant by one token`},
		"a prefix that fits":             {adopted(idp, "night-batch", nil), `Agent::"new" and Workload::"night"`},
		"claims that do not tell apart":  {adopted("https://ci.example", "x", nil), `Agent::"new" and Workload::"ci"`},
		"an id that is taken":            {adopted(idp, "x", func(i *access.Identity) { i.ID = access.MustRef(`Agent::"bot"`) }), "already declared at a.yaml"},
		"an owner nobody declared":       {adopted(idp, "x", func(i *access.Identity) { i.Owner = access.MustRef(`Human::"bob"`) }), `owner names Human::"bob", which no file declares`},
		"no owner":                       {adopted(idp, "x", func(i *access.Identity) { i.Owner = access.Ref{} }), "owner is missing"},
		"no purpose":                     {adopted(idp, "x", func(i *access.Identity) { i.Purpose = "" }), "purpose is missing"},
		"no day":                         {adopted(idp, "x", func(i *access.Identity) { i.ReviewBy = "" }), "review_by is missing"},
		"not a day":                      {adopted(idp, "x", func(i *access.Identity) { i.ReviewBy = "soon" }), `review_by "soon" is not a date`},
		"a resource":                     {adopted(idp, "x", func(i *access.Identity) { i.ID = access.MustRef(`Table::"x"`) }), "an identity is an Agent, a Workload or a Human"},
		"a subject that steers terminal": {adopted(idp, "a\x1b[2J", nil), "invisible or control character"},
		"a subject of two lines":         {adopted(idp, "a\nb", nil), "invisible or control character"},
		"a subject that is not UTF-8":    {adopted(idp, "\xff", nil), "tags are not read"},
		"a subject that is too long":     {adopted(idp, strings.Repeat("s", 2049), nil), "2049 bytes"},
		"white space at an end":          {adopted(idp, "x", func(i *access.Identity) { i.Purpose = " p" }), "white space"},
	} {
		t.Run(name, func(t *testing.T) {
			if text, err := Adopt(files, "new.yaml", c.identity); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q\n%s", err, c.want, text)
			}
		})
	}
	if _, err := Adopt(files, "a.yaml", adopted(idp, "x", nil)); err == nil || !strings.Contains(err.Error(), "a.yaml: the file is there already") {
		t.Error(err)
	}
	broken := map[string][]byte{"a.yaml": []byte(adopters), "b.yaml": []byte("identites: []\n")}
	if _, err := Adopt(broken, "new.yaml", adopted(idp, "x", nil)); err == nil || !strings.Contains(err.Error(), "b.yaml:1:1") {
		t.Error(err)
	}
}
