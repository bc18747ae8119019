package evidence

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// MaxCheckpointSize is the largest signed checkpoint that is read, in bytes; it leaves room for many cosignatures.
	MaxCheckpointSize = 128 << 10
	// MaxOriginSize is the longest origin, in bytes.
	MaxOriginSize = 255

	maxKeyText = 1 << 10
)

// Checkpoint is the head of a log: its size and the root of its tree at that size (c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string // name of the log; also the name of its key
	Size   int64  // entries, from 0 to MaxSize
	Root   Hash
}

// GenerateKey makes an Ed25519 key pair for a log from 32 bytes of rand, in the text form of c2sp.org/signed-note.
// The signer key is the log's secret; verifiers need the verifier key.
func GenerateKey(origin string, rand io.Reader) (signerKey, verifierKey string, err error) {
	if err := checkOrigin(origin); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	if rand == nil {
		return "", "", fmt.Errorf("%w: no source of randomness; pass crypto/rand.Reader", ErrKey)
	}
	signerKey, verifierKey, err = note.GenerateKey(rand, origin)
	if err != nil {
		return "", "", fmt.Errorf("%w: cannot read randomness: %w", ErrKey, err)
	}
	return signerKey, verifierKey, nil
}

// checkOrigin holds origins to what a note can carry as a key name (c2sp.org/signed-note) and a checkpoint as a line.
func checkOrigin(origin string) error {
	switch {
	case origin == "":
		return errors.New("the origin is empty")
	case len(origin) > MaxOriginSize:
		return fmt.Errorf("the origin has %d bytes, the limit is %d", len(origin), MaxOriginSize)
	case !plainText(origin) || strings.ContainsRune(origin, '+') || strings.ContainsFunc(origin, unicode.IsSpace):
		return fmt.Errorf("the origin %.80q holds a space, a plus, a control character or invalid UTF-8", origin)
	}
	return nil
}

// Signer signs the checkpoints of one log. It may be used by several goroutines at once.
type Signer struct {
	// The key is inside a closure of the note package, so that printing a Signer does not show it.
	note note.Signer
}

// NewSigner reads a signer key. Its error wraps [ErrKey] and never quotes the key.
func NewSigner(signerKey string) (*Signer, error) {
	if len(signerKey) > maxKeyText {
		return nil, fmt.Errorf("%w: the signer key is too long", ErrKey)
	}
	s, err := note.NewSigner(signerKey)
	if err != nil {
		return nil, fmt.Errorf("%w: this is no signer key; it begins with PRIVATE+KEY+ and is made by GenerateKey", ErrKey)
	}
	if err := checkOrigin(s.Name()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &Signer{note: s}, nil
}

// Origin returns the name of the log that the key belongs to.
func (s *Signer) Origin() string { return s.note.Name() }

// Sign returns the checkpoint as a signed note. The signer must belong to the checkpoint's origin.
// The same checkpoint and key always give the same bytes. The error wraps [ErrCheckpoint].
func (c Checkpoint) Sign(s *Signer) ([]byte, error) {
	if c.Origin != s.Origin() {
		return nil, fmt.Errorf("%w: its origin is %.80q, the key is for %.80q", ErrCheckpoint, c.Origin, s.Origin())
	}
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: text}, s.note)
}

// text is what is signed.
func (c Checkpoint) text() (string, error) {
	if err := checkOrigin(c.Origin); err != nil {
		return "", fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if c.Size < 0 || c.Size > MaxSize {
		return "", fmt.Errorf("%w: size %d is not from 0 to %d", ErrCheckpoint, c.Size, int64(MaxSize))
	}
	if c.Size == 0 && c.Root != NewTree().Root() {
		return "", fmt.Errorf("%w: %w", ErrCheckpoint, ErrEmptyRoot)
	}
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + c.Root.String() + "\n", nil
}

// OpenCheckpoint reads a signed checkpoint and verifies it: at least one of the verifier keys must have signed it,
// and the name of that key must be the checkpoint's origin. Signatures by other keys (witnesses) are not looked at.
// Pass an old and a new key of a log to accept both. The error wraps [ErrCheckpoint], [ErrUnverified], [ErrKey] or [ErrTooLarge].
func OpenCheckpoint(signed []byte, verifierKeys ...string) (Checkpoint, error) {
	_, c, err := openSigned(signed, verifierKeys)
	return c, err
}

func openSigned(signed []byte, verifierKeys []string) (*note.Note, Checkpoint, error) {
	if len(signed) > MaxCheckpointSize {
		return nil, Checkpoint{}, fmt.Errorf("%w: the checkpoint has %d bytes, the limit is %d", ErrTooLarge, len(signed), MaxCheckpointSize)
	}
	verifiers, err := parseVerifiers(verifierKeys)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	n, err := note.Open(signed, verifiers)
	if err != nil {
		return nil, Checkpoint{}, openError(err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	for _, sig := range n.Sigs {
		if sig.Name == c.Origin && canonicalBase64(sig.Base64) {
			return n, c, nil
		}
	}
	return nil, Checkpoint{}, fmt.Errorf("%w: its origin %.80q has no verifier key here; pass the key of that log", ErrUnverified, c.Origin)
}

// canonicalBase64 refuses the other spellings of the same bytes that the note package lets pass.
func canonicalBase64(text string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil
}

func openError(err error) error {
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified):
		return fmt.Errorf("%w: none of the verifier keys has signed it; check that they belong to this log", ErrUnverified)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w: the signature by %.80q is wrong; the text was changed after signing", ErrUnverified, invalid.Name)
	default:
		return fmt.Errorf("%w: it is no signed note: %w", ErrCheckpoint, err)
	}
}

func parseVerifiers(keys []string) (note.Verifiers, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no verifier key was given; ask the log's operator for it", ErrKey)
	}
	var verifiers []note.Verifier
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			continue // note refuses to choose between two equal keys
		}
		v, err := note.NewVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("%w: %.80q is no Ed25519 verifier key (name+id+base64): %w", ErrKey, key, err)
		}
		verifiers = append(verifiers, v)
	}
	return note.VerifierList(verifiers...), nil
}

// parseCheckpoint reads three lines. Extension lines, which c2sp.org/tlog-checkpoint discourages, are refused:
// Writ writes none, and what they say could not be shown.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("%w: it must have three lines: origin, size and root", ErrCheckpoint)
	}
	if err := checkOrigin(lines[0]); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	size, ok := decimal(lines[1], MaxSize)
	if !ok {
		return Checkpoint{}, fmt.Errorf("%w: size %.30q is not a number from 0 to %d", ErrCheckpoint, lines[1], int64(MaxSize))
	}
	root, ok := parseHash(lines[2])
	if !ok {
		return Checkpoint{}, fmt.Errorf("%w: root %.60q is not 32 bytes in base64", ErrCheckpoint, lines[2])
	}
	if size == 0 && root != NewTree().Root() {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, ErrEmptyRoot)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

func parseHash(text string) (Hash, bool) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) != hashSize {
		return Hash{}, false
	}
	h := Hash(data)
	return h, h.String() == text // base64 has other spellings of the same bytes
}

// VerifyConsistency checks the proof that the log at newer begins with the log at older: that nothing it said then
// was changed or removed. Both checkpoints must have been opened with [OpenCheckpoint]. The error wraps [ErrProofInvalid].
func VerifyConsistency(older, newer Checkpoint, hashes []Hash) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("%w: the checkpoints are of two logs, %.80q and %.80q", ErrProofInvalid, older.Origin, newer.Origin)
	case older.Size < 0 || newer.Size > MaxSize || older.Size > newer.Size:
		return fmt.Errorf("%w: no log grows from size %d to %d; swap the checkpoints, or the log was truncated", ErrProofInvalid, older.Size, newer.Size)
	case older.Size == 0:
		if len(hashes) != 0 || older.Root != NewTree().Root() {
			return fmt.Errorf("%w: from the empty tree the proof is empty", ErrProofInvalid)
		}
		return nil
	case len(hashes) > maxProofHashes:
		return fmt.Errorf("%w: it has %d hashes, the limit is %d", ErrProofInvalid, len(hashes), maxProofHashes)
	}
	err := tlog.CheckTree(toTlog(hashes), newer.Size, tlog.Hash(newer.Root), older.Size, tlog.Hash(older.Root))
	if err != nil {
		return fmt.Errorf("%w: the log at size %d does not begin with the log at size %d; if the proof is the right one, its history was changed", ErrProofInvalid, newer.Size, older.Size)
	}
	return nil
}
