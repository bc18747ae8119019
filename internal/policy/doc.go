// Package policy loads policy bundles and decides by them: plain Cedar with three outcomes, risk and derived values.
// It is pure: no clock, no I/O, no randomness. A Bundle is immutable and safe for concurrent use.
// What a bundle holds, and why, is in docs/design/policy.md.
package policy
