package access

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGrantLive(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Grant)
		now  time.Time
		want bool
	}{
		"active":                     {func(*Grant) {}, noon(), true},
		"at the last instant":        {func(*Grant) {}, after(time.Minute - 1), true},
		"at its expiry":              {func(*Grant) {}, after(time.Minute), false},
		"with a use left":            {func(g *Grant) { g.MaxUses, g.Uses = 3, 2 }, noon(), true},
		"used up":                    {func(g *Grant) { g.MaxUses, g.Uses = 3, 3 }, noon(), false},
		"used more often than given": {func(g *Grant) { g.MaxUses, g.Uses = 3, 4 }, noon(), false},
		"with uses not counted":      {func(g *Grant) { g.Uses = 99 }, noon(), true},
		"ended":                      {func(g *Grant) { g.Status = GrantEnded }, noon(), false},
		"of no status":               {func(g *Grant) { g.Status = "" }, noon(), false},
		"of an unknown status":       {func(g *Grant) { g.Status = "pending" }, noon(), false},
		"without an expiry":          {func(g *Grant) { g.ExpiresAt = time.Time{} }, noon(), false},
		"with fewer than no uses":    {func(g *Grant) { g.MaxUses = -1 }, noon(), false},
	} {
		g := rootGrant()
		c.edit(&g)
		if got := g.Live(c.now); got != c.want {
			t.Errorf("a grant %s: Live() = %v", name, got)
		}
	}
}

func TestI3_ChildAsksForNoMoreThanItsParentHolds(t *testing.T) {
	self := func(r *Request) { r.Subject = agent("lead") }
	ceiling := func(text string) func(*Grant) {
		return func(g *Grant) { g.Args, g.Constraints = nil, constraints(t, text) }
	}
	for name, c := range map[string]struct {
		grant   func(*Grant)
		request func(*Request)
		want    Code
	}{
		"the same":                        {nil, nil, ""},
		"the same arguments, spelt anew":  {nil, func(r *Request) { r.Args = json.RawMessage(` { "rows" : 10 } `) }, ""},
		"lent on":                         {nil, func(r *Request) { r.Mode = Delegate }, ""},
		"another action":                  {nil, func(r *Request) { r.Action = act("write") }, CodeExceedsParent},
		"another resource":                {nil, func(r *Request) { r.Resource = table("users") }, CodeExceedsParent},
		"other arguments":                 {nil, func(r *Request) { r.Args = json.RawMessage(`{"rows":11}`) }, CodeExceedsParent},
		"no arguments":                    {nil, func(r *Request) { r.Args = nil }, CodeExceedsParent},
		"of one who may not lend":         {func(g *Grant) { g.Mode = Use }, nil, CodeExceedsParent},
		"of one with an unknown right":    {func(g *Grant) { g.Mode = "" }, nil, CodeExceedsParent},
		"lent on by one who may not lend": {func(g *Grant) { g.Mode = Use }, func(r *Request) { r.Mode = Delegate }, CodeExceedsParent},
		"its own, to use":                 {func(g *Grant) { g.Mode = Use }, self, ""},
		"its own, to lend":                {nil, func(r *Request) { self(r); r.Mode = Delegate }, ""},
		"its own, to lend what it uses":   {func(g *Grant) { g.Mode = Use }, func(r *Request) { self(r); r.Mode = Delegate }, CodeExceedsParent},
		"its own, to use what it lends":   {nil, self, CodeExceedsParent},
		"a range of it": {ceiling(`{"rows":{"type":"range","min":0,"max":20}}`), func(r *Request) {
			r.Mode, r.Args, r.Constraints = Delegate, nil, constraints(t, `{"rows":{"type":"range","min":0,"max":10}}`)
		}, ""},
		"exactly one of it": {ceiling(`{"rows":{"type":"range","min":0,"max":20}}`), nil, ""},
		"more than a range": {ceiling(`{"rows":{"type":"range","min":0,"max":9}}`), nil, CodeExceedsParent},
		"open, where it is fixed": {nil, func(r *Request) {
			r.Mode, r.Args, r.Constraints = Delegate, nil, constraints(t, `{"rows":{"type":"wildcard"}}`)
		}, CodeExceedsParent},
		"an argument besides":              {ceiling(`{"rows":{"type":"wildcard"}}`), func(r *Request) { r.Args = json.RawMessage(`{"rows":1,"all":true}`) }, CodeExceedsParent},
		"as long as it lives":              {nil, func(r *Request) { r.TTL = 60 }, ""},
		"longer than it lives":             {func(g *Grant) { g.ExpiresAt = after(time.Minute - 1) }, func(r *Request) { r.TTL = 60 }, CodeExceedsParent},
		"all uses that are left":           {func(g *Grant) { g.MaxUses, g.Uses = 3, 1 }, func(r *Request) { r.MaxUses = 2 }, ""},
		"one use more than are left":       {func(g *Grant) { g.MaxUses, g.Uses = 3, 1 }, func(r *Request) { r.MaxUses = 3 }, CodeExceedsParent},
		"as deep as it may be passed on":   {func(g *Grant) { g.Deepest = 2 }, func(r *Request) { r.Deepest = 2 }, ""},
		"deeper than it may be passed on":  {func(g *Grant) { g.Deepest = 2 }, func(r *Request) { r.Deepest = 3 }, CodeExceedsParent},
		"deeper than anything may be":      {nil, func(r *Request) { r.Deepest = MaxDepth + 1 }, CodeExceedsParent},
		"of one that may not be passed on": {func(g *Grant) { g.Depth, g.Deepest = 2, 2 }, nil, CodeDepthExceeded},
		"at the deepest level":             {func(g *Grant) { g.Depth = MaxDepth - 1 }, nil, ""},
		"below the deepest level":          {func(g *Grant) { g.Depth = MaxDepth }, nil, CodeDepthExceeded},
	} {
		g, r := rootGrant(), soundInput().Request
		if c.grant != nil {
			c.grant(&g)
		}
		if c.request != nil {
			c.request(&r)
		}
		if got := g.Exceeds(&r, noon()); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// sameArgs reports whether a grant of one covers a request for the other.
func sameArgs(child, parent json.RawMessage) bool {
	g, r := rootGrant(), soundInput().Request
	g.Args, r.Args = parent, child
	return g.covers(&r)
}

func TestHops(t *testing.T) {
	for want, g := range map[int]Grant{
		0: {Mode: Use}, MaxDepth: {Mode: Delegate}, MaxDepth - 3: {Mode: Delegate, Depth: 3}, 2: {Mode: Delegate, Depth: 1, Deepest: 3},
	} {
		if got := g.Hops(); got != want {
			t.Errorf("%+v may be passed on %d times, want %d", g, got, want)
		}
	}
	if g := (Grant{Mode: Delegate, Depth: 3, Deepest: 2}); g.Hops() != 0 {
		t.Error("less than nothing")
	}
}

func TestSameArgs(t *testing.T) {
	same := [][2]string{
		{``, `{}`}, {` {} `, ``}, {`{"a":1,"b":[1,2]}`, "{ \"b\" : [1,2],\n\"a\":1 }"}, {`{"a":"\u003c"}`, `{"a":"<"}`}, {`{"a":{"c":1,"b":2}}`, `{"a":{"b":2,"c":1}}`},
		{`{"a":9007199254740993}`, `{"a":9007199254740993}`},
	}
	other := [][2]string{
		{``, `null`}, {`null`, `null`}, {`[]`, `[]`}, {``, `{"a":null}`}, {`{"a":1}`, `{"a":2}`}, {`{"a":1}`, `{"a":"1"}`}, {`{"a":[1,2]}`, `{"a":[2,1]}`}, {`{"a":1}`, `{"A":1}`},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`}, {`{"a":1}`, `{"a":1.0}`},
		{`{"a":1}`, `{"a":1} {"b":2}`}, {`{"a":1}`, `{"a":1} x`}, {`{"a":2}`, `{"a":1,"a":2}`}, {`{"a":1,"a":2}`, `{"a":1,"a":2}`},
		{"{\"a\":\"\xff\"}", "{\"a\":\"\xfe\"}"}, {`{"a":"\ud800"}`, `{"a":"\ufffd"}`}, {`{`, `{`}, {`nope`, `nope`},
	}
	for _, pair := range same {
		if !sameArgs(json.RawMessage(pair[0]), json.RawMessage(pair[1])) || !sameArgs(json.RawMessage(pair[1]), json.RawMessage(pair[0])) {
			t.Errorf("%s and %s are the same", pair[0], pair[1])
		}
	}
	for _, pair := range other {
		if sameArgs(json.RawMessage(pair[0]), json.RawMessage(pair[1])) || sameArgs(json.RawMessage(pair[1]), json.RawMessage(pair[0])) {
			t.Errorf("%q and %q are not the same", pair[0], pair[1])
		}
	}
}

func TestSameArgsChangesNothing(t *testing.T) {
	text := ` {"b":1, "a":"\u003c"} `
	args := json.RawMessage(text)
	if !sameArgs(args, json.RawMessage(`{"a":"<","b":1}`)) || string(args) != text {
		t.Errorf("after the comparison: %s", args)
	}
}

func FuzzSameArgs(f *testing.F) {
	for _, pair := range [][2]string{{`{"a":1}`, `{ "a":1}`}, {``, `{}`}, {`{"a":1}x`, `{"a":1}`}, {`{"a":1,"a":2}`, `{"a":2}`}, {`"\ud800"`, `"\ufffd"`}} {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		same := sameArgs(a, b)
		if same != sameArgs(b, a) {
			t.Fatal("not symmetric")
		}
		if !same {
			return
		}
		if !sameArgs(a, a) || !sameArgs(b, b) {
			t.Fatal("what equals another equals itself")
		}
		value := func(text []byte) (v any) {
			if len(text) == 0 {
				text = []byte("{}")
			}
			d := json.NewDecoder(strings.NewReader(string(text)))
			d.UseNumber()
			if err := d.Decode(&v); err != nil {
				t.Fatalf("%q is the same as something: %v", text, err)
			}
			return v
		}
		if diff := cmp.Diff(value(a), value(b)); diff != "" {
			t.Fatalf("%q and %q differ: %s", a, b, diff)
		}
	})
}

func TestI4_BoundIsTheTightestOfAll(t *testing.T) {
	minutes := func(n int) time.Time { return after(time.Duration(n) * time.Minute) }
	for name, c := range map[string]struct {
		edit     func(*Input)
		bounds   Bounds
		approval *Limit
		want     Limit
	}{
		"nothing said":             {nil, Bounds{}, nil, Limit{ExpiresAt: minutes(5)}},
		"what was wanted":          {func(in *Input) { in.Request.TTL = 60 }, Bounds{}, nil, Limit{ExpiresAt: minutes(1)}},
		"more than the default":    {func(in *Input) { in.Request.TTL = 600 }, Bounds{}, nil, Limit{ExpiresAt: minutes(10)}},
		"policy's time":            {func(in *Input) { in.Request.TTL = 600 }, Bounds{MaxTTL: 120}, nil, Limit{ExpiresAt: minutes(2)}},
		"less than policy's time":  {func(in *Input) { in.Request.TTL = 60 }, Bounds{MaxTTL: 120}, nil, Limit{ExpiresAt: minutes(1)}},
		"policy's time is no wish": {nil, Bounds{MaxTTL: 6000}, nil, Limit{ExpiresAt: minutes(5)}},
		"policy's end":             {nil, Bounds{Until: minutes(1)}, nil, Limit{ExpiresAt: minutes(1)}},
		"policy's uses":            {nil, Bounds{MaxUses: 7}, nil, Limit{ExpiresAt: minutes(5), MaxUses: 7}},
		"the task's end":           {func(in *Input) { in.Request.TTL = 99999 }, Bounds{}, nil, Limit{ExpiresAt: minutes(60)}},
		"no task":                  {func(in *Input) { in.Request.TTL, in.Standing.Task = 99999, nil }, Bounds{}, nil, Limit{ExpiresAt: noon().Add(99999 * time.Second)}},
		"the parent's end": {func(in *Input) { in.Standing.Chain = []Grant{rootGrant()} }, Bounds{}, nil,
			Limit{ExpiresAt: minutes(1)}},
		"the root's end and uses": {func(in *Input) {
			parent, root := rootGrant(), rootGrant()
			parent.MaxUses = 50
			root.ExpiresAt, root.MaxUses, root.Uses = after(time.Second), 10, 6
			in.Standing.Chain = []Grant{parent, root}
		}, Bounds{MaxUses: 9}, nil, Limit{ExpiresAt: after(time.Second), MaxUses: 4}},
		"a used-up parent lends one use, and is dead": {func(in *Input) {
			parent := rootGrant()
			parent.MaxUses, parent.Uses = 2, 5
			in.Standing.Chain = []Grant{parent}
		}, Bounds{}, nil, Limit{ExpiresAt: minutes(1), MaxUses: 1}},
		"an approval":             {nil, Bounds{MaxUses: 7}, &Limit{ExpiresAt: minutes(1), MaxUses: 2}, Limit{ExpiresAt: minutes(1), MaxUses: 2}},
		"a wider approval":        {nil, Bounds{MaxUses: 7}, &Limit{ExpiresAt: minutes(50), MaxUses: 20}, Limit{ExpiresAt: minutes(5), MaxUses: 7}},
		"the zero approval":       {nil, Bounds{MaxUses: 7}, &Limit{}, Limit{ExpiresAt: minutes(5), MaxUses: 7}},
		"a time below zero":       {func(in *Input) { in.Request.TTL = -60 }, Bounds{}, nil, Limit{ExpiresAt: minutes(-1)}},
		"policy's time below it":  {nil, Bounds{MaxTTL: -60}, nil, Limit{ExpiresAt: minutes(-1)}},
		"a time beyond any clock": {func(in *Input) { in.Request.TTL = math.MaxInt64 }, Bounds{}, nil, Limit{ExpiresAt: minutes(60)}},
	} {
		in := rootInput()
		if c.edit != nil {
			c.edit(in)
		}
		if diff := cmp.Diff(c.want, Bound(in, c.bounds, c.approval)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSettle(t *testing.T) {
	ask := requires("2 of team:ops")
	for name, c := range map[string]struct {
		edit    func(*Input)
		decided Decided
		want    Decided
		limit   Limit
	}{
		"a no stays a no":    {nil, Decided{Outcome: Deny, Code: CodeForbidden}, Decided{Outcome: Deny, Code: CodeForbidden}, Limit{}},
		"a yes gets a limit": {nil, Decided{Outcome: Allow, Bounds: Bounds{MaxTTL: 60}}, Decided{Outcome: Allow, Bounds: Bounds{MaxTTL: 60}}, Limit{ExpiresAt: after(time.Minute)}},
		"a yes is bound by its approval": {func(in *Input) { in.Approval = &Limit{ExpiresAt: after(time.Second)} }, Decided{Outcome: Allow},
			Decided{Outcome: Allow}, Limit{ExpiresAt: after(time.Second)}},
		"a yes that would be over": {func(in *Input) { in.Approval = &Limit{ExpiresAt: noon()} }, Decided{Outcome: Allow},
			Decided{Outcome: Deny, Code: CodeBoundsExceeded}, Limit{}},
		"a question somebody can answer": {func(in *Input) { in.Approvers = Approvers{"2 of team:ops": {human("ada"), human("bob")}} },
			Decided{Outcome: NeedsApproval, Requires: ask}, Decided{Outcome: NeedsApproval, Requires: ask}, Limit{}},
		"a question for more people than there are": {func(in *Input) { in.Approvers = Approvers{"2 of team:ops": {human("ada"), human("ada")}} },
			Decided{Outcome: NeedsApproval, Requires: ask}, Decided{Outcome: Deny, Code: CodeNoEligibleApprover, Requires: ask}, Limit{}},
		"a question nobody was found for": {nil, Decided{Outcome: NeedsApproval, Requires: ask}, Decided{Outcome: Deny, Code: CodeNoEligibleApprover, Requires: ask}, Limit{}},
		"a question that asks nothing": {func(in *Input) { in.Approvers = Approvers{"confirm": {human("ada")}} },
			Decided{Outcome: NeedsApproval}, Decided{Outcome: Deny, Code: CodeNoEligibleApprover}, Limit{}},
		"an unknown outcome": {nil, Decided{Outcome: "permit", Requires: ask}, Decided{Outcome: Deny, Code: CodePolicyError, Problem: "an unknown outcome: permit"}, Limit{}},
		"no outcome":         {nil, Decided{}, Decided{Outcome: Deny, Code: CodePolicyError, Problem: "an unknown outcome: "}, Limit{}},
	} {
		in := rootInput()
		if c.edit != nil {
			c.edit(in)
		}
		decided, limit := Settle(in, c.decided)
		if diff := cmp.Diff(c.want, decided) + cmp.Diff(c.limit, limit); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
