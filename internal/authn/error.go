package authn

import "fmt"

// Code says why a token or a proof was refused. The set is closed.
type Code string

// The refusals of Verify.
const (
	CodeTokenMissing       Code = "token_missing"
	CodeTokenMalformed     Code = "token_malformed"
	CodeTokenExpired       Code = "token_expired"
	CodeTokenNotYetValid   Code = "token_not_yet_valid"
	CodeTokenWrongAudience Code = "token_wrong_audience"
	CodeTokenUnknownIssuer Code = "token_unknown_issuer"
	CodeTokenUnknownKey    Code = "token_unknown_key"
	CodeTokenBadSignature  Code = "token_bad_signature"
	CodeTokenAlgorithm     Code = "token_algorithm"
	CodeTokenConfirmation  Code = "token_confirmation"
	CodeIssuerUnavailable  Code = "issuer_unavailable"
)

// The refusals of VerifyProof and Claims.CheckProof; on the wire all but the last are the
// invalid_dpop_proof of RFC 9449 section 7.1.
const (
	CodeProofMissing      Code = "proof_missing"
	CodeProofMalformed    Code = "proof_malformed"
	CodeProofAlgorithm    Code = "proof_algorithm"
	CodeProofBadSignature Code = "proof_bad_signature"
	CodeProofMismatch     Code = "proof_mismatch"
	CodeProofStale        Code = "proof_stale"
	CodeProofReplayed     Code = "proof_replayed"
	CodeProofUnavailable  Code = "proof_unavailable"
)

// The refusals of VerifyX509; VerifyJWT gives those of Verify, and the last two.
const (
	CodeSVIDMissing            Code = "svid_missing"
	CodeSVIDMalformed          Code = "svid_malformed"
	CodeSVIDUntrusted          Code = "svid_untrusted"
	CodeSVIDExpired            Code = "svid_expired"
	CodeSVIDNotYetValid        Code = "svid_not_yet_valid"
	CodeTrustDomainUnknown     Code = "trust_domain_unknown"
	CodeTrustDomainUnavailable Code = "trust_domain_unavailable"
)

// Temporary reports whether it cannot be known now who calls: the same call may be good later.
func (c Code) Temporary() bool {
	return c == CodeIssuerUnavailable || c == CodeProofUnavailable || c == CodeTrustDomainUnavailable
}

// Error is a refusal. Detail tells the caller what to do next; it holds nothing
// of the token, the proof or the network, so it may be sent to whoever asked.
// The technical cause, where there is one, is reached with errors.Unwrap and is
// for the operator's log only.
type Error struct {
	Code   Code
	Detail string
	cause  error
}

// Error is the code and the detail, without the cause.
func (e *Error) Error() string { return fmt.Sprintf("authn: %s: %s", e.Code, e.Detail) }

// Unwrap is the technical cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is matches another *Error by its code, so errors.Is(err, &Error{Code: c}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

func refuse(code Code, detail string) *Error { return &Error{Code: code, Detail: detail} }
