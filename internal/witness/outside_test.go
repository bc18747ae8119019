package witness_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/witness"
)

// TestOutside runs programs of others: a witness (litewitness of torchwood) asked by our client, and a log (Tessera, with its
// own client) that asks our witness. Their versions are those of testdata/outside/go.mod.
func TestOutside(t *testing.T) {
	programs := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", programs+"/", "filippo.io/torchwood/cmd/litewitness", "./litelog", "./tesseralog")
	build.Dir = filepath.Join("testdata", "outside")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Run("witness", func(t *testing.T) { theirWitnessOurLog(t, programs) })
	t.Run("log", func(t *testing.T) { ourWitnessTheirLog(t, filepath.Join(programs, "tesseralog")) })
}

func theirWitnessOurLog(t *testing.T, programs string) {
	l := newLog(t, origin, "true")
	theirs := startLitewitness(t, programs, l)
	ours := newWitness(t, l.vkey)
	newClient := func() *witness.Client {
		return must(witness.NewClient(witness.ClientOptions{
			LogKeys: []string{l.vkey}, Witnesses: []witness.Peer{theirs, {URL: ours.url, Key: ours.key}}, Timeout: time.Minute,
		}))(t)
	}
	both := must(evidence.NewCosignaturePolicy(2, theirs.Key, ours.key))(t)
	client := newClient()
	for i, size := range []int64{0, 1, 1, 5, 256, 1000} {
		if i == 4 {
			client = newClient() // that does not know what the witnesses have seen
		}
		asked, err := client.Ask(t.Context(), l.head(size), l.prove)
		if err := errors.Join(err, asked.Err()); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		c, found, err := both.Check(asked.Checkpoint, l.vkey)
		if err != nil || c != l.checkpoint(size) || len(found) != 2 {
			t.Fatalf("size %d: %v, %v, %v", size, c, found, err)
		}
	}

	restored := newLog(t, origin, "true").grow(500) // this litewitness does not show what it has cosigned, so its word is not proven
	asked, err := newClient().Ask(t.Context(), restored.head(500), restored.prove)
	if err != nil || len(asked.Answers) != 2 || !errors.Is(asked.Answers[0].Err, witness.ErrUnproven) || !errors.Is(asked.Answers[1].Err, witness.ErrSawNewer) {
		t.Errorf("an older backup: %v, %v", err, asked.Err())
	}
	restored.words = "after the backup"
	asked, err = newClient().Ask(t.Context(), restored.head(1001), restored.prove)
	if err != nil || !errors.Is(asked.Answers[0].Err, witness.ErrUnproven) || !errors.Is(asked.Answers[1].Err, witness.ErrInconsistent) {
		t.Errorf("an older backup that grew: %v, %v", err, asked.Err())
	}
	if _, found, err := both.Check(asked.Checkpoint, l.vkey); !errors.Is(err, evidence.ErrUnwitnessed) || len(found) != 0 {
		t.Errorf("it was cosigned: %v, %v", found, err)
	}
}

// startLitewitness runs litewitness, which keeps its key in an ssh-agent, and tells it of one log.
func startLitewitness(t *testing.T, programs string, l *testLog) witness.Peer {
	t.Helper()
	folder := must(os.MkdirTemp("", "w"))(t) // the path of a socket must be short
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "agent")
	serveAgent(t, socket, private)

	port := must(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))(t)
	address := port.Addr().String()
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(public)
	database := filepath.Join(folder, "db")
	server := exec.CommandContext(t.Context(), filepath.Join(programs, "litewitness"), "-name", "lite.example/w", "-db", database, "-ssh-agent", socket, "-listen", address, "-key", hex.EncodeToString(digest[:]))
	stderr := must(server.StderrPipe())(t)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	var said []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "msg=listening") {
		said = append(said, lines.Text())
	}
	go func() { // so that it never waits for us
		for lines.Scan() {
			continue
		}
	}()
	tell := exec.CommandContext(t.Context(), filepath.Join(programs, "litelog"), "-db", database, "-origin", origin, "-key", l.vkey)
	if out, err := tell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, strings.Join(said, "\n"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // it says that it listens just before it does
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("%v\n%s", err, strings.Join(said, "\n"))
		}
	}
	signer := must(torchwood.NewCosignatureSigner("lite.example/w", private))(t)
	return witness.Peer{URL: "http://" + address, Key: signer.Verifier().String()}
}

func serveAgent(t *testing.T, socket string, key ed25519.PrivateKey) {
	t.Helper()
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	listener := must(new(net.ListenConfig).Listen(t.Context(), "unix", socket))(t)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keys, conn) }()
		}
	}()
}

func ourWitnessTheirLog(t *testing.T, tesseralog string) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "tessera.example/log")
	if err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, vkey)
	w.now = time.Now()
	folder := t.TempDir()
	keyFile := filepath.Join(folder, "key")
	if err := os.WriteFile(keyFile, []byte(skey), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs := must(torchwood.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness w %s\nquorum w\n", vkey, w.key)))(t)
	ours := must(evidence.NewCosignaturePolicy(1, w.key))(t)
	var size int64
	for run := range 3 { // each begins without knowing what the witness has seen
		log := exec.CommandContext(t.Context(), tesseralog, "-folder", filepath.Join(folder, "log"), "-key", keyFile, "-witness", w.url, "-witness-key", w.key)
		log.Stdin = strings.NewReader(strings.Repeat(fmt.Sprintf("entry of run %d\n", run), 4))
		log.Stderr = t.Output()
		out, err := log.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		for _, line := range lines {
			signed := must(strconv.Unquote(line))(t)
			c, found, err := ours.Check([]byte(signed), vkey)
			if err != nil || c.Size < size || len(found) != 1 {
				t.Fatalf("%v, %v, %v\n%s", c, found, err, signed)
			}
			size = c.Size
			if _, _, err := torchwood.VerifyCheckpoint([]byte(signed), theirs); err != nil {
				t.Errorf("torchwood refuses what Tessera published: %v\n%s", err, signed)
			}
		}
		if len(lines) != 4 || size != int64(4*(run+1)) {
			t.Fatalf("run %d: %d checkpoints, size %d", run, len(lines), size)
		}
		w.restart()
	}
	monitored := w.monitor("tessera.example/log").body
	if c, _, err := torchwood.VerifyCheckpoint([]byte(monitored), theirs); err != nil || c.N != size {
		t.Errorf("the witness shows %s: %v", monitored, err)
	}
}
