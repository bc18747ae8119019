package evidence_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/writ-project/writ/evidence"
)

// ServeHTTP serves the log as c2sp.org/tlog-tiles asks for, with nothing but this package.
func (l *testLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if path == "checkpoint" {
		_, _ = w.Write(l.signedHead())
		return
	}
	level, index, width, err := evidence.ParseTilePath(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var data []byte
	if level == evidence.EntriesLevel {
		first := int(index) * evidence.TileWidth
		if first+width > len(l.raws) {
			http.NotFound(w, r)
			return
		}
		data, err = evidence.EncodeBundle(l.raws[first : first+width])
	} else {
		data, err = evidence.TileData(l.tree, l.store, level, index, width)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_, _ = w.Write(data)
}

// judge is torchwood's client of a log, and its policy: this key, this origin.
func (l *testLog) judge(url string) (*torchwood.Client, *torchwood.TileFetcher, torchwood.Policy) {
	l.tb.Helper()
	fetcher := must(torchwood.NewTileFetcher(url))(l.tb)
	client := must(torchwood.NewClient(fetcher))(l.tb)
	key := must(note.NewVerifier(l.vkey))(l.tb)
	return client, fetcher, torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(origin), torchwood.SingleVerifierPolicy(key))
}

func TestOutsideJudgeReadsTheLog(t *testing.T) {
	for _, size := range []int{1, 255, 256, 257, 700} {
		l := proofLog(t, size)
		server := httptest.NewServer(l)
		defer server.Close()
		client, fetcher, policy := l.judge(server.URL)

		signed := must(fetcher.ReadEndpoint(t.Context(), "checkpoint"))(t)
		c, _, err := torchwood.VerifyCheckpoint(signed, policy)
		if err != nil || c.N != int64(size) || c.Origin != origin {
			t.Fatalf("size %d: checkpoint %v, %v", size, c, err)
		}
		read := 0
		for index, entry := range client.AllEntries(t.Context(), c.Tree, 0) {
			if !bytes.Equal(entry, l.raws[index]) {
				t.Fatalf("size %d: entry %d differs", size, index)
			}
			read++
		}
		if client.Err() != nil || read != size {
			t.Errorf("size %d: %d entries read, %v", size, read, client.Err())
		}
	}
}

func TestOutsideJudgeReadsOlderSizes(t *testing.T) {
	l := proofLog(t, 300)
	older := tlog.Tree{N: 260, Hash: tlog.Hash(must(evidence.RootAt(l.tree, l.store, 260))(t))}
	l2 := proofLog(t, 1000)
	server := httptest.NewServer(l2)
	defer server.Close()
	client, _, _ := l2.judge(server.URL)
	entry, proof, err := client.Entry(t.Context(), older, 258)
	if err != nil || !bytes.Equal(entry, l.raws[258]) {
		t.Fatalf("%v", err)
	}
	if err := tlog.CheckRecord(proof, older.N, older.Hash, 258, tlog.RecordHash(entry)); err != nil {
		t.Error(err)
	}
}

func TestOutsideJudgeVerifiesProofs(t *testing.T) {
	l := proofLog(t, 600)
	_, _, policy := l.judge("http://unused.invalid/")
	for _, index := range []int64{0, 255, 256, 511, 599} {
		p := l.prove(index)
		p.Extra = []byte("for the auditor")
		text := must(p.Marshal())(t)
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(l.raws[index]), text); err != nil {
			t.Errorf("proof of %d: %v", index, err)
		}
		if extra, err := torchwood.ProofExtraData(text); err != nil || !bytes.Equal(extra, p.Extra) {
			t.Errorf("extra data: %q, %v", extra, err)
		}
		theirs := torchwood.FormatProofWithExtraData(index, p.Extra, theirHashes(p.Hashes), p.Checkpoint)
		if !bytes.Equal(text, theirs) {
			t.Errorf("they would write\n%s\nwe write\n%s", theirs, text)
		}
	}
}

func theirHashes(hashes []evidence.Hash) tlog.RecordProof {
	var proof tlog.RecordProof
	for _, h := range hashes {
		proof = append(proof, tlog.Hash(h))
	}
	return proof
}

func TestOutsideJudgeFindsAChangedEntry(t *testing.T) {
	l := proofLog(t, 300)
	l.raws[7] = bytes.Replace(l.raws[7], []byte("agent/7"), []byte("agent/8"), 1)
	server := httptest.NewServer(l)
	defer server.Close()
	client, _, _ := l.judge(server.URL)
	c := l.head()
	for index := range client.AllEntries(t.Context(), tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)}, 0) {
		if index >= 7 {
			t.Fatal("the changed entry passes")
		}
	}
	if client.Err() == nil {
		t.Error("no error")
	}
}
