package access

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func people(names ...string) []Ref {
	var out []Ref
	for _, name := range names {
		out = append(out, human(name))
	}
	return out
}

func TestI6_Eligible(t *testing.T) {
	for name, c := range map[string]struct {
		form string
		edit func(*Input)
		gone []Ref
		want []Ref
	}{
		"a team":                               {"team:ops", nil, nil, people("ada", "bob", "cy")},
		"several of a team":                    {"2 of team:ops", nil, nil, people("ada", "bob", "cy")},
		"the people of a team that are active": {"team:ops", nil, people("bob"), people("ada", "cy")},
		"an unknown team":                      {"team:nobody", nil, nil, nil},
		"a team, less those who ask and those above, and whoever answers for them": {"team:everyone", nil, nil, people("ada", "bob", "cy")},
		"those above are strangers without a chain": {"team:everyone", func(in *Input) { in.Standing.Chain = nil }, nil,
			people("ada", "bob", "cy", "lee", "paul")},
		"the root of a chain is involved, too": {"team:everyone", func(in *Input) {
			in.Standing.Chain[0].Subject = agent("spare")
			in.Standing.Chain = append(in.Standing.Chain, rootGrant())
		}, nil, people("ada", "bob", "cy")},
		"a gateway that asks, and who answers for it": {"team:everyone", func(in *Input) { in.Caller, in.Standing.Chain = agent("lead"), nil }, nil, people("ada", "bob", "cy")},
		"a human who asks is not asked":               {"team:ops", func(in *Input) { in.Request.Subject, in.Request.Principal = human("ada"), Ref{} }, nil, people("bob", "cy")},
		"a human in the chain is not asked": {"team:ops", func(in *Input) { in.Standing.Chain[0].Subject = human("cy") }, nil,
			people("ada", "bob")},
		"whom another agent runs for":                                   {"team:ops", func(in *Input) { in.Request.Principal = human("bob") }, nil, people("ada", "cy")},
		"the resource's owner":                                          {"resource-owner", nil, nil, people("ada")},
		"the owner of an unknown resource":                              {"resource-owner", func(in *Input) { in.Request.Resource = table("gone") }, nil, nil},
		"the resource's owner who also owns the agent":                  {"resource-owner", func(in *Input) { in.Request.Resource = table("mine") }, nil, nil},
		"the resource's owner who is away":                              {"resource-owner", nil, people("ada"), nil},
		"the resource's owner that is no human":                         {"resource-owner", func(in *Input) { in.Request.Resource = table("odd") }, nil, nil},
		"the identity's owner, who confirms":                            {"identity-owner", nil, nil, people("olga")},
		"the owner of an unknown identity":                              {"identity-owner", func(in *Input) { in.Request.Subject = agent("gone") }, nil, nil},
		"a human has no owner":                                          {"identity-owner", func(in *Input) { in.Request.Subject = human("ada") }, nil, nil},
		"the principal, who confirms":                                   {"confirm", nil, nil, people("pat")},
		"the principal who is away":                                     {"confirm", nil, people("pat"), nil},
		"no principal":                                                  {"confirm", func(in *Input) { in.Request.Principal = Ref{} }, nil, nil},
		"the principal who is the subject cannot confirm its own doing": {"confirm", func(in *Input) { in.Request.Subject = human("pat") }, nil, nil},
	} {
		in := soundInput()
		if c.edit != nil {
			c.edit(in)
		}
		got := Eligible(requires(c.form)[0].Form, in, smallTown(c.gone...))
		if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := Eligible(ApprovalForm{Kind: "anybody", Count: 1}, soundInput(), smallTown()); len(got) > 0 {
		t.Errorf("an unknown form makes %v eligible", got)
	}
}

func TestEligibleLeavesTheTeamAlone(t *testing.T) {
	town := smallTown(human("bob"))
	shared := town.Humans("ops")
	keeps := sharing{town, shared}
	Eligible(requires("team:ops")[0].Form, soundInput(), keeps)
	if diff := cmp.Diff(people("ada", "bob", "cy"), shared); diff != "" {
		t.Error(diff)
	}
}

// sharing answers with the same list again and again.
type sharing struct {
	town
	team []Ref
}

func (s sharing) Humans(string) []Ref { return s.team }

func TestSatisfied(t *testing.T) {
	// Ada owns the resource and is in ops, as are bob and cy; dee leads.
	able := map[string][]Ref{
		"resource-owner": people("ada"), "team:ops": people("ada", "bob", "cy"), "2 of team:ops": people("ada", "bob", "cy"),
		"3 of team:ops": people("ada", "bob", "cy"), "team:leads": people("dee", "ada"), "confirm": people("pat"),
	}
	for name, c := range map[string]struct {
		requires []Requirement
		people   []Ref
		want     bool
	}{
		"nobody":                               {requires("team:ops"), nil, false},
		"one of the team":                      {requires("team:ops"), people("bob"), true},
		"somebody else":                        {requires("team:ops"), people("dee"), false},
		"one of two":                           {requires("2 of team:ops"), people("bob"), false},
		"the same one twice":                   {requires("2 of team:ops"), people("bob", "bob"), false},
		"two of two":                           {requires("2 of team:ops"), people("bob", "cy"), true},
		"more than it takes":                   {requires("2 of team:ops"), people("bob", "dee", "cy", "ada"), true},
		"the owner, who is in the team, once":  {requires("resource-owner", "team:ops"), people("ada"), false},
		"the owner and one more":               {requires("resource-owner", "team:ops"), people("ada", "bob"), true},
		"the team first, then its owner moves": {requires("team:ops", "resource-owner"), people("ada", "cy"), true},
		"the owner and two, who must all move": {requires("2 of team:ops", "team:leads", "resource-owner"), people("ada", "bob", "cy", "dee"), true},
		"the owner and two, with one too few":  {requires("2 of team:ops", "team:leads", "resource-owner"), people("ada", "bob", "dee"), false},
		"without the owner":                    {requires("resource-owner", "team:ops"), people("bob", "cy"), false},
		"two policies that ask the same":       {requires("team:ops", "team:ops"), people("bob"), true},
		"two policies that ask different many": {requires("team:ops", "2 of team:ops"), people("bob"), false},
		"the larger of them first":             {requires("2 of team:ops", "team:ops"), people("bob"), false},
		"and the larger is enough":             {requires("2 of team:ops", "team:ops"), people("bob", "cy"), true},
		"two teams":                            {requires("team:ops", "team:leads"), people("bob"), false},
		"a judgement and a confirmation":       {requires("team:ops", "confirm"), people("bob", "pat"), true},
		"no requirement is never satisfied":    {nil, people("ada"), false},
		"the zero requirement never is":        {[]Requirement{{}}, people("ada"), false},
		"the zero requirement beside a fair":   {append(requires("team:ops"), Requirement{}), people("ada", "bob"), false},
		"a form of no people takes at least one": {[]Requirement{{Form: ApprovalForm{Kind: FormTeam, Team: "ops"}}, requires("team:leads")[0]},
			people("dee"), false},
	} {
		got := Satisfied(c.requires, c.people, func(form ApprovalForm) []Ref { return able[form.String()] })
		if got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func pending(forms ...string) Approval {
	return Approval{
		ID: "a", Task: "t", Subject: agent("bot"), Status: ApprovalPending, Requires: requires(forms...), Risk: 40,
		AskedAt: noon(), ExpiresAt: after(QuestionLife),
	}
}

func TestAnswered(t *testing.T) {
	yes := func(name string) Answer { return Answer{By: human(name), Approve: true, At: after(time.Minute)} }
	no := func(name string) Answer { return Answer{By: human(name), At: after(time.Minute)} }
	until := after(time.Minute + ApprovalLife)
	with := func(a Answer, edit func(*Answer)) Answer { edit(&a); return a }
	for name, c := range map[string]struct {
		approval Approval
		edit     func(*Approval, *Input)
		answer   Answer
		err      error
		status   ApprovalStatus
		until    time.Time
	}{
		"a yes that is enough":       {pending("team:ops"), nil, yes("bob"), nil, ApprovalApproved, until},
		"a yes of two":               {pending("2 of team:ops"), nil, yes("bob"), nil, ApprovalPending, time.Time{}},
		"the second yes of two":      {pending("2 of team:ops"), func(a *Approval, _ *Input) { a.Answers = []Answer{yes("ada")} }, yes("bob"), nil, ApprovalApproved, until},
		"a no ends it":               {pending("2 of team:ops"), func(a *Approval, _ *Input) { a.Answers = []Answer{yes("ada")} }, no("bob"), nil, ApprovalDenied, time.Time{}},
		"a no is never half of two":  {pending("2 of team:ops"), func(a *Approval, _ *Input) { a.Answers = []Answer{no("ada")} }, yes("bob"), nil, ApprovalPending, time.Time{}},
		"a confirmation":             {pending("confirm"), nil, yes("pat"), nil, ApprovalApproved, until},
		"at the last instant":        {pending("team:ops"), nil, with(yes("bob"), func(a *Answer) { a.At = after(QuestionLife - 1) }), nil, ApprovalApproved, after(QuestionLife - 1 + ApprovalLife)},
		"too late":                   {pending("team:ops"), nil, with(yes("bob"), func(a *Answer) { a.At = after(QuestionLife) }), ErrApprovalClosed, ApprovalPending, time.Time{}},
		"to what is approved":        {pending("team:ops"), func(a *Approval, _ *Input) { a.Status = ApprovalApproved }, yes("bob"), ErrApprovalClosed, ApprovalApproved, time.Time{}},
		"to what is denied":          {pending("team:ops"), func(a *Approval, _ *Input) { a.Status = ApprovalDenied }, yes("bob"), ErrApprovalClosed, ApprovalDenied, time.Time{}},
		"to what has no status":      {pending("team:ops"), func(a *Approval, _ *Input) { a.Status = "" }, yes("bob"), ErrApprovalClosed, "", time.Time{}},
		"for the second time":        {pending("2 of team:ops"), func(a *Approval, _ *Input) { a.Answers = []Answer{yes("bob")} }, yes("bob"), ErrAlreadyAnswered, ApprovalPending, time.Time{}},
		"by one not asked":           {pending("team:ops"), nil, yes("lee"), ErrNotEligible, ApprovalPending, time.Time{}},
		"by a principal not asked":   {pending("team:everyone"), nil, yes("pat"), ErrNotEligible, ApprovalPending, time.Time{}},
		"a no by one not asked":      {pending("team:ops"), nil, no("lee"), ErrNotEligible, ApprovalPending, time.Time{}},
		"by an agent":                {pending("team:everyone"), nil, Answer{By: agent("spare"), Approve: true, At: noon()}, ErrNotEligible, ApprovalPending, time.Time{}},
		"for a shorter time":         {pending("team:ops"), func(_ *Approval, in *Input) { in.Request.TTL = 60 }, with(yes("bob"), func(a *Answer) { a.TTL = 60 }), nil, ApprovalApproved, until},
		"for longer than was asked":  {pending("team:ops"), func(_ *Approval, in *Input) { in.Request.TTL = 60 }, with(yes("bob"), func(a *Answer) { a.TTL = 61 }), ErrAnswerNotNarrows, ApprovalPending, time.Time{}},
		"for any time, none asked":   {pending("team:ops"), nil, with(yes("bob"), func(a *Answer) { a.TTL = 61 }), nil, ApprovalApproved, until},
		"for a time below zero":      {pending("team:ops"), nil, with(yes("bob"), func(a *Answer) { a.TTL = -1 }), ErrAnswerNotNarrows, ApprovalPending, time.Time{}},
		"for fewer uses than none":   {pending("team:ops"), nil, with(yes("bob"), func(a *Answer) { a.MaxUses = -1 }), ErrAnswerNotNarrows, ApprovalPending, time.Time{}},
		"of one who left since then": {pending("2 of team:ops"), func(a *Approval, _ *Input) { a.Answers = []Answer{yes("zoe")} }, yes("bob"), nil, ApprovalPending, time.Time{}},
	} {
		in := soundInput()
		if c.edit != nil {
			c.edit(&c.approval, in)
		}
		held := c.approval.Answers
		got, err := c.approval.Answered(c.answer, in, smallTown())
		if !errors.Is(err, c.err) || got.Status != c.status || !got.ApprovedUntil.Equal(c.until) {
			t.Errorf("%s: %q until %v, %v", name, got.Status, got.ApprovedUntil, err)
		}
		want := held
		if c.err == nil {
			want = append(slices.Clone(held), c.answer)
		}
		if diff := cmp.Diff(want, got.Answers) + cmp.Diff(held, c.approval.Answers); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAnsweredDoesNotWriteOverAnswersThatShareMemory(t *testing.T) {
	shared := make([]Answer, 0, 4)
	first := pending("3 of team:ops")
	first.Answers = shared
	one, err := first.Answered(Answer{By: human("ada"), Approve: true, At: noon()}, soundInput(), smallTown())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Answered(Answer{By: human("bob"), Approve: true, At: noon()}, soundInput(), smallTown()); err != nil {
		t.Fatal(err)
	}
	if one.Answers[0].By != human("ada") {
		t.Errorf("the first answer is now %v's", one.Answers[0].By)
	}
}

func TestUsable(t *testing.T) {
	until := after(time.Hour)
	for name, c := range map[string]struct {
		status ApprovalStatus
		now    time.Time
		want   Code
	}{
		"waiting":                           {ApprovalPending, noon(), CodeApprovalRequired},
		"a question nobody answered":        {ApprovalPending, after(QuestionLife), CodeApprovalExpired},
		"approved":                          {ApprovalApproved, noon(), ""},
		"approved, after the question's":    {ApprovalApproved, after(QuestionLife), ""},
		"approved, at the last instant":     {ApprovalApproved, until.Add(-1), ""},
		"a yes that is too old":             {ApprovalApproved, until, CodeApprovalExpired},
		"denied":                            {ApprovalDenied, noon(), CodeApprovalDenied},
		"denied stays a human's no forever": {ApprovalDenied, after(1000 * time.Hour), CodeApprovalDenied},
		"expired is no denial":              {ApprovalExpired, noon(), CodeApprovalExpired},
		"consumed":                          {ApprovalConsumed, noon(), CodeApprovalExpired},
		"of no status":                      {"", noon(), CodeApprovalExpired},
	} {
		a := pending("confirm")
		a.Status, a.ApprovedUntil = c.status, until
		if got := a.Usable(c.now); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestDischarges(t *testing.T) {
	a := pending("team:ops", "confirm")
	want := []Discharge{{Policy: "h-team:ops", Risk: 40, Approval: "a"}, {Policy: "h-confirm", Risk: 40, Approval: "a"}}
	if diff := cmp.Diff(want, a.Discharges()); diff != "" {
		t.Error(diff)
	}
}

func TestApprovalLimitIsTheIntersectionOfTheAnswers(t *testing.T) {
	until := after(time.Hour)
	for name, c := range map[string]struct {
		answers []Answer
		want    Limit
	}{
		"as asked":                     {[]Answer{{Approve: true}}, Limit{ExpiresAt: until}},
		"a shorter time":               {[]Answer{{TTL: 60}}, Limit{ExpiresAt: after(time.Minute)}},
		"the shortest time":            {[]Answer{{TTL: 120}, {TTL: 60}, {}, {TTL: 90}}, Limit{ExpiresAt: after(time.Minute)}},
		"a time longer than the yes":   {[]Answer{{TTL: 7200}}, Limit{ExpiresAt: until}},
		"the fewest uses":              {[]Answer{{MaxUses: 3}, {}, {MaxUses: 2}}, Limit{ExpiresAt: until, MaxUses: 2}},
		"time of one, uses of another": {[]Answer{{TTL: 60}, {MaxUses: 1}}, Limit{ExpiresAt: after(time.Minute), MaxUses: 1}},
	} {
		a := pending("confirm")
		a.Answers, a.ApprovedUntil = c.answers, until
		if diff := cmp.Diff(c.want, a.Limit(noon())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestApproversFor(t *testing.T) {
	got := ApproversFor(requires("team:ops", "2 of team:ops", "resource-owner", "confirm", "team:nobody"), soundInput(), smallTown())
	want := Approvers{"2 of team:ops": people("ada", "bob", "cy"), "resource-owner": people("ada"), "confirm": people("pat"), "team:nobody": nil}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	in := soundInput()
	in.Approvers = ApproversFor(requires("2 of team:ops", "resource-owner"), in, smallTown())
	if decided, _ := Settle(in, Decided{Outcome: NeedsApproval, Requires: requires("2 of team:ops", "resource-owner")}); decided.Outcome != NeedsApproval {
		t.Errorf("ada owns it, and bob and cy are two of the team: %+v", decided)
	}
	in.Approvers = ApproversFor(requires("3 of team:ops", "resource-owner"), in, smallTown())
	if decided, _ := Settle(in, Decided{Outcome: NeedsApproval, Requires: requires("3 of team:ops", "resource-owner")}); decided.Code != CodeNoEligibleApprover {
		t.Errorf("ada cannot be both the owner and one of three: %+v", decided)
	}
}
