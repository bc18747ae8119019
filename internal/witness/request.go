package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/writ-project/writ/evidence"
)

const (
	// maxRequest is the longest body of add-checkpoint that is read, in bytes: 63 hashes, and a checkpoint with many signatures.
	maxRequest = 64 << 10
	maxProof   = 63
)

// request is the body of add-checkpoint: a checkpoint, and the proof that it continues the one at size old.
type request struct {
	old    int64
	proof  []evidence.Hash
	signed []byte // verified by nobody yet
}

func (r request) body() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.old)
	for _, h := range r.proof {
		b = append(b, h.String()+"\n"...)
	}
	b = append(b, '\n')
	return append(b, r.signed...)
}

// origin is what the checkpoint's first line says.
func (r request) origin() string {
	line, _, _ := bytes.Cut(r.signed, []byte("\n"))
	return string(line)
}

func parseRequest(body []byte) (request, error) {
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	size, old := strings.CutPrefix(lines[0], "old ")
	if !ok || !old || len(signed) == 0 {
		return request{}, errors.New("the body must be a line \"old N\", lines of a consistency proof, an empty line, and a checkpoint")
	}
	r := request{signed: signed}
	if r.old, ok = parseSize(size); !ok {
		return request{}, fmt.Errorf("the old size %.30q is not a number from 0 to %d", size, int64(evidence.MaxSize))
	}
	if len(lines)-1 > maxProof {
		return request{}, fmt.Errorf("the proof has %d hashes, the limit is %d", len(lines)-1, maxProof)
	}
	for i, line := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != len(evidence.Hash{}) || evidence.Hash(h).String() != line {
			return request{}, fmt.Errorf("hash %d of the proof, %.60q, is not 32 bytes in base64", i, line)
		}
		r.proof = append(r.proof, evidence.Hash(h))
	}
	return r, nil
}

// parseSize reads a size as the protocol writes it: digits without leading zeros.
func parseSize(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0 && n <= evidence.MaxSize && strconv.FormatInt(n, 10) == text
}
