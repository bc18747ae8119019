package evidence_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
)

func TestTilePath(t *testing.T) {
	for _, c := range []struct {
		level int
		index int64
		width int
		path  string
	}{
		{0, 0, 256, "tile/0/000"},
		{0, 0, 1, "tile/0/000.p/1"},
		{1, 999, 256, "tile/1/999"},
		{2, 1000, 255, "tile/2/x001/000.p/255"},
		{63, 1234067, 256, "tile/63/x001/x234/067"},
		{evidence.EntriesLevel, 1067, 12, "tile/entries/x001/067.p/12"},
		{evidence.EntriesLevel, evidence.MaxSize, 255, "tile/entries/x281/x474/x976/x710/656.p/255"},
	} {
		if got := evidence.TilePath(c.level, c.index, c.width); got != c.path {
			t.Errorf("path is %s, want %s", got, c.path)
		}
		level, index, width, err := evidence.ParseTilePath(c.path)
		if level != c.level || index != c.index || width != c.width || err != nil {
			t.Errorf("%s: %d, %d, %d, %v", c.path, level, index, width, err)
		}
	}
}

func TestParseTilePathRefuses(t *testing.T) {
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tiles/0/000", "tile/64/000", "tile/-1/000", "tile/00/000", "tile/data/000", "tile/x/000",
		"tile/0/00", "tile/0/0000", "tile/0/x000/000", "tile/0/001/000", "tile/0/x01/000", "tile/0/x001/x000", "tile/0/+01", "tile/0/-01",
		"tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000.p", "tile/0/000.p/1/", "/tile/0/000", "tile/0/000/",
		"tile/0/../000", "tile/0/000?x", "tile/entries/x281/x474/x976/x710/657", "tile/0/x999/x999/x999/x999/x999/x999/999", "tile/0/" + strings.Repeat("x", 1000),
	} {
		if _, _, _, err := evidence.ParseTilePath(path); !errors.Is(err, evidence.ErrTile) {
			t.Errorf("%q: %v, want ErrTile", path, err)
		}
	}
}

// FuzzParseTilePath has torchwood, an independent implementation, as its judge.
func FuzzParseTilePath(f *testing.F) {
	for _, path := range []string{"tile/0/000", "tile/entries/x001/067.p/12", "tile/63/x001/x234/067", "tile/0/x000/001"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		level, index, width, err := evidence.ParseTilePath(path)
		theirs, theirErr := torchwood.ParseTilePath(path)
		if err == nil {
			if want := (tlog.Tile{H: 8, L: level, N: index, W: width}); theirErr != nil || theirs != want {
				t.Errorf("%q: we read %v, the judge %v, %v", path, want, theirs, theirErr)
			}
			if again := evidence.TilePath(level, index, width); again != path {
				t.Errorf("%q is written as %q", path, again)
			}
		} else if theirErr == nil && theirs.L <= 63 && theirs.N <= evidence.MaxSize {
			t.Errorf("%q: the judge reads %v, we refuse: %v", path, theirs, err)
		}
	})
}

func TestBundleText(t *testing.T) {
	bundle := must(evidence.EncodeBundle([][]byte{[]byte("ab"), {}, bytes.Repeat([]byte("x"), 258)}))(t)
	want := "\x00\x02ab" + "\x00\x00" + "\x01\x02" + strings.Repeat("x", 258)
	if string(bundle) != want {
		t.Errorf("bundle is %q", bundle)
	}
}

func TestLargestBundleCanBeRead(t *testing.T) {
	entries := slices.Repeat([][]byte{make([]byte, 65535)}, 256)
	back, err := evidence.DecodeBundle(must(evidence.EncodeBundle(entries))(t))
	if err != nil || !slices.EqualFunc(entries, back, bytes.Equal) {
		t.Error(err)
	}
}

func TestBundleRefuses(t *testing.T) {
	many := make([][]byte, 257)
	for name, entries := range map[string][][]byte{"none": nil, "257 entries": many, "65,536 bytes": {make([]byte, 65536)}} {
		if _, err := evidence.EncodeBundle(entries); !errors.Is(err, evidence.ErrBundle) {
			t.Errorf("encode %s: %v", name, err)
		}
	}
	for name, bundle := range map[string]string{
		"nothing": "", "half a length": "\x00", "a length alone": "\x00\x01", "a short entry": "\x00\x02a",
		"a rest": "\x00\x01a\x00", "257 entries": strings.Repeat("\x00\x00", 257),
	} {
		if _, err := evidence.DecodeBundle([]byte(bundle)); !errors.Is(err, evidence.ErrBundle) {
			t.Errorf("decode %s: %v", name, err)
		}
	}
}

func TestBundleRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 256).Draw(t, "entries")
		bundle, err := evidence.EncodeBundle(entries)
		if err != nil {
			t.Fatal(err)
		}
		back, err := evidence.DecodeBundle(bundle)
		if diff := cmp.Diff(entries, back); diff != "" || err != nil {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func TestBundleEntriesDoNotOverlap(t *testing.T) {
	bundle := must(evidence.EncodeBundle([][]byte{[]byte("ab"), []byte("cd")}))(t)
	entries := must(evidence.DecodeBundle(bundle))(t)
	_ = append(entries[0], "XYZ"...)
	if string(entries[1]) != "cd" {
		t.Error("appending to one entry overwrites the next")
	}
}

func FuzzDecodeBundle(f *testing.F) {
	f.Add([]byte("\x00\x02ab\x00\x00"))
	f.Add([]byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		entries, err := evidence.DecodeBundle(bundle)
		if err != nil {
			return
		}
		if again, err := evidence.EncodeBundle(entries); err != nil || !bytes.Equal(again, bundle) {
			t.Errorf("%q becomes %q, %v", bundle, again, err)
		}
	})
}
