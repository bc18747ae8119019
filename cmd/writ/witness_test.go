package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/witness"
)

// runningWitness is `writ witness serve` in a process of its own.
type runningWitness struct {
	process *exec.Cmd
	lines   *bufio.Scanner // of its log
	url     string
}

func startWitness(t *testing.T, folder string) *runningWitness {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r := &runningWitness{process: exec.CommandContext(ctx, "writ", "witness", "serve", folder)}
	stderr, err := r.process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.process.Process.Kill(); _ = r.process.Wait() })
	r.lines = bufio.NewScanner(stderr)
	var line struct{ Msg, Listen string }
	if !r.lines.Scan() || json.Unmarshal(r.lines.Bytes(), &line) != nil || line.Msg != "serving" {
		t.Fatalf("the witness says %s", r.lines.Bytes())
	}
	r.url = "http://" + line.Listen
	return r
}

// stop is SIGTERM; what the witness has logged since is returned.
func (r *runningWitness) stop(t *testing.T) string {
	t.Helper()
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	for r.lines.Scan() {
		said.WriteString(r.lines.Text() + "\n")
	}
	if err := r.process.Wait(); err != nil {
		t.Errorf("the witness does not end well: %v\n%s", err, &said)
	}
	return said.String()
}

// TestWitnessCommand: a log is cosigned, the witness is stopped and started, the log is restored from an older backup, and the
// operator of the witness accepts that.
func TestWitnessCommand(t *testing.T) {
	secret, logKey, err1 := evidence.GenerateKey("writ.example/log", rand.Reader)
	signer, err2 := evidence.NewSigner(secret)
	folder := filepath.Join(t.TempDir(), "w")
	key, err3 := witness.Init(folder, "witness.example/w1", []string{logKey}, rand.Reader)
	err4 := os.WriteFile(filepath.Join(folder, "witness.yaml"), []byte("listen: 127.0.0.1:0\nlogs: [\""+logKey+"\"]\n"), 0o644)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	tree := evidence.NewTree()
	ask := func(url string) (witness.Asked, error) {
		signed, err := evidence.Checkpoint{Origin: signer.Origin(), Size: tree.Size(), Root: tree.Root()}.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		client, err := witness.NewClient(witness.ClientOptions{LogKeys: []string{logKey}, Witnesses: []witness.Peer{{URL: url, Key: key}}})
		if err != nil {
			t.Fatal(err)
		}
		return client.Ask(t.Context(), signed, func(_ context.Context, older, newer int64) ([]evidence.Hash, error) {
			return evidence.ProveConsistency(tree, nil, older, newer) // fewer than 256 entries have no full tile
		})
	}
	for range 3 {
		tree.Append(evidence.LeafHash([]byte("an entry")))
		running := startWitness(t, folder)
		asked, err := ask(running.url)
		if err := errors.Join(err, asked.Err()); err != nil {
			t.Fatal(err)
		}
		if said := running.stop(t); !strings.Contains(said, `"msg":"cosigned","origin":"writ.example/log"`) {
			t.Errorf("it has logged %s", said)
		}
	}

	tree = evidence.NewTree()
	tree.Append(evidence.LeafHash([]byte("an entry")))
	running := startWitness(t, folder)
	if asked, err := ask(running.url); err != nil || !errors.Is(asked.Err(), witness.ErrSawNewer) {
		t.Errorf("%v, %v", err, asked.Err())
	}
	signed, err := evidence.Checkpoint{Origin: signer.Origin(), Size: tree.Size(), Root: tree.Root()}.Sign(signer)
	accept := filepath.Join(t.TempDir(), "checkpoint")
	if err := errors.Join(err, os.WriteFile(accept, signed, 0o600)); err != nil {
		t.Fatal(err)
	}
	forget := []string{"witness", "forget", "writ.example/log", "--folder", folder, "--reason", "the disk died", "--accept", accept}
	var out, errs bytes.Buffer
	if code := run(t.Context(), forget, strings.NewReader(""), io.Discard, &errs); code != exitFailed || !strings.Contains(errs.String(), "stop it first") {
		t.Errorf("while it runs: %d %s", code, &errs)
	}
	running.stop(t)
	if code := run(t.Context(), forget, strings.NewReader(""), &out, io.Discard); code != exitOK || !strings.Contains(out.String(), "Forgotten: writ.example/log at size 3") || !strings.Contains(out.String(), "goes on from") {
		t.Errorf("%d %s", code, &out)
	}
	running = startWitness(t, folder)
	if asked, err := ask(running.url); err != nil || asked.Err() != nil {
		t.Errorf("after the operator has accepted it: %v, %v", err, asked.Err())
	}
	running.stop(t)
}
