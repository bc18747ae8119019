package evidence_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
)

// proofLog is an honest log of n small entries.
func proofLog(tb testing.TB, n int) *testLog {
	l := newTestLog(tb)
	for range n {
		l.add("writ.test", "", "")
	}
	return l
}

func (l *testLog) prove(index int64) evidence.Proof {
	l.tb.Helper()
	hashes := must(evidence.ProveInclusion(l.tree, l.store, index, l.tree.Size()))(l.tb)
	return evidence.Proof{Index: index, Hashes: hashes, Checkpoint: l.signedHead()}
}

func TestProofText(t *testing.T) {
	p := evidence.Proof{Index: 3, Hashes: []evidence.Hash{evidence.LeafHash(nil)}, Checkpoint: []byte("signed\n"), Extra: []byte("hi")}
	text := must(p.Marshal())(t)
	want := "c2sp.org/tlog-proof@v1\nextra aGk=\nindex 3\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\nsigned\n"
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	back, err := evidence.ParseProof(text)
	if diff := cmp.Diff(p, back); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestParseProofRefuses(t *testing.T) {
	const head = "c2sp.org/tlog-proof@v1\n"
	hash := evidence.LeafHash(nil).String()
	for name, c := range map[string]struct {
		text string
		is   error
	}{
		"nothing":                  {"", evidence.ErrProofText},
		"another version":          {"c2sp.org/tlog-proof@v2\nindex 0\n\nx\n", evidence.ErrProofText},
		"no checkpoint":            {head + "index 0\n\n", evidence.ErrProofText},
		"no blank line":            {head + "index 0\n" + hash + "\n", evidence.ErrProofText},
		"no index":                 {head + hash + "\n\nx\n", evidence.ErrProofText},
		"extra alone":              {head + "extra aGk=\n\nx\n", evidence.ErrProofText},
		"extra not base64":         {head + "extra !\nindex 0\n\nx\n", evidence.ErrProofText},
		"extra, another spelling":  {head + "extra aGl=\nindex 0\n\nx\n", evidence.ErrProofText},
		"extra twice":              {head + "extra aGk=\nextra aGk=\nindex 0\n\nx\n", evidence.ErrProofText},
		"extra too large":          {head + "extra " + strings.Repeat("AAAA", evidence.MaxProofExtra/3+1) + "\nindex 0\n\nx\n", evidence.ErrProofText},
		"negative index":           {head + "index -1\n\nx\n", evidence.ErrProofText},
		"index with leading zero":  {head + "index 00\n\nx\n", evidence.ErrProofText},
		"index beyond any log":     {head + "index 281474976710656\n\nx\n", evidence.ErrProofText},
		"hash too short":           {head + "index 0\nAAAA\n\nx\n", evidence.ErrProofText},
		"hash, carriage return":    {head + "index 0\n" + hash + "\r\n\nx\n", evidence.ErrProofText},
		"64 hashes":                {head + "index 0\n" + strings.Repeat(hash+"\n", 64) + "\nx\n", evidence.ErrProofText},
		"checkpoint far too large": {head + "index 0\n\n" + strings.Repeat("x", evidence.MaxCheckpointSize+1), evidence.ErrProofText},
		"as large as is read":      {head + strings.Repeat("x", 222_312-len(head)), evidence.ErrProofText}, // all parts at their largest, and 1 KiB
		"too large":                {head + strings.Repeat("x", 222_313-len(head)), evidence.ErrTooLarge},
	} {
		if p, err := evidence.ParseProof([]byte(c.text)); !errors.Is(err, c.is) || !cmp.Equal(p, evidence.Proof{}) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
}

func TestParseProofSaysWhichIndexesThereAre(t *testing.T) {
	_, err := evidence.ParseProof([]byte("c2sp.org/tlog-proof@v1\nindex 281474976710656\n\nx\n"))
	if want := `index "281474976710656" is not a number from 0 to 281474976710655`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

func TestProofMarshalRefuses(t *testing.T) {
	good := evidence.Proof{Checkpoint: []byte("x")}
	for name, change := range map[string]func(*evidence.Proof){
		"negative index":  func(p *evidence.Proof) { p.Index = -1 },
		"index too large": func(p *evidence.Proof) { p.Index = evidence.MaxSize },
		"64 hashes":       func(p *evidence.Proof) { p.Hashes = cheapLeaves(64) },
		"extra too large": func(p *evidence.Proof) { p.Extra = make([]byte, evidence.MaxProofExtra+1) },
		"no checkpoint":   func(p *evidence.Proof) { p.Checkpoint = nil },
		"large one":       func(p *evidence.Proof) { p.Checkpoint = make([]byte, evidence.MaxCheckpointSize+1) },
	} {
		p := good
		change(&p)
		if _, err := p.Marshal(); !errors.Is(err, evidence.ErrProofText) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLargestProofCanBeRead(t *testing.T) {
	p := evidence.Proof{
		Index: evidence.MaxSize - 1, Hashes: cheapLeaves(63),
		Extra: make([]byte, evidence.MaxProofExtra), Checkpoint: bytes.Repeat([]byte("x"), evidence.MaxCheckpointSize),
	}
	back, err := evidence.ParseProof(must(p.Marshal())(t))
	if err != nil || !cmp.Equal(p, back) {
		t.Errorf("%v", err)
	}
}

func TestAnyEntryOfAnyLogIsProven(t *testing.T) {
	l := newTestLog(t)
	var heads [][]byte
	for range 700 {
		l.add("writ.test", "", "")
		heads = append(heads, l.signedHead())
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 700).Draw(t, "size")
		index := rapid.Int64Range(0, size-1).Draw(t, "index")
		hashes, err := evidence.ProveInclusion(l.tree, l.store, index, size)
		if err != nil {
			t.Fatal(err)
		}
		text, err := evidence.Proof{Index: index, Hashes: hashes, Checkpoint: heads[size-1]}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		proof, err := evidence.ParseProof(text)
		if err != nil {
			t.Fatal(err)
		}
		c, err := evidence.VerifyInclusion(proof, l.raws[index], l.vkey)
		if err != nil || c.Size != size || c.Origin != origin {
			t.Fatalf("honest: %v, %v", c, err)
		}
		if other := rapid.Int64Range(0, 699).Draw(t, "other"); other != index {
			if _, err := evidence.VerifyInclusion(proof, l.raws[other], l.vkey); !errors.Is(err, evidence.ErrProofInvalid) {
				t.Fatalf("entry %d passes for %d: %v", other, index, err)
			}
			proof.Index = other
			if _, err := evidence.VerifyInclusion(proof, l.raws[index], l.vkey); !errors.Is(err, evidence.ErrProofInvalid) {
				t.Fatalf("it passes at index %d too: %v", other, err)
			}
		}
	})
}

func TestAnyFlippedBitOfAProofIsFound(t *testing.T) {
	l := proofLog(t, 20)
	raw := l.raws[13]
	text := must(l.prove(13).Marshal())(t)
	check := func(text, raw []byte) error {
		p, err := evidence.ParseProof(text)
		if err == nil {
			_, err = evidence.VerifyInclusion(p, raw, l.vkey)
		}
		return err
	}
	if err := check(text, raw); err != nil {
		t.Fatal(err)
	}
	for i := range len(text) * 8 {
		flipped := bytes.Clone(text)
		flipped[i/8] ^= 1 << (i % 8)
		if check(flipped, raw) == nil {
			t.Errorf("bit %d of byte %d of the proof may be flipped", i%8, i/8)
		}
	}
	for i := range len(raw) * 8 {
		flipped := bytes.Clone(raw)
		flipped[i/8] ^= 1 << (i % 8)
		if err := check(text, flipped); !errors.Is(err, evidence.ErrProofInvalid) {
			t.Errorf("bit %d of byte %d of the entry may be flipped: %v", i%8, i/8, err)
		}
	}
}

func TestVerifyInclusionRefuses(t *testing.T) {
	l := proofLog(t, 3)
	_, otherKey := testKeys(t, "other.example/log")
	p := l.prove(1)
	if _, err := evidence.VerifyInclusion(p, l.raws[1], otherKey); !errors.Is(err, evidence.ErrUnverified) {
		t.Errorf("another log's key: %v", err)
	}
	if _, err := evidence.VerifyInclusion(p, l.raws[1]); !errors.Is(err, evidence.ErrKey) {
		t.Errorf("no key: %v", err)
	}
	p.Hashes = cheapLeaves(64)
	if _, err := evidence.VerifyInclusion(p, l.raws[1], l.vkey); !errors.Is(err, evidence.ErrProofInvalid) {
		t.Errorf("64 hashes: %v", err)
	}
}

func FuzzParseProof(f *testing.F) {
	l := proofLog(f, 5)
	f.Add(must(l.prove(2).Marshal())(f))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra \nindex 0\n\n\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := evidence.ParseProof(text)
		if err != nil {
			return
		}
		if again, err := p.Marshal(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q becomes %q, %v", text, again, err)
		}
		if _, err := evidence.VerifyInclusion(p, []byte("never logged"), l.vkey); err == nil {
			t.Errorf("forged: %q", text)
		}
	})
}
