package control_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/store"
)

func TestI5_ASuspendedEnforcementPointGetsNothingByRepeating(t *testing.T) {
	w := worldOf(t, gatewaySite(t))
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	ask := control.Ask{
		Subject: support.Identity, Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":5,"reason":"late"}`),
		Idempotency: &control.Idempotency{Key: "k"},
	}
	first := must[*control.Answer](t)(w.Request(t.Context(), gateway, ask))
	if first.Credential == nil {
		t.Fatalf("%+v", first.Decided)
	}
	check(t, fails(w.SetStatus(t.Context(), sam, gateway.Identity, access.Suspended, control.Grounds{})))
	again := must[*control.Answer](t)(w.Request(t.Context(), gateway, ask))
	if again.Credential != nil || again.Grant.ID != first.Grant.ID {
		t.Error("a suspended enforcement point got a fresh credential")
	}
	w.sound()
}

func TestI1_AForgedKeyMakesNobodySomebodyElse(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	answer := w.ask(w.open(support, "support"), 5)
	key := &control.Idempotency{Key: "forged"}
	_, err := w.store.Update(t.Context(), forge(w, report, key, answer.ID))
	check(t, err)
	got, err := w.Request(t.Context(), report, control.Ask{Task: "any", Action: refund, Resource: order1, Idempotency: key})
	if kind(t, err) != control.NotYours || got != nil {
		t.Errorf("report-bot got what support-bot was granted: %+v, %v", got, err)
	}
}

func TestWhoeverMayNotApplyCostsNothing(t *testing.T) {
	w := newWorld(t)
	files := site(t)
	schema := string(files["policy/schema.cedarschema"])
	files["policy/schema.cedarschema"] = []byte(schema + strings.Repeat("type Broken = {", 1000)) // would be a fault, if anybody read it
	for _, caller := range []control.Caller{support, report, bob} {
		applied, err := w.Apply(t.Context(), &caller, files, nil, false)
		if err != nil {
			if got := code(t, err); got != access.CodeNotPermitted {
				t.Errorf("%s: %s", caller.Identity, got)
			}
			continue
		}
		if len(applied.Answers) != 1 || applied.Answers[0].Decided.Outcome != access.Deny {
			t.Errorf("%s: %+v", caller.Identity, applied)
		}
	}
	if _, err := w.Apply(t.Context(), &sam, files, nil, false); kind(t, err) != control.InvalidConfiguration {
		t.Errorf("who may apply learns the faults: %v", err)
	}
	w.sound()
}

// forge writes a row that only somebody with the database could.
func forge(w *world, caller control.Caller, key *control.Idempotency, result string) func(*store.View) (event.Change, error) {
	return func(v *store.View) (event.Change, error) {
		return event.Change{Remember: &event.Remember{
			Subject: v.Pseudonym(caller.Identity), Key: key.Key, Digest: key.Digest[:], Result: result, Expires: w.now.AddDate(0, 0, 1),
		}}, nil
	}
}

func TestEveryCallCountsAlsoThoseThatOnlyRead(t *testing.T) {
	w := newWorld(t)
	w.Control = control.New(control.Options{
		Ledger: ledger{w.store}, Issuer: tokens{}, Engine: "test", NewID: w.newID, Limits: control.Limits{RequestsPerSecond: 1, Burst: 2},
	})
	const issuer = "https://idp.example.com"
	calls := 0
	for ; calls < 100; calls++ {
		if _, err := w.Identify(t.Context(), issuer, "support-bot", nil); err != nil {
			if code(t, err) != access.CodeLimitExceeded {
				t.Fatal(err)
			}
			break
		}
	}
	if calls == 0 || calls == 100 {
		t.Errorf("%d calls at once", calls)
	}
	if _, err := w.Identify(t.Context(), issuer, "report-bot", nil); err != nil {
		t.Errorf("another identity pays for it: %v", err)
	}
}
