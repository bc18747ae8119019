// Package authn says who is calling: it verifies bearer JWTs of configured
// OIDC issuers, and DPoP proofs (RFC 9449) that name the key to which the
// credential that Writ issues will be bound, and the SVIDs of SPIFFE trust
// domains, as client certificates (X.509) and as bearer tokens (JWT).
//
// It answers "this token is genuine, for us and alive", never "this identity
// is active": status is decided elsewhere and is never cached here.
package authn
