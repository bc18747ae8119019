package control

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Card is what a person needs to judge a question.
type Card struct {
	Approval  access.Approval
	Request   access.Request // erased: zero
	Decided   access.Decided
	Purpose   event.Purpose
	Task      access.Task
	Chain     []access.Grant // the grants that it is asked under, parent first
	Precedent access.Precedent
	Comments  []access.Comment
	Counter   *Counter // of the no that ended the question, if it had one
	MayAnswer bool     // the reader of the card
	Asked     bool     // the reader, and not only others
	Evidence  int64
	Digest    string // of what the card says, the same for every reader; empty if what was asked has been erased
	Receipt   string // what a reader who may answer must name in an answer; only of a card that is read by itself

	in *access.Input // of the decision that asked; nil if erased
}

const (
	mostPending = 5000 // questions that are looked at for one inbox
	mostCards   = 100  // of one inbox
)

// Inbox is the questions that somebody may answer, the riskiest first, and of equal ones the oldest.
type Inbox struct {
	Cards []Card // at most 100
	Total int
}

// Inbox lists the questions that the caller is asked, or all that they may answer.
func (c *Control) Inbox(ctx context.Context, caller Caller, all bool) (*Inbox, error) {
	out := new(Inbox)
	err := c.ledger.Read(ctx, func(v View) error {
		*out = Inbox{}
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		if caller.Identity.Type != access.TypeHuman || !s.IsActive(caller.Identity) {
			return nil // nobody asks them anything
		}
		mine, err := pendingFor(v, s, caller, all)
		if err != nil {
			return err
		}
		slices.SortStableFunc(mine, func(a, b access.Approval) int { return cmp.Compare(b.Risk, a.Risk) })
		out.Total = len(mine)
		for i := range mine[:min(len(mine), mostCards)] {
			card, err := c.card(v, s, caller, mine[i])
			if err != nil {
				return err
			}
			out.Cards = append(out.Cards, *card)
		}
		return nil
	})
	return out, err
}

// pendingFor lists the questions that wait for this person among others, oldest first.
func pendingFor(v View, s *snapshot, caller Caller, all bool) ([]access.Approval, error) {
	pending, err := v.PendingApprovals(mostPending)
	if err != nil {
		return nil, err
	}
	mine := pending[:0]
	for i := range pending {
		if pending[i].Usable(v.Now()) != access.CodeApprovalRequired {
			continue
		}
		in, err := v.Input(pending[i].Decided)
		if errors.Is(err, access.ErrNotFound) {
			continue // erased: nobody can judge it any more
		}
		if err != nil {
			return nil, err
		}
		may, asked, err := mayAnswer(v, s, caller, in, &pending[i])
		if err != nil {
			return nil, err
		}
		if asked || may && all {
			mine = append(mine, pending[i])
		}
	}
	return mine, nil
}

// mayAnswer reports whether the caller is eligible and has not answered yet, and whether they are among those who are asked now.
func mayAnswer(v View, s *snapshot, caller Caller, in *access.Input, a *access.Approval) (may, asked bool, err error) {
	if caller.Identity.Type != access.TypeHuman || !s.IsActive(caller.Identity) {
		return false, false, nil
	}
	if slices.ContainsFunc(a.Answers, func(answer access.Answer) bool { return answer.By == caller.Identity }) {
		return false, false, nil
	}
	people, err := independentOf(v, s, caller, a)
	if err != nil || !a.MayAnswer(caller.Identity, in, people) {
		return false, false, err
	}
	return true, slices.Contains(a.Asked(in, people, v.Now()), caller.Identity), nil
}

// independentOf is the people as far as they are not behind the asking, see apart.
func independentOf(v View, s *snapshot, caller Caller, a *access.Approval) (access.People, error) {
	made, err := v.DecisionEvent(a.Decided)
	if err != nil {
		return nil, err
	}
	return s.apart(s.asker(made.Caller, caller), v.Now()), nil
}

// card is what a question says, for one reader.
func (c *Control) card(v View, s *snapshot, caller Caller, approval access.Approval) (*Card, error) {
	card := &Card{Approval: approval, Evidence: approval.Decided}
	in, err := v.Input(approval.Decided)
	if errors.Is(err, access.ErrNotFound) {
		return card, nil // erased: nobody can judge it any more
	}
	if err != nil {
		return nil, err
	}
	card.in, card.Request, card.Precedent, card.Chain = in, in.Request, in.Facts.Precedent, in.Standing.Chain
	card.Decided, err = c.explain(v, in)
	if err != nil {
		return nil, err
	}
	card.Approval.Requires = card.Decided.Requires // with the policies' own words
	if in.Standing.Task != nil {
		card.Task = *in.Standing.Task
		task, err := v.Task(card.Task.ID)
		if err != nil {
			return nil, err
		}
		card.Task.Opened = task.Opened
	} else {
		card.Task.Opened = approval.Decided // what is asked is the opening
	}
	if card.Purpose, err = purposeOf(v, &card.Task); err != nil {
		return nil, err
	}
	if card.Comments, err = v.Comments(approval.ID); err != nil {
		return nil, err
	}
	if card.Counter, err = counterOf(v, &approval); err != nil {
		return nil, err
	}
	if card.MayAnswer, card.Asked, err = mayAnswer(v, s, caller, in, &approval); err != nil {
		return nil, err
	}
	card.Digest, err = card.digest()
	return card, err
}

// digest names what the card says to every reader.
func (c *Card) digest() (string, error) {
	said, err := json.Marshal(struct {
		Approval  string               `json:"approval"`
		AskedAt   time.Time            `json:"asked_at"`
		ExpiresAt time.Time            `json:"expires_at"`
		Request   access.Request       `json:"request"`
		Requires  []access.Requirement `json:"requires"`
		Risk      access.Risk          `json:"risk"`
		Bounds    access.Bounds        `json:"bounds"`
		Derived   json.RawMessage      `json:"derived,omitempty"`
		TaskType  string               `json:"task_type"`
		Purpose   event.Purpose        `json:"purpose"`
		Chain     []access.Grant       `json:"chain,omitempty"`
		Precedent access.Precedent     `json:"precedent"`
		Answers   []access.Answer      `json:"answers,omitempty"`
		Comments  []access.Comment     `json:"comments,omitempty"`
	}{
		c.Approval.ID, c.Approval.AskedAt, c.Approval.ExpiresAt, c.Request, c.Approval.Requires, c.Decided.Risk, c.Decided.Bounds, c.Decided.Derived,
		c.Task.Type, c.Purpose, c.Chain, c.Precedent, c.Approval.Answers, c.Comments,
	})
	if err != nil {
		return "", fmt.Errorf("%w: write down a card: %w", access.ErrUnavailable, err)
	}
	sum := sha256.Sum256(said)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// A receipt says that a card was shown to somebody at a time: the time in microseconds, and a MAC. It is kept nowhere.
const receiptSize = 8 + sha256.Size

func (c *Card) receipt(v View, reader access.Ref, at time.Time) string {
	text, err := json.Marshal([]string{c.Approval.ID, reader.String(), c.Digest, at.UTC().Format(time.RFC3339Nano)})
	if err != nil {
		return "" // names nothing, so answers nothing
	}
	out := binary.BigEndian.AppendUint64(make([]byte, 0, receiptSize), uint64(at.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(out, v.MAC("card", string(text))...))
}

// shownTo reads when this very card was shown to a reader; ok is false if it was not.
func (c *Card) shownTo(v View, reader access.Ref, receipt string) (at time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(receipt)
	if err != nil || len(raw) != receiptSize {
		return time.Time{}, false
	}
	at = time.UnixMicro(int64(binary.BigEndian.Uint64(raw))).UTC() //nolint:gosec // a time that does not fit is no time of ours
	return at, subtle.ConstantTimeCompare([]byte(c.receipt(v, reader, at)), []byte(receipt)) == 1
}

// ReadApproval reads a question, for its subject, those who may answer it, and whoever may read about the subject. With a
// wait it returns when the question changes, or after that time as it stands.
func (c *Control) ReadApproval(ctx context.Context, caller Caller, id string, wait time.Duration) (*Card, error) {
	card, err := c.readApproval(ctx, caller, id)
	if err != nil || wait <= 0 || card.Approval.Status != access.ApprovalPending {
		return card, err
	}
	changed, leave := c.changed.wait(id) // only of what exists; and then look again, for it may have changed in between
	defer leave()
	if card, err = c.readApproval(ctx, caller, id); err != nil || card.Approval.Status != access.ApprovalPending {
		return card, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return card, nil
	}
	return c.readApproval(ctx, caller, id)
}

func (c *Control) readApproval(ctx context.Context, caller Caller, id string) (*Card, error) {
	var card *Card
	asked := false
	err := c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		approval, err := v.Approval(id)
		if err != nil {
			return notFound(err, "there is no approval %q", id)
		}
		if approval.Usable(v.Now()) == access.CodeApprovalExpired && approval.Status != access.ApprovalConsumed {
			approval.Status = access.ApprovalExpired
		}
		if asked, err = askedBy(v, s, caller, &approval); err != nil {
			return err
		}
		card, err = c.card(v, s, caller, approval)
		if err == nil && card.MayAnswer && approval.Status == access.ApprovalPending {
			card.Receipt = card.receipt(v, caller.Identity, v.Now())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !asked && !card.MayAnswer {
		if err := c.mayRead(ctx, caller, card.Approval.Subject); err != nil {
			return nil, err
		}
	}
	if !card.MayAnswer && (asked || card.Approval.Subject == caller.Identity) {
		card.conceal()
	}
	return card, nil
}

// askedBy reports whether the caller asked the question, and is active.
func askedBy(v View, s *snapshot, caller Caller, a *access.Approval) (bool, error) {
	made, err := v.DecisionEvent(a.Decided)
	return err == nil && made.Caller == v.Pseudonym(caller.Identity) && s.IsActive(caller.Identity), err
}

// conceal takes away what whoever asked could probe policies with, and who answered or asked back.
func (c *Card) conceal() {
	c.Decided, c.Precedent, c.Digest = access.Decided{}, access.Precedent{}, ""
	c.Approval.Requires, c.Approval.Risk, c.Approval.Answers = nil, 0, nil
	for i := range c.Comments {
		if c.Comments[i].By.Type == access.TypeHuman && c.Comments[i].By != c.Approval.Subject {
			c.Comments[i].By = access.Ref{}
		}
	}
}
