//go:build !race

package store

const sample = 1
