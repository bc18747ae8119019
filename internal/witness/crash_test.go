//go:build unix

package witness_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/witness"
)

const (
	childFolder = "WITNESS_TEST_FOLDER"
	childFull   = "WITNESS_TEST_FULL_DISK"
)

// TestMain is also the witness that the crash tests kill.
func TestMain(m *testing.M) {
	folder := os.Getenv(childFolder)
	if folder == "" {
		os.Exit(m.Run())
	}
	if err := serveChild(folder, os.Getenv(childFull) != ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveChild(folder string, full bool) error {
	config, cosigner, err := witness.Load(folder)
	if err != nil {
		return err
	}
	w, err := witness.Open(witness.Options{Folder: folder, Cosigner: cosigner, LogKeys: config.Logs})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if full { // every write to a file fails from now on
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{}); err != nil {
			return err
		}
	}
	fmt.Println(listener.Addr())
	return w.Serve(context.Background(), listener, "", "")
}

// child is a witness in a process of its own.
type child struct {
	*testWitness

	process *exec.Cmd
}

func startChild(t *testing.T, folder, key string, env ...string) *child {
	t.Helper()
	process := exec.CommandContext(t.Context(), must(os.Executable())(t))
	process.Env = append(append(os.Environ(), childFolder+"="+folder), env...)
	process.Stderr = t.Output()
	stdout := must(process.StdoutPipe())(t)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{&testWitness{tb: t, folder: folder, key: key}, process}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the witness does not start: %v", err)
	}
	c.url = "http://" + strings.TrimSpace(line)
	return c
}

// kill is kill -9. It may be called more than once.
func (c *child) kill() {
	_ = c.process.Process.Kill()
	_ = c.process.Wait()
}

// branch is a log that has gone the same way up to now.
func (l *testLog) branch(words string) *testLog {
	return &testLog{tb: l.tb, signer: l.signer, vkey: l.vkey, words: words, tree: l.tree.Clone(), tiles: maps.Clone(l.tiles), roots: slices.Clone(l.roots)}
}

// try sends a request that may be cut off by a kill.
func (c *child) try(ctx context.Context, body string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/add-checkpoint", strings.NewReader(body))
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

// TestKilledWitnessesNeverCosignTwoHistories has a log fork at every size, sends both branches at once, and kills the witness
// with kill -9 in the middle. Of no size may two roots be cosigned in all its lives, and what was cosigned is never forgotten.
func TestKilledWitnessesNeverCosignTwoHistories(t *testing.T) {
	lives, steps := 12, 6
	if testing.Short() {
		lives = 3
	}
	l := newLog(t, origin, "true")
	folder, key := newFolder(t, "w.example/1", l.vkey)
	cosigned := map[int64]evidence.Hash{} // that left the witness
	lost := 0                             // that it has kept, but nobody has seen
	for life := range lives {
		c := startChild(t, folder, key)
		for step := range steps {
			branches := []*testLog{l.branch(fmt.Sprint("a", life, step)), l.branch(fmt.Sprint("b", life, step))}
			size := l.tree.Size() + 1
			last := step == steps-1
			answers := make(chan string, 4)
			var wait sync.WaitGroup
			for i := range cap(answers) {
				b := branches[i%2]
				body := b.body(size-1, size)
				wait.Go(func() { answers <- c.try(t.Context(), body) })
			}
			var got []string
			if last && life%2 == 1 {
				got = append(got, <-answers)
			}
			if last { // while requests are on their way
				c.kill()
			}
			wait.Wait()
			close(answers)
			for a := range answers {
				got = append(got, a)
			}
			for _, line := range got {
				for _, b := range branches {
					if _, err := evidence.MergeCosignatures(b.head(size), []byte(line), key); line == "" || err != nil {
						continue
					}
					if root, twice := cosigned[size]; twice && root != b.roots[size] {
						t.Fatalf("size %d was cosigned with two roots", size)
					}
					cosigned[size] = b.roots[size]
				}
			}
			if last {
				c = startChild(t, folder, key)
			}
			kept := keptBy(t, c, l)
			if root, left := cosigned[size]; left && (kept.Size != size || kept.Root != root) {
				t.Fatalf("size %d was cosigned, the witness knows %v", size, kept)
			} else if !left && kept.Size == size {
				lost++
			}
			for _, b := range branches {
				if kept.Size == size && kept.Root == b.roots[size] {
					l = b
				}
			}
			if l.tree.Size() != kept.Size {
				t.Fatalf("after size %d the witness knows %v, which nobody has sent", size-1, kept)
			}
		}
		c.kill()
	}
	t.Logf("%d lives, %d sizes cosigned, of which %d were never seen by anybody", lives, len(cosigned)+lost, lost)
	if len(cosigned) < lives*(steps-1) {
		t.Errorf("only %d sizes were cosigned", len(cosigned))
	}
}

func keptBy(t *testing.T, c *child, l *testLog) evidence.Checkpoint {
	t.Helper()
	r := c.monitor(origin)
	if r.status == http.StatusNotFound {
		return evidence.Checkpoint{Origin: origin, Root: evidence.NewTree().Root()}
	}
	return must(evidence.OpenCheckpoint([]byte(r.body), l.vkey))(t)
}

func TestAFullDiskGetsNoCosignature(t *testing.T) {
	l := newLog(t, origin, "true")
	folder, key := newFolder(t, "w.example/1", l.vkey)
	c := startChild(t, folder, key)
	c.mustAdd(l, 0, 3)
	before := c.state()
	c.kill()
	c = startChild(t, folder, key, childFull+"=1")
	if r := c.add(l.body(3, 5)); r.status != http.StatusInternalServerError || strings.Contains(r.body, "— ") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := c.add(l.body(0, 5)); r.status != http.StatusConflict || r.body != "3\n" || c.state() != before {
		t.Errorf("it moved: %d %s", r.status, r.body)
	}
	c.kill()
	c = startChild(t, folder, key)
	c.mustAdd(l, 3, 5)
}
