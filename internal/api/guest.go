package api

import (
	"context"
	"net/http"

	"github.com/writ-project/writ/internal/access"
)

// Guest is a route of another endpoint. This server carries it: it gives it what every route has (an id, safe headers, a log line,
// limits of size and time, an answer if the code panics), and leaves to it who calls, what the body says, and the answer.
type Guest struct {
	Method  string
	Path    string
	MaxBody int64 // bytes; 0 means that of the server
	Serve   func(ctx context.Context, r *http.Request, body []byte) GuestReply
}

// GuestReply is what a guest answers.
type GuestReply struct {
	Status  int
	Content string // media type
	Body    []byte
	Header  map[string]string // beside
	Caller  access.Ref        // for the log line; zero: nobody
	Cause   error             // of a failure, for the log line
}

func (g *Guest) route() route {
	return route{method: g.Method, path: g.Path, access: public, body: anyBody, maxBody: g.MaxBody, handle: g.handle}
}

func (g *Guest) handle(c *call) (*reply, error) {
	answer := g.Serve(c.Context(), c.Request, c.data)
	c.w.caller, c.w.cause = answer.Caller, answer.Cause
	for name, value := range answer.Header {
		c.header().Set(name, value)
	}
	return &reply{status: answer.Status, raw: answer.Body, content: answer.Content}, nil
}
