package access

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The kinds of approval a policy may ask for. Confirmations are not independent.
const (
	FormResourceOwner = "resource-owner"
	FormTeam          = "team"
	FormIdentityOwner = "identity-owner"
	FormConfirm       = "confirm"
)

// ApprovalForm says who must approve: the value of an @approval annotation.
type ApprovalForm struct {
	Kind  string // one of the Form constants
	Team  string // for FormTeam
	Count int    // distinct people, at least 1
}

// ParseApprovalForm reads resource-owner, team:NAME, "N of team:NAME", identity-owner or confirm.
func ParseApprovalForm(text string) (ApprovalForm, error) {
	switch text {
	case FormResourceOwner, FormIdentityOwner, FormConfirm:
		return ApprovalForm{Kind: text, Count: 1}, nil
	}
	count := 1
	team, one := strings.CutPrefix(text, "team:")
	if !one {
		number, after, ok := strings.Cut(text, " of team:")
		if !ok || len(number) != 1 || number[0] < '1' || number[0] > '9' {
			return ApprovalForm{}, formError(text)
		}
		count, team = int(number[0]-'0'), after
	}
	if team == "" || strings.TrimSpace(team) != team || !utf8.ValidString(team) {
		return ApprovalForm{}, formError(text)
	}
	return ApprovalForm{Kind: FormTeam, Team: team, Count: count}, nil
}

func formError(text string) error {
	return fmt.Errorf("%q is not an approval: write resource-owner, team:NAME, 2 of team:NAME (up to 9), identity-owner or confirm", clip(text))
}

// Independent reports whether the form asks for somebody outside the request (I6), not for a confirmation.
func (f ApprovalForm) Independent() bool {
	return f.Kind == FormResourceOwner || f.Kind == FormTeam
}

// String is the form that ParseApprovalForm reads.
func (f ApprovalForm) String() string {
	switch {
	case f.Kind != FormTeam:
		return f.Kind
	case f.Count > 1:
		return strconv.Itoa(f.Count) + " of team:" + f.Team
	default:
		return "team:" + f.Team
	}
}

// MarshalText writes the annotation's text.
func (f ApprovalForm) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads the annotation's text.
func (f *ApprovalForm) UnmarshalText(text []byte) error {
	form, err := ParseApprovalForm(string(text))
	if err != nil {
		return err
	}
	*f = form
	return nil
}
