package catalog

import "time"

// Limits on what Parse reads. Bytes are bytes of UTF-8.
const (
	MaxFileSize  = 1 << 20  // bytes of one file
	MaxTotalSize = 16 << 20 // bytes of all files
	MaxFiles     = 10_000
	MaxDepth     = 32 // mappings and lists inside each other; the document's own mapping is the first
	MaxObjects   = 100_000
	MaxFaults    = 1000

	MaxNameLength      = 128    // of a team, task type or fact source
	MaxTypeLength      = 256    // of an entity type
	MaxLabelLength     = 128    // of a label, a sensitivity, an environment
	MaxTextLength      = 2048   // of a purpose, an issuer, a subject, a claim, a target
	MaxAttributeString = 4096   // of a text inside attributes
	MaxAttributes      = 32_768 // of an object's attributes as JSON
	MaxLabels          = 64
	MaxTargets         = 64 // of an enforcement point
	MaxParents         = 64
	MaxMatches         = 16
	MaxClaims          = 16
	MaxClaimValues     = 64 // that one claim may have
	MaxProvides        = 256
	MaxMembers         = 10_000 // of a team; also openers, actions and subjects
	MaxLooseMatches    = 1000   // of one issuer, that leave a claim a choice
	MaxClaimSets       = 32     // different sets of claim names that one issuer's identities are told apart by
)

const (
	minDuration  = time.Second
	maxDuration  = 30 * 24 * time.Hour
	minHeartbeat = 5 * time.Second
	maxFreshness = 365 * 24 * time.Hour
	maxOpen      = 100_000
	minNext      = time.Minute
	maxNext      = 24 * time.Hour
)
