package replay

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/writ-project/writ/internal/access"
)

// Summary is the result of a replay, as it is written to a file.
type Summary struct {
	Calls             int                 `json:"calls"`
	Labels            map[string]Outcomes `json:"labels"`
	Effective         map[string]Outcomes `json:"effective"` // only calls that the tool did not refuse itself
	LogVerified       bool                `json:"log_verified"`
	DecisionsReplayed int                 `json:"decisions_replayed"`
	ReplayMismatches  int                 `json:"replay_mismatches"`
	Seconds           float64             `json:"seconds"`
	Decisions         []Decision          `json:"decisions"`
}

// Outcomes counts decisions by outcome.
type Outcomes struct {
	Allow         int `json:"allow"`
	NeedsApproval int `json:"needs_approval"`
	Deny          int `json:"deny"`
}

// Decision is what was decided on one call, and by which policies.
type Decision struct {
	Task     int            `json:"task"`
	Trial    int            `json:"trial"`
	Step     int            `json:"step"`
	Outcome  access.Outcome `json:"outcome"`
	Policies []string       `json:"policies"`
}

// NewSummary is the summary of nothing.
func NewSummary() *Summary {
	return &Summary{Labels: map[string]Outcomes{}, Effective: map[string]Outcomes{}, Decisions: []Decision{}}
}

// Add counts the decision on a step. Anything but an allowance or a question to a human is a denial.
func (s *Summary) Add(step *Step, outcome access.Outcome, policies []string) {
	if outcome != access.Allow && outcome != access.NeedsApproval {
		outcome = access.Deny
	}
	s.Calls++
	s.Labels[step.Label] = s.Labels[step.Label].plus(outcome)
	if !step.Failed {
		s.Effective[step.Label] = s.Effective[step.Label].plus(outcome)
	}
	s.Decisions = append(s.Decisions, Decision{
		Task: step.Task, Trial: step.Trial, Step: step.Step, Outcome: outcome, Policies: append([]string{}, policies...),
	})
}

func (o Outcomes) plus(outcome access.Outcome) Outcomes {
	switch outcome {
	case access.Allow:
		o.Allow++
	case access.NeedsApproval:
		o.NeedsApproval++
	case access.Deny:
		o.Deny++
	}
	return o
}

// Total is the number of decisions counted.
func (o Outcomes) Total() int { return o.Allow + o.NeedsApproval + o.Deny }

// wrong reports a label of calls that should not have been made so.
func wrong(label string) bool { return label == "wrong-arguments" || label == "unexpected-action" }

// Asked is how many calls were put to humans, and how many of these were wrong.
func (s *Summary) Asked() (asked, ofThemWrong int) {
	for label, o := range s.Labels {
		asked += o.NeedsApproval
		if wrong(label) {
			ofThemWrong += o.NeedsApproval
		}
	}
	return asked, ofThemWrong
}

// WrongAllowed is how many wrong calls that took effect were allowed without a human, and of how many.
func (s *Summary) WrongAllowed() (allowed, of int) {
	for label, o := range s.Effective {
		if wrong(label) {
			allowed += o.Allow
			of += o.Total()
		}
	}
	return allowed, of
}

// Print writes a table for people: outcomes by label, each number with what it is a share of.
func (s *Summary) Print(w io.Writer) error {
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	write := func(cells ...any) { fmt.Fprintln(table, fmt.Sprint(cells[0])+"\t"+tabbed(cells[1:])) }
	write("calls", "allow", "needs approval", "deny", "total", "|", "took effect: allow", "needs approval", "deny", "total")
	var all, effective Outcomes
	for _, label := range slices.Sorted(maps.Keys(s.Labels)) {
		a, e := s.Labels[label], s.Effective[label]
		write(label, a.Allow, a.NeedsApproval, a.Deny, a.Total(), "|", e.Allow, e.NeedsApproval, e.Deny, e.Total())
		all, effective = all.with(a), effective.with(e)
	}
	write("all", all.Allow, all.NeedsApproval, all.Deny, all.Total(), "|", effective.Allow, effective.NeedsApproval, effective.Deny, effective.Total())
	if err := table.Flush(); err != nil {
		return err
	}
	asked, askedWrong := s.Asked()
	allowed, of := s.WrongAllowed()
	fmt.Fprintf(&out, "\nput to a human:                         %s\n", share(asked, s.Calls))
	fmt.Fprintf(&out, "of these, wrong:                        %s\n", share(askedWrong, asked))
	fmt.Fprintf(&out, "wrong, took effect, allowed unasked:    %s\n", share(allowed, of))
	fmt.Fprintf(&out, "decisions computed again, and differed: %s\n", share(s.ReplayMismatches, s.DecisionsReplayed))
	_, err := io.WriteString(w, out.String())
	return err
}

func tabbed(cells []any) string {
	var out strings.Builder
	for _, cell := range cells {
		fmt.Fprintf(&out, "%v\t", cell)
	}
	return out.String()
}

func (o Outcomes) with(other Outcomes) Outcomes {
	return Outcomes{o.Allow + other.Allow, o.NeedsApproval + other.NeedsApproval, o.Deny + other.Deny}
}

func share(part, whole int) string {
	if whole == 0 {
		return fmt.Sprintf("%d of 0", part)
	}
	return fmt.Sprintf("%d of %d (%.1f %%)", part, whole, 100*float64(part)/float64(whole))
}
