package access

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// Claim is what the value of a token's claim must be: one of some texts, or a text that begins with a prefix. Patterns are left
// out on purpose: of these it can be told whether two identities could be meant by one token.
type Claim struct {
	In     []string // one for an exact value
	Prefix string   // not empty, if In is
}

// Exactly is the claim with one value.
func Exactly(value string) Claim { return Claim{In: []string{value}} }

// IsZero reports whether nothing is asked of the value.
func (c Claim) IsZero() bool { return c.Prefix == "" && len(c.In) == 0 }

// Exact is the one value that fits; ok is false if there can be others.
func (c Claim) Exact() (value string, ok bool) {
	if c.Prefix != "" || len(c.In) != 1 {
		return "", false
	}
	return c.In[0], true
}

// Fits reports whether a value is as the claim must be.
func (c Claim) Fits(value string) bool {
	if c.Prefix != "" {
		return strings.HasPrefix(value, c.Prefix)
	}
	return slices.Contains(c.In, value)
}

// Meets reports whether some value fits both.
func (c Claim) Meets(other Claim) bool {
	switch {
	case c.Prefix != "" && other.Prefix != "":
		return strings.HasPrefix(c.Prefix, other.Prefix) || strings.HasPrefix(other.Prefix, c.Prefix)
	case c.Prefix != "":
		return slices.ContainsFunc(other.In, c.Fits)
	default:
		return slices.ContainsFunc(c.In, other.Fits)
	}
}

type claimForm struct {
	In     []string `json:"in,omitempty"`
	Prefix string   `json:"prefix,omitempty"`
}

// MarshalJSON writes an exact value as a text, others as {"in": […]} or {"prefix": …}.
func (c Claim) MarshalJSON() ([]byte, error) {
	if value, ok := c.Exact(); ok {
		return json.Marshal(value)
	}
	return json.Marshal(claimForm(c))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Claim) UnmarshalJSON(data []byte) error {
	var value *string
	if json.Unmarshal(data, &value) == nil && value != nil {
		*c = Exactly(*value)
		return nil
	}
	var form claimForm
	if err := json.Unmarshal(data, &form); err != nil {
		return err
	}
	if (form.Prefix == "") == (len(form.In) == 0) {
		return errors.New(`a claim is a text, {"in": [texts]} or {"prefix": text}`)
	}
	*c = Claim(form)
	return nil
}

// claimAt is a claim by its name, or, if that begins with a slash, by its JSON Pointer (RFC 6901); nil if there is none. Pointers
// go through objects only: a place in a list says nothing.
func claimAt(claims map[string]any, name string) any {
	if !strings.HasPrefix(name, "/") {
		return claims[name]
	}
	var at any = claims
	for _, part := range strings.Split(name[1:], "/") {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")]
	}
	return at
}
