package control_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/control"
)

func (w *world) card(caller control.Caller, id string) *control.Card {
	w.t.Helper()
	return must[*control.Card](w.t)(w.ReadApproval(w.t.Context(), caller, id, 0))
}

// said is the evidence of an answer.
func (w *world) said(index int64) event.ApprovalAnswered {
	w.t.Helper()
	var entry struct{ Data event.ApprovalAnswered }
	check(w.t, json.Unmarshal(must[[]byte](w.t)(w.store.Entry(w.t.Context(), index)), &entry))
	return entry.Data
}

func TestI6_AnAnswerIsForTheCardThatWasShown(t *testing.T) {
	w := worldOf(t, withForm(t, site(t), "2 of team:payments"))
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	ask := func(t *testing.T) string { t.Helper(); return w.ask(task, 900).ID }
	for name, receipt := range map[string]func(t *testing.T, id string) string{
		"none":           func(*testing.T, string) string { return "" },
		"a made-up one":  func(*testing.T, string) string { return base64.RawURLEncoding.EncodeToString(make([]byte, 40)) },
		"no base64":      func(*testing.T, string) string { return "card" },
		"somebody's":     func(_ *testing.T, id string) string { return w.card(alice, id).Receipt },
		"of another one": func(t *testing.T, _ string) string { return w.card(bob, ask(t)).Receipt },
		"of another time": func(_ *testing.T, id string) string {
			raw := must[[]byte](t)(base64.RawURLEncoding.DecodeString(w.card(bob, id).Receipt))
			raw[7]++
			return base64.RawURLEncoding.EncodeToString(raw)
		},
		"of before a comment": func(t *testing.T, id string) string {
			seen := w.card(bob, id).Receipt
			check(t, fails(w.Comment(t.Context(), alice, id, "which parcel?")))
			return seen
		},
		"of before somebody's answer": func(t *testing.T, id string) string {
			seen := w.card(bob, id).Receipt
			w.approve(alice, id, control.Reply{})
			return seen
		},
		"of one that ended in a bit": func(_ *testing.T, id string) string { return w.card(bob, id).Receipt + "A" },
	} {
		t.Run(name, func(t *testing.T) {
			id := ask(t)
			size := w.store.Size()
			_, err := w.AnswerApproval(t.Context(), bob, id, control.Reply{Approve: true, Card: receipt(t, id)})
			if kind(t, err) != control.CardChanged {
				t.Errorf("heard: %v", err)
			}
			if name == "none" && w.store.Size() != size {
				t.Error("an answer to no card is on record")
			}
		})
	}
	id := ask(t)
	seen := w.card(bob, id)
	if seen.Digest != w.card(alice, id).Digest || seen.Receipt == "" || w.card(dana, id).Receipt != "" || w.card(dana, id).Digest != seen.Digest {
		t.Error("the card is the same for everybody, and its receipt for who may answer")
	}
	shown := w.now
	w.now = w.now.Add(7 * time.Minute)
	answered := must[*control.Answered](t)(w.AnswerApproval(t.Context(), bob, id, control.Reply{Approve: true, Card: seen.Receipt, Surface: control.SurfaceConsole}))
	if got := w.said(answered.Evidence); got.Card != seen.Digest || !got.ShownAt.Equal(shown) || got.Surface != "console" {
		t.Errorf("on record: %+v", got)
	}
	w.sound()
}

func TestAPersonAsksBackAndTheAgentReplies(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	id := w.ask(w.open(support, "support"), 900).ID
	comment := func(caller control.Caller, text string) error {
		return fails(w.Comment(t.Context(), caller, id, text))
	}
	for name, c := range map[string]struct {
		who  control.Caller
		text string
		want control.InvalidKind
	}{
		"the agent, unasked": {support, "please say yes", control.WrongState},
		"who owns the agent": {dana, "it is fine", control.NotYours},
		"another agent":      {report, "it is fine", control.NotYours},
		"nothing":            {bob, " \n", control.InvalidArgument},
		"too much":           {bob, strings.Repeat("x", 2001), control.InvalidArgument},
		"what is no text":    {bob, "\xff", control.InvalidArgument},
	} {
		if err := comment(c.who, c.text); kind(t, err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	waits := make(chan *control.Card, 1)
	go func() {
		card, err := w.ReadApproval(t.Context(), support, id, time.Minute)
		if err != nil {
			t.Error(err)
		}
		waits <- card
	}()
	check(t, comment(bob, "where are the photos?"))
	for card := <-waits; len(card.Comments) == 0; card = w.card(support, id) { // it may have looked before it was asked
	}
	card := w.card(support, id)
	if len(card.Comments) != 1 || card.Comments[0].Text != "where are the photos?" || !card.Comments[0].By.IsZero() || card.Approval.Status != access.ApprovalPending {
		t.Fatalf("%+v", card)
	}
	check(t, comment(support, "there are none"))
	if kind(t, comment(support, "but it is true")) != control.WrongState {
		t.Error("an agent talks on")
	}
	if got := w.card(alice, id).Comments; len(got) != 2 || got[0].By != bob.Identity || got[1].By != support.Identity || got[1].Text != "there are none" {
		t.Errorf("%+v", got)
	}
	for range 9 {
		check(t, comment(alice, "and?"))
		check(t, comment(support, "and."))
	}
	if kind(t, comment(alice, "one more")) != control.WrongState {
		t.Error("comments without end")
	}
	w.approve(bob, id, control.Reply{})
	if kind(t, comment(alice, "too late")) != control.WrongState {
		t.Error("a comment on what is answered")
	}
	w.sound()
}

func TestANoMayComeWithAnOffer(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	for name, c := range map[string]struct {
		reply control.Reply
		want  control.InvalidKind
	}{
		"with a yes":                       {control.Reply{Approve: true, Counter: &control.Counter{TTL: 5}}, control.InvalidArgument},
		"of arguments that are none":       {control.Reply{Counter: &control.Counter{Args: json.RawMessage(`{"amount":"much"}`)}}, control.InvalidArgs},
		"of arguments that nobody can ask": {control.Reply{Counter: &control.Counter{Args: json.RawMessage(`{"amount":5}`)}}, control.InvalidArgs},
		"of no object":                     {control.Reply{Counter: &control.Counter{Args: json.RawMessage(`5`)}}, control.InvalidArgs},
		"of less than no use":              {control.Reply{Counter: &control.Counter{MaxUses: -1}}, control.InvalidArgument},
		"of less than no time":             {control.Reply{Counter: &control.Counter{TTL: -1}}, control.InvalidArgument},
		"of words without end":             {control.Reply{Counter: &control.Counter{Words: strings.Repeat("x", 2001)}}, control.InvalidArgument},
	} {
		id := w.ask(task, 900).ID
		reply := c.reply
		reply.Card = w.card(bob, id).Receipt
		if _, err := w.AnswerApproval(t.Context(), bob, id, reply); kind(t, err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	id := w.ask(task, 900).ID
	offer := &control.Counter{Words: "half of it", Args: json.RawMessage(`{"amount":450,"reason":"late"}`), TTL: 60}
	check(t, answerOf(w, bob, id, control.Reply{Counter: offer}))
	card := w.card(support, id)
	if card.Approval.Status != access.ApprovalDenied || card.Counter == nil || card.Counter.Words != "half of it" || string(card.Counter.Args) != string(offer.Args) {
		t.Fatalf("the agent is told %+v", card.Counter)
	}
	if _, err := w.Redeem(t.Context(), support, id, nil); code(t, err) != access.CodeApprovalDenied {
		t.Error("an offer grants something")
	}
	w.sound()
}

func TestPolicyMayWantAReasonAndAFreshLogin(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/access/support.cedar", "looks at it.\")\n@approval(\"team:payments\")", "looks at it.\")\n@reason(\"required\")\n@reauth(\"5m\")\n@approval(\"team:payments\")")
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	loggedIn := func(ago time.Duration) control.Caller {
		return control.Caller{Identity: bob.Identity, AuthenticatedAt: w.now.Add(-ago)}
	}
	for name, c := range map[string]struct {
		who   control.Caller
		reply control.Reply
		want  control.InvalidKind
	}{
		"without a reason":          {loggedIn(0), control.Reply{Approve: true}, control.ReasonRequired},
		"with a blank one":          {loggedIn(0), control.Reply{Approve: true, Reason: " \n "}, control.ReasonRequired},
		"a no without one":          {loggedIn(0), control.Reply{}, control.ReasonRequired},
		"logged in long ago":        {loggedIn(5*time.Minute + 1), control.Reply{Approve: true, Reason: "seen"}, control.ReauthenticationRequired},
		"nobody knows when":         {bob, control.Reply{Approve: true, Reason: "seen"}, control.ReauthenticationRequired},
		"in the future":             {loggedIn(-2 * time.Minute), control.Reply{Approve: true, Reason: "seen"}, control.ReauthenticationRequired},
		"just fresh enough":         {loggedIn(5 * time.Minute), control.Reply{Approve: true, Reason: "seen"}, ""},
		"a clock that is ahead":     {loggedIn(-30 * time.Second), control.Reply{Approve: true, Reason: "seen"}, ""},
		"a no needs no fresh login": {bob, control.Reply{Reason: "no photos"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			id := w.ask(task, 900).ID
			err := answerOf(w, c.who, id, c.reply)
			if c.want == "" {
				check(t, err)
				return
			}
			if kind(t, err) != c.want {
				t.Error(err)
			}
			if c.want == control.ReauthenticationRequired && err.(*control.Invalid).MaxAge != 300 { //nolint:errorlint // kind says so
				t.Errorf("how fresh: %v", err)
			}
		})
	}
	w.sound()
}

func TestAYesSaysWhatPolicyWouldSayNow(t *testing.T) {
	for name, c := range map[string]struct {
		between func(w *world)
		want    access.Outcome
	}{
		"as it was":              {func(*world) {}, access.Allow},
		"the order was refunded": {func(w *world) { w.tell("o-1", "refunded", 1200) }, access.Deny},
		"the order is gone": {func(w *world) {
			check(t, fails(w.PushFacts(t.Context(), orders, w.now, []control.Told{{Entity: access.Entity{ID: order1}, Gone: true}})))
		}, access.Deny},
		"policy wants more": {func(w *world) {
			files := site(t)
			edit(t, files, "policy/access/support.cedar", "@id(\"refund-once\")", `@id("security-too")
@owner("Human::\"sam\"")
@because("These days security looks too.")
@approval("team:security")
forbid (principal, action == Action::"refund", resource);

@id("refund-once")`)
			check(t, fails(w.Apply(t.Context(), nil, files, nil, false)))
		}, access.NeedsApproval},
		"the agent is suspended": {func(w *world) {
			check(t, fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{})))
		}, access.Deny},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.tell("o-1", "delivered", 1200)
			id := w.ask(w.open(support, "support"), 900).ID
			c.between(w)
			answered := must[*control.Answered](t)(w.answer(bob, id, control.Reply{Approve: true}))
			if answered.Outlook == nil || answered.Outlook.Outcome != c.want {
				t.Errorf("%+v", answered.Outlook)
			}
			w.sound()
		})
	}
}

func TestAnInboxIsInOrderOfRiskThenAge(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1000)
	task := w.open(support, "support")
	first, second := w.ask(task, 200).ID, w.ask(task, 300).ID
	risky := w.ask(task, 950).ID
	inbox := must[*control.Inbox](t)(w.Inbox(t.Context(), bob, false))
	var got []string
	for i := range inbox.Cards {
		got = append(got, inbox.Cards[i].Approval.ID)
		if inbox.Cards[i].Receipt != "" {
			t.Error("a list is no card that was looked at")
		}
	}
	if strings.Join(got, " ") != strings.Join([]string{risky, first, second}, " ") || inbox.Total != 3 {
		t.Errorf("%v, %d", got, inbox.Total)
	}
}
