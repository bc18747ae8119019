package replay

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/writ-project/writ/internal/access"
)

// The types of the airline's entities, as its schema names them.
const (
	typeCustomer    = "Customer"
	typeReservation = "Reservation"
	typeDesk        = "Desk"
	typeMethod      = "PaymentMethod"
	typeFlight      = "Flight"
	typeFare        = "Fare"
	typeHeldLeg     = "HeldLeg"
	typeTraveller   = "Traveller"
)

// The catalog's names that the replay speaks for.
const (
	FactSource = "reservations"
	TaskType   = "customer_service"
)

// Agent is the identity that makes every request.
func Agent() access.Ref { return access.Ref{Type: access.TypeAgent, ID: "service-agent"} }

// ReservationSystem is the identity that tells the facts.
func ReservationSystem() access.Ref {
	return access.Ref{Type: access.TypeWorkload, ID: "reservation-system"}
}

func desk() access.Ref { return access.Ref{Type: typeDesk, ID: "service"} }

// on says which argument of a tool names its resource; tools that are not named here are used at the desk.
func on(tool string) (typ, argument string, looksUp bool) {
	switch tool {
	case "get_user_details":
		return typeCustomer, "user_id", true
	case toolBook, toolCompensate:
		return typeCustomer, "user_id", false
	case "get_reservation_details":
		return typeReservation, "reservation_id", true
	case toolFlights, toolBags, toolPassengers, toolCancel:
		return typeReservation, "reservation_id", false
	default:
		return typeDesk, "", false
	}
}

// request is what the agent asks for before it makes the call.
func (c *call) request(r *run) access.Request {
	resource, args := c.resource(r)
	return access.Request{
		Subject:  Agent(),
		Action:   access.Ref{Type: access.TypeAction, ID: c.Tool},
		Resource: resource,
		Args:     writeArgs(args),
		Mode:     access.Use,
	}
}

// resource is what the call is about, and the arguments that are left. Looking up an id that the reservation system
// does not know concerns nobody's data: it is asked of the desk.
func (c *call) resource(r *run) (access.Ref, map[string]any) {
	typ, argument, looksUp := on(c.Tool)
	if argument == "" {
		return desk(), c.args
	}
	args := maps.Clone(c.args)
	delete(args, argument)
	id, _ := c.args[argument].(string)
	ref := access.Ref{Type: typ, ID: id}
	switch {
	case looksUp && !r.exists(ref):
		return desk(), args
	case id == "" || len(id) > access.MaxIDLength:
		ref.ID = "none" // no such thing is known, and so it is denied
	}
	return ref, args
}

func (r *run) exists(ref access.Ref) bool {
	if ref.Type == typeCustomer {
		return r.customer(ref.ID) != nil
	}
	return r.trip(ref.ID) != nil
}

// parseArgs reads arguments. Numbers are kept as they are written, but for integers with a fraction of zero: to an
// agent that writes JSON they are the same, to a schema they are not.
func parseArgs(raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return map[string]any{}, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var args map[string]any
	if err := dec.Decode(&args); err != nil {
		return nil, err
	}
	for key, value := range args {
		args[key] = plain(value)
	}
	return args, nil
}

func plain(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, item := range value {
			value[key] = plain(item)
		}
	case []any:
		for i := range value {
			value[i] = plain(value[i])
		}
	case json.Number:
		if n, ok := whole(value.String()); ok {
			return json.Number(strconv.FormatInt(n, 10))
		}
	}
	return value
}

// writeArgs is one JSON object with ordered keys, or nothing for none.
func writeArgs(args map[string]any) json.RawMessage {
	if len(args) == 0 {
		return nil
	}
	out, _ := json.Marshal(args) // it came from JSON
	return out
}

// text is a text among arguments, or "" for anything else.
func text(args map[string]any, key string) string {
	s, _ := args[key].(string)
	return s
}

// objects are the objects of a list among arguments; whatever else stands there, the schema refuses.
func objects(args map[string]any, key string) []map[string]any {
	list, _ := args[key].([]any)
	var out []map[string]any
	for _, item := range list {
		if object, ok := item.(map[string]any); ok {
			out = append(out, object)
		}
	}
	return out
}

func legsIn(args map[string]any) []leg {
	var out []leg
	for _, o := range objects(args, "flights") {
		if l := (leg{text(o, "flight_number"), text(o, "date")}); l.FlightNumber != "" && l.Date != "" {
			out = append(out, l)
		}
	}
	return distinct(out)
}

// distinct drops what was there before, and keeps the order.
func distinct[T comparable](list []T) []T {
	var out []T
	for _, item := range list {
		if !slices.Contains(out, item) {
			out = append(out, item)
		}
	}
	return out
}
