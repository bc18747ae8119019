// Package access holds what Writ governs and the rules that need no policy:
// identities, tasks, requests, grants and approvals, their life cycles, and
// liveness derived from ancestors. It is pure: no clock, no I/O, no randomness.
// Times and ids are passed in; everything may be used concurrently once built.
package access
