// Package replay turns a recording of an airline's service agent into what a
// governed agent would have asked: for each tool call the facts that the
// reservation system must have told before it, and the request for access.
//
// A recording is a folder: calls.jsonl, one tool call a line, and users.json,
// reservations.json and flights.json, the airline's data at the start of every
// run. A run is one trial of one task. It starts from that data afresh; every
// call that succeeded changes it as the recording says, whatever a policy
// would have made of the call.
//
// The package does no network and has no clock. Reading the same folder gives
// the same steps. Times of day are local to the airline, which is taken to be
// five hours behind UTC all year; see [Now].
package replay
