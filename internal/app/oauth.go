package app

import (
	"context"
	"net/http"

	"github.com/writ-project/writ/internal/api"
	"github.com/writ-project/writ/internal/authn"
	"github.com/writ-project/writ/internal/oauth"
)

// accepts is what the metadata says of client authentication. Certificates reach Writ only where it ends TLS itself.
func (c *Config) accepts() oauth.Accepted {
	tls := c.TLS.Certificate != "" || c.TLS.SVID
	return oauth.Accepted{URL: c.URL, Certificates: tls && c.SPIFFE.used(), SVIDs: c.SPIFFE.used(), Tokens: len(c.Issuers) > 0, Algorithms: authn.Algorithms()}
}

// guests are the routes of the OAuth endpoint, which the API's server carries.
func guests(at *gate) []api.Guest {
	endpoint := oauth.New(oauth.Options{Control: at.control, Authenticate: at.client, Principal: at.principal, Actor: at.actor})
	carried := func(path string, serve func(context.Context, *http.Request, []byte) oauth.Reply) api.Guest {
		return api.Guest{Method: http.MethodPost, Path: path, MaxBody: oauth.MaxBody, Serve: func(ctx context.Context, r *http.Request, body []byte) api.GuestReply {
			said := serve(ctx, r, body)
			return api.GuestReply{Status: said.Status, Content: "application/json", Body: said.Body, Header: said.Header, Caller: said.Caller, Cause: said.Cause}
		}}
	}
	return []api.Guest{
		carried(oauth.TokenPath, endpoint.Token), carried(oauth.IntrospectPath, endpoint.Introspect), carried(oauth.RevokePath, endpoint.Revoke),
	}
}
