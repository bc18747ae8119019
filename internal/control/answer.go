package control

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

const (
	maxReason   = 2000 // bytes of a reason, a comment, or the words of a counter-offer
	maxComments = 20   // about one question
)

func checkReason(reason string) error { return checkWords("the reason", reason) }

func checkWords(what, words string) error {
	if len(words) > maxReason || !utf8.ValidString(words) {
		return invalid(InvalidArgument, "%s must be UTF-8 text of at most %d bytes", what, maxReason)
	}
	return nil
}

// Reply is what a person says to a question.
type Reply struct {
	Approve bool
	TTL     access.Seconds // narrower than asked; 0: as asked
	MaxUses int64
	Reason  string
	Card    string   // the receipt of the card that they were shown
	Counter *Counter // with a no
	Surface Surface
}

// Surface is where an answer was given.
type Surface string

// The surfaces.
const (
	SurfaceAPI     Surface = "api"
	SurfaceConsole Surface = "console"
	SurfaceSlack   Surface = "slack"
)

// Counter is what a person who says no would look at more kindly. The agent must ask for it itself, as for anything.
type Counter struct {
	Words   string          `json:"words,omitempty"`
	Args    json.RawMessage `json:"args,omitempty"`
	TTL     access.Seconds  `json:"ttl,omitempty"`
	MaxUses int64           `json:"max_uses,omitempty"`
}

// Answered is an approval after an answer to it.
type Answered struct {
	Approval access.Approval
	Evidence int64
	// Outlook is what policy would say of the request now, under all the answers: what the agent's redemption is up against. It is nil
	// where the approval is not approved, or is for an act of Writ's own.
	Outlook *access.Decided
}

// AnswerApproval records a person's answer. Who the person is comes from their authentication, never from the call (I6), and what they
// answer is the card that they were shown.
func (c *Control) AnswerApproval(ctx context.Context, caller Caller, id string, reply Reply) (*Answered, error) {
	if err := reply.check(); err != nil {
		return nil, err
	}
	out := new(Answered)
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		card, people, err := c.judged(v, s, caller, id)
		if err != nil {
			return event.Change{}, err
		}
		after, err := card.Approval.Answered(reply.answer(caller, v.Now()), card.in, people)
		if err != nil {
			return event.Change{}, answerError(err, card.Approval.Requires)
		}
		shownAt, ok := card.shownTo(v, caller.Identity, reply.Card)
		if !ok {
			return event.Change{}, invalid(CardChanged, "this is not the card that you were shown, or you were shown none")
		}
		if err := s.checkCounter(card.in.Request, reply.Counter); err != nil {
			return event.Change{}, err
		}
		*out = Answered{Approval: after}
		if out.Outlook, err = c.outlook(v, s, &after, card.in, people); err != nil {
			return event.Change{}, err
		}
		draft, err := reply.draft(v, card, &after, shownAt)
		return event.Change{Drafts: []event.Draft{draft}}, err
	})
	if err != nil {
		return nil, err
	}
	c.changed.wake(id)
	out.Evidence = receipt.Indexes[0]
	return out, nil
}

// judged is the card of a question that an active human judges, and the people who may.
func (c *Control) judged(v View, s *snapshot, caller Caller, id string) (*Card, access.People, error) {
	approval, err := v.Approval(id)
	if err != nil {
		return nil, nil, notFound(err, "there is no approval %q", id)
	}
	card, err := c.card(v, s, caller, approval)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case card.in == nil:
		return nil, nil, invalid(NotYours, "what this approval was asked for has been erased")
	case caller.Identity.Type != access.TypeHuman || !s.IsActive(caller.Identity):
		return nil, nil, invalid(NotEligible, "only an active human may answer")
	}
	people, err := independentOf(v, s, caller, &approval)
	return card, people, err
}

func (r *Reply) answer(caller Caller, now time.Time) access.Answer {
	return access.Answer{
		By: caller.Identity, Approve: r.Approve, TTL: r.TTL, MaxUses: r.MaxUses, At: now,
		Reason: strings.TrimSpace(r.Reason), AuthenticatedAt: caller.AuthenticatedAt,
	}
}

// check refuses what no question could make right.
func (r *Reply) check() error {
	if err := errors.Join(checkReason(r.Reason), checkTTL(r.TTL)); err != nil {
		return err
	}
	offer := r.Counter
	switch {
	case offer == nil:
		return nil
	case r.Approve:
		return invalid(InvalidArgument, "a counter-offer goes with a no: a yes can only be narrower in time and uses")
	case offer.MaxUses < 0:
		return invalid(InvalidArgument, "max_uses must not be negative")
	}
	return errors.Join(checkTTL(offer.TTL), checkWords("the words of a counter-offer", offer.Words), checkObject(InvalidArgs, "args", offer.Args))
}

// checkCounter refuses an offer that could not even be asked for.
func (s *snapshot) checkCounter(request access.Request, offer *Counter) error {
	if offer == nil || len(offer.Args) == 0 {
		return nil
	}
	request.Args = offer.Args
	return s.checkRequest(&request)
}

func answerError(err error, requires []access.Requirement) error {
	bad := &Invalid{Kind: InvalidArgument, Detail: err.Error(), Cause: err}
	switch {
	case errors.Is(err, access.ErrApprovalClosed):
		bad.Kind = WrongState
	case errors.Is(err, access.ErrNotEligible):
		bad.Kind = NotEligible
	case errors.Is(err, access.ErrAlreadyAnswered):
		bad.Kind = AlreadyAnswered
	case errors.Is(err, access.ErrReasonMissing):
		bad.Kind = ReasonRequired
	case errors.Is(err, access.ErrLoginNotFresh):
		bad.Kind, bad.MaxAge = ReauthenticationRequired, access.Fresh(requires)
	}
	return bad
}

func (r *Reply) draft(v View, card *Card, after *access.Approval, shownAt time.Time) (event.Draft, error) {
	last := after.Answers[len(after.Answers)-1]
	e := &event.ApprovalAnswered{
		Approval: after.ID, By: v.Pseudonym(last.By), Card: card.Digest, ShownAt: shownAt, Surface: string(r.Surface),
		Approve: last.Approve, TTL: last.TTL, MaxUses: last.MaxUses, Status: after.Status, ApprovedUntil: after.ApprovedUntil,
	}
	if task := card.in.Standing.Task; after.Status != access.ApprovalPending && task != nil && independent(after.Requires) {
		e.Precedent = &event.PrecedentOf{
			Subject: v.Pseudonym(card.Request.Subject), Action: card.Request.Action, Resource: card.Request.Resource.Type, TaskType: task.Type,
		}
	}
	draft := withReason([]event.Draft{{Task: taskOf(after), Event: e}}, r.Reason)[0]
	if r.Counter == nil {
		return draft, nil
	}
	offer, err := json.Marshal(r.Counter)
	if draft.Values == nil {
		draft.Values = map[string]json.RawMessage{}
	}
	draft.Values[event.SlotCounter] = offer
	return draft, err
}

// independent tells judgements from confirmations, which set no precedent.
func independent(requires []access.Requirement) bool {
	for _, r := range requires {
		if r.Form.Independent() {
			return true
		}
	}
	return false
}

// taskOf is the task that what is said about a question belongs to: a question that is asked afterwards may outlive its task, and
// nothing comes after a seal.
func taskOf(a *access.Approval) string {
	if a.Kind != access.KindRequest {
		return ""
	}
	return a.Task
}

// counterOf reads the offer that came with the no that ended a question.
func counterOf(v View, approval *access.Approval) (*Counter, error) {
	if approval.Status != access.ApprovalDenied || len(approval.Answers) == 0 {
		return nil, nil
	}
	value, err := v.Value(approval.Answers[len(approval.Answers)-1].Entry, event.SlotCounter)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	offer := new(Counter)
	return offer, json.Unmarshal(value, offer)
}

// outlook is what policy says of a request now, under its approval.
func (c *Control) outlook(v View, s *snapshot, approval *access.Approval, before *access.Input, people access.People) (*access.Decided, error) {
	request := before.Request
	if approval.Status != access.ApprovalApproved || request.Action.Type == access.TypeWritAction {
		return nil, nil
	}
	err := s.checkRequest(&request)
	var in *access.Input
	if err == nil {
		in, err = c.input(v, s, request)
	}
	var gone *Invalid
	if errors.As(err, &gone) { // such as a resource that is no more
		return &access.Decided{Outcome: access.Deny, Problem: gone.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	limit := approval.Limit(in.Now)
	in.Discharges, in.Approval = approval.Discharges(), &limit
	decided := access.Decide(in, s)
	in.Approvers = access.ApproversFor(decided.Requires, in, people)
	decided, _ = access.Settle(in, decided)
	return &decided, nil
}

// Comment says something about a question: a person who may answer it asks back, and whoever asked it replies to that. It answers
// nothing, and the clock of the question goes on.
func (c *Control) Comment(ctx context.Context, caller Caller, id, text string) (int64, error) {
	if err := checkWords("a comment", text); err != nil {
		return 0, err
	}
	if strings.TrimSpace(text) == "" {
		return 0, invalid(InvalidArgument, "a comment needs words")
	}
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		approval, err := v.Approval(id)
		if err != nil {
			return event.Change{}, notFound(err, "there is no approval %q", id)
		}
		card, err := c.card(v, s, caller, approval)
		if err != nil {
			return event.Change{}, err
		}
		asked, err := askedBy(v, s, caller, &approval)
		if err != nil {
			return event.Change{}, err
		}
		if err := card.checkComment(v.Now(), asked); err != nil {
			return event.Change{}, err
		}
		value, err := json.Marshal(text)
		return event.Change{Drafts: []event.Draft{{
			Task: taskOf(&approval), Event: &event.ApprovalCommented{Approval: id, By: v.Pseudonym(caller.Identity)},
			Values: map[string]json.RawMessage{event.SlotComment: value},
		}}}, err
	})
	if err != nil {
		return 0, err
	}
	c.changed.wake(id)
	return receipt.Indexes[0], nil
}

// checkComment lets those who may answer ask back, and whoever asked say one thing to each of that: a card is no place to persuade.
func (c *Card) checkComment(now time.Time, asked bool) error {
	last := access.Ref{}
	if n := len(c.Comments); n > 0 {
		last = c.Comments[n-1].By
	}
	switch {
	case !asked && !c.MayAnswer:
		return invalid(NotYours, "there is no approval %q", c.Approval.ID)
	case c.Approval.Usable(now) != access.CodeApprovalRequired:
		return invalid(WrongState, "the question no longer waits for an answer")
	case len(c.Comments) >= maxComments:
		return invalid(WrongState, "there are %d comments already: answer the question, or let it run out", maxComments)
	case !c.MayAnswer && last.Type != access.TypeHuman:
		return invalid(WrongState, "nobody has asked back: reply to a comment once it is there")
	}
	return nil
}
