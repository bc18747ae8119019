package api

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func (s *server) suspend(c *call) (*reply, error) { return s.setStatus(c, access.Suspended) }

func (s *server) resume(c *call) (*reply, error) { return s.setStatus(c, access.Active) }

func (s *server) retire(c *call) (*reply, error) { return s.setStatus(c, access.Retired) }

func (s *server) setStatus(c *call, status access.Status) (*reply, error) {
	body, err := decode[client.StatusChange](c, "identity")
	if err != nil {
		return nil, err
	}
	identity, err := access.ParseRef(body.Identity)
	if err != nil {
		return nil, badArgument("identity: " + err.Error())
	}
	answer, err := s.Control.SetStatus(c.Context(), c.caller, identity, status, control.Grounds{Reason: body.Reason, Approval: body.Approval})
	if err != nil {
		return nil, err
	}
	return doneOf(answer)
}

func (s *server) identities(c *call) (*reply, error) {
	query := c.URL.Query()
	limit, err := limitOf(query)
	if err != nil {
		return nil, err
	}
	q := control.IdentityQuery{Limit: limit}
	if q.Owner, err = refOf(query, "owner"); err != nil {
		return nil, err
	}
	if q.After, err = refOf(query, "after"); err != nil {
		return nil, err
	}
	switch query.Get("overdue") {
	case "", "false":
	case "true":
		q.Overdue = true
	default:
		return nil, fault(codeInvalidQuery, "overdue: write true or false")
	}
	list, more, err := s.Control.Identities(c.Context(), c.caller, q)
	if err != nil {
		return nil, err
	}
	out := client.Identities{Identities: make([]client.RegisteredIdentity, 0, len(list))}
	for i := range list {
		out.Identities = append(out.Identities, identityOf(&list[i]))
	}
	if more {
		out.Next = list[len(list)-1].Identity.ID.String()
	}
	return &reply{value: out}, nil
}

func (s *server) showIdentity(c *call) (*reply, error) {
	id, err := refOf(c.URL.Query(), "id")
	if err != nil {
		return nil, err
	}
	if id.IsZero() {
		return nil, fault(codeInvalidQuery, `id: name the identity, such as Agent::"support-bot"`)
	}
	view, err := s.Control.ReadIdentity(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	return &reply{value: identityOf(view)}, nil
}

func identityOf(v *control.IdentityView) client.RegisteredIdentity {
	i := &v.Identity
	return client.RegisteredIdentity{
		ID: i.ID.String(), Owner: i.Owner.String(), Purpose: i.Purpose, Principal: i.Principal.String(), ReviewBy: i.ReviewBy, Overdue: v.Overdue,
		Status: string(v.Status), Since: v.Since, OwnerStatus: string(v.Owner), GraceEndsAt: v.GraceEnd,
	}
}

func (s *server) unknownIdentities(c *call) (*reply, error) {
	query := c.URL.Query()
	limit, err := limitOf(query)
	if err != nil {
		return nil, err
	}
	after, err := strangerAfter(query.Get("after"))
	if err != nil {
		return nil, err
	}
	list, next, err := s.Control.Unknown(c.Context(), c.caller, after, limit)
	if err != nil {
		return nil, err
	}
	out := client.UnknownIdentities{Unknown: make([]client.UnknownIdentity, 0, len(list))}
	for i := range list {
		u := &list[i]
		out.Unknown = append(out.Unknown, client.UnknownIdentity{Issuer: u.Issuer, Subject: u.Subject, FirstSeen: u.First, LastSeen: u.Last, Times: u.Times})
	}
	if next != nil {
		out.Next = fmt.Sprintf("%d-%s", next.Last.UnixMicro(), next.ID)
	}
	return &reply{value: out}, nil
}

var strangerCursor = regexp.MustCompile(`^([0-9]{1,18})-([0-9a-f]{64})$`)

func strangerAfter(text string) (*access.Stranger, error) {
	if text == "" {
		return nil, nil
	}
	parts := strangerCursor.FindStringSubmatch(text)
	if parts == nil {
		return nil, fault(codeInvalidQuery, "after: send next of the page before as it is")
	}
	last, _ := strconv.ParseInt(parts[1], 10, 64) // 18 digits always fit
	return &access.Stranger{ID: parts[2], Last: time.UnixMicro(last)}, nil
}

const (
	defaultPage = 100
	maxPage     = 1000
)

func limitOf(query url.Values) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, fault(codeInvalidQuery, "limit: write 1 to 1000")
	}
	return limit, nil
}

// refOf is an optional entity of the query.
func refOf(query url.Values, name string) (access.Ref, error) {
	text := query.Get(name)
	if text == "" {
		return access.Ref{}, nil
	}
	ref, err := access.ParseRef(text)
	if err != nil {
		return ref, fault(codeInvalidQuery, name+": "+err.Error())
	}
	return ref, nil
}
