package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/store"
)

// rush is the load on a cluster, and what came of it.
type rush struct {
	*cluster

	task    string
	counted string // a grant whose uses are counted

	mu       sync.Mutex
	acks     []ack
	things   int            // that were brought to their end
	tried    int64          // uses of the counted grant
	uses     int64          // of them, that were acknowledged
	refused  map[string]int // by code
	kept     [][]byte       // checkpoints that were published
	repeated int            // answers to a call that was made before
}

// ack is what was acknowledged: the entry at the index has this id in this field.
type ack struct {
	index     int64
	field, id string
}

// Three servers on one database, asked for the same at the same moment, are killed at random and started again. There is one
// log: nothing acknowledged is lost, every checkpoint that any of them ever published is of its past, and what
// counts once has counted once.
func TestI1_ThreeServersAreOneLog(t *testing.T) {
	const servers, clients, kills, mostAnswers = 3, 4, 8, 100
	r := &rush{cluster: newCluster(t, servers), refused: map[string]int{}}
	all(t, servers, func(n int) error { return r.start(r.servers[n]) }) // at once, on an empty database
	must(t, r.prepare())
	loading, stop := context.WithCancel(r.ctx)
	defer stop()
	var load sync.WaitGroup
	for n := range clients {
		load.Go(func() {
			for thing := 0; loading.Err() == nil; thing++ {
				if err := r.episode(fmt.Sprintf("o-%d-%d", n, thing)); err != nil {
					r.giveUp(err)
					return
				}
			}
		})
	}
	all(t, servers, func(n int) error { return r.killed(r.servers[n], kills, mostAnswers) })
	stop()
	load.Wait()
	grant, err := r.grantNow()
	must(t, err)
	if grant.Uses < r.uses || grant.Uses > r.tried {
		t.Errorf("%d uses are counted; %d were acknowledged, %d tried", grant.Uses, r.uses, r.tried)
	}
	all(t, servers, func(n int) error { return r.servers[n].stop() })
	r.logHolds(t, grant.Uses)
	r.verifies(t)
	t.Logf("%d things, %d uses, %d acknowledged, %d repeated, %d checkpoints, refused: %v", r.things, r.uses, len(r.acks), r.repeated, len(r.kept), r.refused)
	for code, times := range r.refused {
		if !slices.Contains([]string{"stale_fact", "wrong_state", "already_answered", "approval_expired"}, code) {
			t.Errorf("%d refusals with %s, for which there is no reason", times, code)
		}
	}
	if r.refused["approval_expired"] == 0 || r.refused["wrong_state"] == 0 || r.repeated == 0 {
		t.Error("nobody wanted what another had, so this shows nothing")
	}
}

// all does something so many times at once.
func all(t *testing.T, times int, do func(n int) error) {
	t.Helper()
	errs := make([]error, times)
	var group sync.WaitGroup
	for n := range times {
		group.Go(func() { errs[n] = do(n) })
	}
	group.Wait()
	must(t, errors.Join(errs...))
}

// prepare opens the task that everything is asked for, and has one grant whose uses count.
func (r *rush) prepare() error {
	bot, err1 := r.as(r.servers[0], "support-bot")
	orders, err2 := r.as(r.servers[1], "order-system")
	bob, err3 := r.as(r.servers[2], "bob")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	opened, err := bot.OpenTask(r.ctx, client.OpenTask{Type: "support", Purpose: "customers complain"})
	if err != nil {
		return err
	}
	r.task = opened.Task.ID
	if err := tellOrder(r.ctx, orders, "o-counted"); err != nil {
		return err
	}
	asked, err := bot.Request(r.ctx, refund(r.task, "o-counted"))
	if err != nil {
		return err
	}
	if _, err := saysYes(r.ctx, bob, asked.Approval.ID, client.Reply{MaxUses: 1 << 20}); err != nil {
		return err
	}
	redeemed, err := bot.RedeemApproval(r.ctx, asked.Approval.ID)
	if err == nil {
		r.counted = redeemed.Grant.ID
	}
	return err
}

// saysYes looks at a card, and says yes to it.
func saysYes(ctx context.Context, person *client.Client, id string, reply client.Reply) (*client.Approval, error) {
	card, err := person.Approval(ctx, id)
	if err != nil {
		return nil, err
	}
	reply.Approve, reply.Card = true, card.Card
	return person.AnswerApproval(ctx, id, reply)
}

func tellOrder(ctx context.Context, c *client.Client, order string) error {
	fact := client.Fact{ID: fmt.Sprintf("Order::%q", order), Attributes: json.RawMessage(`{"status":"delivered","total":1000}`)}
	_, err := c.PushFacts(ctx, client.Facts{Facts: []client.Fact{fact}})
	return err
}

func refund(task, order string) client.AccessRequest {
	return client.AccessRequest{Task: task, Action: "refund", Resource: fmt.Sprintf("Order::%q", order), Args: json.RawMessage(`{"amount":150,"reason":"arrived broken"}`)}
}

// episode brings one thing to its end. Each step is taken at every server at once.
func (r *rush) episode(order string) error {
	if _, err := r.everywhere("order-system", func(c *client.Client) (ack, error) { return ack{}, tellOrder(r.ctx, c, order) }); err != nil {
		return err
	}
	ask := refund(r.task, order)
	ask.IdempotencyKey = "refund-" + order
	asked, err := r.once("support-bot", func(c *client.Client) (ack, error) { // under one key: one decision
		got, err := c.Request(r.ctx, ask)
		return r.decided(got, err)
	})
	if err == nil && len(asked) == 0 {
		err = errors.New("every server refuses it")
	}
	if err != nil {
		return fmt.Errorf("ask for %s: %w", order, err)
	}
	approval := asked[0].id
	var shown atomic.Pointer[string] // by one server, to be answered at another
	if _, err := r.everywhere("bob", func(c *client.Client) (ack, error) {
		card, err := c.Approval(r.ctx, approval)
		if err == nil {
			shown.Store(&card.Card)
		}
		return ack{}, err
	}); err != nil {
		return fmt.Errorf("look at %s: %w", order, err)
	}
	if _, err := r.once("bob", func(c *client.Client) (ack, error) { // of one person: one answer
		got, err := c.AnswerApproval(r.ctx, approval, client.Reply{Approve: true, Card: *shown.Load()})
		if err != nil {
			return ack{}, err
		}
		return ack{got.Evidence.Index, "approval", approval}, nil
	}); err != nil {
		return fmt.Errorf("answer %s: %w", order, err)
	}
	if _, err := r.once("support-bot", func(c *client.Client) (ack, error) { // each call under a key of its own: one grant
		got, err := c.RedeemApproval(r.ctx, approval)
		return r.decided(got, err)
	}); err != nil {
		return fmt.Errorf("redeem %s: %w", order, err)
	}
	if err := r.use(); err != nil {
		return fmt.Errorf("use: %w", err)
	}
	return r.keepCheckpoint()
}

// decided is what a decision acknowledges.
func (r *rush) decided(got *client.Outcome, err error) (ack, error) {
	if err != nil {
		return ack{}, err
	}
	if got.Decision.Repeated {
		r.mu.Lock()
		r.repeated++
		r.mu.Unlock()
	}
	return ack{got.Evidence.Index, "id", got.Decision.ID}, nil
}

// once is a step that only one of those who take it may have taken.
func (r *rush) once(who string, do func(*client.Client) (ack, error)) ([]ack, error) {
	acked, err := r.everywhere(who, do)
	for _, a := range acked {
		if a != acked[0] {
			return nil, fmt.Errorf("%+v and %+v: both were acknowledged", acked[0], a)
		}
	}
	return acked, err
}

// use has the gateway ask for uses of the counted grant, each of which counts.
func (r *rush) use() error {
	acked, err := r.everywhere("gateway", func(c *client.Client) (ack, error) {
		r.mu.Lock()
		r.tried++
		r.mu.Unlock()
		got, err := c.CountUse(r.ctx, r.counted)
		if err != nil {
			return ack{}, err
		}
		return ack{got.Evidence.Index, "grant", r.counted}, nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uses += int64(len(acked))
	r.things++
	return err
}

// everywhere takes a step at all servers that are up at once, and again until one of them has said yes or no. Whatever else
// happens to a call, its server was killed, and what became of it is not known.
func (r *rush) everywhere(who string, do func(*client.Client) (ack, error)) ([]ack, error) {
	for {
		up, err := r.anyUp()
		if err != nil {
			return nil, err
		}
		acked, errs := make([]ack, len(up)), make([]error, len(up))
		var group sync.WaitGroup
		for n, s := range up {
			group.Go(func() {
				c, err := r.as(s, who)
				if err == nil {
					acked[n], err = do(c)
				}
				errs[n] = err
			})
		}
		group.Wait()
		var out []ack
		answered := false
		for n, err := range errs {
			var no *client.Problem
			switch {
			case err == nil:
				out, answered = append(out, acked[n]), true
			case errors.As(err, &no):
				answered = true
				r.mu.Lock()
				r.refused[no.Code]++
				r.mu.Unlock()
			}
		}
		if answered {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, a := range out {
				if a.field != "" {
					r.acks = append(r.acks, a)
				}
			}
			return out, nil
		}
	}
}

// keepCheckpoint keeps what any server publishes now.
func (r *rush) keepCheckpoint() error {
	up, err := r.anyUp()
	if err != nil {
		return err
	}
	s := up[rand.IntN(len(up))]
	c, err := r.as(s, "sam")
	if err != nil {
		return err
	}
	signed, err := c.Checkpoint(r.ctx)
	if err != nil {
		return nil // it was killed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, signed)
	return nil
}

// grantNow is the counted grant as it stands.
func (r *rush) grantNow() (*client.Grant, error) {
	c, err := r.as(r.servers[0], "support-bot")
	if err != nil {
		return nil, err
	}
	return c.Grant(r.ctx, r.counted)
}

// logHolds reads the whole log: every acknowledged entry stands where it was said to, and what may be once is there once.
func (r *rush) logHolds(t *testing.T, uses int64) {
	t.Helper()
	key, err := readKey(filepath.Join(r.folder, "data", "log.pub"))
	must(t, err)
	opened, err := store.OpenReadOnly(r.ctx, r.database, key)
	must(t, err)
	defer func() { must(t, opened.Close()) }()
	entries := make([]entry, opened.Size())
	times := map[string]int{}
	for index := range entries {
		raw, err := opened.Entry(r.ctx, int64(index))
		must(t, err)
		must(t, json.Unmarshal(raw, &entries[index]))
		times[entries[index].single()]++
	}
	delete(times, "")
	if got := times["use of "+r.counted]; int64(got) != uses {
		t.Errorf("%d uses are recorded, %d counted", got, uses)
	}
	delete(times, "use of "+r.counted)
	for what, n := range times {
		if n != 1 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	if want := 3 * r.things; len(times) < want {
		t.Errorf("of %d things there are %d questions, answers and grants", r.things, len(times))
	}
	said := map[ack]bool{}
	for _, a := range r.acks {
		if a.index >= int64(len(entries)) || entries[a.index].Data[a.field] != a.id {
			t.Errorf("acknowledged, but not in the log: %+v", a)
		}
		if a.field == "grant" && said[a] {
			t.Errorf("two uses, one entry: %+v", a)
		}
		said[a] = true
	}
}

// entry is what the test reads of an entry.
type entry struct {
	Type string         `json:"type"`
	Data map[string]any `json:"data"`
}

// single names what an entry is the only one of; empty: nothing.
func (e entry) single() string {
	text := func(field string) string { s, _ := e.Data[field].(string); return s }
	switch {
	case e.Type == event.DecisionMade{}.EventType() && text("outcome") == client.NeedsApproval:
		return "question about " + text("resource")
	case e.Type == event.DecisionMade{}.EventType() && text("consumed") != "":
		return "redemption of " + text("consumed")
	case e.Type == event.ApprovalAnswered{}.EventType():
		return "answer to " + text("approval")
	case e.Type == event.UseDecided{}.EventType():
		return "use of " + text("grant")
	default:
		return ""
	}
}

// verifies checks the database as an operator does, against every checkpoint that was published.
func (r *rush) verifies(t *testing.T) {
	t.Helper()
	words := []string{"evidence", "verify", "--database", r.database, "--key", filepath.Join(r.folder, "data", "log.pub")}
	for n, signed := range r.kept {
		file := filepath.Join(r.folder, fmt.Sprintf("checkpoint-%d", n))
		must(t, os.WriteFile(file, signed, 0o600))
		words = append(words, "--checkpoint", file)
	}
	if said, err := exec.CommandContext(r.ctx, "writ", words...).CombinedOutput(); err != nil || len(r.kept) == 0 {
		t.Errorf("%d checkpoints, %v\n%s", len(r.kept), err, said)
	}
}
