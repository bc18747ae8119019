package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// fixture is an open store in a folder of its own.
type fixture struct {
	*Store
	t    *testing.T
	path string
	key  string // public
	now  time.Time
}

func open(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	secret, public, err := evidence.GenerateKey("test.example/log", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := evidence.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "writ.db"), key: public, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	opts := Options{Path: f.path, Signer: signer, VerifierKey: public, Engine: "test", Now: func() time.Time { return f.now }, Reserve: 1 << 20}
	for _, c := range change {
		c(&opts)
	}
	if f.Store, err = Open(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) verify(kept ...evidence.Checkpoint) *Verified {
	f.t.Helper()
	got, err := Verify(context.Background(), f.path, f.key, f.t.TempDir(), kept)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func (f *fixture) record(drafts ...event.Draft) event.Receipt {
	f.t.Helper()
	receipt, err := f.Update(f.t.Context(), func(*View) (event.Change, error) { return event.Change{Drafts: drafts}, nil })
	if err != nil {
		f.t.Fatal(err)
	}
	return receipt
}

var bot = access.MustRef(`Agent::"bot"`)

// history writes one of everything.
func (f *fixture) history() {
	f.t.Helper()
	self := event.By{Kind: event.BySelf, Identity: f.Pseudonym(bot)}
	input, _ := json.Marshal(access.Input{Request: access.Request{Subject: bot, Action: access.MustRef(`Action::"read"`), Resource: access.MustRef(`Doc::"d"`)}})
	f.record(
		event.Draft{Event: &event.CatalogChanged{Kind: event.KindIdentity, Object: f.Pseudonym(bot), Op: event.OpAdded}, Values: map[string]json.RawMessage{event.SlotDocument: json.RawMessage(`{"kind":"identity","name":"Agent::\"bot\"","doc":{"id":"Agent::\"bot\""}}`)}},
		event.Draft{Event: &event.TaskOpened{ID: "t1", Type: "support", Subject: f.Pseudonym(bot), ExpiresAt: f.now.Add(time.Hour)}, Task: "t1", Values: map[string]json.RawMessage{event.SlotPurpose: json.RawMessage(`"words"`)}},
		event.Draft{Event: &event.FactsReported{Source: "s", Entities: []event.Pseudonym{"p_1"}, ObservedAt: f.now}, Values: map[string]json.RawMessage{"0": json.RawMessage(`{"id":"Doc::\"d\""}`)}},
	)
	for i := range 3 {
		f.record(event.Draft{Task: "t1", Values: map[string]json.RawMessage{event.SlotInput: input}, Event: &event.DecisionMade{
			ID: fmt.Sprint("d", i), Subject: f.Pseudonym(bot), Action: access.MustRef(`Action::"read"`), Outcome: access.Allow,
			Grant:  &event.GrantMade{Mode: access.Use, ExpiresAt: f.now.Add(time.Minute)},
			Usage:  []event.Usage{{Counter: "c", Bucket: 60, Add: 1, Window: 3600}},
			Labels: []string{"pii"},
		}})
	}
	f.record(event.Draft{Task: "t1", Values: map[string]json.RawMessage{event.SlotInput: input}, Event: &event.DecisionMade{
		ID: "q1", Subject: f.Pseudonym(bot), Outcome: access.NeedsApproval,
		Asked: &event.ApprovalAsked{ExpiresAt: f.now.Add(time.Minute), Requires: []event.Asked{{Policy: "p", Hash: "h", Form: access.ApprovalForm{Kind: access.FormConfirm, Count: 1}}}},
	}})
	f.record(event.Draft{Task: "t1", Event: &event.ApprovalAnswered{Approval: "q1", By: "p_human", Approve: true, Status: access.ApprovalApproved, ApprovedUntil: f.now.Add(time.Hour),
		Precedent: &event.PrecedentOf{Subject: f.Pseudonym(bot), Action: access.MustRef(`Action::"read"`), Resource: "Doc", TaskType: "support"}}})
	f.record(event.Draft{Task: "t1", Event: &event.GrantChanged{ID: "d0", Reason: access.EndRevoked, By: self}})
	f.record(event.Draft{Task: "t1", Event: &event.TaskChanged{ID: "t1", Status: access.TaskEnded, Reason: access.EndCompleted, By: self}})
}

func TestVerifyClean(t *testing.T) {
	f := open(t)
	f.history()
	got := f.verify()
	for _, finding := range got.Findings {
		t.Error(finding)
	}
	if got.Rows == 0 || got.Log.Entries != f.Size() {
		t.Errorf("compared %d rows, read %d entries of %d", got.Rows, got.Log.Entries, f.Size())
	}
}
