package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/writ-project/writ/internal/access"
)

// loads must end in a bundle or in faults, each with its file, and never in both.
func loads(t *testing.T, src Source) {
	b, err := Load(src, AnyCatalog())
	var faults Faults
	switch {
	case err == nil && b == nil, err != nil && b != nil:
		t.Fatalf("both or neither: %v, %v", b, err)
	case err != nil && (!errors.As(err, &faults) || len(faults) == 0 || faults.Error() == ""):
		t.Fatalf("the error is no Faults: %v", err)
	}
	for _, f := range faults {
		if f.File == "" || f.Message == "" || f.Line < 0 || f.Column < 0 {
			t.Fatalf("a fault without place or words: %#v", f)
		}
	}
	if b != nil {
		b.RunCases(shopIndex())
		b.Policies()
		b.Decide(refund(b, `{"amount":1}`))
	}
}

func FuzzLoadPolicies(f *testing.F) {
	base := readBundle(f, "bundles/shop.txtar")
	for _, text := range []string{string(base["access/refunds.cedar"]), string(base["access/files.cedar"]), ";;", "\"", "/*", "//", "@id(\"\\\n\")", "permit(principal, action, resource) when { principal.a.b.c };"} {
		f.Add([]byte(text), false)
	}
	f.Add(base["risk/risk.cedar"], true)
	f.Fuzz(func(t *testing.T, text []byte, risk bool) {
		src := Source{schemaFile: base[schemaFile], deriveFile: base[deriveFile]}
		src["access/a.cedar"] = text
		if risk {
			src["risk/a.cedar"], src["access/a.cedar"] = text, nil
		}
		loads(t, src)
	})
}

func FuzzLoadSchema(f *testing.F) {
	f.Add(readBundle(f, "bundles/shop.txtar")[schemaFile])
	f.Add([]byte("entity A in [A] = {a: Set<Set<A>>} tags B; namespace Writ { action a in [b]; action b in [a]; }"))
	f.Fuzz(func(t *testing.T, text []byte) { loads(t, Source{schemaFile: text}) })
}

func FuzzLoadDerive(f *testing.F) {
	base := readBundle(f, "bundles/shop.txtar")
	f.Add(base[deriveFile])
	f.Add([]byte("actions: &a {book: {flights: {count: 'args.flights[] -> Flight(''{number}'').price'}}}\ncounters: *a"))
	f.Add([]byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		loads(t, Source{schemaFile: base[schemaFile], deriveFile: text})
	})
}

func FuzzLoadTests(f *testing.F) {
	base := readBundle(f, "bundles/shop.txtar")
	f.Add([]byte(shopCases))
	f.Add([]byte("- &a {name: *a}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		src := Source{schemaFile: base[schemaFile], deriveFile: base[deriveFile], "tests/a.yaml": text}
		loads(t, src)
	})
}

// Whatever comes as arguments: what is accepted is JSON that means the same to encoding/json, and decides without a panic.
func FuzzArgs(f *testing.F) {
	b := shop(f)
	for _, args := range []string{
		`{"amount":1}`, `{"amount":-9223372036854775808,"tip":9223372036854775807}`, `{"amount":1e5}`, `{"amount":1,"to":"c-1","region":"eu","at":"2026-01-01","note":"\ud800"}`,
		`{"amount":1,"__entity":{}}`, `[`, `{"flights":[{"number":"HAT1","date":"2024-05-20"}],"payments":[],"bags":[1,1,2]}`,
	} {
		f.Add([]byte(args))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		for _, in := range []*access.Input{refund(b, string(args)), ask(b, "book", `Order::"o-1"`, string(args))} {
			first, err := json.Marshal(b.Decide(in))
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := json.Marshal(b.Decide(in)); !bytes.Equal(first, again) {
				t.Fatalf("%s\n%s", first, again)
			}
			if b.CheckRequest(&in.Request) == nil && len(args) > 0 && !json.Valid(args) {
				t.Fatalf("accepted, and no JSON: %q", args)
			}
		}
	})
}

// A path that parses is typed without a panic, and one that types is followed without one.
func FuzzPath(f *testing.F) {
	b := shop(f)
	for _, text := range []string{
		"args.flights[] -> Flight('{number}/{date}').status", "resource.customer -> Customer('{}').tier", "subject.owner -> Human('{subject.id}').level",
		"args.bags[]", "principal.level", "args.flights[].number -> Flight('x{}{}').price", "args", "->", "args.flights[] -> A('}').b",
	} {
		f.Add(text)
	}
	a := b.schema.actions[access.MustRef(`Action::"book"`)]
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePath(text)
		if err != nil {
			return
		}
		if _, err := (typer{b.schema, a}).result(p); err != nil {
			return
		}
		in := ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT2", 5))
		args, err := b.schema.argsOf(newReader(), a, &in.Request)
		if err != nil {
			t.Fatal(err)
		}
		facts := newFacts(b.schema, newReader(), in.Facts.Entities)
		from := inputs{facts: facts, action: a, request: &in.Request, args: args}
		_, _ = from.collect(p, &rule{op: opCount, path: p})
	})
}
