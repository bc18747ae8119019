//go:build race

package store

// sample is which share of the slow tests of one goroutine run under the race detector, which has nothing to find in them: one in so many.
const sample = 25
