package access

import (
	"errors"
	"regexp"
)

var shortAction = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`)

// ParseAction reads an action as people write it: Action::"refund", or short refund.
func ParseAction(text string) (Ref, error) {
	if shortAction.MatchString(text) {
		return Ref{Type: TypeAction, ID: text}, nil
	}
	ref, err := ParseRef(text)
	if err != nil {
		return Ref{}, errors.New(`action: write Action::"refund", or short refund`)
	}
	return ref, nil
}
