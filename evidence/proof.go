package evidence

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// MaxProofExtra is the most extra data that a proof carries, in bytes.
	MaxProofExtra = 64 << 10

	proofHeader    = "c2sp.org/tlog-proof@v1\n"
	maxProofHashes = 63 // for any size that fits in 63 bits
	hashLine       = 44 + 1
	maxProofSize   = MaxCheckpointSize + MaxProofExtra*4/3 + maxProofHashes*hashLine + 1<<10
)

// Proof says that an entry stands at an index of a log, and can be checked offline with the log's
// verifier key alone (c2sp.org/tlog-proof).
type Proof struct {
	Index      int64
	Hashes     []Hash // inclusion proof, from the leaf up, in the tree of the checkpoint
	Checkpoint []byte // signed
	Extra      []byte // not covered by any signature; nil for none
}

// Marshal returns the text of the proof. The error wraps [ErrProofText].
func (p Proof) Marshal() ([]byte, error) {
	if p.Index < 0 || p.Index >= MaxSize || len(p.Hashes) > maxProofHashes || len(p.Extra) > MaxProofExtra ||
		len(p.Checkpoint) == 0 || len(p.Checkpoint) > MaxCheckpointSize {
		return nil, fmt.Errorf("%w: it needs an index, at most %d hashes, at most %d bytes of extra data and a signed checkpoint", ErrProofText, maxProofHashes, MaxProofExtra)
	}
	b := []byte(proofHeader)
	if p.Extra != nil {
		b = append(b, "extra "...)
		b = base64.StdEncoding.AppendEncode(b, p.Extra)
		b = append(b, '\n')
	}
	b = append(b, "index "...)
	b = strconv.AppendInt(b, p.Index, 10)
	b = append(b, '\n')
	for i := range p.Hashes {
		b = base64.StdEncoding.AppendEncode(b, p.Hashes[i][:])
		b = append(b, '\n')
	}
	b = append(b, '\n')
	return append(b, p.Checkpoint...), nil
}

// ParseProof reads the text of a proof, exactly as [Proof.Marshal] writes it. It verifies nothing.
// The error wraps [ErrProofText] or [ErrTooLarge].
func ParseProof(text []byte) (Proof, error) {
	if len(text) > maxProofSize {
		return Proof{}, fmt.Errorf("%w: the proof has %d bytes, the limit is %d", ErrTooLarge, len(text), maxProofSize)
	}
	rest, ok := strings.CutPrefix(string(text), proofHeader)
	if !ok {
		return Proof{}, fmt.Errorf("%w: the first line must be %q", ErrProofText, strings.TrimSpace(proofHeader))
	}
	head, checkpoint, ok := strings.Cut(rest, "\n\n")
	if !ok || checkpoint == "" || len(checkpoint) > MaxCheckpointSize {
		return Proof{}, fmt.Errorf("%w: a blank line and the signed checkpoint must follow the hashes", ErrProofText)
	}
	lines := strings.Split(head, "\n")
	p := Proof{Checkpoint: []byte(checkpoint)}
	var err error
	if lines, err = p.parseExtra(lines); err != nil {
		return Proof{}, err
	}
	if err = p.parseIndex(lines[0]); err != nil {
		return Proof{}, err
	}
	if err = p.parseHashes(lines[1:]); err != nil {
		return Proof{}, err
	}
	return p, nil
}

// parseExtra returns the lines after the extra line, at least one.
func (p *Proof) parseExtra(lines []string) ([]string, error) {
	text, ok := strings.CutPrefix(lines[0], "extra ")
	if !ok {
		return lines, nil
	}
	extra, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(extra) > MaxProofExtra || base64.StdEncoding.EncodeToString(extra) != text {
		return nil, fmt.Errorf("%w: the extra line is not base64 of at most %d bytes", ErrProofText, MaxProofExtra)
	}
	p.Extra = extra
	if len(lines) == 1 {
		return nil, fmt.Errorf("%w: the index line is missing", ErrProofText)
	}
	return lines[1:], nil
}

func (p *Proof) parseIndex(line string) error {
	text, ok := strings.CutPrefix(line, "index ")
	if !ok {
		return fmt.Errorf("%w: the index line is missing", ErrProofText)
	}
	if p.Index, ok = decimal(text, MaxSize-1); !ok {
		return fmt.Errorf("%w: index %.30q is not a number from 0 to %d", ErrProofText, text, int64(MaxSize-1))
	}
	return nil
}

func (p *Proof) parseHashes(lines []string) error {
	if len(lines) > maxProofHashes {
		return fmt.Errorf("%w: it has %d hashes, the limit is %d", ErrProofText, len(lines), maxProofHashes)
	}
	for i, line := range lines {
		h, ok := parseHash(line)
		if !ok {
			return fmt.Errorf("%w: hash %d, %.60q, is not 32 bytes in base64", ErrProofText, i, line)
		}
		p.Hashes = append(p.Hashes, h)
	}
	return nil
}

// VerifyInclusion checks that the log of one of the verifier keys holds exactly the bytes rawEntry at the proof's index,
// and returns the checkpoint that says so. It looks at the bytes only; [Parse] reads what they mean.
// The error wraps [ErrProofInvalid] or one of those of [OpenCheckpoint].
func VerifyInclusion(proof Proof, rawEntry []byte, verifierKeys ...string) (Checkpoint, error) {
	c, err := OpenCheckpoint(proof.Checkpoint, verifierKeys...)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(proof.Hashes) > maxProofHashes {
		return Checkpoint{}, fmt.Errorf("%w: it has %d hashes, the limit is %d", ErrProofInvalid, len(proof.Hashes), maxProofHashes)
	}
	leaf := tlog.Hash(LeafHash(rawEntry))
	if err := tlog.CheckRecord(toTlog(proof.Hashes), c.Size, tlog.Hash(c.Root), proof.Index, leaf); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: this entry is not at index %d of the log at size %d; check that the entry's bytes are exactly those of the log", ErrProofInvalid, proof.Index, c.Size)
	}
	return c, nil
}
