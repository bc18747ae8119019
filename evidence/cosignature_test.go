package evidence_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/torchwood"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/writ-project/writ/evidence"
)

// seedOf is a private key that protects nothing.
func seedOf(name string) []byte {
	seed := sha256.Sum256([]byte("witness " + name))
	return seed[:]
}

// testWitness is a witness that is the same in every run.
func testWitness(tb testing.TB, name string) *evidence.Cosigner {
	tb.Helper()
	skey, vkey, err := evidence.GenerateWitnessKey(name, bytes.NewReader(seedOf(name)))
	if err != nil {
		tb.Fatal(err)
	}
	w := must(evidence.NewCosigner(skey))(tb)
	if w.Name() != name || w.VerifierKey() != vkey {
		tb.Fatalf("the keys of %q do not belong together: %q", name, vkey)
	}
	return w
}

// theirWitness is torchwood's, with the same key.
func theirWitness(tb testing.TB, name string) *torchwood.CosignatureSigner {
	tb.Helper()
	return must(torchwood.NewCosignatureSigner(name, ed25519.NewKeyFromSeed(seedOf(name))))(tb)
}

// someHead is a signed checkpoint of size 1.
func someHead(tb testing.TB) (c evidence.Checkpoint, signed []byte, vkey string) {
	tb.Helper()
	signer, vkey := testKeys(tb, origin)
	c = evidence.Checkpoint{Origin: origin, Size: 1, Root: evidence.LeafHash(nil)}
	return c, must(c.Sign(signer))(tb), vkey
}

// cosigned adds the cosignatures of the witnesses, one second apart.
func cosigned(tb testing.TB, names ...string) (signed []byte, vkey string) {
	tb.Helper()
	c, signed, vkey := someHead(tb)
	for i, name := range names {
		w := testWitness(tb, name)
		line := must(w.Cosign(c, noon().Add(time.Duration(i)*time.Second)))(tb)
		signed = must(evidence.MergeCosignatures(signed, line, w.VerifierKey()))(tb)
	}
	return signed, vkey
}

func keysOf(tb testing.TB, names ...string) []string {
	tb.Helper()
	var keys []string
	for _, name := range names {
		keys = append(keys, testWitness(tb, name).VerifierKey())
	}
	return keys
}

// rawLine writes any cosignature, honest or not.
func rawLine(name, vkey string, timestamp uint64, text string) []byte {
	key := ed25519.NewKeyFromSeed(seedOf(name))
	var blob []byte
	var id uint32
	_, _ = fmt.Sscanf(strings.TrimPrefix(vkey, name+"+")[:8], "%08x", &id)
	blob = binary.BigEndian.AppendUint32(blob, id)
	blob = binary.BigEndian.AppendUint64(blob, timestamp)
	blob = append(blob, ed25519.Sign(key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", timestamp, text))...)
	return fmt.Appendf(nil, "— %s %s\n", name, base64.StdEncoding.EncodeToString(blob))
}

func TestOutsideJudgeAcceptsOurCosignatures(t *testing.T) {
	signed, vkey := cosigned(t, "w.example/1", "w.example/2")
	policies := []torchwood.Policy{torchwood.OriginPolicy(origin), torchwood.SingleVerifierPolicy(must(note.NewVerifier(vkey))(t))}
	for _, key := range keysOf(t, "w.example/1", "w.example/2") {
		theirs := must(torchwood.NewCosignatureVerifier(key))(t)
		if theirs.String() != key {
			t.Errorf("they write the key as %q, we as %q", theirs, key)
		}
		policies = append(policies, torchwood.SingleVerifierPolicy(theirs))
	}
	c, n, err := torchwood.VerifyCheckpoint(signed, torchwood.ThresholdPolicy(len(policies), policies...))
	if err != nil || c.N != 1 || len(n.Sigs) != 3 {
		t.Fatalf("%v, %v", c, err)
	}
	if at, err := torchwood.CosignatureTimestamp(n.Sigs[2]); err != nil || at != noon().Unix()+1 {
		t.Errorf("they read the time %d, %v", at, err)
	}
}

func TestWeAcceptTheOutsideJudgesCosignatures(t *testing.T) {
	c, signed, vkey := someHead(t)
	theirs := theirWitness(t, "w.example/1")
	if ours := testWitness(t, "w.example/1").VerifierKey(); ours != theirs.Verifier().String() {
		t.Fatalf("their key is %s, ours %s", theirs.Verifier(), ours)
	}
	n := must(note.Open(signed, note.VerifierList(must(note.NewVerifier(vkey))(t))))(t)
	both := must(note.Sign(n, theirs))(t)
	policy := must(evidence.NewCosignaturePolicy(1, keysOf(t, "w.example/1", "w.example/2")...))(t)
	got, found, err := policy.Check(both, vkey)
	if err != nil || got != c || len(found) != 1 || found[0].Witness != "w.example/1" || found[0].Time.Before(noon().AddDate(-2, 0, 0)) {
		t.Errorf("%v, %v, %v", got, found, err)
	}
	line := both[bytes.LastIndex(both, []byte("— ")):]
	if merged := must(evidence.MergeCosignatures(signed, line, theirs.Verifier().String()))(t); !bytes.Equal(merged, both) {
		t.Errorf("we merge to\n%s\nthey to\n%s", merged, both)
	}
}

func TestCosignatureText(t *testing.T) {
	c, _, _ := someHead(t)
	w := testWitness(t, "w.example/1")
	line := must(w.Cosign(c, noon().Add(999*time.Millisecond)))(t)
	text := origin + "\n1\n" + c.Root.String() + "\n"
	if want := rawLine("w.example/1", w.VerifierKey(), uint64(noon().Unix()), text); !bytes.Equal(line, want) {
		t.Errorf("we write\n%swant\n%s", line, want)
	}
	for name, x := range map[string]struct {
		checkpoint evidence.Checkpoint
		at         time.Time
		is         error
	}{
		"no time":            {c, time.Time{}, evidence.ErrCosignature},
		"time zero":          {c, time.Unix(0, 0), evidence.ErrCosignature},
		"no origin":          {evidence.Checkpoint{Size: 1}, noon(), evidence.ErrCheckpoint},
		"an origin of lines": {evidence.Checkpoint{Origin: "a\n9", Size: 1}, noon(), evidence.ErrCheckpoint},
		"negative size":      {evidence.Checkpoint{Origin: origin, Size: -1}, noon(), evidence.ErrCheckpoint},
		"empty, no root":     {evidence.Checkpoint{Origin: origin}, noon(), evidence.ErrEmptyRoot},
	} {
		if line, err := w.Cosign(x.checkpoint, x.at); !errors.Is(err, x.is) || line != nil {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
}

func TestWitnessKeysRefused(t *testing.T) {
	for _, name := range []string{"", "a b", "a+b", "a\nb", "a\xff", strings.Repeat("a", 256)} {
		if _, _, err := evidence.GenerateWitnessKey(name, rapidBytes{}); !errors.Is(err, evidence.ErrKey) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, _, err := evidence.GenerateWitnessKey("w", nil); !errors.Is(err, evidence.ErrKey) {
		t.Errorf("no randomness: %v", err)
	}
	broken := errors.New("broken")
	if _, _, err := evidence.GenerateWitnessKey("w", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("broken randomness: %v", err)
	}
	skey, vkey, err := evidence.GenerateWitnessKey("w", rapidBytes{})
	if err != nil {
		t.Fatal(err)
	}
	logSigner, logKey, err := evidence.GenerateKey("w", rapidBytes{})
	if err != nil {
		t.Fatal(err)
	}
	otherID := func(key string) string { return strings.Replace(key, key[len("PRIVATE+KEY+w+"):][:8], "01234567", 1) }
	for name, key := range map[string]string{
		"nothing": "", "a word": "x", "a verifier key": vkey, "a log's signer key": logSigner, "a damaged id": otherID(skey),
		"far too long": skey + strings.Repeat("A", 2000), "no prefix": strings.TrimPrefix(skey, "PRIVATE+KEY+"), "cut": skey[:len(skey)-4],
	} {
		if _, err := evidence.NewCosigner(key); !errors.Is(err, evidence.ErrKey) || strings.Contains(err.Error(), skey[len(skey)-20:]) {
			t.Errorf("signer key, %s: %v", name, err)
		}
	}
	for name, key := range map[string]string{
		"nothing": "", "a word": "x", "a signer key": skey, "a log's key": logKey, "far too long": strings.Repeat("a", 2000),
		"another name": "v" + vkey[1:], "capitals": vkey[:2] + strings.ToUpper(vkey[2:10]) + vkey[10:], "a line end": vkey + "\n",
		"another spelling": vkey[:len(vkey)-2] + "9=", "a space": " " + vkey, "id too short": "w+012345+" + vkey[11:], "id not hex": "w+0123456z+" + vkey[11:],
	} {
		if _, err := evidence.NewCosignaturePolicy(1, key); !errors.Is(err, evidence.ErrKey) {
			t.Errorf("verifier key, %s: %v", name, err)
		}
	}
	if w := must(evidence.NewCosigner(skey))(t); strings.Contains(fmt.Sprintf("%v %+v %#v", w, w, *w), skey[len(skey)-20:len(skey)-4]) {
		t.Error("printing a Cosigner shows its key")
	}
}

func TestPoliciesRefused(t *testing.T) {
	one, two := testWitness(t, "w.example/1").VerifierKey(), testWitness(t, "w.example/2").VerifierKey()
	_, renamed, err := evidence.GenerateWitnessKey("w.example/other", bytes.NewReader(seedOf("w.example/1")))
	if err != nil {
		t.Fatal(err)
	}
	_, rekeyed, err := evidence.GenerateWitnessKey("w.example/1", rapidBytes{})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		required int
		keys     []string
		is       error
	}{
		"one of two":                  {1, []string{one, two}, nil},
		"two of two":                  {2, []string{one, two}, nil},
		"nobody":                      {1, nil, evidence.ErrKey},
		"none of two":                 {0, []string{one, two}, evidence.ErrPolicy},
		"fewer than none":             {-1, []string{one, two}, evidence.ErrPolicy},
		"three of two":                {3, []string{one, two}, evidence.ErrPolicy},
		"one twice":                   {2, []string{one, one}, evidence.ErrKey},
		"one under two names":         {2, []string{one, renamed}, evidence.ErrKey},
		"one name with two keys":      {2, []string{one, rekeyed}, evidence.ErrKey},
		"two, and one of them broken": {1, []string{one, "x"}, evidence.ErrKey},
	} {
		if p, err := evidence.NewCosignaturePolicy(x.required, x.keys...); !errors.Is(err, x.is) || (p == nil) != (x.is != nil) {
			t.Errorf("%s: %v, want %v", name, err, x.is)
		}
	}
}

func TestPolicyCheck(t *testing.T) {
	_, bare, vkey := someHead(t)
	both, _ := cosigned(t, "w.example/1", "w.example/2")
	one, _ := cosigned(t, "w.example/1")
	stranger, _ := cosigned(t, "w.example/3")
	text := string(bare[:bytes.Index(bare, []byte("\n\n"))+1])
	key := testWitness(t, "w.example/1").VerifierKey()
	line := func(timestamp uint64) []byte {
		return append(bytes.Clone(bare), rawLine("w.example/1", key, timestamp, text)...)
	}
	twice := append(bytes.Clone(one), one[bytes.LastIndex(one, []byte("— ")):]...)
	respelt := bytes.Clone(one)
	respelt[len(respelt)-4] = respell(respelt[len(respelt)-4]) // before ==, four bits are not read
	_, otherLog := testKeys(t, "other.example/log")
	for name, x := range map[string]struct {
		signed []byte
		key    string
		is     error
		found  int
	}{
		"both":                           {both, vkey, nil, 2},
		"one":                            {one, vkey, evidence.ErrUnwitnessed, 1},
		"one, twice":                     {twice, vkey, evidence.ErrUnwitnessed, 1},
		"nobody":                         {bare, vkey, evidence.ErrUnwitnessed, 0},
		"a stranger":                     {stranger, vkey, evidence.ErrUnwitnessed, 0},
		"not the log":                    {both, otherLog, evidence.ErrUnverified, 0},
		"at time zero":                   {line(0), vkey, evidence.ErrUnverified, 0},
		"at the last second":             {line(math.MaxInt64), vkey, evidence.ErrUnwitnessed, 1},
		"after the last second":          {line(math.MaxInt64 + 1), vkey, evidence.ErrUnverified, 0},
		"too short":                      {append(bytes.Clone(bare), one[bytes.LastIndex(one, []byte("— ")):len(one)-5]...), vkey, evidence.ErrCheckpoint, 0},
		"of another text":                {append(bytes.Clone(bare), rawLine("w.example/1", key, 9, "x\n"+text)...), vkey, evidence.ErrUnverified, 0},
		"in another spelling":            {respelt, vkey, evidence.ErrCosignature, 0},
		"far too much":                   {make([]byte, evidence.MaxCheckpointSize+1), vkey, evidence.ErrTooLarge, 0},
		"a plain signature, by that key": {append(bytes.Clone(bare), plainLine("w.example/1", key, text)...), vkey, evidence.ErrUnverified, 0},
	} {
		p := must(evidence.NewCosignaturePolicy(2, keysOf(t, "w.example/1", "w.example/2")...))(t)
		c, found, err := p.Check(x.signed, x.key)
		if !errors.Is(err, x.is) || len(found) != x.found || (c.Size == 1) != (x.found > 0 || errors.Is(err, evidence.ErrUnwitnessed)) {
			t.Errorf("%s: %v, %v, %v, want %v", name, c, found, err, x.is)
		}
	}
}

// respell changes the last of the bits that base64 does not read.
func respell(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

// plainLine signs the text as a log would, with the key of a witness.
func plainLine(name, vkey, text string) []byte {
	blob := bytes.Clone(rawLine(name, vkey, 1, text))
	key := ed25519.NewKeyFromSeed(seedOf(name))
	head, _ := base64.StdEncoding.DecodeString(string(bytes.Fields(blob)[2]))
	return fmt.Appendf(nil, "— %s %s\n", name, base64.StdEncoding.EncodeToString(append(head[:4], ed25519.Sign(key, []byte(text))...)))
}

func TestALogIsNotItsOwnWitness(t *testing.T) {
	skey, vkey, err := evidence.GenerateKey(origin, bytes.NewReader(seedOf("both")))
	if err != nil {
		t.Fatal(err)
	}
	signer := must(evidence.NewSigner(skey))(t)
	_, wkey, err := evidence.GenerateWitnessKey("w.example/both", bytes.NewReader(seedOf("both")))
	if err != nil {
		t.Fatal(err)
	}
	c := evidence.Checkpoint{Origin: origin, Size: 1}
	signed := must(c.Sign(signer))(t)
	p := must(evidence.NewCosignaturePolicy(1, testWitness(t, "w.example/1").VerifierKey(), wkey))(t)
	capitals := origin + "+" + strings.ToUpper(vkey[len(origin)+1:][:8]) + vkey[len(origin)+9:]
	for _, key := range []string{vkey, capitals} {
		if _, _, err := p.Check(signed, key); !errors.Is(err, evidence.ErrPolicy) {
			t.Errorf("%s: %v", key, err)
		}
		if !evidence.SameKey(key, wkey) || !evidence.SameKey(wkey, key) {
			t.Errorf("%s and %s hold the same key", key, wkey)
		}
	}
	for _, other := range []string{"", "x", "+", "a+b+", testWitness(t, "w.example/1").VerifierKey()} {
		if evidence.SameKey(other, wkey) || evidence.SameKey(other, "") || evidence.SameKey("", other) {
			t.Errorf("%q is no such key", other)
		}
	}
}

func TestOpenCosigned(t *testing.T) {
	both, vkey := cosigned(t, "w.example/1", "w.example/2")
	keys := keysOf(t, "w.example/1", "w.example/2")
	c, found, err := evidence.OpenCosigned(both, keys...)
	want := []evidence.Cosignature{{Witness: "w.example/1", Time: noon()}, {Witness: "w.example/2", Time: noon().Add(time.Second)}}
	if diff := cmp.Diff(want, found); diff != "" || err != nil || c.Size != 1 {
		t.Errorf("%v, %v\n%s", c, err, diff)
	}
	signedText, _ := signText(t, origin, "no checkpoint\n")
	careless := append(bytes.Clone(signedText), rawLine("w.example/1", keys[0], 1, "no checkpoint\n")...)
	for name, x := range map[string]struct {
		signed []byte
		keys   []string
		is     error
	}{
		"a stranger's key": {both, keysOf(t, "w.example/3"), evidence.ErrUnverified},
		"a log's key":      {both, []string{vkey}, evidence.ErrKey},
		"no note":          {[]byte("x"), keys, evidence.ErrCheckpoint},
		"no checkpoint":    {careless, keys, evidence.ErrCheckpoint},
	} {
		if _, _, err := evidence.OpenCosigned(x.signed, x.keys...); !errors.Is(err, x.is) {
			t.Errorf("%s: %v, want %v", name, err, x.is)
		}
	}
}

func TestLogSignatures(t *testing.T) {
	_, bare, vkey := someHead(t)
	both, _ := cosigned(t, "w.example/1", "w.example/2")
	if got := must(evidence.LogSignatures(both, vkey))(t); !bytes.Equal(got, bare) {
		t.Errorf("left is\n%s", got)
	}
	_, other := testKeys(t, "other.example/log")
	if _, err := evidence.LogSignatures(both, other); !errors.Is(err, evidence.ErrUnverified) {
		t.Errorf("%v", err)
	}
}

func TestMergeCosignatures(t *testing.T) {
	c, bare, _ := someHead(t)
	one, _ := cosigned(t, "w.example/1")
	w, v, stranger := testWitness(t, "w.example/1"), testWitness(t, "w.example/2"), testWitness(t, "w.example/3")
	at := func(w *evidence.Cosigner, seconds int) []byte {
		return must(w.Cosign(c, noon().Add(time.Duration(seconds)*time.Second)))(t)
	}
	other := must(w.Cosign(evidence.Checkpoint{Origin: origin, Size: 2}, noon()))(t)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	many := bytes.Clone(bare)
	for i := range 99 {
		many = fmt.Appendf(many, "— w.example/n%d AAAAAAAA\n", i)
	}
	keys := []string{w.VerifierKey(), v.VerifierKey()}
	for name, x := range map[string]struct {
		signed, lines []byte
		keys          []string
		want          []byte
		is            error
	}{
		"one line":               {bare, at(w, 0), keys, one, nil},
		"a stranger's line too":  {bare, join(at(stranger, 0), at(w, 0)), keys, one, nil},
		"a later line":           {one, at(w, 5), keys, join(bare, at(w, 5)), nil},
		"another witness":        {one, at(v, 5), keys, join(one, at(v, 5)), nil},
		"beside a stranger's":    {join(bare, at(stranger, 0)), at(v, 5), keys, join(bare, at(stranger, 0), at(v, 5)), nil},
		"the same line twice":    {bare, join(at(w, 0), at(w, 0)), keys, one, nil},
		"nothing":                {bare, nil, keys, nil, evidence.ErrCheckpoint},
		"only a stranger's":      {bare, at(stranger, 0), keys, nil, evidence.ErrCosignature},
		"of another checkpoint":  {bare, other, keys, nil, evidence.ErrUnverified},
		"no signature line":      {bare, []byte("200 OK\n"), keys, nil, evidence.ErrCheckpoint},
		"a checkpoint of itself": {bare, join([]byte("x\n\n"), at(w, 0)), keys, nil, evidence.ErrUnverified},
		"more text, a stranger":  {bare, join([]byte("x\n\n"), at(stranger, 0)), keys, nil, evidence.ErrCosignature},
		"no key":                 {bare, at(w, 0), nil, nil, evidence.ErrKey},
		"to no note":             {[]byte("x"), at(w, 0), keys, nil, evidence.ErrCheckpoint},
		"to a hundred":           {many, at(w, 0), keys, nil, evidence.ErrTooLarge},
		"far too much":           {bare, make([]byte, evidence.MaxCheckpointSize), keys, nil, evidence.ErrTooLarge},
	} {
		got, err := evidence.MergeCosignatures(x.signed, x.lines, x.keys...)
		if !errors.Is(err, x.is) || !bytes.Equal(got, x.want) {
			t.Errorf("%s: %v, want %v; merged is\n%s", name, err, x.is, got)
		}
	}
}

// A witness may sign any text that it likes; merging must not let it put a line of its choice into the checkpoint.
func TestMergeTakesNoTextFromAWitness(t *testing.T) {
	_, bare, _ := someHead(t)
	text := string(bare[:bytes.Index(bare, []byte("\n\n"))+1])
	w := testWitness(t, "w.example/1")
	lines := append([]byte("evil\n\n"), rawLine("w.example/1", w.VerifierKey(), 1, text+"\nevil\n")...)
	if _, err := evidence.MergeCosignatures(bare, lines, w.VerifierKey()); !errors.Is(err, evidence.ErrCosignature) {
		t.Errorf("%v", err)
	}
}

func TestAnyFlippedBitOfACosignatureIsFound(t *testing.T) {
	signed, vkey := cosigned(t, "w.example/1")
	p := must(evidence.NewCosignaturePolicy(1, keysOf(t, "w.example/1")...))(t)
	for i := bytes.LastIndex(signed, []byte("— ")); i < len(signed); i++ {
		for bit := range 8 {
			flipped := bytes.Clone(signed)
			flipped[i] ^= 1 << bit
			if _, found, err := p.Check(flipped, vkey); err == nil {
				t.Fatalf("bit %d of byte %d: %v", bit, i, found)
			}
		}
	}
}

func FuzzCheckCosignatures(f *testing.F) {
	signed, vkey := cosigned(f, "w.example/1", "w.example/2")
	text := signed[:bytes.Index(signed, []byte("\n\n"))]
	p := must(evidence.NewCosignaturePolicy(2, keysOf(f, "w.example/1", "w.example/2")...))(f)
	f.Add(signed)
	f.Add([]byte("a\n1\nAAAA\n\n— w.example/1 AAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := p.Check(data, vkey); err == nil && !bytes.HasPrefix(data, text) {
			t.Errorf("forged: %q", data)
		}
	})
}

func FuzzMergeCosignatures(f *testing.F) {
	signed, vkey := cosigned(f, "w.example/1")
	c, bare, _ := someHead(f)
	key := testWitness(f, "w.example/1").VerifierKey()
	f.Add(signed[bytes.LastIndex(signed, []byte("— ")):])
	f.Add([]byte("x\n\n— w.example/1 AAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		merged, err := evidence.MergeCosignatures(bare, lines, key)
		if err != nil {
			return
		}
		if got, found, err := must(evidence.NewCosignaturePolicy(1, key))(t).Check(merged, vkey); err != nil || got != c || len(found) != 1 {
			t.Errorf("merged to %q: %v", merged, err)
		}
	})
}

func FuzzWitnessKey(f *testing.F) {
	skey, vkey, err := evidence.GenerateWitnessKey("w.example/1", rapidBytes{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(skey)
	f.Add(vkey)
	f.Fuzz(func(t *testing.T, text string) {
		if w, err := evidence.NewCosigner(text); err == nil {
			if _, err := torchwood.NewCosignatureVerifier(w.VerifierKey()); err != nil {
				t.Errorf("they refuse the public key of %q: %v", text, err)
			}
		}
		if _, err := evidence.NewCosignaturePolicy(1, text); err != nil {
			return
		}
		if theirs, err := torchwood.NewCosignatureVerifier(text); err != nil || theirs.String() != text {
			t.Errorf("we take %q, they say %v", text, err)
		}
	})
}
