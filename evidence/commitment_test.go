package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
)

func salt(b byte) []byte { return bytes.Repeat([]byte{b}, evidence.SaltSize) }

func TestCommitmentText(t *testing.T) {
	d := must(evidence.NewDisclosure(salt(1), []byte(`"alice"`)))(t)
	hash := sha256.Sum256([]byte("writ evidence commitment v1\n" +
		"\x00\x00\x00\x00\x00\x00\x00\x10" + strings.Repeat("\x01", 16) + "\x00\x00\x00\x00\x00\x00\x00\x07" + `"alice"`))
	want := evidence.Commitment("sha256:" + base64.RawURLEncoding.EncodeToString(hash[:]))
	if got := d.Commit(); got != want {
		t.Errorf("commitment is %s, want %s", got, want)
	}
	if !want.Opens(d) {
		t.Error("it does not open")
	}
}

func TestCommitmentOpensForItsOwnBytesOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := evidence.Disclosure{
			Salt:  rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "salt"),
			Value: rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "value"),
		}
		c := d.Commit()
		if !c.Opens(d) {
			t.Fatal("it does not open")
		}
		other := evidence.Disclosure{Salt: bytes.Clone(d.Salt), Value: bytes.Clone(d.Value)}
		part := rapid.SampledFrom([][]byte{other.Salt, other.Value}).Draw(t, "part")
		part[rapid.IntRange(0, len(part)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if c.Opens(other) {
			t.Fatal("it opens for other bytes")
		}
	})
}

func TestBytesCannotMoveBetweenSaltAndValue(t *testing.T) {
	a := evidence.Disclosure{Salt: salt(1), Value: []byte("22")}
	b := evidence.Disclosure{Salt: append(salt(1), '2'), Value: []byte("2")}
	if a.Commit() == b.Commit() || b.Commit().Opens(b) {
		t.Error("a byte moved, or a salt of another size opens")
	}
}

func TestLargestValueIsCommittedTo(t *testing.T) {
	value := []byte(`"` + strings.Repeat("x", evidence.MaxValueSize-2) + `"`)
	if _, err := evidence.NewDisclosure(salt(1), value); err != nil {
		t.Error(err)
	}
}

func TestNewDisclosureRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		salt, value []byte
		is          error
	}{
		"short salt":      {salt(1)[:15], []byte("1"), evidence.ErrCommitment},
		"no value":        {salt(1), nil, evidence.ErrCommitment},
		"not JSON":        {salt(1), []byte("x"), evidence.ErrCommitment},
		"duplicate names": {salt(1), []byte(`{"a":1,"a":2}`), evidence.ErrCommitment},
		"too large":       {salt(1), make([]byte, evidence.MaxValueSize+1), evidence.ErrTooLarge},
	} {
		if _, err := evidence.NewDisclosure(c.salt, c.value); !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDisclosureJSONKeepsExactBytes(t *testing.T) {
	d := must(evidence.NewDisclosure(salt(0xfb), []byte("{ \"a\" :\n \"<&>\u2028\" }")))(t)
	text := must(json.Marshal(map[string]any{"inside": d}))(t)
	var back map[string]evidence.Disclosure
	if err := json.Unmarshal(text, &back); err != nil || !d.Commit().Opens(back["inside"]) {
		t.Errorf("%v: %s\n%s", err, text, cmp.Diff(d, back["inside"]))
	}
	for _, bad := range []string{`[]`, `{"salt":"!","value":"1"}`, `{"salt":"AA","value":"1"}`, `{"salt":"` + strings.Repeat("A", 22) + `","value":"x"}`} {
		var d evidence.Disclosure
		if err := json.Unmarshal([]byte(bad), &d); !errors.Is(err, evidence.ErrCommitment) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestEntryCommitments(t *testing.T) {
	c := must(evidence.NewDisclosure(salt(1), []byte(`1`)))(t).Commit()
	text := func(s string) string { return strings.ReplaceAll(s, "C", string(c)) }
	for data, want := range map[string]map[string]evidence.Commitment{
		``:                   nil,
		`{}`:                 nil,
		`{"Commitments":1}`:  nil, // names are compared exactly
		`{"commitments":{}}`: {},
		`{"commitments":{"args":"X","purpose":"X"}}`: {"args": c, "purpose": c},
	} {
		data = strings.ReplaceAll(data, "X", string(c))
		got, err := evidence.Entry{Data: []byte(data)}.Commitments()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", data, err, diff)
		}
	}
	slots := func(n int) string {
		var many strings.Builder
		for i := range n {
			fmt.Fprintf(&many, `,"s%0127d":"%s"`, i, c)
		}
		return `{"commitments":{` + many.String()[1:] + `}}`
	}
	if got, err := (evidence.Entry{Data: []byte(slots(evidence.MaxCommitments))}).Commitments(); err != nil || len(got) != evidence.MaxCommitments {
		t.Errorf("as many slots as there may be, with the longest names: %d, %v", len(got), err)
	}
	for name, data := range map[string]string{
		"unreadable data":  `{`,
		"no object":        `{"commitments":[]}`,
		"null":             `{"commitments":null}`,
		"a number":         `{"commitments":{"a":1}}`,
		"another hash":     `{"commitments":{"a":"sha512:` + string(c[7:]) + `"}}`,
		"too short":        `{"commitments":{"a":"` + string(c[:49]) + `"}}`,
		"line break":       `{"commitments":{"a":"` + string(c[:20]) + `\n` + string(c[20:]) + `"}}`,
		"no hash named":    `{"commitments":{"a":"` + string(c[7:]) + `"}}`,
		"break for a byte": `{"commitments":{"a":"` + string(c[:48]) + `A\n"}}`,
		"an empty slot":    text(`{"commitments":{"":"C"}}`),
		"a long slot":      `{"commitments":{"` + strings.Repeat("s", 129) + `":"` + string(c) + `"}}`,
		"257 slots":        slots(evidence.MaxCommitments + 1),
	} {
		if _, err := (evidence.Entry{Data: []byte(data)}).Commitments(); !errors.Is(err, evidence.ErrCommitment) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErased(t *testing.T) {
	read := func(data string) (evidence.ErasedData, error) {
		return evidence.Entry{ID: "9", Data: []byte(data)}.Erased()
	}
	got, err := read(`{"index":8,"slots":["args","purpose"]}`)
	if diff := cmp.Diff(evidence.ErasedData{Index: 8, Slots: []string{"args", "purpose"}}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err := read(`{"index":0,"slots":["a"` + strings.Repeat(`,"a"`, evidence.MaxCommitments-1) + `]}`); err != nil || len(got.Slots) != evidence.MaxCommitments {
		t.Errorf("as many slots as there may be: %v", err)
	}
	for _, bad := range []string{
		``, `{`, `{}`, `{"index":8}`, `{"slots":["a"]}`, `{"index":8,"slots":[]}`, `{"index":8,"slots":[1]}`, `{"index":8,"slots":null}`,
		`{"index":9,"slots":["a"]}`, `{"index":-1,"slots":["a"]}`, `{"index":"8","slots":["a"]}`, `{"Index":8,"slots":["a"]}`,
		`{"index":8,"slots":["a"` + strings.Repeat(`,"a"`, evidence.MaxCommitments) + `]}`,
	} {
		if _, err := read(bad); !errors.Is(err, evidence.ErrCommitment) {
			t.Errorf("%.60s: %v", bad, err)
		}
	}
}
