package control

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

const (
	maxPurpose   = 4000 // bytes
	maxReference = 200  // bytes
)

// Opening asks for a task.
type Opening struct {
	Type        string
	Purpose     string     // in words: untrusted
	Reference   string     // such as a ticket
	Principal   access.Ref // the human it is for, proven by that human's own token; zero: whom the owner says, if anybody
	Trace       string     // trace-id (access.TraceOf) that the caller goes by; empty: a new one
	Duration    access.Seconds
	Idempotency *Idempotency
}

func (o *Opening) check() error {
	switch {
	case strings.TrimSpace(o.Purpose) == "":
		return invalid(InvalidArgument, "a task needs a purpose in words")
	case len(o.Purpose) > maxPurpose || !utf8.ValidString(o.Purpose):
		return invalid(InvalidArgument, "the purpose must be UTF-8 text of at most %d bytes", maxPurpose)
	case len(o.Reference) > maxReference || !utf8.ValidString(o.Reference):
		return invalid(InvalidArgument, "the reference must be UTF-8 text of at most %d bytes", maxReference)
	default:
		return checkTTL(o.Duration)
	}
}

// OpenTask opens a task for the caller, if its type lets it and policy decides so.
func (c *Control) OpenTask(ctx context.Context, caller Caller, opening Opening) (*Answer, error) {
	if err := opening.check(); err != nil {
		return nil, err
	}
	return c.once(ctx, caller, opening.Idempotency, func(v View, s *snapshot) (*Answer, event.Change, error) {
		return c.openTask(v, s, caller, opening, nil)
	})
}

func (c *Control) openTask(v View, s *snapshot, caller Caller, opening Opening, approval *access.Approval) (*Answer, event.Change, error) {
	declared, ok := s.index.TaskType(opening.Type)
	if !ok {
		return nil, event.Change{}, invalid(UnknownTaskType, "there is no task type %q in the catalog", opening.Type)
	}
	request := access.Request{
		Subject: caller.Identity, Principal: opening.Principal, Action: access.Act(access.ActOpenTask), Mode: access.Use, TTL: opening.Duration,
		Resource: access.Ref{Type: access.TypeTaskType, ID: declared.Name},
	}
	// What was approved was for this human, or for nobody, and is not for whom the catalog names since.
	if identity, ok := s.index.Identity(caller.Identity); ok && request.Principal.IsZero() && approval == nil {
		request.Principal = identity.Principal
	}
	if err := s.checkRequest(&request); err != nil {
		return nil, event.Change{}, err
	}
	in, err := c.input(v, s, request)
	if err != nil {
		return nil, event.Change{}, err
	}
	if approval != nil {
		limit := approval.Limit(in.Now)
		in.Discharges, in.Approval = approval.Discharges(), &limit
	}
	open, err := v.OpenTasks(caller.Identity, declared.Name)
	if err != nil {
		return nil, event.Change{}, err
	}
	if declared.MaxOpen > 0 && open >= int64(declared.MaxOpen) {
		return nil, event.Change{}, &Refusal{Code: access.CodeLimitExceeded, Detail: "this identity has as many open tasks of this type as it may have"}
	}
	in.Standing.MayOpen = s.index.Covers(declared.Openers, caller.Identity)
	answer, change, err := c.conclude(v, s, caller, in, approval)
	if err != nil {
		return nil, event.Change{}, err
	}
	purpose, err := json.Marshal(event.Purpose{Words: opening.Purpose, Reference: opening.Reference, Trace: opening.Trace})
	if err != nil {
		return nil, event.Change{}, err
	}
	if answer.Decided.Outcome != access.Allow {
		change.Drafts[0].Values[event.SlotPurpose] = purpose // the question to people, and what a later yes opens
		return answer, change, nil
	}
	task := newTask(answer, declared, in)
	task.Trace = cmp.Or(opening.Trace, traceOf(task.ID))
	answer.Task = task
	change.Drafts[0].Task = task.ID
	change.Drafts = append(change.Drafts, event.Draft{
		Task: task.ID, Values: map[string]json.RawMessage{event.SlotPurpose: purpose},
		Event: &event.TaskOpened{
			ID: task.ID, Type: task.Type, Subject: s.pseudo(task.Subject), Principal: s.pseudo(task.Principal), Trace: task.Trace,
			Decision: answer.ID, ExpiresAt: task.ExpiresAt, Heartbeat: task.Heartbeat,
		},
	})
	return answer, change, nil
}

// traceOf makes the trace-id of a task from its unguessable id (W3C Trace Context section 3.2.2.3: 16 bytes, not all zero).
func traceOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

// newTask is the task that an allowed decision opens; it has the decision's id.
func newTask(answer *Answer, declared *access.TaskType, in *access.Input) *access.Task {
	life := declared.MaxDuration
	if in.Request.TTL > 0 {
		life = min(life, in.Request.TTL)
	}
	if most := answer.Decided.Bounds.MaxTTL; most > 0 {
		life = min(life, most)
	}
	expires := in.Now.Add(life.Duration())
	if until := answer.Decided.Bounds.Until; !until.IsZero() && until.Before(expires) {
		expires = until
	}
	if in.Approval != nil && in.Approval.ExpiresAt.Before(expires) { // I4; a task has no uses
		expires = in.Approval.ExpiresAt
	}
	return &access.Task{
		ID: answer.ID, Type: declared.Name, Subject: in.Request.Subject, Principal: in.Request.Principal, Status: access.TaskOpen,
		OpenedAt: in.Now, HeartbeatAt: in.Now, ExpiresAt: expires, Heartbeat: declared.Heartbeat,
	}
}

// Heartbeat notes that the caller's task is alive. It leaves no evidence; its absence does.
func (c *Control) Heartbeat(ctx context.Context, caller Caller, id string) (*access.Task, error) {
	var task access.Task
	err := c.ledger.Read(ctx, func(v View) (err error) {
		if _, err = c.snapshot(v); err != nil {
			return err
		}
		task, err = ownTask(v, caller, id)
		if err == nil && !task.Live(v.Now()) {
			return &Refusal{Code: access.CodeTaskEnded}
		}
		task.HeartbeatAt = v.Now()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &task, c.ledger.Beat(ctx, id, task.HeartbeatAt)
}

// ownTask loads a task of the caller; one of somebody else is as absent as one that is not there.
func ownTask(v View, caller Caller, id string) (access.Task, error) {
	task, err := v.Task(id)
	if err != nil {
		return task, notFound(err, "there is no task %q of this identity", id)
	}
	if task.Subject != caller.Identity {
		return task, invalid(NotYours, "there is no task %q of this identity", id)
	}
	return task, nil
}

// CompleteTask ends the caller's task: everything granted for it is dead at that commit (I5). Completing an ended task
// again is no error.
func (c *Control) CompleteTask(ctx context.Context, caller Caller, id string) (*Answer, error) {
	return c.step(ctx, caller, id, access.TaskEnded, access.EndCompleted)
}

// PauseTask stops all grants of the caller's task until it is resumed. No clock stops (I4).
func (c *Control) PauseTask(ctx context.Context, caller Caller, id string) (*Answer, error) {
	return c.step(ctx, caller, id, access.TaskPaused, "")
}

// step moves the caller's own task on: its right, so no policy is asked.
func (c *Control) step(ctx context.Context, caller Caller, id string, next access.TaskStatus, reason access.EndReason) (*Answer, error) {
	answer := &Answer{}
	receipt, err := c.ledger.Revoke(ctx, func(v View) (event.Change, error) {
		if _, err := c.snapshot(v); err != nil {
			return event.Change{}, err
		}
		task, err := ownTask(v, caller, id)
		if err != nil {
			return event.Change{}, err
		}
		answer = &Answer{Task: &task}
		if task.Status == next || task.Status == access.TaskSealed && next == access.TaskEnded {
			answer.Repeated = true
			return event.Change{}, nil
		}
		// Pausing would hide that the heartbeat was lost: a paused task owes none.
		if !task.Status.CanBecome(next) || next == access.TaskPaused && task.Overdue(v.Now()) != "" {
			return event.Change{}, &Refusal{Code: access.CodeTaskEnded, Detail: "the task is " + string(task.Status)}
		}
		task.Status, task.Reason = next, reason
		by := event.By{Kind: event.BySelf, Identity: v.Pseudonym(caller.Identity)}
		return event.Change{Drafts: []event.Draft{{Task: id, Event: &event.TaskChanged{ID: id, Status: next, Reason: reason, By: by}}}}, nil
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

// ResumeTask opens a paused task again: a new decision, as for opening one. If people must agree, their approval is redeemed.
func (c *Control) ResumeTask(ctx context.Context, caller Caller, id string) (*Answer, error) {
	if err := c.beatPaused(ctx, caller, id); err != nil {
		return nil, err
	}
	var answer *Answer
	receipt, err := c.update(ctx, caller, func(v View) (change event.Change, err error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		answer, change, err = c.resume(v, s, caller, id, nil)
		return change, err
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

// beatPaused notes a sign of life before a task is resumed: afterwards a sweep could come between, and end it for its silence.
func (c *Control) beatPaused(ctx context.Context, caller Caller, id string) error {
	var now time.Time
	err := c.ledger.Read(ctx, func(v View) error {
		now = v.Now()
		_, err := pausedTask(v, caller, id)
		return err
	})
	if err != nil {
		return err
	}
	return c.ledger.Beat(ctx, id, now)
}

func pausedTask(v View, caller Caller, id string) (access.Task, error) {
	task, err := ownTask(v, caller, id)
	if err == nil && (task.Status != access.TaskPaused || task.Overdue(v.Now()) != "") {
		err = &Refusal{Code: access.CodeTaskEnded, Detail: "only a paused task can be resumed; this one is " + string(task.Status)}
	}
	return task, err
}

func (c *Control) resume(v View, s *snapshot, caller Caller, id string, approval *access.Approval) (*Answer, event.Change, error) {
	task, err := pausedTask(v, caller, id)
	if err != nil {
		return nil, event.Change{}, err
	}
	request := access.Request{
		Subject: caller.Identity, Principal: task.Principal, Action: access.Act(access.ActOpenTask), Mode: access.Use,
		Resource: access.Ref{Type: access.TypeTaskType, ID: task.Type},
	}
	if err := s.checkRequest(&request); err != nil {
		return nil, event.Change{}, err
	}
	in, err := c.input(v, s, request)
	if err != nil {
		return nil, event.Change{}, err
	}
	declared, ok := s.index.TaskType(task.Type)
	in.Standing.MayOpen = ok && s.index.Covers(declared.Openers, caller.Identity)
	if approval != nil {
		limit := approval.Limit(in.Now)
		in.Discharges, in.Approval = approval.Discharges(), &limit
	} else if err := c.keepApproval(v, &task, in); err != nil {
		return nil, event.Change{}, err
	}
	answer, change, err := c.conclude(v, s, caller, in, approval)
	if err != nil {
		return nil, event.Change{}, err
	}
	change.Drafts[0].Task = task.ID
	if answer.Decided.Outcome != access.Allow {
		return answer, change, nil
	}
	task.Status, task.HeartbeatAt = access.TaskOpen, in.Now
	answer.Task = &task
	by := event.By{Kind: event.ByDecision, Decision: answer.ID}
	change.Drafts = append(change.Drafts, event.Draft{Task: task.ID, Event: &event.TaskChanged{ID: task.ID, Status: access.TaskOpen, By: by}})
	return answer, change, nil
}

// keepApproval lets an approval that opened the task still speak for it while it lives.
func (c *Control) keepApproval(v View, task *access.Task, in *access.Input) error {
	index, err := v.DecisionIndex(task.ID)
	if err != nil {
		return err
	}
	before, err := v.Input(index)
	if err != nil || before.Approval == nil || !before.Approval.ExpiresAt.After(in.Now) {
		return ignoreNotFound(err) // without it the decision asks anew
	}
	in.Discharges, in.Approval = before.Discharges, before.Approval
	return nil
}

// ReadTask reads a task with its purpose, for its subject and whoever may read about it.
func (c *Control) ReadTask(ctx context.Context, caller Caller, id string) (*TaskView, error) {
	out := &TaskView{}
	var subject access.Ref
	err := c.ledger.Read(ctx, func(v View) (err error) {
		if _, err = c.snapshot(v); err != nil {
			return err
		}
		if out.Task, err = v.Task(id); err != nil {
			return notFound(err, "there is no task %q", id)
		}
		subject = out.Task.Subject
		if overdue := out.Task.Overdue(v.Now()); overdue != "" {
			out.Task.Status, out.Task.Reason = access.TaskEnded, overdue
		}
		out.Purpose, err = purposeOf(v, &out.Task)
		if err != nil {
			return err
		}
		if out.Entries, err = v.TaskEntries(id); err != nil {
			return err
		}
		grants, err := v.GrantsOfTask(id)
		for i := range grants {
			out.Grants = append(out.Grants, grants[i].ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := c.mayRead(ctx, caller, subject); err != nil {
		return nil, err
	}
	return out, nil
}

// TaskView is a task as its subject, owner or an auditor sees it.
type TaskView struct {
	Task    access.Task
	Purpose event.Purpose
	Grants  []string
	Entries int64
}

func purposeOf(v View, task *access.Task) (event.Purpose, error) {
	var purpose event.Purpose
	value, err := v.Value(task.Opened, event.SlotPurpose)
	if err != nil {
		return event.Purpose{}, ignoreNotFound(err) // erased
	}
	return purpose, json.Unmarshal(value, &purpose)
}

const skew = 60 * time.Second // how far the clocks of those who verify tokens offline may be behind

// Sweep ends what has run out: tasks past their end or without a heartbeat, questions that nobody answered, and seals
// tasks whose last credential is gone everywhere. It returns how much it did; call it again at once while that is not 0.
func (c *Control) Sweep(ctx context.Context) (int, error) {
	const most = 200
	var done int
	var lapsed []string
	_, err := c.ledger.Revoke(ctx, func(v View) (event.Change, error) {
		if _, err := c.snapshot(v); err != nil {
			return event.Change{}, err
		}
		var drafts []event.Draft
		by := event.By{Kind: event.ByClock}
		now := v.Now()
		overdue, err := v.OverdueTasks(now, most)
		if err != nil {
			return event.Change{}, err
		}
		for i := range overdue {
			// Listed by the database, judged by the rule.
			if reason := overdue[i].Overdue(now); reason != "" {
				drafts = append(drafts, event.Draft{Task: overdue[i].ID, Event: &event.TaskChanged{ID: overdue[i].ID, Status: access.TaskEnded, Reason: reason, By: by}})
			}
		}
		silent, err := v.LapsedApprovals(now, most)
		if err != nil {
			return event.Change{}, err
		}
		lapsed = lapsed[:0]
		for i := range silent {
			drafts = append(drafts, event.Draft{Task: taskOf(&silent[i]), Event: &event.ApprovalLapsed{Approval: silent[i].ID}})
			lapsed = append(lapsed, silent[i].ID)
		}
		seals, err := c.seals(v, now, most)
		drafts = append(drafts, seals...)
		done = len(drafts)
		return event.Change{Drafts: drafts}, err
	})
	for _, id := range lapsed {
		c.changed.wake(id)
	}
	return done, err
}

// seals drafts the last entry of every ended task whose credentials have all run out, also at a verifier whose clock is behind.
func (c *Control) seals(v View, now time.Time, most int) ([]event.Draft, error) {
	ended, err := v.EndedTasks(now.Add(-skew), most)
	if err != nil {
		return nil, err
	}
	var drafts []event.Draft
	for i := range ended {
		task := &ended[i]
		grants, err := v.GrantsOfTask(task.ID)
		if err != nil {
			return nil, err
		}
		entries, err := v.TaskEntries(task.ID)
		if err != nil {
			return nil, err
		}
		gone := task.EndedAt
		for j := range grants {
			if last := grants[j].ExpiresAt.Add(skew); last.After(gone) {
				gone = last
			}
		}
		drafts = append(drafts, event.Draft{Task: task.ID, Event: &event.TaskSealed{
			ID: task.ID, Count: entries + 1, Grants: int64(len(grants)), EndedAt: task.EndedAt, GoneAt: gone, Proof: "expired",
		}})
	}
	return drafts, nil
}
