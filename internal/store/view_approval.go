package store

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Approval reads a question and its answers; access.ErrNotFound if there is none. Requires comes from the decision's entry.
func (v *View) Approval(id string) (access.Approval, error) {
	list, err := v.approvals(`WHERE id = $1`, id)
	if err != nil {
		return access.Approval{}, err
	}
	if len(list) == 0 {
		v.depend(absent, approvalVersion, id)
		return access.Approval{}, access.ErrNotFound
	}
	return list[0], nil
}

const approvalVersion = `SELECT version FROM approvals WHERE id = $1`

// OpenQuestions counts the questions that an identity has caused and that wait for people: about itself, or whom it lends to.
func (v *View) OpenQuestions(asker access.Ref) (int64, error) {
	return v.number(`SELECT COUNT(*) FROM approvals WHERE asker = $1 AND status = 'pending' AND kind = ''`, string(v.store.names.of(asker)))
}

// PendingApprovals lists the questions that wait for people, oldest first, at most limit.
func (v *View) PendingApprovals(limit int) ([]access.Approval, error) {
	return v.approvals(`WHERE status = 'pending' ORDER BY id LIMIT $1`, limit)
}

// LapsedApprovals lists the questions that nobody answered in time, or whose task has ended, at most limit.
func (v *View) LapsedApprovals(now time.Time, limit int) ([]access.Approval, error) {
	return v.approvals(`WHERE status = 'pending' AND (expires_at <= $1
		OR kind = '' AND task IN (SELECT id FROM tasks WHERE tasks.status = 'ended')) ORDER BY id LIMIT $2`, micros(now), limit)
}

func (v *View) approvals(where string, args ...any) ([]access.Approval, error) {
	var out []access.Approval
	err := v.on.each(v.ctx, `SELECT id, kind, decided, task, subject, status, asked_at, expires_at, approved_until, version FROM approvals `+where, args,
		func(row func(...any) error) error {
			var a access.Approval
			var subject string
			var asked, expires, until, version int64
			if err := row(&a.ID, (*string)(&a.Kind), &a.Decided, &a.Task, &subject, (*string)(&a.Status), &asked, &expires, &until, &version); err != nil {
				return err
			}
			a.Subject = v.store.names.ref(event.Pseudonym(subject))
			a.AskedAt, a.ExpiresAt, a.ApprovedUntil = fromMicros(asked), fromMicros(expires), fromMicros(until)
			v.depend(version, approvalVersion, a.ID)
			out = append(out, a)
			return nil
		})
	for i := range out {
		if err == nil {
			err = v.complete(&out[i])
		}
	}
	return out, unavailable(err)
}

// complete adds what the entry and the answers say of an approval.
func (v *View) complete(a *access.Approval) error {
	asked, err := v.DecisionEvent(a.Decided)
	if err != nil {
		return err
	}
	a.Risk = asked.Risk
	for _, r := range asked.Asked.Requires {
		a.Requires = append(a.Requires, access.Requirement{Policy: r.Policy, Hash: r.Hash, Form: r.Form})
	}
	return v.on.each(v.ctx, `SELECT person, approve, ttl, uses, at, version FROM answers WHERE approval = $1 ORDER BY version`, []any{a.ID}, func(row func(...any) error) error {
		var person string
		var answer access.Answer
		var approve, at int64
		if err := row(&person, &approve, (*int64)(&answer.TTL), &answer.MaxUses, &at, &answer.Entry); err != nil {
			return err
		}
		answer.By, answer.Approve, answer.At = v.store.names.ref(event.Pseudonym(person)), approve == 1, fromMicros(at)
		a.Answers = append(a.Answers, answer)
		return nil
	})
}

// Comments lists what was said about a question, oldest first; a text that was erased is empty. What it depends on is the approval.
func (v *View) Comments(approval string) ([]access.Comment, error) {
	var out []access.Comment
	var entries []int64
	err := v.on.each(v.ctx, `SELECT version, person, at FROM comments WHERE approval = $1 ORDER BY version`, []any{approval}, func(row func(...any) error) error {
		var entry, at int64
		var person string
		if err := row(&entry, &person, &at); err != nil {
			return err
		}
		entries = append(entries, entry)
		out = append(out, access.Comment{By: v.store.names.ref(event.Pseudonym(person)), At: fromMicros(at)})
		return nil
	})
	for i, entry := range entries {
		if err != nil {
			break
		}
		var text json.RawMessage
		if text, err = v.Value(entry, event.SlotComment); err == nil {
			err = json.Unmarshal(text, &out[i].Text)
		} else if errors.Is(err, access.ErrNotFound) {
			err = nil
		}
	}
	return out, unavailable(err)
}
