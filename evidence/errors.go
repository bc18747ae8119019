package evidence

import "errors"

// The errors of this package wrap one of these; the text says what is wrong and what to do next.
var (
	// ErrEntry: an entry is malformed, or cannot be written as it is.
	ErrEntry = errors.New("malformed entry")
	// ErrTooLarge: an input is over its limit.
	ErrTooLarge = errors.New("too large")
	// ErrRange: an index, a size or a tile lies outside the tree.
	ErrRange = errors.New("outside the tree")
	// ErrTile: a stored tile or a tile path is malformed.
	ErrTile = errors.New("malformed tile")
	// ErrBundle: an entry bundle is malformed.
	ErrBundle = errors.New("malformed entry bundle")
	// ErrKey: a signer key or verifier key is malformed.
	ErrKey = errors.New("malformed key")
	// ErrCheckpoint: a checkpoint is malformed.
	ErrCheckpoint = errors.New("malformed checkpoint")
	// ErrUnverified: a checkpoint is not signed by a key that is trusted for its origin.
	ErrUnverified = errors.New("checkpoint is not verified")
	// ErrEmptyRoot: a checkpoint of size 0 does not have the root of the empty tree. It comes with ErrCheckpoint.
	ErrEmptyRoot = errors.New("its size is 0, but its root is not the empty tree's")
	// ErrCosignature: a cosignature is malformed, or is not what was asked for.
	ErrCosignature = errors.New("malformed cosignature")
	// ErrPolicy: a policy of cosignatures can never hold, or means less than it says.
	ErrPolicy = errors.New("unsound policy of cosignatures")
	// ErrUnwitnessed: fewer witnesses than required have cosigned a checkpoint.
	ErrUnwitnessed = errors.New("not enough witnesses")
	// ErrProofText: the text of a proof is malformed.
	ErrProofText = errors.New("malformed proof")
	// ErrProofInvalid: a well-formed proof does not prove what it should.
	ErrProofInvalid = errors.New("proof does not hold")
	// ErrCommitment: a commitment, a disclosure or an erasure is malformed.
	ErrCommitment = errors.New("malformed commitment")
)
