package evidence

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const (
	// SaltSize is the size of a disclosure's salt in bytes.
	SaltSize = 16
	// MaxValueSize is the largest value that can be committed to, in bytes.
	MaxValueSize = 1 << 20
	// MaxCommitments is the most commitments that one entry, and the most slots that one erasure, may hold.
	MaxCommitments = 256

	commitmentPrefix = "sha256:"
	commitmentDomain = "writ evidence commitment v1\n"
	maxSlotSize      = 128
)

// Commitment is a salted hash of a value, "sha256:" and base64url without padding. It says nothing about the value
// to those who do not have the salt, and binds the log to the value for those who have both.
type Commitment string

// Disclosure is what opens a commitment. It lies beside the log, so that it can be erased.
// It is secret as far as the value is. Its JSON form keeps the value's exact bytes, inside a string.
type Disclosure struct {
	Salt  []byte          // SaltSize random bytes, used for this value only
	Value json.RawMessage // the exact bytes that are committed to
}

// NewDisclosure checks a salt and a value: the value must be one strict JSON value of at most [MaxValueSize] bytes. Both are kept
// as they are, and must not be changed afterwards. The error wraps [ErrCommitment] or [ErrTooLarge].
func NewDisclosure(salt, value []byte) (Disclosure, error) {
	if len(salt) != SaltSize {
		return Disclosure{}, fmt.Errorf("%w: the salt has %d bytes; give %d random ones", ErrCommitment, len(salt), SaltSize)
	}
	if len(value) > MaxValueSize {
		return Disclosure{}, fmt.Errorf("%w: the value has %d bytes, the limit is %d", ErrTooLarge, len(value), MaxValueSize)
	}
	if err := checkJSON(value); err != nil {
		return Disclosure{}, fmt.Errorf("%w: value: %w", ErrCommitment, err)
	}
	return Disclosure{Salt: salt, Value: value}, nil
}

// Commit returns the commitment to the value: SHA-256 over a fixed domain line, then the salt and the value, each after its
// length in eight bytes (big-endian).
func (d Disclosure) Commit() Commitment {
	h := sha256.New()
	var length [8]byte
	h.Write([]byte(commitmentDomain))
	for _, part := range [][]byte{d.Salt, d.Value} {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	return Commitment(commitmentPrefix + base64.RawURLEncoding.EncodeToString(h.Sum(nil)))
}

// Opens reports whether d is what was committed to.
func (c Commitment) Opens(d Disclosure) bool {
	// A short salt would let the value be guessed; nothing of ours is committed to with one.
	return len(d.Salt) == SaltSize && subtle.ConstantTimeCompare([]byte(c), []byte(d.Commit())) == 1
}

// disclosureJSON keeps the value in a string: as JSON inside JSON, encoders would reformat it and break the commitment.
type disclosureJSON struct {
	Salt  string `json:"salt"` // base64url without padding
	Value string `json:"value"`
}

// MarshalJSON implements [json.Marshaler].
func (d Disclosure) MarshalJSON() ([]byte, error) {
	return json.Marshal(disclosureJSON{base64.RawURLEncoding.EncodeToString(d.Salt), string(d.Value)})
}

// UnmarshalJSON implements [json.Unmarshaler]. It accepts what [NewDisclosure] does.
func (d *Disclosure) UnmarshalJSON(data []byte) error {
	var text disclosureJSON
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%w: %w", ErrCommitment, err)
	}
	salt, err := base64.RawURLEncoding.Strict().DecodeString(text.Salt)
	if err != nil {
		return fmt.Errorf("%w: the salt is not base64url", ErrCommitment)
	}
	*d, err = NewDisclosure(salt, []byte(text.Value))
	return err
}

// CheckSlot makes sure that a slot's name is one that [Entry.Commitments] reads. The error wraps [ErrCommitment].
func CheckSlot(name string) error {
	if len(name) == 0 || len(name) > maxSlotSize {
		return fmt.Errorf("%w: the name of a slot has 1 to %d bytes", ErrCommitment, maxSlotSize)
	}
	return nil
}

// Commitments returns the commitments in the entry's data (its member "commitments"), by slot; nil if there are none.
// The error wraps [ErrCommitment].
func (e Entry) Commitments() (map[string]Commitment, error) {
	data, err := dataMembers(e.Data, "commitments")
	if err != nil || data[0] == nil {
		return nil, err
	}
	found := make(map[string]Commitment)
	err = members(data[0], func(name, value []byte) error {
		text, err := stringValue(value)
		if err != nil || !wellFormed(text) {
			return fmt.Errorf("slot %.40q does not hold %q and 43 characters of base64url", name, commitmentPrefix)
		}
		if CheckSlot(string(name)) != nil || len(found) == MaxCommitments {
			return fmt.Errorf("there are more than %d slots, or a name is not 1 to %d bytes long", MaxCommitments, maxSlotSize)
		}
		found[string(name)] = Commitment(text)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: commitments: %w", ErrCommitment, err)
	}
	return found, nil
}

func wellFormed(commitment string) bool {
	text, ok := strings.CutPrefix(commitment, commitmentPrefix)
	hash, err := base64.RawURLEncoding.Strict().DecodeString(text)
	// Decoders skip line breaks, so that the length tells them.
	return ok && err == nil && len(hash) == hashSize && len(text) == base64.RawURLEncoding.EncodedLen(hashSize)
}

// ErasedData is the data of an entry of type [TypeValueErased]: which values of which entry are no longer there.
type ErasedData struct {
	Index int64    `json:"index"` // of the entry that committed to them
	Slots []string `json:"slots"` // 1 to MaxCommitments
}

// Erased reads the data of an entry of type [TypeValueErased]. The error wraps [ErrCommitment].
func (e Entry) Erased() (ErasedData, error) {
	found, err := dataMembers(e.Data, "index", "slots")
	if err != nil {
		return ErasedData{}, err
	}
	id, _ := decimal(e.ID, MaxSize)
	index, ok := decimal(found[0], MaxSize)
	if !ok || index >= id {
		return ErasedData{}, fmt.Errorf("%w: an erasure needs the index of an earlier entry", ErrCommitment)
	}
	erased := ErasedData{Index: index}
	err = json.Unmarshal(found[1], &erased.Slots)
	if err != nil || len(erased.Slots) == 0 || len(erased.Slots) > MaxCommitments {
		return ErasedData{}, fmt.Errorf("%w: an erasure needs a list of 1 to %d slots", ErrCommitment, MaxCommitments)
	}
	return erased, nil
}

// dataMembers returns the exact bytes of members of an entry's data, in the order of names; nil for one that is missing.
func dataMembers(data []byte, names ...string) ([][]byte, error) {
	found := make([][]byte, len(names))
	if len(data) == 0 {
		return found, nil
	}
	err := members(data, func(name, value []byte) error {
		if i := slices.Index(names, string(name)); i >= 0 {
			found[i] = value
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: data: %w", ErrCommitment, err)
	}
	return found, nil
}
