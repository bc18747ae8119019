package event

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/access"
)

// everyEvent is one of each type, as it reads in an entry. The names and types are what verifiers of old logs rely on.
func everyEvent() map[string]struct {
	event Event
	text  string
} {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	by := By{Kind: ByDecision, Decision: "d"}
	return map[string]struct {
		event Event
		text  string
	}{
		"writ.installed":          {&Installed{Origin: "o", Engine: "1", Pseudonyms: "f"}, `{"origin":"o","engine":"1","pseudonyms":"f"}`},
		"writ.catalog.changed":    {&CatalogChanged{Kind: KindIdentity, Object: "p_1", Op: OpAdded, By: by}, `{"kind":"identity","object":"p_1","op":"added","by":{"kind":"decision","decision":"d"}}`},
		"writ.policy.activated":   {&PolicyActivated{Bundle: "b", By: By{Kind: ByStartup}}, `{"bundle":"b","by":{"kind":"startup"}}`},
		"writ.facts.reported":     {&FactsReported{Source: "s", By: "p_1", ObservedAt: at, Entities: []Pseudonym{"p_2"}, Gone: []Pseudonym{"p_3"}}, `{"source":"s","by":"p_1","observed_at":"2026-11-23T12:00:00Z","entities":["p_2"],"gone":["p_3"]}`},
		"writ.decision.made":      {decisionMade(at), decisionText},
		"writ.approval.answered":  {&ApprovalAnswered{Approval: "a", By: "p_1", Card: "sha256:00", ShownAt: at, Surface: "console", Approve: true, TTL: 60, MaxUses: 2, Status: access.ApprovalApproved, ApprovedUntil: at, Precedent: &PrecedentOf{Subject: "p_2", Action: access.Ref{Type: "Action", ID: "x"}, Resource: "Table", TaskType: "support"}}, `{"approval":"a","by":"p_1","card":"sha256:00","shown_at":"2026-11-23T12:00:00Z","surface":"console","approve":true,"ttl":60,"max_uses":2,"status":"approved","approved_until":"2026-11-23T12:00:00Z","precedent":{"subject":"p_2","action":"Action::\"x\"","resource":"Table","task_type":"support"}}`},
		"writ.identity.away":      {&AwayChanged{Identity: "p", Until: at}, `{"identity":"p","until":"2026-11-23T12:00:00Z"}`},
		"writ.approval.commented": {&ApprovalCommented{Approval: "a", By: "p_1"}, `{"approval":"a","by":"p_1"}`},
		"writ.approval.lapsed":    {&ApprovalLapsed{Approval: "a"}, `{"approval":"a"}`},
		"writ.task.opened":        {&TaskOpened{ID: "t", Type: "support", Subject: "p_1", Principal: "p_2", Trace: "4bf9", Decision: "t", ExpiresAt: at, Heartbeat: 30}, `{"id":"t","type":"support","subject":"p_1","principal":"p_2","trace":"4bf9","decision":"t","expires_at":"2026-11-23T12:00:00Z","heartbeat":30}`},
		"writ.task.changed":       {&TaskChanged{ID: "t", Status: access.TaskEnded, Reason: access.EndRevoked, By: By{Kind: BySelf, Identity: "p_1"}}, `{"id":"t","status":"ended","reason":"revoked","by":{"kind":"self","identity":"p_1"}}`},
		"writ.task.sealed":        {&TaskSealed{ID: "t", Count: 7, Grants: 2, EndedAt: at, GoneAt: at, Proof: "expired"}, `{"id":"t","count":7,"grants":2,"ended_at":"2026-11-23T12:00:00Z","gone_at":"2026-11-23T12:00:00Z","proof":"expired"}`},
		"writ.grant.ended":        {&GrantEnded{ID: "g", Reason: access.EndRedecided, By: By{Kind: ByClock}}, `{"id":"g","reason":"redecided","by":{"kind":"clock"}}`},
		"writ.grant.reissued":     {&GrantReissued{ID: "g2", Replaces: "g", By: "p", Credential: &CredentialMade{Connector: "jwt", Fingerprint: "f", Target: "t", ExpiresAt: at, BoundTo: "k"}}, `{"id":"g2","replaces":"g","by":"p","credential":{"connector":"jwt","fingerprint":"f","target":"t","expires_at":"2026-11-23T12:00:00Z","bound_to":"k"}}`},
		"writ.action.reported":    {&ActionReported{Grant: "g", Source: Observed, By: "p_1", Status: "succeeded"}, `{"grant":"g","source":"observed","by":"p_1","status":"succeeded"}`},
		"writ.use.decided":        {&UseDecided{Grant: "g", By: "p_1", Counted: []string{"g", "root"}, Code: access.CodeBoundsExceeded}, `{"grant":"g","by":"p_1","counted":["g","root"],"code":"bounds_exceeded"}`},
		"writ.credential.issued":  {&CredentialIssued{Grant: "g", By: "p_1", Subject: "p_2", Labels: []string{"l"}, Credential: &CredentialMade{Connector: "jwt", Fingerprint: "f", Target: "t", ExpiresAt: at}}, `{"grant":"g","by":"p_1","subject":"p_2","credential":{"connector":"jwt","fingerprint":"f","target":"t","expires_at":"2026-11-23T12:00:00Z"},"labels":["l"]}`},
		"writ.identity.changed":   {&IdentityChanged{Identity: "p_1", Status: access.Suspended, By: by}, `{"identity":"p_1","status":"suspended","by":{"kind":"decision","decision":"d"}}`},
		"writ.log.pruned":         {&LogPruned{Before: 512, Entries: [][2]int64{{1, 3}, {7, 7}}, Values: 2, Archive: LogHead{Size: 600, Root: "r"}, By: By{Kind: ByOperator}}, `{"before":512,"entries":[[1,3],[7,7]],"values":2,"archive":{"size":600,"root":"r"},"by":{"kind":"operator"}}`},
		"writ.log.restored":       {&LogRestored{Lost: LogHead{Size: 9, Root: "r"}, From: LogHead{Size: 7, Root: "q"}, By: By{Kind: ByOperator}}, `{"lost":{"size":9,"root":"r"},"from":{"size":7,"root":"q"},"by":{"kind":"operator"}}`},
		"writ.value.erased":       {&ValueErased{Index: 9, Slots: []string{SlotInput}, By: by}, `{"index":9,"slots":["input"],"by":{"kind":"decision","decision":"d"}}`},
	}
}

func decisionMade(at time.Time) *DecisionMade {
	return &DecisionMade{
		ID: "d", Caller: "p_1", Subject: "p_2", Principal: "p_3", Action: access.Ref{Type: "Action", ID: "x"}, Resource: "p_4", Outcome: access.Allow,
		Policies: []PolicyID{{ID: "p", Hash: "h"}}, Risk: 3, Factors: []string{"r"}, Bounds: access.Bounds{MaxTTL: 60, MaxTTLPolicy: "p"}, Bundle: "b", Engine: "1",
		Grant: &GrantMade{Parent: "g", Mode: access.Use, Depth: 1, MaxUses: 2, ExpiresAt: at},
		Asked: &ApprovalAsked{Requires: []Asked{{Policy: "p", Hash: "h", Form: access.ApprovalForm{Kind: access.FormTeam, Team: "ops", Count: 2}}}, ExpiresAt: at},
		Usage: []Usage{{Counter: "c", Bucket: 60, Add: 1, Window: 3600}}, Consumed: "a", Replaces: "g0", Labels: []string{"pii"},
	}
}

const decisionText = `{"id":"d","caller":"p_1","subject":"p_2","principal":"p_3","action":"Action::\"x\"","resource":"p_4","outcome":"allow",` +
	`"policies":[{"id":"p","hash":"h"}],"risk":3,"factors":["r"],"bounds":{"max_ttl":60,"max_ttl_policy":"p"},"bundle":"b","engine":"1",` +
	`"grant":{"parent":"g","mode":"use","depth":1,"max_uses":2,"expires_at":"2026-11-23T12:00:00Z"},` +
	`"approval":{"requires":[{"policy":"p","hash":"h","form":"2 of team:ops"}],"expires_at":"2026-11-23T12:00:00Z"},` +
	`"consumed":"a","replaces":"g0","usage":[{"counter":"c","bucket":60,"add":1,"window":3600}],"labels":["pii"]}`

func TestEveryEventReadsAsItIsWritten(t *testing.T) {
	for name, c := range everyEvent() {
		if got := c.event.EventType(); got != name {
			t.Errorf("%T is a %q, want %q", c.event, got, name)
		}
		text, err := json.Marshal(c.event)
		if err != nil || string(text) != c.text {
			t.Errorf("%s is written %s, %v\nwant %s", name, text, err, c.text)
		}
		got, ok, err := Decode(name, []byte(c.text))
		if diff := cmp.Diff(c.event, got); diff != "" || !ok || err != nil {
			t.Errorf("Decode %s: %v, %v (-want +got):\n%s", name, ok, err, diff)
		}
		if _, ok, err := Decode(name, []byte(`{"by":7,"id":7,"approval":7,"origin":7,"source":7,"bundle":7,"index":"x","grant":7,"identity":7}`)); !ok || err == nil {
			t.Errorf("Decode %s of wrong types: %v, %v", name, ok, err)
		}
		if _, ok, err := Decode(name, []byte(c.text[:len(c.text)-1])); !ok || err == nil {
			t.Errorf("Decode %s of half the text: %v, %v", name, ok, err)
		}
	}
}

func TestDecodeOfUnknownTypes(t *testing.T) {
	for _, name := range []string{"", "writ.", "writ.unknown", "WRIT.INSTALLED", "writ.installed "} {
		if got, ok, err := Decode(name, []byte(`{}`)); got != nil || ok || err != nil {
			t.Errorf("Decode(%q) = %v, %v, %v", name, got, ok, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for name, c := range everyEvent() {
		f.Add(name, []byte(c.text))
	}
	f.Add("writ.unknown", []byte(`{}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		got, ok, err := Decode(name, data)
		if !ok || err != nil {
			if !ok && (got != nil || err != nil) {
				t.Fatal("an unknown type is neither a value nor an error")
			}
			return
		}
		if got.EventType() != name {
			t.Fatalf("a %q was read as a %q", name, got.EventType())
		}
		text, err := json.Marshal(got)
		if err != nil {
			return // such as a form or a time that was absent
		}
		again, ok, err := Decode(name, text)
		if !ok || err != nil {
			return
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(text, second) {
			t.Fatalf("%s\nis written again as\n%s (%v)", text, second, err)
		}
	})
}

func TestPseudonyms(t *testing.T) {
	p, other := NewPseudonymizer(bytes.Repeat([]byte{1}, 32)), NewPseudonymizer(bytes.Repeat([]byte{2}, 32))
	ada := access.Ref{Type: "Human", ID: "ada"}
	// HMAC-SHA-256 over Human::"ada" with 32 bytes of 1, its first 16 bytes, by another implementation.
	if got, want := p.Of(ada), Pseudonym("p_h9UUEnKCnP407HHPqvoBJg"); got != want {
		t.Errorf("Of(ada) = %q, want %q", got, want)
	}
	if got := p.Of(access.Ref{}); got != "" {
		t.Errorf("the zero Ref has the pseudonym %q", got)
	}
	if p.Of(ada) == other.Of(ada) {
		t.Error("the key does not matter")
	}
	seen := map[Pseudonym]access.Ref{}
	for _, ref := range []access.Ref{ada, {Type: "Human", ID: "Ada"}, {Type: "Agent", ID: "ada"}, {Type: "Human", ID: `ada"`}, {Type: "A", ID: "b"}, {Type: "A::B", ID: "b"}} {
		name := p.Of(ref)
		if known, ok := seen[name]; ok {
			t.Errorf("%v and %v share a pseudonym", known, ref)
		}
		seen[name] = ref
		if name != p.Of(ref) || len(name) != 24 || strings.Contains(string(name), "ada") {
			t.Errorf("the pseudonym of %v is %q", ref, name)
		}
	}
}

func TestPseudonymizerIsSafeForConcurrentUse(t *testing.T) {
	p := NewPseudonymizer(make([]byte, 32))
	want := p.Of(access.Ref{Type: "Human", ID: "ada"})
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if got := p.Of(access.Ref{Type: "Human", ID: "ada"}); got != want {
				t.Errorf("%q", got)
			}
		})
	}
	wait.Wait()
}

// The first entry names the key, so that another one is seen; it does not tell it.
func TestTheFingerprintNamesTheKey(t *testing.T) {
	one, same, other := NewPseudonymizer(bytes.Repeat([]byte{1}, 32)), NewPseudonymizer(bytes.Repeat([]byte{1}, 32)), NewPseudonymizer(bytes.Repeat([]byte{2}, 32))
	if one.Fingerprint() != same.Fingerprint() || one.Fingerprint() == other.Fingerprint() || len(one.Fingerprint()) != 43 {
		t.Errorf("%s, %s, %s", one.Fingerprint(), same.Fingerprint(), other.Fingerprint())
	}
}

// Whoever reads a log must read the same in it as everybody else.
func TestNamesAreExactAndStandOnce(t *testing.T) {
	if _, _, err := Decode("writ.task.opened", []byte(`{"id":"a","id":"b"}`)); err == nil {
		t.Error("a name stands twice")
	}
	e, _, err := Decode("writ.task.opened", []byte(`{"ID":"a","type":"support"}`))
	if opened, ok := e.(*TaskOpened); err != nil || !ok || opened.ID != "" || opened.Type != "support" {
		t.Errorf("%v, %v: ID is no name of id", e, err)
	}
}
