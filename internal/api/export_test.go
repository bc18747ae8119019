package api

import (
	"maps"
	"net/http"
	"slices"

	"github.com/writ-project/writ/client"
)

// Routes are all that is served, as method and path.
func Routes() []string {
	var out []string
	for _, route := range (&server{Options: Options{Metrics: http.NotFoundHandler()}}).routes() {
		out = append(out, route.method+" "+route.path)
	}
	return out
}

// Codes are all that a problem can have.
func Codes() []string { return slices.Sorted(maps.Keys(kinds())) }

// CheckJSON is the check of every body.
func CheckJSON(data []byte) error { return checkJSON(data) }

// ProblemOf is what the caller is told of an error.
func ProblemOf(err error) *client.Problem { return problemOf(err) }
