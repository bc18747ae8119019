// Package client is the Go client of Writ's HTTP API, and the types that travel over it.
//
// Durations on the wire are whole seconds, times are RFC 3339, entities are written Type::"id" as in Cedar. A no is an
// error: a *[Problem], whose Code says why and whose Next says what may be done about it.
package client
