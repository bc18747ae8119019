package replay

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
)

// The tools that change something.
const (
	toolBook       = "book_reservation"
	toolFlights    = "update_reservation_flights"
	toolBags       = "update_reservation_baggages"
	toolPassengers = "update_reservation_passengers"
	toolCancel     = "cancel_reservation"
	toolCompensate = "send_certificate"
)

// effect is what a call changed, as its result shows it.
type effect interface{ apply(r *run) }

// readEffect finds out what a call changed.
func (c *call) readEffect() error {
	if c.Failed {
		return nil
	}
	switch c.Tool {
	case toolBook, toolFlights, toolBags, toolPassengers, toolCancel:
		return c.readTrip()
	case toolCompensate:
		return c.readCertificate()
	default:
		return nil
	}
}

// tripChanged is a reservation that was made or changed.
type tripChanged struct {
	tool string
	trip trip
}

func (c *call) readTrip() error {
	var text string
	e := tripChanged{tool: c.Tool}
	err := json.Unmarshal(c.Result, &text)
	if err == nil {
		err = json.Unmarshal([]byte(text), &e.trip)
	}
	if err == nil {
		err = e.trip.check(e.trip.ReservationID)
	}
	if err != nil {
		return fmt.Errorf("the result of %s is not a reservation, so what it changed is not known: %w", c.Tool, err)
	}
	c.effect = &e
	return nil
}

// apply takes the reservation over, and moves the money that its new payments say. The recorded system gives nothing
// back to a gift card when a reservation is cancelled.
func (e *tripChanged) apply(r *run) {
	t := e.trip
	t.changed = e.tool != toolBook
	paid := 0
	if old := r.trip(t.ReservationID); old != nil {
		paid = len(old.PaymentHistory)
	}
	r.trips[t.ReservationID] = &t
	c := r.change(t.UserID)
	if c == nil {
		return
	}
	for _, p := range t.PaymentHistory[min(paid, len(t.PaymentHistory)):] {
		e.move(c, p)
	}
	if e.tool == toolBook && !slices.Contains(c.Reservations, t.ReservationID) {
		c.Reservations = append(c.Reservations, t.ReservationID)
	}
}

func (e *tripChanged) move(c *customer, p payment) {
	m, ok := c.PaymentMethods[p.PaymentID]
	switch {
	case !ok:
	case m.Source == kindGiftCard && e.tool != toolCancel:
		m.Amount -= p.Amount
		c.PaymentMethods[p.PaymentID] = m
	case m.Source == kindCertificate && e.tool == toolBook:
		delete(c.PaymentMethods, p.PaymentID) // spent, whatever was left on it
	}
}

// certificateSent is a certificate that a customer was given.
type certificateSent struct {
	customer, id string
	amount       dollars
}

// sentForm is fixed at compile time and never changes.
var sentForm = regexp.MustCompile(`^Certificate (\S+) added to user (\S+) with amount ([0-9.]+?)\.?$`)

func (c *call) readCertificate() error {
	var text string
	if err := json.Unmarshal(c.Result, &text); err != nil {
		return fmt.Errorf("the result of %s is not a text: %w", c.Tool, err)
	}
	m := sentForm.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("the result of %s does not say which certificate was added, so what it changed is not known", c.Tool)
	}
	amount, ok := whole(m[3])
	if !ok {
		return fmt.Errorf("the certificate that %s added is not of whole dollars", c.Tool)
	}
	c.effect = &certificateSent{customer: m[2], id: m[1], amount: dollars(amount)}
	return nil
}

func (e *certificateSent) apply(r *run) {
	if c := r.change(e.customer); c != nil {
		if c.PaymentMethods == nil {
			c.PaymentMethods = map[string]method{}
		}
		c.PaymentMethods[e.id] = method{Source: kindCertificate, Amount: e.amount}
	}
}
