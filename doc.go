// Package writ is the root of the module; it holds the tests of its layering. Start reading at ARCHITECTURE.md.
package writ
