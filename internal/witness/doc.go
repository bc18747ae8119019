// Package witness is both sides of c2sp.org/tlog-witness: a witness that cosigns the checkpoints of logs it knows
// ([Open], [Witness]), and a client with which a log asks witnesses for their cosignatures ([Client]).
//
// A witness promises one thing: it never cosigns two views of a log of which one does not continue the other. It keeps that
// promise with a small file that is on the disk before a cosignature leaves.
package witness
