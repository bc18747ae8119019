package oauth

import (
	"encoding/json"
	"errors"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// The types of authorization details (RFC 9396): what is asked, and what is granted.
const (
	DetailsAsked   = "writ_request"
	DetailsGranted = "writ_grant"
)

const (
	maxDetails = 96 << 10 // bytes
	maxNesting = 32
)

// details are authorization details of type writ_request.
type details struct {
	Type        string          `json:"type"`
	Task        string          `json:"task"`
	Open        *opening        `json:"open"`
	Action      string          `json:"action"`
	Resource    string          `json:"resource"`
	Args        json.RawMessage `json:"args"`
	Constraints json.RawMessage `json:"constraints"`
	TTL         int64           `json:"ttl"`
	MaxUses     int64           `json:"max_uses"`
	Mode        string          `json:"mode"`
	Hops        int             `json:"hops"`
	Parent      string          `json:"parent"`
}

// opening is the task to open for what is asked.
type opening struct {
	Type      string `json:"type"`
	Purpose   string `json:"purpose"`
	Reference string `json:"reference"`
}

// asked is what a client asks for.
type asked struct {
	control.Ask

	open   *opening
	target string // what credentials for the resource must be for; empty: whatever it is
}

// parseAsked reads what is asked by authorization details, or else by scope and audience. nil: nothing is.
func parseAsked(f form) (*asked, error) {
	a := &asked{target: f["resource"]}
	switch {
	case f["authorization_details"] != "" && f["scope"] != "":
		return nil, malformed("ask by authorization_details or by scope, not both")
	case f["authorization_details"] != "":
		d, err := parseDetails(f["authorization_details"])
		if err != nil {
			return nil, err
		}
		if err := a.read(d); err != nil {
			return nil, err
		}
	case f["scope"] != "":
		action, err := access.ParseAction(f["scope"])
		if err != nil {
			return nil, &control.Invalid{Kind: control.UnknownAction, Detail: "the scope is the name of one action, such as refund"}
		}
		a.Action = action
	default:
		return nil, nil //nolint:nilnil // nothing is asked
	}
	if text := f["audience"]; text != "" {
		resource, err := access.ParseRef(text)
		if err != nil || !a.Resource.IsZero() && a.Resource != resource {
			return nil, &fault{err: "invalid_target", code: string(control.InvalidArgument), detail: `the audience is the resource that is asked for, such as Order::"o-1"`}
		}
		a.Resource = resource
	}
	if task := f["task"]; task != "" {
		if a.open != nil || a.Task != "" && a.Task != task || !access.ValidID(task) {
			return nil, malformed("task is the id of one task, as in the authorization_details if it is named there")
		}
		a.Task = task
	}
	return a, nil
}

func invalidDetails(kind control.InvalidKind, detail string) error {
	return &control.Invalid{Kind: kind, Detail: detail}
}

// parseDetails reads exactly one object of the type that asks; what it does not know, it refuses (RFC 9396 section 5).
func parseDetails(text string) (*details, error) {
	if len(text) > maxDetails || tooDeep(text) {
		return nil, invalidDetails(control.InvalidArgument, "the authorization_details are too long or nested too deep")
	}
	var list []details
	err := jsonv2.Unmarshal([]byte(text), &list, jsonv2.RejectUnknownMembers(true))
	var bad *jsonv2.SemanticError
	switch {
	case errors.As(err, &bad):
		return nil, invalidDetails(control.InvalidArgument, "the member "+string(bad.JSONPointer)+" of the authorization_details is unknown, or has the wrong type")
	case err != nil:
		return nil, invalidDetails(control.InvalidArgument, "the authorization_details must be a JSON array, each name once, in UTF-8")
	case len(list) != 1 || list[0].Type != DetailsAsked:
		return nil, invalidDetails(control.InvalidArgument, "ask for one thing at a time: one object of type "+DetailsAsked)
	}
	return &list[0], nil
}

// tooDeep bounds how deep values lie in each other, whatever is wrong with the text otherwise.
func tooDeep(text string) bool {
	decoder := jsontext.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.ReadToken(); err != nil {
			return false
		}
		if decoder.StackDepth() > maxNesting {
			return true
		}
	}
}

// read checks the form of what is asked; whether it makes sense, control says.
func (a *asked) read(d *details) (err error) {
	a.Task, a.Args, a.TTL, a.MaxUses, a.Mode, a.Hops, a.Parent, a.open = d.Task, d.Args, access.Seconds(d.TTL), d.MaxUses, access.Mode(d.Mode), d.Hops, d.Parent, d.Open
	switch {
	case d.Task != "" && !access.ValidID(d.Task) || d.Parent != "" && !access.ValidID(d.Parent):
		return invalidDetails(control.InvalidArgument, "task and parent are ids")
	case d.Task != "" && d.Open != nil:
		return invalidDetails(control.InvalidArgument, "name a task, or open one")
	case d.Open != nil && d.Open.Type == "":
		return invalidDetails(control.InvalidArgument, "open needs the type of the task")
	}
	if d.Action != "" {
		if a.Action, err = access.ParseAction(d.Action); err != nil {
			return invalidDetails(control.UnknownAction, err.Error())
		}
	}
	if d.Resource != "" {
		if a.Resource, err = access.ParseRef(d.Resource); err != nil {
			return invalidDetails(control.UnknownResource, "resource: "+err.Error())
		}
	}
	if len(d.Constraints) > 0 {
		if a.Constraints, err = access.ParseConstraints(d.Constraints); err != nil {
			return invalidDetails(control.InvalidConstraints, err.Error())
		}
	}
	return nil
}

// whole refuses what leaves something open that no grant above fills in.
func (a *asked) whole() error {
	switch {
	case a == nil:
		return malformed("say what is asked for: authorization_details with one " + DetailsAsked + ", or scope, audience and task")
	case a.Action.IsZero():
		return malformed("the action is missing")
	case a.Resource.IsZero():
		return malformed("the resource is missing: audience, or resource in the authorization_details")
	case a.Task == "" && a.open == nil:
		return malformed("the task is missing: name one, or open one in the authorization_details")
	default:
		return nil
	}
}
