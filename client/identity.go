package client

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// RegisteredIdentity is an identity of the catalog, and where it stands.
type RegisteredIdentity struct {
	ID          string    `json:"id"`
	Owner       string    `json:"owner,omitempty"` // humans answer for themselves
	Purpose     string    `json:"purpose,omitempty"`
	Principal   string    `json:"principal,omitempty"` // the human it runs for
	ReviewBy    string    `json:"review_by,omitempty"` // the day by which it is looked at again, such as 2027-06-30
	Overdue     bool      `json:"overdue"`             // that day is over
	Status      string    `json:"status"`              // active, suspended or retired
	Since       time.Time `json:"since"`               // of the status
	OwnerStatus string    `json:"owner_status,omitempty"`
	GraceEndsAt time.Time `json:"grace_ends_at,omitzero"` // the owner left: then everything of it is denied
}

// Identities is a page of the identities that the caller may see, in the order of ids.
type Identities struct {
	Identities []RegisteredIdentity `json:"identities"`
	Next       string               `json:"next,omitempty"` // where the next page begins: After; empty on the last
}

// IdentityQuery says which identities are listed.
type IdentityQuery struct {
	Owner   string // only what this human owns; empty: of anybody
	Overdue bool   // only those whose review is overdue
	After   string // Next of the page before
	Limit   int    // at most so many, up to 1000; 0: 100
}

// UnknownIdentity is who called with a good token or SVID and is in no catalog. Both names are untrusted text.
type UnknownIdentity struct {
	Issuer    string    `json:"issuer"`
	Subject   string    `json:"subject"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	Times     int64     `json:"times"`
}

// UnknownIdentities is a page of those who called and are in no catalog, the last one seen first. A page may be empty, and
// another follow it.
type UnknownIdentities struct {
	Unknown []UnknownIdentity `json:"unknown"`
	Next    string            `json:"next,omitempty"`
}

// RetireIdentity retires an identity, for good: everything it has is dead at once.
func (c *Client) RetireIdentity(ctx context.Context, change StatusChange) (*Done, error) {
	return call[Done](ctx, c, post("/v1/identities/retire", change).repeatable())
}

// Identities lists a page of the identities that the caller may see: itself, what it owns, and all if it may read evidence.
func (c *Client) Identities(ctx context.Context, q IdentityQuery) (*Identities, error) {
	query := page(q.After, q.Limit)
	if q.Owner != "" {
		query.Set("owner", q.Owner)
	}
	if q.Overdue {
		query.Set("overdue", "true")
	}
	return call[Identities](ctx, c, get(with("/v1/identities", query)))
}

// Identity reads one identity of the catalog.
func (c *Client) Identity(ctx context.Context, id string) (*RegisteredIdentity, error) {
	return call[RegisteredIdentity](ctx, c, get(with("/v1/identities/show", url.Values{"id": {id}})))
}

// UnknownIdentities lists a page of those who called and are in no catalog; after is Next of the page before, limit at most
// 1000, or 0 for 100. For whoever may read evidence.
func (c *Client) UnknownIdentities(ctx context.Context, after string, limit int) (*UnknownIdentities, error) {
	return call[UnknownIdentities](ctx, c, get(with("/v1/identities/unknown", page(after, limit))))
}

func page(after string, limit int) url.Values {
	query := url.Values{}
	if after != "" {
		query.Set("after", after)
	}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return query
}

func with(path string, query url.Values) string {
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}
