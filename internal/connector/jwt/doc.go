// Package jwt makes RFC 9068 access tokens for grants, signed by keys of Writ's
// own. It uses no network, no clock and no randomness: times are passed in, and
// both signature algorithms are deterministic, so a token can be made before
// the commit of its evidence and made again after a crash.
package jwt
