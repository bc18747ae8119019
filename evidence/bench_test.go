package evidence_test

import (
	"crypto/ed25519"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/writ-project/writ/evidence"
)

// benchEntry has the size of a decision's entry.
func benchEntry() evidence.Entry {
	e := fullEntry()
	e.Data = json.RawMessage(`{"outcome":"allow","policies":["read-own","` + strings.Repeat("p", 60) + `"],"risk":{"score":20,"factors":["new-identity"]},` +
		`"bounds":{"ttl":900,"uses":1},"bundle":"sha256:` + strings.Repeat("a", 43) + `","commitments":{"args":"sha256:` + strings.Repeat("A", 43) + `"}}`)
	return e
}

func BenchmarkMarshal(b *testing.B) {
	e := benchEntry()
	b.ReportAllocs()
	for b.Loop() {
		raw, err := e.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(raw)))
	}
}

func BenchmarkParse(b *testing.B) {
	raw := must(benchEntry().Marshal())(b)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := evidence.Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend is what one entry costs in a commit: text, leaf hash, tree.
func BenchmarkAppend(b *testing.B) {
	tree := evidence.NewTree()
	e := benchEntry()
	b.ReportAllocs()
	for i := 8; b.Loop(); i++ {
		e.ID = strconv.Itoa(i)
		raw, err := e.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		tree.Append(evidence.LeafHash(raw))
	}
}

func BenchmarkRoot(b *testing.B) {
	tree, _ := grow(65535)
	for b.Loop() {
		tree.Root()
	}
}

func BenchmarkClone(b *testing.B) {
	tree, _ := grow(65535)
	for b.Loop() {
		tree.Clone()
	}
}

// BenchmarkSign is what a commit pays for its checkpoint; BenchmarkSignBare is the signature alone.
func BenchmarkSign(b *testing.B) {
	signer, _ := testKeys(b, origin)
	c := evidence.Checkpoint{Origin: origin, Size: 123456789, Root: cheapLeaf(1)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Sign(signer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignBare(b *testing.B) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	text := []byte(origin + "\n123456789\n" + cheapLeaf(1).String() + "\n")
	for b.Loop() {
		ed25519.Sign(key, text)
	}
}

func BenchmarkProveInclusion(b *testing.B) {
	tree, store := grow(65537)
	for b.Loop() {
		if _, err := evidence.ProveInclusion(tree, store, 12345, 65537); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify is the cost of one entry in the verification of a whole log.
func BenchmarkVerify(b *testing.B) {
	l := newTestLog(b)
	for i := range 1000 {
		l.add("writ.decision.made", "task"+strconv.Itoa(i%50), string(benchEntry().Data))
	}
	b.ReportAllocs()
	for b.Loop() {
		v := evidence.NewVerifier(origin)
		for _, raw := range l.raws {
			v.Add(raw)
		}
		if r := v.Finish(l.head()); !r.OK() {
			b.Fatal(r.Problems)
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(l.raws))/b.Elapsed().Seconds(), "entries/s")
}
