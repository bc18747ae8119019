package access

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"time"
)

// QuestionLife is how long a question waits for people, ApprovalLife how long their yes can be used.
const (
	QuestionLife = 30 * time.Minute
	ApprovalLife = time.Hour
)

// ApprovalStatus is where a question to people stands.
type ApprovalStatus string

// The statuses of an approval. A time-out is told from a human's denial.
const (
	ApprovalPending  ApprovalStatus = "pending"
	ApprovalApproved ApprovalStatus = "approved"
	ApprovalDenied   ApprovalStatus = "denied"
	ApprovalExpired  ApprovalStatus = "expired"
	ApprovalConsumed ApprovalStatus = "consumed" // a grant was made from it
)

// ApprovalKind tells a question that a grant can come of from those whose answers are only to be known.
type ApprovalKind string

// The kinds of questions.
const (
	KindRequest   ApprovalKind = ""          // before something is granted
	KindEmergency ApprovalKind = "emergency" // after something was granted in an emergency: was it right?
	KindSample    ApprovalKind = "sample"    // after something was granted as routine: was it?
)

// Approval is the question put to people when the outcome is needs_approval, and their answers.
type Approval struct {
	ID            string         `json:"id"`
	Kind          ApprovalKind   `json:"kind,omitempty"`
	Task          string         `json:"task"`
	Subject       Ref            `json:"subject"`
	Status        ApprovalStatus `json:"status"`
	Requires      []Requirement  `json:"requires"`
	Risk          int64          `json:"risk"`
	AskedAt       time.Time      `json:"asked_at"`
	ExpiresAt     time.Time      `json:"expires_at"`              // of the question
	ApprovedUntil time.Time      `json:"approved_until,omitzero"` // of the yes
	Answers       []Answer       `json:"answers,omitempty"`
	Decided       int64          `json:"-"` // index of the entry of the decision that asked
}

// Answer is what one person said.
type Answer struct {
	By      Ref       `json:"by"`
	Approve bool      `json:"approve"`
	TTL     Seconds   `json:"ttl,omitempty"` // a narrower bound than was asked; 0: none
	MaxUses int64     `json:"max_uses,omitempty"`
	At      time.Time `json:"at"`
	// Reason and AuthenticatedAt are there while an answer is judged: why, and when its person last logged in; zero: nobody knows.
	Reason          string    `json:"-"`
	AuthenticatedAt time.Time `json:"-"`
	Entry           int64     `json:"-"` // index of its evidence
}

// Comment is what somebody said about a question: a person who may answer it, or whoever asked it.
type Comment struct {
	By   Ref       `json:"by"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// The ways an answer is refused.
var (
	ErrApprovalClosed   = errors.New("the approval no longer waits for an answer")
	ErrNotEligible      = errors.New("this person may not answer: not in the role that policy asks for, or not independent of the request")
	ErrAlreadyAnswered  = errors.New("this person has answered already, and one person counts once")
	ErrAnswerNotNarrows = errors.New("an answer can only narrow what was asked")
	ErrReasonMissing    = errors.New("policy wants to know why: give a reason with this answer")
	ErrLoginNotFresh    = errors.New("policy wants a fresh login for a yes to this")
)

// Fresh is how long ago the login of whoever says yes may be, by the strictest of the requirements; 0: any.
func Fresh(requires []Requirement) Seconds {
	least := Seconds(0)
	for _, r := range requires {
		if r.Fresh > 0 && (least == 0 || r.Fresh < least) {
			least = r.Fresh
		}
	}
	return least
}

// fresh reports whether a login is not longer ago than the requirements want. One in the future is a clock that is not ours.
func fresh(requires []Requirement, login, now time.Time) bool {
	within := Fresh(requires).Duration()
	return within == 0 || !login.IsZero() && !login.After(now.Add(clockSkew)) && now.Sub(login) <= within
}

// clockSkew is how far the clock of an identity provider may be ahead of ours.
const clockSkew = time.Minute

// People resolves the forms of approval to humans. Index and the statuses of identities answer it.
type People interface {
	Humans(team string) []Ref
	Team(name string) (*Team, bool)
	Identity(id Ref) (*Identity, bool)
	OwnerOf(resource Ref) (Ref, bool)
	IsActive(id Ref) bool
	IsAway(id Ref) bool
	Behind() []Ref // whoever is in or behind the asking besides those whom the request names, such as an enforcement point and its owner
}

// acting is who has a human's roles now: the human, or while they are away their substitute, if they have one who is there. Absence
// moves a role: it is never held by two.
func acting(human Ref, people People) Ref {
	if !people.IsAway(human) {
		return human
	}
	identity, ok := people.Identity(human)
	if !ok || identity.Substitute.IsZero() || people.IsAway(identity.Substitute) {
		return Ref{}
	}
	return identity.Substitute
}

// involved are those who asked, those it is asked for, whoever answers for them, and who acts for those now: nobody of them is
// independent (I6).
func involved(in *Input, people People) map[Ref]bool {
	out := map[Ref]bool{}
	near := func(id Ref) {
		out[id] = true
		out[acting(id, people)] = true
	}
	add := func(id Ref) {
		near(id)
		if identity, ok := people.Identity(id); ok {
			near(identity.Owner)
			near(identity.Principal)
		}
	}
	add(in.Caller)
	add(in.Request.Subject)
	add(in.Request.Principal)
	for i := range in.Standing.Chain {
		add(in.Standing.Chain[i].Subject)
	}
	for _, id := range people.Behind() {
		near(id)
	}
	return out
}

// Eligible lists the humans who may answer one form of approval for a request, ordered by id. Only principals themselves confirm.
func Eligible(form ApprovalForm, in *Input, people People) []Ref {
	var holders []Ref
	switch form.Kind {
	case FormTeam:
		holders = people.Humans(form.Team)
	case FormResourceOwner:
		if owner, ok := people.OwnerOf(in.Request.Resource); ok {
			holders = []Ref{owner}
		}
	case FormIdentityOwner:
		if identity, ok := people.Identity(in.Request.Subject); ok {
			holders = []Ref{identity.Owner}
		}
	case FormConfirm:
		holders = []Ref{in.Request.Principal}
	}
	near := map[Ref]bool{}
	if form.Independent() {
		near = involved(in, people)
	}
	var out []Ref
	for _, holder := range holders {
		human := holder
		if form.Kind != FormConfirm {
			human = acting(holder, people)
		}
		if human.Type == TypeHuman && !near[human] && !near[holder] && human != in.Request.Subject && people.IsActive(human) {
			out = append(out, human)
		}
	}
	slices.SortFunc(out, Ref.Compare)
	return slices.Compact(out)
}

// forms is the union of what the requirements ask for: of equal kinds and teams the larger count.
func forms(requires []Requirement) []ApprovalForm {
	var out []ApprovalForm
	for _, r := range requires {
		at := slices.IndexFunc(out, func(f ApprovalForm) bool { return f.Kind == r.Form.Kind && f.Team == r.Form.Team })
		if at < 0 {
			out = append(out, r.Form)
		} else {
			out[at].Count = max(out[at].Count, r.Form.Count)
		}
	}
	return out
}

// Satisfied reports whether the people can fill every place that the requirements ask for, each person at most one:
// one person counts once, whatever roles they hold. It is a bipartite matching of places to people.
func Satisfied(requires []Requirement, people []Ref, eligible func(ApprovalForm) []Ref) bool {
	var places [][]Ref
	for _, form := range forms(requires) {
		able := slices.DeleteFunc(slices.Clone(eligible(form)), func(human Ref) bool { return !slices.Contains(people, human) })
		for range max(form.Count, 1) { // a form is never satisfied by nobody (I7)
			places = append(places, able)
		}
	}
	seat := map[Ref]int{} // who fills which place
	for place := range places {
		if !fill(place, places, seat, map[Ref]bool{}) {
			return false
		}
	}
	return len(places) > 0
}

func fill(place int, places [][]Ref, seat map[Ref]int, tried map[Ref]bool) bool {
	for _, human := range places[place] {
		if tried[human] {
			continue
		}
		tried[human] = true
		if taken, ok := seat[human]; !ok || fill(taken, places, seat, tried) {
			seat[human] = place
			return true
		}
	}
	return false
}

// MayAnswer reports whether the person is eligible for any of the requirements.
func (a *Approval) MayAnswer(human Ref, in *Input, people People) bool {
	return slices.ContainsFunc(a.Requires, func(r Requirement) bool {
		return slices.Contains(Eligible(r.Form, in, people), human)
	})
}

// Asked lists the people whom the question is put to now, of those who may answer: of a team that asks a few first, as many, and one
// more for each time that has passed without an end; of all else everybody. Who comes first differs from question to question, and is
// the same for everybody who reckons it.
func (a *Approval) Asked(in *Input, people People, now time.Time) []Ref {
	var out []Ref
	for _, form := range forms(a.Requires) {
		able := Eligible(form, in, people)
		team, ok := people.Team(form.Team)
		if form.Kind == FormTeam && ok && team.AskFirst > 0 {
			most := max(team.AskFirst, form.Count)
			if team.NextAfter > 0 {
				most += int(now.Sub(a.AskedAt) / team.NextAfter.Duration())
			}
			slices.SortFunc(able, func(x, y Ref) int { return bytes.Compare(a.turn(x), a.turn(y)) })
			able = able[:min(most, len(able))]
		}
		out = append(out, able...)
	}
	slices.SortFunc(out, Ref.Compare)
	return slices.Compact(out)
}

// turn orders people differently for each question, so that the first ones are not always the same.
func (a *Approval) turn(human Ref) []byte {
	sum := sha256.Sum256([]byte(a.ID + "\x00" + human.String()))
	return sum[:]
}

// Answered is the approval after one more answer. in is the input of the decision that asked.
// Errors: ErrApprovalClosed, ErrNotEligible, ErrAlreadyAnswered, ErrAnswerNotNarrows, ErrReasonMissing, ErrLoginNotFresh.
func (a Approval) Answered(answer Answer, in *Input, people People) (Approval, error) {
	switch {
	case a.Status != ApprovalPending || !answer.At.Before(a.ExpiresAt):
		return a, ErrApprovalClosed
	case slices.ContainsFunc(a.Answers, func(other Answer) bool { return other.By == answer.By }):
		return a, ErrAlreadyAnswered
	case !a.MayAnswer(answer.By, in, people):
		return a, ErrNotEligible
	case answer.TTL < 0 || answer.MaxUses < 0 || in.Request.TTL > 0 && answer.TTL > in.Request.TTL:
		return a, ErrAnswerNotNarrows
	case answer.Reason == "" && slices.ContainsFunc(a.Requires, func(r Requirement) bool { return r.Reason }):
		return a, ErrReasonMissing
	case answer.Approve && !fresh(a.Requires, answer.AuthenticatedAt, answer.At):
		return a, ErrLoginNotFresh
	}
	a.Answers = append(slices.Clone(a.Answers), answer)
	if !answer.Approve {
		a.Status = ApprovalDenied
		return a, nil
	}
	var yes []Ref
	for _, other := range a.Answers {
		if other.Approve {
			yes = append(yes, other.By)
		}
	}
	if Satisfied(a.Requires, yes, func(form ApprovalForm) []Ref { return Eligible(form, in, people) }) {
		a.Status = ApprovalApproved
		a.ApprovedUntil = answer.At.Add(ApprovalLife)
	}
	return a, nil
}

// Usable names why a grant cannot be made from the approval at now, or "".
func (a *Approval) Usable(now time.Time) Code {
	switch {
	case a.Status == ApprovalDenied:
		return CodeApprovalDenied
	case a.Kind != KindRequest && a.Status != ApprovalPending:
		return CodeApprovalExpired // there is nothing to make of it
	case a.Status == ApprovalPending && now.Before(a.ExpiresAt):
		return CodeApprovalRequired
	case a.Status == ApprovalApproved && now.Before(a.ApprovedUntil):
		return ""
	default:
		return CodeApprovalExpired
	}
}

// Discharges are the policies that the approval answers, each for the risk it was given for.
func (a *Approval) Discharges() []Discharge {
	out := make([]Discharge, 0, len(a.Requires))
	for _, r := range a.Requires {
		out = append(out, Discharge{Policy: r.Hash, Risk: a.Risk, Approval: a.ID})
	}
	return out
}

// Limit is the intersection of all answers, for a grant made at now.
func (a *Approval) Limit(now time.Time) Limit {
	limit := Limit{ExpiresAt: a.ApprovedUntil}
	for _, answer := range a.Answers {
		narrower := Limit{MaxUses: answer.MaxUses}
		if answer.TTL > 0 {
			narrower.ExpiresAt = now.Add(answer.TTL.Duration())
		}
		limit = limit.tighten(narrower)
	}
	return limit
}
