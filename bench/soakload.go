package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/evidence"
)

const (
	taskLife  = 120 // seconds, of a task that its agent means to complete
	mostAcked = 4096
	mostEnded = 4096
)

// errInterrupted ends an episode that a restart came into: what became of its last call is not known.
var errInterrupted = errors.New("a restart came between")

// acked is a decision whose place in the log the server has acknowledged.
type acked struct {
	id    string
	index int64
}

// deadGrant is a grant that is dead from a time on.
type deadGrant struct {
	grant string
	task  string // that is over too; empty: it may go on
	from  time.Time
	why   string
}

// soaker is the load of a soak. Each worker has identities of its own, so it knows what every answer must be.
type soaker struct {
	address string
	tokens  []string // of the agents
	guard   string   // token of who answers, revokes, suspends
	source  string   // token of the fact source
	origin  string   // public key of the log

	epoch atomic.Int64 // odd while the server is being restarted
	top   atomic.Int64 // highest index acknowledged

	mu      sync.Mutex
	latency *histogram // of governed requests, in this window
	counts  map[string]int64
	acks    []acked // a sample over the whole run
	seen    int64   // how many were drawn from
	recent  []acked // since the last restart
	dead    []deadGrant
	deaths  int64
}

type tokenKey struct{}

// worker is one connection.
type worker struct {
	*soaker

	client *client.Client
	agents []int
	every  time.Duration
	next   time.Time
}

func (s *soaker) newWorker(agents []int, every time.Duration) (*worker, error) {
	c, err := client.New("http://"+s.address, client.Options{
		Token: func(ctx context.Context) (string, error) {
			token, _ := ctx.Value(tokenKey{}).(string)
			return token, nil
		},
		HTTPClient: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxConnsPerHost: 1}},
	})
	return &worker{soaker: s, client: c, agents: agents, every: every}, err
}

func as(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
}

// pace waits for a worker's turn. One that has fallen behind does not catch up: the load must not come in bursts.
func (w *worker) pace(ctx context.Context) error {
	if now := time.Now(); w.next.Before(now) {
		w.next = now
	}
	timer := time.NewTimer(time.Until(w.next))
	defer timer.Stop()
	w.next = w.next.Add(w.every)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try makes one call. Failures of the way are expected while the server restarts, and only then.
func (w *worker) try(ctx context.Context, kind string, call func() error) error {
	if err := w.pace(ctx); err != nil {
		return err
	}
	before, sent := w.epoch.Load(), time.Now()
	err := call()
	took, undisturbed := time.Since(sent), before%2 == 0 && before == w.epoch.Load()
	var problem *client.Problem
	refused := errors.As(err, &problem)
	if err != nil && (!refused || problem.Status >= http.StatusInternalServerError) {
		if ctx.Err() != nil || !undisturbed {
			return errInterrupted
		}
		return fmt.Errorf("%s: %w", kind, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[kind]++
	if kind == "request" && undisturbed {
		w.latency.record(took)
	}
	return err
}

// keep remembers what was acknowledged.
func (s *soaker) keep(id string, index int64) {
	for top := s.top.Load(); index > top && !s.top.CompareAndSwap(top, index); top = s.top.Load() {
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := acked{id, index}
	if s.recent = append(s.recent, a); len(s.recent) > mostAcked {
		s.recent = s.recent[len(s.recent)/2:]
	}
	s.seen++
	if len(s.acks) < mostAcked {
		s.acks = append(s.acks, a)
	} else if at := rand.Int64N(s.seen); at < mostAcked {
		s.acks[at] = a
	}
}

// buried remembers grants that are dead.
func (s *soaker) buried(grants []client.Grant, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range grants {
		e := deadGrant{grant: g.ID, task: g.Task, from: time.Now(), why: why}
		switch why {
		case "expired":
			e.from = g.ExpiresAt
		case "revoked":
			e.task = ""
		}
		s.deaths++
		if len(s.dead) < mostEnded {
			s.dead = append(s.dead, e)
		} else if at := rand.Int64N(s.deaths); at < mostEnded {
			s.dead[at] = e
		}
	}
}

// work makes episodes until ctx ends.
func (w *worker) work(ctx context.Context) error {
	for ctx.Err() == nil {
		n := w.agents[rand.IntN(len(w.agents))]
		if rand.IntN(3) == 0 { // more of those whose requests may need a person
			n = w.agents[0]
		}
		err := w.episode(context.WithoutCancel(ctx), n)
		switch {
		case errors.Is(err, errInterrupted):
			for w.epoch.Load()%2 == 1 && ctx.Err() == nil {
				if err := w.pace(ctx); err != nil {
					break
				}
			}
		case err != nil:
			return err
		}
	}
	return nil
}

// episode is one task of an agent, from its opening to its end.
func (w *worker) episode(ctx context.Context, n int) error {
	agent := as(ctx, w.tokens[n])
	expires := rand.IntN(5) == 0
	life := int64(taskLife)
	if expires {
		life = 2 + rand.Int64N(4)
	}
	var task *client.Task
	err := w.try(ctx, "open", func() error {
		got, err := w.client.OpenTask(agent, client.OpenTask{Type: "work", Purpose: "serves a customer", Reference: "SOAK", TTL: life})
		if err == nil {
			task = got.Task
			w.keep(got.Decision.ID, got.Evidence.Index)
		}
		return err
	})
	if err != nil {
		return err
	}
	var grants []client.Grant
	for range 3 + rand.IntN(8) {
		got, err := w.ask(ctx, agent, n, task)
		if timeIsUp(err, task) {
			expires = true
			break
		}
		if err != nil {
			return err
		}
		if got != nil {
			grants = append(grants, *got)
		}
	}
	if err := w.around(ctx, agent, task); err != nil && !timeIsUp(err, task) {
		return err
	}
	if expires {
		w.buried(grants, "expired")
		return nil
	}
	return w.finish(ctx, agent, n, task, grants)
}

// timeIsUp reports whether an error only says that a task's time has come.
func timeIsUp(err error, task *client.Task) bool {
	return err != nil && !errors.Is(err, errInterrupted) && !time.Now().Before(task.ExpiresAt) &&
		(errors.Is(err, &client.Problem{Code: "task_ended"}) || errors.Is(err, &client.Problem{Code: "bounds_exceeded"}))
}

// finish ends a task in one of several ways, and sees that its grants are dead.
func (w *worker) finish(ctx, agent context.Context, n int, task *client.Task, grants []client.Grant) error {
	guard := as(ctx, w.guard)
	if rand.IntN(25) == 0 {
		if err := w.suspended(ctx, n, task, grants); err != nil {
			return err
		}
	}
	var err error
	why := "completed"
	if rand.IntN(8) == 0 {
		why = "revoked with its task"
		err = w.try(ctx, "revoke task", func() error {
			_, err := w.client.RevokeTask(guard, task.ID, client.Revocation{Reason: "no longer wanted"})
			return err
		})
	} else {
		err = w.try(ctx, "complete", func() error { _, err := w.client.CompleteTask(agent, task.ID); return err })
	}
	if timeIsUp(err, task) {
		return nil
	}
	if err != nil {
		return err
	}
	w.buried(grants, why)
	if len(grants) == 0 {
		return nil
	}
	return w.alive(ctx, grants[rand.IntN(len(grants))].ID, false, why)
}

// suspended suspends an agent, sees that nothing of it is alive and nothing is given to it, and resumes it.
func (w *worker) suspended(ctx context.Context, n int, task *client.Task, grants []client.Grant) (err error) {
	guard, change := as(ctx, w.guard), client.StatusChange{Identity: fmt.Sprintf("Agent::%q", agentID(n)), Reason: "looked at"}
	// Whatever comes between, the agent must be active again, or all its later answers would differ.
	defer func() {
		resume := func() error {
			return w.try(ctx, "resume", func() error { _, err := w.client.ResumeIdentity(guard, change); return err })
		}
		again := resume()
		for errors.Is(again, errInterrupted) {
			again = resume()
		}
		err = errors.Join(err, again)
	}()
	if err := w.try(ctx, "suspend", func() error { _, err := w.client.SuspendIdentity(guard, change); return err }); err != nil {
		return err
	}
	if len(grants) > 0 {
		if err := w.alive(ctx, grants[0].ID, false, "of a suspended identity"); err != nil {
			return err
		}
	}
	err = w.try(ctx, "request while suspended", func() error {
		_, err := w.client.Request(as(ctx, w.tokens[n]), client.AccessRequest{Task: task.ID, Action: "read_order", Resource: fmt.Sprintf("Order::%q", orderID(n))})
		return err
	})
	switch {
	case errors.Is(err, &client.Problem{Code: "identity_suspended"}):
		return nil
	case err == nil:
		return brokenError("a suspended identity was given something")
	}
	return err
}

// alive reads a grant, which must be alive or must not.
func (w *worker) alive(ctx context.Context, grant string, want bool, why string) error {
	var got *client.Grant
	err := w.try(ctx, "read grant", func() (err error) { got, err = w.client.Grant(as(ctx, w.guard), grant); return err })
	if err != nil {
		return err
	}
	if got.Live == nil || *got.Live != want && (!want || time.Now().Before(got.ExpiresAt)) {
		return brokenError(fmt.Sprintf("grant %s (%s): alive must be %v", grant, why, want))
	}
	return nil
}

// sealed reads a task that is over, and reports whether it is sealed yet. One that somebody ended must at least be ended.
func (w *worker) sealed(ctx context.Context, id string, must bool) (bool, error) {
	var got *client.Task
	err := w.try(ctx, "read task", func() (err error) { got, err = w.client.Task(as(ctx, w.guard), id); return err })
	if err != nil {
		return false, err
	}
	if must && got.Status != "ended" && got.Status != "sealed" {
		return false, brokenError(fmt.Sprintf("task %s is over, but %s", id, got.Status))
	}
	return got.Status == "sealed", nil
}

// brokenError is a promise that was not kept.
type brokenError string

func (e brokenError) Error() string { return string(e) }

// ask makes one governed request and follows it: to people and back, to a revocation, or to a read. It returns a grant that is alive.
func (w *worker) ask(ctx, agent context.Context, n int, task *client.Task) (*client.Grant, error) {
	body, _, want := ask(n%10+10*rand.IntN(50), task.ID) // the same team, another case
	var request client.AccessRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	var got *client.Outcome
	err := w.try(ctx, "request", func() (err error) { got, err = w.client.Request(agent, request); return err })
	if want == client.Deny {
		var no *client.Problem
		switch {
		case err == nil:
			return nil, brokenError("what a policy forbids was given")
		case errors.As(err, &no) && no.Code == "forbidden" && no.Evidence != nil:
			w.keep(no.Decision, no.Evidence.Index)
			return nil, nil
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	w.keep(got.Decision.ID, got.Evidence.Index)
	if got.Decision.Outcome != want {
		return nil, brokenError(fmt.Sprintf("%s: want %s, got %s", request.Action, want, got.Decision.Outcome))
	}
	if want == client.NeedsApproval {
		if got, err = w.answered(ctx, agent, got.Approval.ID); err != nil || got == nil || got.Grant == nil {
			return nil, err // without a grant the risk has risen meanwhile, and people are asked anew
		}
	}
	switch rand.IntN(6) {
	case 0:
		return nil, w.revoke(ctx, agent, got.Grant)
	case 1:
		return got.Grant, w.alive(ctx, got.Grant.ID, true, "fresh")
	}
	return got.Grant, nil
}

// answered has a person answer a question. A no is redeemed too, to be refused; some questions stay open for ever.
func (w *worker) answered(ctx, agent context.Context, id string) (*client.Outcome, error) {
	choice := rand.IntN(10)
	if choice == 0 {
		return nil, nil
	}
	reply := client.Reply{Approve: choice > 2, Reason: "looked at it"}
	err := w.try(ctx, "answer", func() error {
		card, err := w.client.Approval(as(ctx, w.guard), id)
		if err == nil {
			reply.Card = card.Card
			_, err = w.client.AnswerApproval(as(ctx, w.guard), id, reply)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var got *client.Outcome
	err = w.try(ctx, "redeem", func() (err error) { got, err = w.client.RedeemApproval(agent, id); return err })
	if !reply.Approve {
		if err == nil {
			return nil, brokenError("what a person denied was given")
		}
		if errors.Is(err, &client.Problem{Code: "approval_denied"}) {
			err = nil
		}
		return nil, err
	}
	if err == nil {
		w.keep(got.Decision.ID, got.Evidence.Index)
	}
	return got, err
}

func (w *worker) revoke(ctx, agent context.Context, grant *client.Grant) error {
	by := agent
	if rand.IntN(2) == 0 {
		by = as(ctx, w.guard)
	}
	err := w.try(ctx, "revoke", func() error {
		_, err := w.client.RevokeGrant(by, grant.ID, client.Revocation{Reason: "not needed"})
		return err
	})
	if err != nil {
		return err
	}
	w.buried([]client.Grant{*grant}, "revoked")
	return w.alive(ctx, grant.ID, false, "revoked")
}

// around is what else goes on: heartbeats, facts, and readers of the log.
func (w *worker) around(ctx, agent context.Context, task *client.Task) error {
	w.mu.Lock()
	a := w.acks[rand.IntN(len(w.acks))]
	w.mu.Unlock()
	order := rand.IntN(orders)
	calls := []func() error{
		func() error {
			return w.try(ctx, "heartbeat", func() error { _, err := w.client.Heartbeat(agent, task.ID); return err })
		},
		func() error {
			attributes := fmt.Sprintf(`{"status":"open","total":%d,"items":%d,"tier":"gold"}`, 200+order, 1+rand.IntN(30))
			fact := client.Fact{ID: fmt.Sprintf("Order::%q", orderID(order)), Attributes: json.RawMessage(attributes)}
			return w.try(ctx, "facts", func() error {
				_, err := w.client.PushFacts(as(ctx, w.source), client.Facts{Facts: []client.Fact{fact}})
				return err
			})
		},
		func() error {
			return w.try(ctx, "read checkpoint", func() error { _, err := w.client.Checkpoint(ctx); return err })
		},
		func() error { return w.found(ctx, a) },
	}
	rand.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	for _, call := range calls[:2] {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// found sees that an acknowledged decision stands in the log where it was said to, and proves it.
func (w *worker) found(ctx context.Context, a acked) error {
	guard := as(ctx, w.guard)
	var decision *client.Decision
	var entry, text []byte
	err := w.try(ctx, "read decision", func() (err error) { decision, err = w.client.Decision(guard, a.id); return err })
	if err == nil {
		err = w.try(ctx, "read entry", func() (err error) { entry, err = w.client.EvidenceEntry(guard, a.index); return err })
	}
	if err == nil {
		err = w.try(ctx, "read proof", func() (err error) { text, err = w.client.EvidenceProof(ctx, a.index); return err })
	}
	switch {
	case isNotFound(err):
		return brokenError(fmt.Sprintf("acknowledged decision %s at %d: %v", a.id, a.index, err))
	case err != nil:
		return err
	case decision.Evidence == nil || decision.Evidence.Index != a.index || !bytes.Contains(entry, []byte(a.id)):
		return brokenError(fmt.Sprintf("acknowledged decision %s is not at %d", a.id, a.index))
	}
	proof, err := evidence.ParseProof(text)
	if err == nil {
		_, err = evidence.VerifyInclusion(proof, entry, w.origin)
	}
	if err != nil {
		return brokenError(fmt.Sprintf("the proof of decision %s at %d: %v", a.id, a.index, err))
	}
	return nil
}

func isNotFound(err error) bool {
	var p *client.Problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}

// some is up to n of all, at random.
func some[T any](all []T, n int) []T {
	all = slices.Clone(all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}
