package replay

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// airline is what the reservation system knows.
type airline struct {
	customers map[string]*customer
	trips     map[string]*trip
	flights   map[string]*flight
}

type person struct {
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	DOB       string `json:"dob"`
}

type customer struct {
	Name struct {
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
	} `json:"name"`
	DOB            string            `json:"dob"`
	Membership     string            `json:"membership"`
	PaymentMethods map[string]method `json:"payment_methods"`
	Saved          []person          `json:"saved_passengers"`
	Reservations   []string          `json:"reservations"`
}

func (c *customer) check(string) error {
	if c.Membership == "" {
		return errors.New("a customer has a membership")
	}
	return nil
}

func (c *customer) person() person { return person{c.Name.FirstName, c.Name.LastName, c.DOB} }

func (c *customer) clone() *customer {
	out := *c
	out.PaymentMethods = maps.Clone(c.PaymentMethods)
	out.Reservations = slices.Clone(c.Reservations)
	return &out
}

type method struct {
	Source string  `json:"source"`
	Amount dollars `json:"amount"`
}

type payment struct {
	PaymentID string  `json:"payment_id"`
	Amount    dollars `json:"amount"`
}

// leg is a flight on a day.
type leg struct {
	FlightNumber string `json:"flight_number"`
	Date         string `json:"date"`
}

type soldLeg struct {
	leg
	Price dollars `json:"price"`
}

type trip struct {
	ReservationID  string    `json:"reservation_id"`
	UserID         string    `json:"user_id"`
	Origin         string    `json:"origin"`
	Destination    string    `json:"destination"`
	FlightType     string    `json:"flight_type"`
	Cabin          string    `json:"cabin"`
	Flights        []soldLeg `json:"flights"`
	Passengers     []person  `json:"passengers"`
	PaymentHistory []payment `json:"payment_history"`
	CreatedAt      localTime `json:"created_at"`
	TotalBags      int64     `json:"total_baggages"`
	PaidBags       int64     `json:"nonfree_baggages"`
	Insurance      string    `json:"insurance"`
	Status         string    `json:"status"`

	changed bool // within the run
}

func (t *trip) check(key string) error {
	switch {
	case t.ReservationID == "" || key != t.ReservationID:
		return fmt.Errorf("the reservation calls itself %q", clip(t.ReservationID))
	case t.UserID == "" || t.Cabin == "" || t.FlightType == "":
		return errors.New("a reservation has user_id, cabin and flight_type")
	case time.Time(t.CreatedAt).IsZero():
		return errors.New("a reservation has created_at")
	default:
		return nil
	}
}

func (t *trip) live() bool     { return t.Status != "cancelled" }
func (t *trip) insured() bool  { return t.Insurance == "yes" }
func (t *trip) business() bool { return t.Cabin == "business" }

func (t *trip) legs() []leg {
	out := make([]leg, len(t.Flights))
	for i := range t.Flights {
		out[i] = t.Flights[i].leg
	}
	return out
}

type flight struct {
	Origin      string               `json:"origin"`
	Destination string               `json:"destination"`
	Arrival     string               `json:"scheduled_arrival_time_est"` // 15:04:05, with +1 on the next day
	Dates       map[string]flightDay `json:"dates"`
}

func (f *flight) check(string) error {
	if f.Origin == "" || f.Destination == "" {
		return errors.New("a flight has origin and destination")
	}
	return nil
}

type flightDay struct {
	Status string             `json:"status"`
	Landed localTime          `json:"actual_arrival_time_est"`
	Seats  map[string]int64   `json:"available_seats"`
	Prices map[string]dollars `json:"prices"`
}

// The statuses of a flight that policies and facts tell apart.
const (
	statusAvailable = "available"
	statusCancelled = "cancelled"
	statusDelayed   = "delayed"
	statusFlying    = "flying"
	statusLanded    = "landed"
)

// late is from when on a flight counts as delayed: the mark that the industry reports punctuality by.
const late = 15 * time.Minute

// delayed reports a flight that is late, or was when it landed.
func (f *flight) delayed(date string) bool {
	day := f.Dates[date]
	if day.Status == statusDelayed {
		return true
	}
	planned, err := f.planned(date)
	landed := time.Time(day.Landed)
	return err == nil && !landed.IsZero() && landed.Sub(planned) >= late
}

// planned is when the flight of a day shall land.
func (f *flight) planned(date string) (time.Time, error) {
	clock, next := strings.CutSuffix(f.Arrival, "+1")
	at, err := time.ParseInLocation("2006-01-02T15:04:05", date+"T"+clock, local())
	if next {
		at = at.AddDate(0, 0, 1)
	}
	return at, err
}

// dollars are whole dollars; 50.0 is 50, and 50.5 is refused.
type dollars int64

// UnmarshalJSON reads a number without cents.
func (d *dollars) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	n, ok := whole(string(text))
	if !ok {
		return fmt.Errorf("%s is not an amount of whole dollars", clip(string(text)))
	}
	*d = dollars(n)
	return nil
}

// whole reads a JSON number that stands for an integer, however it is written.
func whole(text string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	const exact = 1 << 53 // beyond it, floats skip integers
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		return 0, false
	}
	return int64(f), true
}

// localTime is a time of day at the airline.
type localTime time.Time

// UnmarshalJSON reads 2006-01-02T15:04:05.
func (t *localTime) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil || string(text) == "null" {
		return err
	}
	at, err := time.ParseInLocation("2006-01-02T15:04:05", s, local())
	if err != nil {
		return fmt.Errorf("%q is not a time: want year-month-dayThour:minute:second", clip(s))
	}
	*t = localTime(at)
	return nil
}

// run is the reservation system during one run: what it began with, and what has changed since.
type run struct {
	start     *airline
	customers map[string]*customer
	trips     map[string]*trip
}

func newRun(start *airline) *run {
	return &run{start: start, customers: map[string]*customer{}, trips: map[string]*trip{}}
}

func (r *run) customer(id string) *customer { return cmp.Or(r.customers[id], r.start.customers[id]) }

func (r *run) trip(id string) *trip { return cmp.Or(r.trips[id], r.start.trips[id]) }

// change is the customer for writing.
func (r *run) change(id string) *customer {
	if r.customers[id] == nil && r.start.customers[id] != nil {
		r.customers[id] = r.start.customers[id].clone()
	}
	return r.customers[id]
}

// tripsOf are a customer's reservations, cancelled ones too.
func (r *run) tripsOf(c *customer) []*trip {
	var out []*trip
	for _, id := range c.Reservations {
		if t := r.trip(id); t != nil {
			out = append(out, t)
		}
	}
	return out
}

func (r *run) flight(l leg) (*flight, flightDay, bool) {
	f := r.start.flights[l.FlightNumber]
	if f == nil {
		return nil, flightDay{}, false
	}
	day, ok := f.Dates[l.Date]
	return f, day, ok
}

func (r *run) status(l leg) string {
	_, day, _ := r.flight(l)
	return day.Status
}
