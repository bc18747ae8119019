package jwt

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// DetailsType is the type of authorization details of a grant (RFC 9396 section 2).
	DetailsType = "writ_grant"

	maxText       = 2048 // bytes of a name, the longest SPIFFE ID
	maxScope      = 4096 // bytes
	maxAudiences  = 16
	maxDetails    = 4096 // bytes
	maxActorDepth = 16
	maxTTL        = 24 * time.Hour
	thumbprint    = 32 // bytes of a SHA-256
)

// Token is what a token says about its grant.
type Token struct {
	// GrantID becomes jti, so the target's log joins to the decision.
	GrantID  string
	Subject  string
	ClientID string
	// Audience is the resource servers that shall accept the token; at least one, at most 16.
	Audience []string
	// Scope is optional: scope tokens separated by one space (RFC 6749 section 3.3).
	Scope string
	// AuthorizationDetails is optional: a JSON array of objects that each have
	// a type (RFC 9396), at most 4096 bytes; see Details.
	AuthorizationDetails json.RawMessage
	// Actor is optional: who acts for Subject (RFC 8693 section 4.1). It
	// informs; authority comes from the grant.
	Actor *Actor
	// Transaction is optional: the id of what all this is part of (claim txn, RFC 8417 section 2.2).
	Transaction string
	// IssuedAt is required. Fractions of a second are cut off of both times,
	// so the token never outlives the grant.
	IssuedAt time.Time
	// Expiry zero means IssuedAt plus the default; at most 24 h after IssuedAt.
	Expiry time.Time
	// Confirmation is optional: the RFC 7638 thumbprint (SHA-256, base64url) of
	// the key that the token is bound to (RFC 9449 section 6.1).
	Confirmation string
	// Certificate is optional: the thumbprint (SHA-256 of its DER, base64url) of the certificate that the holder must show
	// (RFC 8705 section 3.1). Not together with Confirmation.
	Certificate string
}

// Actor is one link of a delegation chain, the latest first (RFC 8693 section 4.1).
type Actor struct {
	Subject string `json:"sub"`
	Issuer  string `json:"iss,omitempty"`
	Actor   *Actor `json:"act,omitempty"`
}

// Details describes a grant as authorization details of type DetailsType.
type Details struct {
	Action     string
	Resource   string
	ArgsDigest string // of the arguments; they themselves may be personal data
	Task       string
}

// JSON is the array of one for Token.AuthorizationDetails.
func (d Details) JSON() (json.RawMessage, error) {
	for name, value := range map[string]string{"action": d.Action, "resource": d.Resource, "args_digest": d.ArgsDigest, "task": d.Task} {
		if !utf8.ValidString(value) {
			return nil, fmt.Errorf("authorization details: %s is not UTF-8", name)
		}
	}
	type entry struct {
		Type       string `json:"type"`
		Action     string `json:"action"`
		Resource   string `json:"resource"`
		ArgsDigest string `json:"args_digest,omitempty"`
		Task       string `json:"task"`
	}
	return json.Marshal([]entry{{Type: DetailsType, Action: d.Action, Resource: d.Resource, ArgsDigest: d.ArgsDigest, Task: d.Task}})
}

// claims is the payload (RFC 9068 section 2.2).
type claims struct {
	Issuer      string          `json:"iss"`
	Subject     string          `json:"sub"`
	ClientID    string          `json:"client_id"`
	Audience    any             `json:"aud"`
	IssuedAt    int64           `json:"iat"`
	Expiry      int64           `json:"exp"`
	ID          string          `json:"jti"`
	Scope       string          `json:"scope,omitempty"`
	Details     json.RawMessage `json:"authorization_details,omitempty"`
	Actor       *Actor          `json:"act,omitempty"`
	Transaction string          `json:"txn,omitempty"`
	Confirmed   *confirmation   `json:"cnf,omitempty"`
}

type confirmation struct {
	Thumbprint  string `json:"jkt,omitempty"`
	Certificate string `json:"x5t#S256,omitempty"`
}

// claims checks the token and writes out what it leaves to the issuer.
func (i *Issuer) claims(t Token) (claims, error) {
	if t.Expiry.IsZero() {
		t.Expiry = t.IssuedAt.Add(i.ttl)
	}
	if err := errors.Join(t.checkNames(), t.checkTimes(), t.checkOptions()); err != nil {
		return claims{}, fmt.Errorf("token: %w", err)
	}
	out := claims{
		Issuer: i.name, Subject: t.Subject, ClientID: t.ClientID, Audience: t.Audience,
		IssuedAt: t.IssuedAt.Unix(), Expiry: t.Expiry.Unix(), ID: t.GrantID,
		Scope: t.Scope, Details: t.AuthorizationDetails, Actor: t.Actor, Transaction: t.Transaction,
	}
	if len(t.Audience) == 1 {
		out.Audience = t.Audience[0] // the form that every verifier reads
	}
	if t.Confirmation != "" || t.Certificate != "" {
		out.Confirmed = &confirmation{Thumbprint: t.Confirmation, Certificate: t.Certificate}
	}
	return out, nil
}

func (t Token) checkNames() error {
	if len(t.Audience) == 0 || len(t.Audience) > maxAudiences {
		return fmt.Errorf("audience: %d given, 1 to %d needed", len(t.Audience), maxAudiences)
	}
	for _, audience := range t.Audience {
		if err := checkText("audience", audience); err != nil {
			return err
		}
	}
	return errors.Join(checkText("grant id", t.GrantID), checkText("subject", t.Subject), checkText("client id", t.ClientID))
}

// checkText refuses what JSON would change without a word.
func checkText(name, value string) error {
	if value == "" || len(value) > maxText || !utf8.ValidString(value) {
		return fmt.Errorf("%s: needs 1 to %d bytes of UTF-8", name, maxText)
	}
	return nil
}

func (t Token) checkTimes() error {
	if t.IssuedAt.Unix() <= 0 {
		return errors.New("issued at: required, and not before 1970")
	}
	if t.Expiry.Unix() <= t.IssuedAt.Unix() {
		return errors.New("expiry: not a second after issued at; the grant is about to end, so issue nothing")
	}
	if t.Expiry.Sub(t.IssuedAt) > maxTTL {
		return fmt.Errorf("expiry: more than %s after issued at; issue a shorter token and renew it", maxTTL)
	}
	return nil
}

func (t Token) checkOptions() error {
	var all []error
	if !validScope(t.Scope) {
		all = append(all, errors.New("scope: not scope tokens separated by one space (RFC 6749 section 3.3)"))
	}
	if t.AuthorizationDetails != nil {
		all = append(all, checkDetails(t.AuthorizationDetails))
	}
	if t.Actor != nil {
		all = append(all, t.Actor.check())
	}
	if t.Transaction != "" {
		all = append(all, checkText("transaction", t.Transaction))
	}
	if t.Confirmation != "" && !isThumbprint(t.Confirmation) {
		all = append(all, errors.New("confirmation: not the base64url of a SHA-256 thumbprint (RFC 7638)"))
	}
	if t.Certificate != "" && !isThumbprint(t.Certificate) {
		all = append(all, errors.New("certificate: not the base64url of a SHA-256 thumbprint (RFC 8705)"))
	}
	if t.Confirmation != "" && t.Certificate != "" {
		all = append(all, errors.New("confirmation, certificate: a token is bound to one of them"))
	}
	return errors.Join(all...)
}

func isThumbprint(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(raw) == thumbprint && !strings.ContainsAny(text, "\r\n")
}

// validScope is RFC 6749 section 3.3; an absent scope is valid.
func validScope(scope string) bool {
	if scope == "" {
		return true
	}
	if len(scope) > maxScope {
		return false
	}
	for token := range strings.SplitSeq(scope, " ") {
		if token == "" {
			return false
		}
		for i := range len(token) {
			if c := token[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
				return false
			}
		}
	}
	return true
}

func checkDetails(raw json.RawMessage) error {
	if len(raw) > maxDetails || !utf8.Valid(raw) {
		return fmt.Errorf("authorization details: needs at most %d bytes of UTF-8", maxDetails)
	}
	var entries []struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &entries); err != nil || len(entries) == 0 {
		return errors.New("authorization details: not a JSON array of objects (RFC 9396 section 2)")
	}
	for _, entry := range entries {
		if entry.Type == "" {
			return errors.New("authorization details: an entry has no type (RFC 9396 section 2)")
		}
	}
	return nil
}

func (a *Actor) check() error {
	for depth := 1; a != nil; a, depth = a.Actor, depth+1 {
		if depth > maxActorDepth {
			return fmt.Errorf("actor: a chain of more than %d", maxActorDepth)
		}
		if err := checkText("actor", a.Subject); err != nil {
			return err
		}
		if a.Issuer != "" {
			if err := checkText("actor's issuer", a.Issuer); err != nil {
				return err
			}
		}
	}
	return nil
}
