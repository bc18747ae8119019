package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver of what is done beside the store

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/pgtest"
)

// fixture is an open store in a folder, or a PostgreSQL database, of its own.
type fixture struct {
	*Store
	t    testing.TB
	path string // of the SQLite database
	key  string // public
	opts Options
	now  time.Time
}

func open(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	return openOn(t, filepath.Join(t.TempDir(), "writ.db"), change...)
}

// postgresServer is the server that the tests of this package share; TestMain stops it.
var postgresServer = sync.OnceValues(func() (*pgtest.Server, error) {
	server, err := pgtest.Start(context.Background())
	startedServer.Store(server)
	return server, err
})

var startedServer atomic.Pointer[pgtest.Server]

func openPostgres(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	server, err := postgresServer()
	if err != nil {
		t.Fatal(err)
	}
	database, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, database, change...)
}

// onEach runs a test on every database.
func onEach(t *testing.T, test func(t *testing.T, open opener)) {
	t.Run("SQLite", func(t *testing.T) { test(t, open) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, openPostgres) })
}

type opener func(t testing.TB, change ...func(*Options)) *fixture

func openOn(t testing.TB, database string, change ...func(*Options)) *fixture {
	t.Helper()
	secret, public, err := evidence.GenerateKey("test.example/log", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := evidence.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, key: public, now: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)}
	f.opts = Options{
		Database: database, Signer: signer, VerifierKey: public, Engine: "test", Now: func() time.Time { return f.now }, Reserve: 1 << 16,
		clockSkew: 100 * 365 * 24 * time.Hour,
	}
	for _, c := range change {
		c(&f.opts)
	}
	f.path = f.opts.Database
	if f.Store, err = Open(context.Background(), f.opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// file is the SQLite backend of the fixture.
func (f *fixture) file() *sqlite {
	f.t.Helper()
	b, ok := f.db.(*sqlite)
	if !ok {
		f.t.Fatal("this is not SQLite")
	}
	return b
}

// number reads one number beside the store.
func (f *fixture) number(text string) (n int64) {
	f.t.Helper()
	if err := f.reads.row(context.Background(), text, nil, &n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// reopen closes the store and opens it again, with other options if wanted.
func (f *fixture) reopen(change ...func(*Options)) {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
	for _, c := range change {
		c(&f.opts)
	}
	again, err := Open(context.Background(), f.opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Store = again
}

// sql runs a statement beside the store, as somebody with the database could.
func (f *fixture) sql(text string, args ...any) {
	f.t.Helper()
	if err := f.beside(text, args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) beside(text string, args ...any) error {
	if isPostgres(f.opts.Database) {
		conn, err := pgx.Connect(context.Background(), f.opts.Database)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(context.Background()) }() // nothing is lost with it
		_, err = conn.Exec(context.Background(), text, args...)
		return err
	}
	db, err := sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(2000)")
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(text, args...)
	return err
}

func (f *fixture) verify(kept ...evidence.Checkpoint) *Verified {
	f.t.Helper()
	got, err := Verify(context.Background(), f.opts.Database, f.key, VerifyOptions{Scratch: f.t.TempDir(), Kept: kept})
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func (f *fixture) verifyClean(kept ...evidence.Checkpoint) {
	f.t.Helper()
	size := f.Size()
	got := f.verify(kept...)
	for _, finding := range got.Findings {
		f.t.Error(finding)
	}
	if got.Rows == 0 || got.Log.Entries < size {
		f.t.Errorf("compared %d rows, read %d entries of %d", got.Rows, got.Log.Entries, size)
	}
}

// checkpoint is the head as an outsider would keep it.
func (f *fixture) checkpoint() evidence.Checkpoint {
	f.t.Helper()
	head, err := evidence.OpenCheckpoint(f.Checkpoint(), f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return head
}

func (f *fixture) record(drafts ...event.Draft) event.Receipt {
	f.t.Helper()
	receipt, err := f.try(event.Change{Drafts: drafts})
	if err != nil {
		f.t.Fatal(err)
	}
	return receipt
}

// try records a change that depends on nothing.
func (f *fixture) try(change event.Change) (event.Receipt, error) {
	return f.Update(context.Background(), func(*View) (event.Change, error) { return change, nil })
}

// view reads outside a change.
func (f *fixture) view() *View { return &View{ctx: context.Background(), store: f.Store, on: f.reads} }

var (
	bot   = access.MustRef(`Agent::"bot"`)
	other = access.MustRef(`Agent::"Bot"`) // differs by its case only
	alice = access.MustRef(`Human::"alice"`)
	read1 = access.MustRef(`Action::"read"`)
	doc   = access.MustRef(`Doc::"d"`)
)

func values(pairs ...string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	return out
}

func (f *fixture) object(kind string, ref access.Ref, op string) event.Draft {
	value, _ := json.Marshal(event.CatalogObject{Kind: kind, Name: ref.String(), Doc: json.RawMessage(`{"id":` + fmt.Sprintf("%q", ref.String()) + `}`)})
	d := event.Draft{Event: &event.CatalogChanged{Kind: kind, Object: f.Pseudonym(ref), Op: op}}
	if op != event.OpRemoved {
		d.Values = values(event.SlotDocument, string(value))
	}
	return d
}

func (f *fixture) taskOpened(id string, subject access.Ref) event.Draft {
	return event.Draft{Task: id, Values: values(event.SlotPurpose, `{"words":"help"}`), Event: &event.TaskOpened{
		ID: id, Type: "support", Subject: f.Pseudonym(subject), Principal: f.Pseudonym(alice), Trace: "4bf92f3577b34da6a3ce929d0e0e4736", ExpiresAt: f.now.Add(time.Hour), Heartbeat: 60,
	}}
}

func taskChanged(id string, status access.TaskStatus, reason access.EndReason) event.Draft {
	return event.Draft{Task: id, Event: &event.TaskChanged{ID: id, Status: status, Reason: reason, By: event.By{Kind: event.BySelf}}}
}

// decided is an allowed decision with a grant on a task; change adds what a test needs.
func (f *fixture) decided(id, task string, subject access.Ref, change ...func(*event.DecisionMade)) event.Draft {
	input, _ := json.Marshal(access.Input{Request: access.Request{Subject: subject, Action: read1, Resource: doc, Args: json.RawMessage(`{"n":1}`), Task: task}})
	made := &event.DecisionMade{
		ID: id, Subject: f.Pseudonym(subject), Action: read1, Outcome: access.Allow,
		Grant: &event.GrantMade{Mode: access.Use, ExpiresAt: f.now.Add(time.Minute)},
	}
	for _, c := range change {
		c(made)
	}
	return event.Draft{Task: task, Values: values(event.SlotInput, string(input)), Event: made}
}

func uses(n int64) func(*event.DecisionMade) {
	return func(d *event.DecisionMade) { d.Grant.MaxUses = n }
}

func counts(counter string, bucket, add int64) func(*event.DecisionMade) {
	return func(d *event.DecisionMade) {
		d.Usage = append(d.Usage, event.Usage{Counter: counter, Bucket: bucket, Add: add, Window: 3600})
	}
}

func touches(labels ...string) func(*event.DecisionMade) {
	return func(d *event.DecisionMade) { d.Labels = labels }
}

// asks turns the decision into a question to people.
func (f *fixture) asks(d *event.DecisionMade) {
	d.Outcome, d.Grant, d.Risk = access.NeedsApproval, nil, 20
	d.Asked = &event.ApprovalAsked{ExpiresAt: f.now.Add(30 * time.Minute), Requires: []event.Asked{
		{Policy: "p", Hash: "h", Form: access.ApprovalForm{Kind: access.FormConfirm, Count: 1}},
	}}
}

func (f *fixture) answered(id string, by access.Ref, approve bool, status access.ApprovalStatus) event.Draft {
	return event.Draft{Values: values(event.SlotReason, `"because"`), Event: &event.ApprovalAnswered{
		Approval: id, By: f.Pseudonym(by), Card: "sha256:00", ShownAt: f.now.Add(-time.Minute), Surface: "console", Approve: approve, TTL: 30, MaxUses: 2, Status: status, ApprovedUntil: f.now.Add(time.Hour),
		Precedent: &event.PrecedentOf{Subject: f.Pseudonym(bot), Action: read1, Resource: "Doc" + id, TaskType: "support"},
	}}
}

func (f *fixture) commented(id string, by access.Ref, text string) event.Draft {
	return event.Draft{Values: values(event.SlotComment, text), Event: &event.ApprovalCommented{Approval: id, By: f.Pseudonym(by)}}
}

func reported(source string, at time.Time, refs ...event.Pseudonym) event.Draft {
	d := event.Draft{Event: &event.FactsReported{Source: source, Entities: refs, ObservedAt: at}, Values: map[string]json.RawMessage{}}
	for i := range refs {
		d.Values[fmt.Sprint(i)] = json.RawMessage(`{"id":"Doc::\"d\"","attributes":{"n":` + fmt.Sprint(i) + `}}`)
	}
	return d
}

func statusOf(id event.Pseudonym, status access.Status) event.Draft {
	return event.Draft{Event: &event.IdentityChanged{Identity: id, Status: status, By: event.By{Kind: event.ByStartup}}}
}

func bundle(content string) *event.Bundle {
	return &event.Bundle{Hash: bundleHash([]byte(content)), Content: []byte(content)}
}

func (f *fixture) activate(content string) event.Receipt {
	f.t.Helper()
	b := bundle(content)
	receipt, err := f.try(event.Change{Bundle: b, Drafts: []event.Draft{{Event: &event.PolicyActivated{Bundle: b.Hash}}}})
	if err != nil {
		f.t.Fatal(err)
	}
	return receipt
}

// history writes something of everything: at least two rows in every table, and two full tiles.
func (f *fixture) history() {
	f.t.Helper()
	f.shortHistory()
	var padding []event.Draft
	for f.Size()+int64(len(padding)) < 2*evidence.TileWidth+4 {
		padding = append(padding, event.Draft{Event: &event.ActionReported{Grant: "none", Source: event.Reported}})
	}
	f.record(padding...)
}

// shortHistory is history without the tiles.
func (f *fixture) shortHistory() {
	f.t.Helper()
	f.record(
		f.object(event.KindIdentity, bot, event.OpAdded), f.object(event.KindIdentity, other, event.OpAdded),
		f.object("resource", doc, event.OpAdded), f.object("resource", alice, event.OpAdded), f.object("resource", alice, event.OpRemoved),
		statusOf(f.Pseudonym(other), access.Suspended),
	)
	f.activate("first bundle")
	f.activate("second bundle")
	f.record(reported("tickets", f.now, f.Pseudonym(doc), "p_2", "p_3"), event.Draft{Event: &event.FactsReported{Source: "s2", Gone: []event.Pseudonym{"p_3"}}})
	f.record(f.taskOpened("t1", bot), f.taskOpened("t2", other), f.taskOpened("t3", bot))
	f.record(
		f.decided("d0", "t1", bot, counts("c", 60, 1), touches("pii", "money")),
		f.decided("d1", "t1", bot, counts("c", 120, 3), uses(3)),
		f.decided("d2", "t2", other, counts("other", 60, 1), touches("pii")),
		f.decided("d3", "t2", other, func(d *event.DecisionMade) { d.Grant.Parent, d.Grant.Depth, d.Replaces = "d2", 1, "d1" }),
		f.decided("q1", "t1", bot, f.asks), f.decided("q2", "t2", other, f.asks), f.decided("q3", "t2", other, f.asks),
	)
	f.now = f.now.Add(time.Second)
	f.record(
		f.answered("q1", alice, true, access.ApprovalApproved), f.answered("q2", alice, false, access.ApprovalDenied),
		f.commented("q3", alice, `"why?"`), f.commented("q3", bot, `"because"`), event.Draft{Event: &event.ApprovalLapsed{Approval: "q3"}},
		f.decided("d4", "t1", bot, func(d *event.DecisionMade) { d.Consumed = "q1" }),
		event.Draft{Task: "t1", Event: &event.GrantReissued{ID: "d5", Replaces: "d4"}},
		event.Draft{Task: "t1", Event: &event.ActionReported{Grant: "d5", Source: event.Observed}, Values: values(event.SlotDetail, `{}`)},
		event.Draft{Task: "t1", Event: &event.UseDecided{Grant: "d5", Counted: []string{"d5"}}},
		event.Draft{Task: "t1", Event: &event.GrantEnded{ID: "d0", Reason: access.EndRevoked}},
		event.Draft{Event: &event.ValueErased{Index: f.indexOf("d0"), Slots: []string{event.SlotInput}}},
		taskChanged("t1", access.TaskPaused, ""), taskChanged("t1", access.TaskEnded, access.EndCompleted),
	)
	f.record(taskChanged("t3", access.TaskEnded, access.EndCompleted), event.Draft{Task: "t3", Event: &event.TaskSealed{ID: "t3", Count: 3}})
}

func (f *fixture) indexOf(decision string) int64 {
	f.t.Helper()
	index, err := f.view().DecisionIndex(decision)
	if err != nil {
		f.t.Fatal(err)
	}
	return index
}
