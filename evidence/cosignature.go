package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	algEd25519      = 1 // a log's key
	algCosignature  = 4 // a witness's key: timestamped Ed25519 cosignatures
	keyIDSize       = 4
	timestampSize   = 8
	cosignatureSize = timestampSize + ed25519.SignatureSize
	signerPrefix    = "PRIVATE+KEY+"
)

// GenerateWitnessKey makes an Ed25519 key pair for a witness from 32 bytes of rand, in the text form of
// c2sp.org/signed-note with the type of c2sp.org/tlog-cosignature (0x04). The name follows the rules of an origin.
// The error wraps [ErrKey].
func GenerateWitnessKey(name string, rand io.Reader) (signerKey, verifierKey string, err error) {
	if err := checkOrigin(name); err != nil {
		return "", "", fmt.Errorf("%w: as the name of a witness: %w", ErrKey, err)
	}
	if rand == nil {
		return "", "", fmt.Errorf("%w: no source of randomness; pass crypto/rand.Reader", ErrKey)
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return "", "", fmt.Errorf("%w: cannot read randomness: %w", ErrKey, err)
	}
	w := witnessOf(name, seed)
	return signerPrefix + keyText(name, w.id, seed), w.VerifierKey(), nil
}

func witnessOf(name string, seed []byte) *Cosigner {
	key := ed25519.NewKeyFromSeed(seed)
	public := key[ed25519.SeedSize:]
	return &Cosigner{
		cosignatureVerifier: cosignatureVerifier{name: name, id: keyID(name, public), public: ed25519.PublicKey(public)},
		sign:                func(message []byte) []byte { return ed25519.Sign(key, message) },
	}
}

// keyID is the key id that c2sp.org/tlog-cosignature prescribes.
func keyID(name string, public []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n\x04"), public...))
	return binary.BigEndian.Uint32(sum[:])
}

func keyText(name string, id uint32, key []byte) string {
	return fmt.Sprintf("%s+%08x+%s", name, id, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, key...)))
}

// parseKeyText splits name+hex+base64. It accepts one spelling of each key only.
func parseKeyText(text string) (name string, id uint32, alg byte, key []byte, ok bool) {
	if len(text) > maxKeyText {
		return "", 0, 0, nil, false
	}
	name, rest, _ := strings.Cut(text, "+")
	hex8, key64, _ := strings.Cut(rest, "+")
	bits, err1 := hex.DecodeString(hex8)
	data, err2 := base64.StdEncoding.Strict().DecodeString(key64)
	if checkOrigin(name) != nil || err1 != nil || len(bits) != keyIDSize || strings.ToLower(hex8) != hex8 ||
		err2 != nil || len(data) != 1+ed25519.SeedSize || strings.ContainsAny(key64, "\r\n") {
		return "", 0, 0, nil, false
	}
	return name, binary.BigEndian.Uint32(bits), data[0], data[1:], true
}

// SameKey reports whether two verifier keys, of logs or witnesses, hold the same public key, whatever their names and types.
// What is no key is the same as nothing.
func SameKey(a, b string) bool {
	key := publicOf(a)
	return len(key) > 0 && bytes.Equal(key, publicOf(b))
}

// publicOf takes every spelling that the note package takes.
func publicOf(text string) []byte {
	_, rest, _ := strings.Cut(text, "+")
	_, key64, _ := strings.Cut(rest, "+")
	data, _ := base64.StdEncoding.DecodeString(key64)
	return data[min(1, len(data)):]
}

// Cosigner makes the cosignatures of one witness. It may be used by several goroutines at once.
//
// Whoever holds one must cosign only checkpoints that are consistent with all that it cosigned before.
type Cosigner struct {
	cosignatureVerifier

	// The key is inside a closure, so that printing a Cosigner does not show it.
	sign func(message []byte) []byte
}

// NewCosigner reads the signer key of a witness. Its error wraps [ErrKey] and never quotes the key.
func NewCosigner(signerKey string) (*Cosigner, error) {
	text, private := strings.CutPrefix(signerKey, signerPrefix)
	name, id, alg, seed, ok := parseKeyText(text)
	if !private || !ok || alg != algCosignature {
		return nil, fmt.Errorf("%w: this is no signer key of a witness; it begins with %s and is made by GenerateWitnessKey", ErrKey, signerPrefix)
	}
	w := witnessOf(name, seed)
	if w.id != id {
		return nil, fmt.Errorf("%w: the signer key of witness %.80q is damaged: its id is not that of its key", ErrKey, name)
	}
	return w, nil
}

// Name returns the name of the witness.
func (w *Cosigner) Name() string { return w.name }

// VerifierKey returns the public key, as verifiers need it.
func (w *Cosigner) VerifierKey() string { return keyText(w.name, w.id, w.public) }

// Cosign returns a signature line (c2sp.org/tlog-cosignature, Ed25519) that says: at that time, in whole seconds, this was
// the largest checkpoint of its log that the witness had seen, and it is consistent with all before. The time must be after
// 1970. The error wraps [ErrCheckpoint] or [ErrCosignature].
func (w *Cosigner) Cosign(c Checkpoint, at time.Time) ([]byte, error) {
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	seconds := at.Unix()
	if seconds <= 0 {
		return nil, fmt.Errorf("%w: a cosignature needs the time; set the clock", ErrCosignature)
	}
	blob := binary.BigEndian.AppendUint32(nil, w.id)
	blob = binary.BigEndian.AppendUint64(blob, uint64(seconds))
	blob = append(blob, w.sign(cosignedMessage(uint64(seconds), []byte(text)))...)
	return []byte("— " + w.name + " " + base64.StdEncoding.EncodeToString(blob) + "\n"), nil
}

func cosignedMessage(seconds uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"), text...)
}

// cosignatureVerifier is a note.Verifier for one witness.
type cosignatureVerifier struct {
	name   string
	id     uint32
	public ed25519.PublicKey
}

func (v cosignatureVerifier) verifier() note.Verifier { return noteVerifier{v} }

// noteVerifier keeps the methods of note.Verifier out of Cosigner's.
type noteVerifier struct{ cosignatureVerifier }

func (v noteVerifier) Name() string    { return v.name }
func (v noteVerifier) KeyHash() uint32 { return v.id }

// Verify refuses a timestamp of zero: a witness that tells no time says nothing about the largest tree.
func (v noteVerifier) Verify(text, sig []byte) bool {
	if len(sig) != cosignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(sig)
	return seconds > 0 && seconds <= math.MaxInt64 && ed25519.Verify(v.public, cosignedMessage(seconds, text), sig[timestampSize:])
}

// parseWitnesses reads verifier keys of witnesses. One witness under two keys or two names would count twice.
func parseWitnesses(keys []string) ([]cosignatureVerifier, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no verifier key of a witness was given; ask the witness's operator for it", ErrKey)
	}
	var witnesses []cosignatureVerifier
	for _, text := range keys {
		name, id, alg, public, ok := parseKeyText(text)
		switch {
		case ok && alg == algEd25519:
			return nil, fmt.Errorf("%w: %.80q is the key of a log, not of a witness", ErrKey, text)
		case !ok || alg != algCosignature || keyID(name, public) != id:
			return nil, fmt.Errorf("%w: %.80q is no verifier key of a witness (name+id+base64, type 0x04)", ErrKey, text)
		}
		for _, w := range witnesses {
			if w.name == name || bytes.Equal(w.public, public) {
				return nil, fmt.Errorf("%w: %.80q and %.80q are one witness, by name or by key, and would count twice", ErrKey, w.name, name)
			}
		}
		witnesses = append(witnesses, cosignatureVerifier{name: name, id: id, public: public})
	}
	return witnesses, nil
}

// Cosignature says that a witness has cosigned a checkpoint.
type Cosignature struct {
	Witness string    // its name
	Time    time.Time // when, in whole seconds, by the clock of the witness
}

// openCosigned returns the note and the cosignatures by the witnesses in it, perhaps none.
func openCosigned(signed []byte, witnesses []cosignatureVerifier) (*note.Note, []Cosignature, error) {
	if len(signed) > MaxCheckpointSize {
		return nil, nil, fmt.Errorf("%w: the checkpoint has %d bytes, the limit is %d", ErrTooLarge, len(signed), MaxCheckpointSize)
	}
	var verifiers []note.Verifier
	for _, w := range witnesses {
		verifiers = append(verifiers, w.verifier())
	}
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return unverified.Note, nil, nil
	}
	if err != nil {
		return nil, nil, openError(err)
	}
	var found []Cosignature
	for _, sig := range n.Sigs {
		blob, err := base64.StdEncoding.Strict().DecodeString(sig.Base64)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: by %.80q: it is not in canonical base64", ErrCosignature, sig.Name)
		}
		seconds := binary.BigEndian.Uint64(blob[keyIDSize:])
		found = append(found, Cosignature{Witness: sig.Name, Time: time.Unix(int64(seconds), 0).UTC()})
	}
	return n, found, nil
}

// OpenCosigned reads a checkpoint on the word of witnesses alone: at least one of them must have cosigned it. It is for
// those who keep what a witness said; whoever wants to know what a log says uses [OpenCheckpoint] or [CosignaturePolicy].
// The error wraps [ErrCheckpoint], [ErrCosignature], [ErrUnverified], [ErrKey] or [ErrTooLarge].
func OpenCosigned(signed []byte, witnessKeys ...string) (Checkpoint, []Cosignature, error) {
	witnesses, err := parseWitnesses(witnessKeys)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	n, found, err := openCosigned(signed, witnesses)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	if len(found) == 0 {
		return Checkpoint{}, nil, fmt.Errorf("%w: none of these witnesses has cosigned it", ErrUnverified)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	return c, found, nil
}

// LogSignatures returns a signed checkpoint with the signatures of the log alone, whose verifier keys these are.
// The error is one of those of [OpenCheckpoint].
func LogSignatures(signed []byte, verifierKeys ...string) ([]byte, error) {
	n, _, err := openSigned(signed, verifierKeys)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs})
}

// MergeCosignatures adds to a signed checkpoint the cosignatures of these witnesses that are among the signature lines, as a
// witness returns them; a line takes the place of an earlier one by the same witness. Lines by others are left out, a wrong
// line by one of these is an error. The signature of the log is not looked at.
// The error wraps [ErrCheckpoint], [ErrCosignature], [ErrUnverified], [ErrKey] or [ErrTooLarge].
func MergeCosignatures(signed, lines []byte, witnessKeys ...string) ([]byte, error) {
	witnesses, err := parseWitnesses(witnessKeys)
	if err != nil {
		return nil, err
	}
	old, _, err := openCosigned(signed, witnesses)
	if err != nil {
		return nil, err
	}
	added, found, err := openCosigned(append([]byte(old.Text+"\n"), lines...), witnesses)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || added.Text != old.Text {
		return nil, fmt.Errorf("%w: no line is a cosignature of this checkpoint by one of these witnesses", ErrCosignature)
	}
	var replay []note.Signer
	for _, sig := range added.Sigs {
		replay = append(replay, replayed{sig})
	}
	first, then := old.UnverifiedSigs, old.Sigs // the log's own signature first
	merged, err := note.Sign(&note.Note{Text: old.Text, Sigs: first, UnverifiedSigs: then}, replay...)
	if err == nil {
		_, _, err = openCosigned(merged, witnesses) // there may be too many now
	}
	if err != nil {
		return nil, fmt.Errorf("%w: with these cosignatures the checkpoint cannot be read any more: %w", ErrTooLarge, err)
	}
	return merged, nil
}

// replayed is a note.Signer that has signed before.
type replayed struct{ sig note.Signature }

func (r replayed) Name() string    { return r.sig.Name }
func (r replayed) KeyHash() uint32 { return r.sig.Hash }

func (r replayed) Sign([]byte) ([]byte, error) {
	blob, err := base64.StdEncoding.DecodeString(r.sig.Base64)
	return blob[keyIDSize:], err
}

// CosignaturePolicy says which witnesses are trusted, and how many of them must have cosigned a checkpoint.
// It may be used by several goroutines at once.
type CosignaturePolicy struct {
	required  int
	witnesses []cosignatureVerifier
}

// NewCosignaturePolicy makes the policy "at least required of these witnesses"; required is from 1 to their number.
// One witness under two keys or two names is refused. The error wraps [ErrKey] or [ErrPolicy].
func NewCosignaturePolicy(required int, witnessKeys ...string) (*CosignaturePolicy, error) {
	witnesses, err := parseWitnesses(witnessKeys)
	if err != nil {
		return nil, err
	}
	if required < 1 || required > len(witnesses) {
		return nil, fmt.Errorf("%w: %d of %d witnesses; ask for at least one, and for no more than there are", ErrPolicy, required, len(witnesses))
	}
	return &CosignaturePolicy{required, witnesses}, nil
}

// Check opens a signed checkpoint as [OpenCheckpoint] does, and makes sure that enough witnesses have cosigned it.
// It returns who has, each witness once, also where they are too few: then the error wraps [ErrUnwitnessed]. Other errors wrap
// [ErrCosignature], [ErrPolicy] (a witness has the log's own key), or are those of OpenCheckpoint.
// Whether the times of the cosignatures are recent is for the caller to judge, who has a clock.
func (p *CosignaturePolicy) Check(signed []byte, logKeys ...string) (Checkpoint, []Cosignature, error) {
	c, err := OpenCheckpoint(signed, logKeys...)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	for _, text := range logKeys {
		for _, w := range p.witnesses {
			if SameKey(text, keyText(w.name, w.id, w.public)) {
				return Checkpoint{}, nil, fmt.Errorf("%w: %.80q has the key of the log; a log cannot be its own witness", ErrPolicy, w.name)
			}
		}
	}
	_, found, err := openCosigned(signed, p.witnesses)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	if len(found) < p.required {
		return c, found, fmt.Errorf("%w: %d of %d witnesses have cosigned size %d of %.80q, %d are required", ErrUnwitnessed, len(found), len(p.witnesses), c.Size, c.Origin, p.required)
	}
	return c, found, nil
}
