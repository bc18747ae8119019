package evidence_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
)

func TestCheckpointText(t *testing.T) {
	signer, vkey := testKeys(t, origin)
	c := evidence.Checkpoint{Origin: origin, Size: 923748, Root: evidence.LeafHash(nil)}
	signed := must(c.Sign(signer))(t)
	if want := "writ.example/log\n923748\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\n— writ.example/log "; !strings.HasPrefix(string(signed), want) {
		t.Errorf("checkpoint is\n%s", signed)
	}
	back, err := evidence.OpenCheckpoint(signed, vkey)
	if diff := cmp.Diff(c, back); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if again := must(c.Sign(signer))(t); !bytes.Equal(signed, again) {
		t.Error("signing again gives other bytes")
	}
}

func TestCheckpointSignRefuses(t *testing.T) {
	signer, vkey := testKeys(t, origin)
	for _, c := range []evidence.Checkpoint{{Origin: origin, Root: evidence.NewTree().Root()}, {Origin: origin, Size: evidence.MaxSize}} {
		if back, err := evidence.OpenCheckpoint(must(c.Sign(signer))(t), vkey); err != nil || back != c {
			t.Errorf("of size %d: %v, %v", c.Size, back, err)
		}
	}
	for name, c := range map[string]evidence.Checkpoint{
		"another origin": {Origin: "other.example/log", Size: 1},
		"negative size":  {Origin: origin, Size: -1},
		"size too large": {Origin: origin, Size: evidence.MaxSize + 1},
		"empty, no root": {Origin: origin},
	} {
		if _, err := c.Sign(signer); !errors.Is(err, evidence.ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// signText signs any text with the key of a log, as a careless log would.
func signText(t *testing.T, name, text string) (signed []byte, vkey string) {
	t.Helper()
	seed := bytes.Repeat([]byte(name), 32)
	skey, vkey, err := evidence.GenerateKey(name, bytes.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err = note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		t.Fatal(err)
	}
	return signed, vkey
}

func TestOpenCheckpointRefusesText(t *testing.T) {
	root := evidence.LeafHash(nil).String()
	for name, c := range map[string]struct {
		text string
		is   error
	}{
		"another origin":           {"other.example/log\n1\n" + root + "\n", evidence.ErrUnverified},
		"origin with a space":      {"writ log\n1\n" + root + "\n", evidence.ErrCheckpoint},
		"no root":                  {origin + "\n1\n", evidence.ErrCheckpoint},
		"an extension line":        {origin + "\n1\n" + root + "\nmore\n", evidence.ErrCheckpoint},
		"size with leading zero":   {origin + "\n01\n" + root + "\n", evidence.ErrCheckpoint},
		"negative size":            {origin + "\n-1\n" + root + "\n", evidence.ErrCheckpoint},
		"size over the limit":      {origin + "\n281474976710657\n" + root + "\n", evidence.ErrCheckpoint},
		"size over 64 bits":        {origin + "\n99999999999999999999\n" + root + "\n", evidence.ErrCheckpoint},
		"root too short":           {origin + "\n1\nAAAA\n", evidence.ErrCheckpoint},
		"root not base64":          {origin + "\n1\n" + strings.Repeat("!", 44) + "\n", evidence.ErrCheckpoint},
		"root in another spelling": {origin + "\n1\n" + root[:42] + "1=\n", evidence.ErrCheckpoint},
		"size 0 with a root":       {origin + "\n0\n" + root + "\n", evidence.ErrCheckpoint},
	} {
		signed, vkey := signText(t, origin, c.text)
		if _, err := evidence.OpenCheckpoint(signed, vkey); !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
}

func TestOpenCheckpointKeys(t *testing.T) {
	signer, vkey := testKeys(t, origin)
	_, otherKey := testKeys(t, "other.example/log")
	c := evidence.Checkpoint{Origin: origin, Size: 1}
	signed := must(c.Sign(signer))(t)
	changed := bytes.Replace(signed, []byte("\n1\n"), []byte("\n2\n"), 1)
	unsigned := signed[:bytes.Index(signed, []byte("— "))]
	for name, x := range map[string]struct {
		signed []byte
		keys   []string
		is     error
	}{
		"its key":             {signed, []string{vkey}, nil},
		"its key twice":       {signed, []string{vkey, vkey}, nil},
		"one of several":      {signed, []string{otherKey, vkey}, nil},
		"after a key twice":   {signed, []string{otherKey, otherKey, vkey}, nil},
		"no key":              {signed, nil, evidence.ErrKey},
		"not a key":           {signed, []string{"x"}, evidence.ErrKey},
		"another log's key":   {signed, []string{otherKey}, evidence.ErrUnverified},
		"a changed size":      {changed, []string{vkey}, evidence.ErrUnverified},
		"no signature":        {unsigned, []string{vkey}, evidence.ErrCheckpoint},
		"nothing":             {nil, []string{vkey}, evidence.ErrCheckpoint},
		"as much as is read":  {make([]byte, evidence.MaxCheckpointSize), []string{vkey}, evidence.ErrCheckpoint},
		"too much":            {make([]byte, evidence.MaxCheckpointSize+1), []string{vkey}, evidence.ErrTooLarge},
		"a cosignature added": {append(bytes.Clone(signed), "— witness.example AAAAAAAAAAAA\n"...), []string{vkey}, nil},
	} {
		got, err := evidence.OpenCheckpoint(x.signed, x.keys...)
		if !errors.Is(err, x.is) || (err == nil && got != c) || (err != nil && got != evidence.Checkpoint{}) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, x.is)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, name := range []string{"", "a b", "a+b", "a\nb", "a\x01b", "a\xff", strings.Repeat("a", 256)} {
		if _, _, err := evidence.GenerateKey(name, rapidBytes{}); !errors.Is(err, evidence.ErrKey) {
			t.Errorf("origin %q: %v", name, err)
		}
	}
	if _, _, err := evidence.GenerateKey(origin, nil); !errors.Is(err, evidence.ErrKey) {
		t.Errorf("no randomness: %v", err)
	}
	broken := errors.New("broken")
	if _, _, err := evidence.GenerateKey(origin, iotest.ErrReader(broken)); !errors.Is(err, evidence.ErrKey) || !errors.Is(err, broken) {
		t.Errorf("broken randomness: %v", err)
	}
	if _, _, err := evidence.GenerateKey(strings.Repeat("a", evidence.MaxOriginSize), rapidBytes{}); err != nil {
		t.Errorf("the longest origin: %v", err)
	}
	skey, _, err := evidence.GenerateKey(strings.Repeat("é", 100), rapidBytes{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := evidence.NewSigner(skey); err != nil || s.Origin() != strings.Repeat("é", 100) {
		t.Errorf("%v", err)
	}
	secret := "PRIVATE+KEY+" + origin + "+01234567+c2VjcmV0IQ=="
	for size, says := range map[int]string{1024: "no signer key", 1025: "too long"} {
		if _, err := evidence.NewSigner(strings.Repeat("x", size)); !errors.Is(err, evidence.ErrKey) || !strings.Contains(err.Error(), says) {
			t.Errorf("a signer key of %d bytes: %v", size, err)
		}
	}
	for _, key := range []string{"", "x", secret, strings.Repeat("x", 2000), keyWithName(t, strings.Repeat("n", 300))} {
		_, err := evidence.NewSigner(key)
		if !errors.Is(err, evidence.ErrKey) || strings.Contains(fmt.Sprint(err), "c2Vj") {
			t.Errorf("signer key %.20q: %v", key, err)
		}
	}
}

// keyWithName makes a signer key that the note format allows and a checkpoint's origin does not.
func keyWithName(t *testing.T, name string) string {
	t.Helper()
	skey, _, err := note.GenerateKey(rapidBytes{}, name)
	if err != nil {
		t.Fatal(err)
	}
	return skey
}

// rapidBytes is randomness for keys that protect nothing.
type rapidBytes struct{}

func (rapidBytes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

func TestPrintingASignerShowsNoKey(t *testing.T) {
	skey, _, err := evidence.GenerateKey(origin, rapidBytes{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	seed := "0 1 2 3 4 5"
	for _, format := range []string{"%v", "%+v", "%#v", "%x"} {
		if text := fmt.Sprintf(format, s) + fmt.Sprintf(format, *s); strings.Contains(text, seed) || strings.Contains(text, "000102030405") || strings.Contains(text, skey[len(skey)-20:]) {
			t.Errorf("%s shows the key: %s", format, text)
		}
	}
}

func TestAnyFlippedBitOfACheckpointIsFound(t *testing.T) {
	signer, vkey := testKeys(t, origin)
	signed := must(evidence.Checkpoint{Origin: origin, Size: 77, Root: cheapLeaf(1)}.Sign(signer))(t)
	want := must(evidence.OpenCheckpoint(signed, vkey))(t)
	for i := range len(signed) * 8 {
		flipped := bytes.Clone(signed)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := evidence.OpenCheckpoint(flipped, vkey); err == nil {
			t.Errorf("bit %d of byte %d (%q) may be flipped; it opened as %v", i%8, i/8, signed[i/8], want)
		}
	}
}

func TestConsistencyBetweenAnyTwoSizes(t *testing.T) {
	tree, store := grow(1200)
	at := func(t *rapid.T, size int64) evidence.Checkpoint {
		root, err := evidence.RootAt(tree, store, size)
		if err != nil {
			t.Fatal(err)
		}
		return evidence.Checkpoint{Origin: origin, Size: size, Root: root}
	}
	rapid.Check(t, func(t *rapid.T) {
		newer := at(t, rapid.Int64Range(0, 1200).Draw(t, "newer"))
		older := at(t, rapid.Int64Range(0, newer.Size).Draw(t, "older"))
		proof, err := evidence.ProveConsistency(tree, store, older.Size, newer.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := evidence.VerifyConsistency(older, newer, proof); err != nil {
			t.Fatalf("honest: %v", err)
		}
		forged := older
		forged.Root[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if err := evidence.VerifyConsistency(forged, newer, proof); !errors.Is(err, evidence.ErrProofInvalid) {
			t.Fatalf("another older root passes: %v", err)
		}
		if older.Size == 0 {
			return
		}
		forged = newer
		forged.Root[0] ^= 1
		if err := evidence.VerifyConsistency(older, forged, proof); !errors.Is(err, evidence.ErrProofInvalid) {
			t.Fatalf("another newer root passes: %v", err)
		}
		if len(proof) > 0 {
			proof[rapid.IntRange(0, len(proof)-1).Draw(t, "hash")][3] ^= 16
			if err := evidence.VerifyConsistency(older, newer, proof); !errors.Is(err, evidence.ErrProofInvalid) {
				t.Fatalf("a changed proof passes: %v", err)
			}
		}
	})
}

func TestVerifyConsistencyRefuses(t *testing.T) {
	empty := evidence.Checkpoint{Origin: origin, Root: evidence.NewTree().Root()}
	two := evidence.Checkpoint{Origin: origin, Size: 2, Root: rfcRoot(cheapLeaves(2))}
	foreign := evidence.Checkpoint{Origin: "other", Size: 2, Root: two.Root}
	over := evidence.Checkpoint{Origin: origin, Size: evidence.MaxSize + 1, Root: two.Root}
	largest := evidence.Checkpoint{Origin: origin, Size: evidence.MaxSize, Root: two.Root}
	if err := evidence.VerifyConsistency(largest, largest, nil); err != nil {
		t.Errorf("the largest log begins with itself: %v", err)
	}
	for name, c := range map[string]struct {
		older, newer evidence.Checkpoint
		hashes       []evidence.Hash
		says         string
	}{
		"two logs":               {two, foreign, nil, "of two logs"},
		"backwards":              {two, empty, nil, "from size 2 to 0"},
		"negative":               {evidence.Checkpoint{Origin: origin, Size: -1}, two, nil, "from size -1 to 2"},
		"over the limit":         {over, over, nil, "from size 281474976710657 to 281474976710657"},
		"from empty with hashes": {empty, two, cheapLeaves(1), "the proof is empty"},
		"too many hashes":        {two, two, cheapLeaves(64), "it has 64 hashes"},
		"hashes for the same":    {two, two, cheapLeaves(1), "does not begin with"},
	} {
		if err := evidence.VerifyConsistency(c.older, c.newer, c.hashes); !errors.Is(err, evidence.ErrProofInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	signer, vkey := testKeys(f, origin)
	signed := must(evidence.Checkpoint{Origin: origin, Size: 1}.Sign(signer))(f)
	f.Add(signed)
	f.Add([]byte("a\n1\nAAAA\n\n— a AAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := evidence.OpenCheckpoint(data, vkey); err == nil && !bytes.HasPrefix(data, signed[:60]) {
			t.Errorf("forged: %q", data)
		}
	})
}
