// Package evidence makes and checks the evidence log of a Writ installation.
//
// An [Entry] is a CloudEvents 1.0 JSON object. Its exact bytes are the leaf of an RFC 6962 Merkle
// [Tree] that is organised in tiles of 256 hashes (c2sp.org/tlog-tiles). A signed [Checkpoint]
// (c2sp.org/tlog-checkpoint, an Ed25519 signed note) states the size and root of the tree, a [Proof]
// (c2sp.org/tlog-proof) shows offline that an entry is in it, and a [Verifier] checks a whole log:
// its tree, its order, the numbering of each task, and the values that entries only commit to.
//
// The package is pure: it reads no files, no clock and no randomness, and keeps no global state.
// No value of it may be used by several goroutines at once, except those whose comment says so.
//
// What a proof says: the holder of the log's key has committed to these bytes at this index. It does
// not say that the holder shows the same log to everybody; checkpoints kept by others
// ([VerifyConsistency], [Verifier.ExpectCheckpoint]) and the cosignatures of witnesses
// (c2sp.org/tlog-cosignature, [Cosigner], [CosignaturePolicy]) do.
package evidence
