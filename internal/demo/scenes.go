package demo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/store"
)

// scenes are what the newcomer sees. Each fails if what it tells is not so.
func (p *play) scenes() error {
	p.title("Writ: a server, four agents, four people, on this machine only")
	p.say("   server       %s", p.server.URL)
	p.say("   people       dana owns the agents; alice and bob are payments; sam is security")
	p.say("   policy       examples/starter/policy, plain Cedar")
	for _, scene := range []func() error{p.opening, p.routine, p.person, p.never, p.sequence, p.chain, p.ending, p.proof} {
		if err := scene(); err != nil {
			return err
		}
	}
	return nil
}

var errNotSo = errors.New("the demo told something that is not so")

func notSo(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errNotSo}, args...)...)
}

// short is an id that people can tell apart.
func short(id string) string {
	const most = 8
	if len(id) <= most {
		return id
	}
	return "…" + id[len(id)-most:]
}

func (p *play) opening() error {
	p.next("An agent says what it is about to do")
	if err := p.tell(); err != nil {
		return err
	}
	p.does("order-system", "tells what is so: o-1 was delivered for 120, o-2 for 1200")
	p.note("facts come from their source, never from the agent that asks")
	p.does("support-bot", "opens a task: “Two customers complain about their parcels” (T-4711)")
	outcome, err := p.support.OpenTask(p.ctx, client.OpenTask{Type: "support", Purpose: "Two customers complain about their parcels", Reference: "T-4711"})
	if err != nil {
		return err
	}
	p.task = outcome.Task.ID
	p.good("task %s is open until %s", short(p.task), outcome.Task.ExpiresAt.Local().Format("15:04"))
	p.note("it logged in with a token of its identity provider; evidence entry %d", outcome.Evidence.Index)
	return nil
}

// tell has the order system tell what is so.
func (p *play) tell() error {
	_, err := p.orders.PushFacts(p.ctx, client.Facts{Facts: []client.Fact{
		{ID: `Order::"o-1"`, Attributes: json.RawMessage(`{"status":"delivered","total":120}`)},
		{ID: `Order::"o-2"`, Attributes: json.RawMessage(`{"status":"delivered","total":1200}`)},
	}})
	return err
}

func (p *play) refund(order string, amount int, reason string) (*client.Outcome, error) {
	args, err := json.Marshal(map[string]any{"amount": amount, "reason": reason})
	if err != nil {
		return nil, err
	}
	return p.support.Request(p.ctx, client.AccessRequest{Task: p.task, Action: "refund", Resource: order, Args: args})
}

func (p *play) routine() error {
	p.next("Routine needs nobody")
	p.does("support-bot", `asks: refund 40 on Order::"o-1", it came late`)
	outcome, err := p.refund(`Order::"o-1"`, 40, "it came late")
	if err != nil {
		return err
	}
	if outcome.Credential == nil {
		return notSo("a small refund was not granted")
	}
	p.grants = append(p.grants, outcome.Grant.ID)
	account, err := p.account(outcome.Decision.ID)
	if err != nil {
		return err
	}
	p.good("allowed by policy %s until %s", account.Policies[0].ID, outcome.Grant.ExpiresAt.Local().Format("15:04:05"))
	p.note("a token for this refund with these arguments, released when its evidence was on disk (entry %d), not before; Writ keeps only its fingerprint", outcome.Evidence.Index)
	if _, err := p.support.ReportAction(p.ctx, outcome.Grant.ID, client.Action{Status: "succeeded"}); err != nil {
		return err
	}
	p.does("support-bot", "refunds, and reports that it did")
	return nil
}

// account is what the owner of the agent may see of a decision.
func (p *play) account(decision string) (*client.Account, error) {
	d, err := p.dana.Decision(p.ctx, decision)
	if err != nil {
		return nil, err
	}
	if d.Account == nil {
		return nil, notSo("the owner sees no account of decision %s", decision)
	}
	return d.Account, nil
}

func (p *play) person() error {
	p.next("A person is asked where judgement counts")
	p.does("support-bot", `asks: refund 900 on Order::"o-2", it arrived broken`)
	outcome, err := p.refund(`Order::"o-2"`, 900, "it arrived broken")
	if err != nil {
		return err
	}
	if outcome.Approval == nil {
		return notSo("a large refund was not put to a person")
	}
	id := outcome.Approval.ID
	card, err := p.bob.Approval(p.ctx, id)
	if err != nil {
		return err
	}
	p.asks("%s", card.Account.Requires[0].Because)
	p.note("policy %s wants %s; risk %d", card.Account.Requires[0].Policy, card.Account.Requires[0].Form, card.Account.Risk.Score)
	p.does("dana", "owns the agent but is not in payments, and tries to approve")
	var problem *client.Problem
	if _, err := p.dana.AnswerApproval(p.ctx, id, client.Reply{Approve: true}); !errors.As(err, &problem) {
		return notSo("the owner of the agent could approve for it")
	}
	p.bad("%s", problem.Detail)
	approved, err := p.judge(id)
	if err != nil {
		return err
	}
	if !approved {
		p.bad("denied. The agent is told that a person said no, which is not the same as that nobody answered")
		return nil
	}
	redeemed, err := p.support.RedeemApproval(p.ctx, id)
	if err != nil {
		return err
	}
	p.grants = append(p.grants, redeemed.Grant.ID)
	p.good("approved by bob. Policy decided again with the facts of this moment; the grant runs from now to %s", redeemed.Grant.ExpiresAt.Local().Format("15:04:05"))
	p.note("the yes covers this policy, this request and this risk, once (entry %d)", redeemed.Evidence.Index)
	return nil
}

// judge gets an answer to the question: from whoever sits at the terminal as bob, from bob in another terminal, or by itself.
func (p *play) judge(id string) (approved bool, err error) {
	if p.auto {
		p.does("bob", "looks at the card, and says yes: “photos seen”")
		approval, err := p.answer(id, client.Reply{Approve: true, Reason: "photos seen"})
		return err == nil && approval.Status == client.ApprovalApproved, err
	}
	p.say("\n   %sYou are bob, of payments. Approve this refund? [y/n]%s  (or in another terminal:", p.style.Bold, p.style.Off)
	p.say("   WRIT_SERVER=%s WRIT_TOKEN_FILE=%s writ approve %s)", p.server.URL, p.tokens["bob"], id)
	answers := make(chan string)
	go func() {
		lines := bufio.NewScanner(p.in)
		for lines.Scan() {
			answers <- strings.ToLower(strings.TrimSpace(lines.Text()))
		}
	}()
	for {
		select {
		case answer := <-answers:
			if answer != "y" && answer != "yes" && answer != "n" && answer != "no" {
				p.say("   y or n?")
				continue
			}
			approval, err := p.answer(id, client.Reply{Approve: answer[0] == 'y', Reason: "answered in the demo"})
			return err == nil && approval.Status == client.ApprovalApproved, err
		case <-time.After(time.Second):
			approval, err := p.support.Approval(p.ctx, id)
			if err != nil || approval.Status != client.ApprovalPending {
				return err == nil && approval.Status == client.ApprovalApproved, err
			}
		case <-p.ctx.Done():
			return false, p.ctx.Err()
		}
	}
}

// answer has bob look at the card, and say something to it.
func (p *play) answer(id string, reply client.Reply) (*client.Approval, error) {
	card, err := p.bob.Approval(p.ctx, id)
	if err != nil {
		return nil, err
	}
	reply.Card = card.Card
	return p.bob.AnswerApproval(p.ctx, id, reply)
}

func (p *play) never() error {
	p.next("What policy forbids is never put to a person")
	p.does("report-bot", `asks: read_table on Table::"payments.customers", for the weekly report`)
	task, err := p.report.OpenTask(p.ctx, client.OpenTask{Type: "report", Purpose: "The weekly support report"})
	if err != nil {
		return err
	}
	var problem *client.Problem
	_, err = p.report.Request(p.ctx, client.AccessRequest{Task: task.Task.ID, Action: "read_table", Resource: `Table::"payments.customers"`})
	if !errors.As(err, &problem) || problem.Decision == "" {
		return notSo("the report could read customer data: %v", err)
	}
	account, err := p.account(problem.Decision)
	if err != nil {
		return err
	}
	p.bad("denied: %s", account.Policies[0].Because)
	p.note("the agent hears “%s” and what it may do next; its owner sees policy %s (entry %d)", problem.Code, account.Policies[0].ID, problem.Evidence.Index)
	_, err = p.report.CompleteTask(p.ctx, task.Task.ID)
	return err
}

func (p *play) sequence() error {
	p.next("Two things that are fine alone")
	p.does("support-bot", `asks: send_message on Channel::"customers", after it has handled customer data in this task`)
	outcome, err := p.support.Request(p.ctx, client.AccessRequest{
		Task: p.task, Action: "send_message", Resource: `Channel::"customers"`, Args: json.RawMessage(`{"text":"Your refund is on its way."}`),
	})
	if err != nil {
		return err
	}
	if outcome.Approval == nil {
		return notSo("a message after customer data was not put to a person")
	}
	p.asks("now it waits for security: customer data, then the outside")
	p.note("one forbid with @approval in examples/starter/policy/access/support.cedar; nobody answers, so nothing is sent")
	return nil
}

// chain has a right go through three agents, and ends it in the middle.
func (p *play) chain() error {
	p.next("A right goes through three agents, and only shrinks")
	p.does("support-bot", `asks: the right to lend read_order on Order::"o-2", and not to use it`)
	root, err := p.support.Request(p.ctx, client.AccessRequest{Task: p.task, Mode: "delegate", Action: "read_order", Resource: `Order::"o-2"`})
	if err != nil {
		return err
	}
	p.grants = append(p.grants, root.Grant.ID)
	p.does("support-bot", "lends it to triage-bot, to pass on once more, for two minutes")
	middle, err := p.support.Delegate(p.ctx, root.Grant.ID, client.Delegation{To: `Agent::"triage-bot"`, Mode: "delegate", Hops: 1, TTL: 120})
	if err != nil {
		return err
	}
	p.does("triage-bot", "lends it to lookup-bot, to use; lookup-bot has no such right of its own")
	leaf, err := p.triage.Delegate(p.ctx, middle.Grant.ID, client.Delegation{To: `Agent::"lookup-bot"`})
	if err != nil {
		return err
	}
	var problem *client.Problem
	if _, err := p.triage.Delegate(p.ctx, middle.Grant.ID, client.Delegation{To: `Agent::"lookup-bot"`, TTL: 600}); !errors.As(err, &problem) {
		return notSo("a right was lent for longer than it was had")
	}
	p.bad("for ten minutes: %s", problem.Code)
	if _, err := p.lookup.IssueCredential(p.ctx, leaf.Grant.ID); err != nil {
		return err
	}
	used, err := p.orders.CountUse(p.ctx, leaf.Grant.ID)
	if err != nil {
		return err
	}
	p.good("lookup-bot reads; the order system asked Writ before it answered (entry %d)", used.Evidence.Index)
	held, err := p.dana.Access(p.ctx, `Agent::"lookup-bot"`, time.Time{})
	if err != nil {
		return err
	}
	if len(held.Access) != 1 || len(held.Access[0].Grant.Chain) != 2 {
		return notSo("the chain of lookup-bot is another one")
	}
	by := held.Access[0].Grant.Chain
	p.note("`writ why` draws it: lookup-bot ◀─ triage-bot (entry %d) ◀─ support-bot (entry %d), one trace %s…",
		by[0].Evidence.Index, by[1].Evidence.Index, held.Access[0].Grant.Trace[:8])
	return p.cut(root.Grant.ID, middle.Grant.ID, leaf.Grant.ID)
}

// cut ends the right in the middle of the chain.
func (p *play) cut(root, middle, leaf string) error {
	p.does("dana", "owns the three, and takes back what triage-bot has")
	started := time.Now()
	done, err := p.dana.RevokeGrant(p.ctx, middle, client.Revocation{Reason: "triage-bot behaves oddly"})
	if err != nil {
		return err
	}
	took := time.Since(started)
	var problem *client.Problem
	if _, err := p.orders.CountUse(p.ctx, leaf); !errors.As(err, &problem) {
		return notSo("a right outlived the one that it was lent from")
	}
	p.bad("lookup-bot's next use: %s", problem.Code)
	above, err := p.support.Grant(p.ctx, root)
	if err != nil {
		return err
	}
	if above.Live == nil || !*above.Live {
		return notSo("a right ended with what was lent from it")
	}
	p.good("one entry (%d), %s: everything below the middle is dead, and support-bot's right above it is not", done.Evidence.Index, took.Round(time.Millisecond/10))
	return nil
}

func (p *play) ending() error {
	p.next("When the task ends, all of it ends")
	if _, err := p.allLive(true); err != nil {
		return err
	}
	p.does("support-bot", "completes its task")
	started := time.Now()
	done, err := p.support.CompleteTask(p.ctx, p.task)
	if err != nil {
		return err
	}
	took := time.Since(started)
	why, err := p.allLive(false)
	if err != nil {
		return err
	}
	p.good("one entry (%d), %s, and every grant below is dead, all %d: %s", done.Evidence.Index, took.Round(time.Millisecond/10), len(p.grants), why)
	p.note("a token that its target verifies offline is gone when it expires, in at most five minutes; then the task is sealed with the count of its entries")
	_, err = p.refund(`Order::"o-1"`, 1, "one more")
	var problem *client.Problem
	if !errors.As(err, &problem) {
		return notSo("an ended task was granted something")
	}
	p.bad("asking again under it: %s", problem.Code)
	return nil
}

// allLive makes sure that every grant of the task is alive, or that none is, and says why not.
func (p *play) allLive(want bool) (why string, err error) {
	for _, id := range p.grants {
		grant, err := p.support.Grant(p.ctx, id)
		if err != nil {
			return "", err
		}
		if grant.Live == nil || *grant.Live != want {
			return "", notSo("grant %s alive: %t wanted", id, want)
		}
		why = grant.NotLive
	}
	return why, nil
}

func (p *play) proof() error {
	p.next("Trust nobody: verify")
	key, err := os.ReadFile(p.server.VerifierKey())
	if err != nil {
		return err
	}
	verified, err := store.Verify(p.ctx, p.server.App.Database(), strings.TrimSpace(string(key)), store.VerifyOptions{})
	if err != nil {
		return err
	}
	if !verified.OK() {
		return notSo("the log does not verify: %v", verified.Findings)
	}
	p.good("%d entries hash to the signed head; %d rows of state are exactly what they explain", verified.Log.Entries, verified.Rows)
	replayed, err := app.Replay(p.ctx, p.server.App.Store(), nil, nil)
	if err != nil {
		return err
	}
	if len(replayed.Mismatches) > 0 || replayed.Decisions == 0 {
		return notSo("decisions come out otherwise: %v", replayed.Mismatches)
	}
	p.good("%d decisions computed again from their evidence: every one the same", replayed.Decisions)
	index := verified.Log.Entries - 1
	entry, err := p.sam.EvidenceEntry(p.ctx, index)
	if err != nil {
		return err
	}
	text, err := p.sam.EvidenceProof(p.ctx, index)
	if err != nil {
		return err
	}
	proof, err := evidence.ParseProof(text)
	if err != nil {
		return err
	}
	if _, err := evidence.VerifyInclusion(proof, entry, strings.TrimSpace(string(key))); err != nil {
		return notSo("the proof does not hold: %v", err)
	}
	p.good("entry %d is proven with %d hashes and the public key, offline, for ever", index, len(proof.Hashes))
	return nil
}
