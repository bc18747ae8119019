package replay

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/writ-project/writ/internal/access"
)

// The kinds of payment methods.
const (
	kindGiftCard    = "gift_card"
	kindCertificate = "certificate"
)

// key puts an id together from several values.
func key(parts ...string) string { return strings.Join(parts, "/") }

// subject of a fact: a reference, and how to find its attributes.
type about struct {
	ref   access.Ref
	facts func() (any, bool) // false: there is no such thing
}

// concerned lists what a decision on the call can look at, besides what the catalog declares.
func (r *run) concerned(c *call) []about {
	typ, argument, _ := on(c.Tool)
	id := text(c.args, argument)
	switch typ {
	case typeCustomer:
		return r.aboutCustomer(c, id)
	case typeReservation:
		return r.aboutReservation(c, id)
	default:
		return nil
	}
}

func (r *run) aboutCustomer(c *call, id string) []about {
	out := []about{r.customerFacts(id)}
	if c.Tool != toolBook {
		return out
	}
	for _, p := range objects(c.args, "payment_methods") {
		out = append(out, r.methodFacts(id, text(p, "payment_id")))
	}
	for _, l := range legsIn(c.args) {
		out = append(out, r.flightFacts(l), r.fareFacts(l, text(c.args, "cabin")))
	}
	for _, p := range objects(c.args, "passengers") {
		out = append(out, r.travellerFacts(id, person{text(p, "first_name"), text(p, "last_name"), text(p, "dob")}))
	}
	return out
}

func (r *run) aboutReservation(c *call, id string) []about {
	out := []about{r.tripFacts(id)}
	t := r.trip(id)
	if t == nil {
		return out
	}
	switch c.Tool {
	case toolFlights:
		out = append(out, r.methodFacts(t.UserID, text(c.args, "payment_id")))
		for _, l := range legsIn(c.args) {
			out = append(out, r.flightFacts(l), r.fareFacts(l, text(c.args, "cabin")), r.heldFacts(t, l))
		}
	case toolBags:
		out = append(out, r.methodFacts(t.UserID, text(c.args, "payment_id")))
	case toolCancel:
		for _, l := range t.legs() {
			out = append(out, r.flightFacts(l))
		}
	}
	return out
}

type customerAttributes struct {
	Membership       string    `json:"membership"`
	SavedPassengers  []person  `json:"saved_passengers"`
	BookedLegs       []leg     `json:"booked_legs"`
	GiftCards        []string  `json:"gift_cards"`
	Certificates     []payment `json:"certificates"`
	Covered          []string  `json:"covered"`
	Begun            []string  `json:"begun"`
	CancelledParties []int64   `json:"cancelled_parties"`
	DelayedParties   []int64   `json:"delayed_parties"`
}

func (r *run) customerFacts(id string) about {
	return about{access.Ref{Type: typeCustomer, ID: id}, func() (any, bool) {
		c := r.customer(id)
		if c == nil {
			return nil, false
		}
		a := customerAttributes{
			Membership:      c.Membership,
			SavedPassengers: distinct(append(slices.Clone(c.Saved), c.person())),
			BookedLegs:      []leg{}, GiftCards: []string{}, Certificates: []payment{}, Covered: []string{}, Begun: []string{},
			CancelledParties: []int64{}, DelayedParties: []int64{},
		}
		for _, id := range slices.Sorted(maps.Keys(c.PaymentMethods)) {
			m := c.PaymentMethods[id]
			switch {
			case m.Amount <= 0:
			case m.Source == kindGiftCard:
				a.GiftCards = append(a.GiftCards, id)
			case m.Source == kindCertificate:
				a.Certificates = append(a.Certificates, payment{id, m.Amount})
			}
		}
		for _, t := range r.tripsOf(c) {
			r.addTrip(&a, c, t)
		}
		return a, true
	}}
}

// addTrip adds what one of a customer's trips says.
func (r *run) addTrip(a *customerAttributes, c *customer, t *trip) {
	if t.live() {
		a.BookedLegs = distinct(append(a.BookedLegs, t.legs()...))
	}
	covered := t.insured() || t.business()
	if covered {
		a.Covered = distinct(append(a.Covered, t.ReservationID))
	}
	member := c.Membership == "silver" || c.Membership == "gold"
	party := int64(len(t.Passengers))
	for _, l := range t.legs() {
		f, day, ok := r.flight(l)
		if !ok {
			continue
		}
		switch day.Status {
		case statusCancelled, statusDelayed, statusFlying, statusLanded:
			a.Begun = distinct(append(a.Begun, t.ReservationID))
		}
		if (member || covered) && day.Status == statusCancelled {
			a.CancelledParties = distinct(append(a.CancelledParties, party))
		}
		if (member || covered) && f.delayed(l.Date) {
			a.DelayedParties = distinct(append(a.DelayedParties, party))
		}
	}
}

type tripAttributes struct {
	CustomerID  string   `json:"customer_id"`
	Membership  string   `json:"membership"`
	Live        bool     `json:"live"`
	Cabin       string   `json:"cabin"`
	FlightType  string   `json:"flight_type"`
	Origin      string   `json:"origin"`
	Destination string   `json:"destination"`
	Legs        []leg    `json:"legs"`
	Passengers  int64    `json:"passengers"`
	Insured     bool     `json:"insured"`
	TotalBags   int64    `json:"total_bags"`
	PaidBags    int64    `json:"paid_bags"`
	Fares       dollars  `json:"fares"`
	Paid        dollars  `json:"paid"`
	MethodsUsed []string `json:"methods_used"`
	CreatedAt   string   `json:"created_at"`
	ChangedAt   string   `json:"changed_at"`
}

func (r *run) tripFacts(id string) about {
	return about{access.Ref{Type: typeReservation, ID: id}, func() (any, bool) {
		t := r.trip(id)
		if t == nil {
			return nil, false
		}
		a := tripAttributes{
			CustomerID: t.UserID, Live: t.live(), Cabin: t.Cabin, FlightType: t.FlightType,
			Origin: t.Origin, Destination: t.Destination, Legs: t.legs(), Passengers: int64(len(t.Passengers)),
			Insured: t.insured(), TotalBags: t.TotalBags, PaidBags: t.PaidBags, MethodsUsed: []string{},
			CreatedAt: utc(time.Time(t.CreatedAt)), ChangedAt: utc(time.Time(t.CreatedAt)),
		}
		if t.changed {
			a.ChangedAt = utc(Now())
		}
		if c := r.customer(t.UserID); c != nil {
			a.Membership = c.Membership
		}
		for _, l := range t.Flights {
			a.Fares += l.Price
		}
		for _, p := range t.PaymentHistory {
			a.Paid += p.Amount
			a.MethodsUsed = append(a.MethodsUsed, p.PaymentID)
		}
		a.MethodsUsed = append([]string{}, distinct(a.MethodsUsed)...)
		return a, true
	}}
}

func utc(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05Z") }

func (r *run) methodFacts(customer, id string) about {
	return about{access.Ref{Type: typeMethod, ID: key(customer, id)}, func() (any, bool) {
		c := r.customer(customer)
		if c == nil {
			return nil, false
		}
		m, ok := c.PaymentMethods[id]
		return struct {
			Kind    string  `json:"kind"`
			Balance dollars `json:"balance"`
		}{m.Source, m.Amount}, ok
	}}
}

func (r *run) flightFacts(l leg) about {
	return about{access.Ref{Type: typeFlight, ID: key(l.FlightNumber, l.Date)}, func() (any, bool) {
		f, day, ok := r.flight(l)
		if !ok {
			return nil, false
		}
		return struct {
			Origin      string `json:"origin"`
			Destination string `json:"destination"`
			Status      string `json:"status"`
		}{f.Origin, f.Destination, day.Status}, true
	}}
}

func (r *run) fareFacts(l leg, cabin string) about {
	return about{access.Ref{Type: typeFare, ID: key(l.FlightNumber, l.Date, cabin)}, func() (any, bool) {
		_, day, _ := r.flight(l)
		price, ok := day.Prices[cabin]
		return struct {
			Price dollars `json:"price"`
			Seats int64   `json:"seats"`
		}{price, day.Seats[cabin]}, ok
	}}
}

func (r *run) heldFacts(t *trip, l leg) about {
	return about{access.Ref{Type: typeHeldLeg, ID: key(t.ReservationID, l.FlightNumber, l.Date)}, func() (any, bool) {
		sale := "closed"
		if r.status(l) == statusAvailable {
			sale = "open"
		}
		return struct {
			Sale string `json:"sale"`
		}{sale}, slices.Contains(t.legs(), l)
	}}
}

func (r *run) travellerFacts(customer string, p person) about {
	return about{access.Ref{Type: typeTraveller, ID: key(customer, p.FirstName, p.LastName, p.DOB)}, func() (any, bool) {
		days := []string{}
		if c := r.customer(customer); c != nil {
			for _, t := range r.tripsOf(c) {
				if !t.live() || !slices.Contains(t.Passengers, p) {
					continue
				}
				for _, l := range t.legs() {
					days = append(days, l.Date)
				}
			}
		}
		slices.Sort(days)
		return struct {
			Days []string `json:"days"`
		}{slices.Compact(days)}, len(days) > 0
	}}
}

// teller remembers what has been told, so that nothing is told twice and nothing stale is left.
type teller struct {
	run  int
	told map[access.Ref]told
}

type told struct {
	run  int
	text string // "" if it was told to be gone
}

// tell gives the entities that must be told now: those new to the run or changed, and those that no longer exist.
func (t *teller) tell(list []about) (facts []access.Entity, gone []access.Ref) {
	for _, a := range list {
		if a.ref.ID == "" || len(a.ref.ID) > access.MaxIDLength {
			continue
		}
		before, known := t.told[a.ref]
		attributes, ok := a.facts()
		if !ok {
			if known && before.text != "" {
				gone = append(gone, a.ref)
				t.told[a.ref] = told{run: t.run}
			}
			continue
		}
		text, _ := json.Marshal(attributes) // plain structs
		if known && before.run == t.run && before.text == string(text) {
			continue
		}
		t.told[a.ref] = told{run: t.run, text: string(text)}
		facts = append(facts, access.Entity{ID: a.ref, Attributes: text})
	}
	slices.SortFunc(facts, func(a, b access.Entity) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(gone, access.Ref.Compare)
	return facts, gone
}
