package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
)

// ordersVariable tells a test binary that it is the process that is watched, hurt and killed.
const ordersVariable = "WRIT_STORE_TEST_CHILD"

// TestMain lets the test binary be that process.
func TestMain(m *testing.M) {
	if text := os.Getenv(ordersVariable); text != "" {
		obey(text)
		os.Exit(0)
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(max(25/sample, 8))) // each opens a database; ask for more with -rapid.checks
	}
	code := m.Run()
	if server := startedServer.Load(); server != nil {
		_ = server.Stop() // the tests have passed or failed by now
	}
	os.Exit(code)
}

// orders are what a child does with which database.
type orders struct {
	Do          string // what follows is a function below
	Database    string
	Public      string
	Secret      string
	Synchronous string // SQLite's setting; empty: the safe one
	Unchecked   bool   // takes an unsafe PostgreSQL
	Name        string // distinguishes its ids from those of others
	Writers     int
	Changes     int    // of each writer; 0: until it is killed
	FileLimit   int64  // how large a file may become while the script runs, in bytes; 0: unbounded
	Copy        string // folder outside the small disk, or of the archive
	before      []told
}

func (o orders) options() Options {
	signer, err := evidence.NewSigner(o.Secret)
	if err != nil {
		panic(err)
	}
	return Options{Database: o.Database, Signer: signer, VerifierKey: o.Public, Now: time.Now, Reserve: 1 << 18, synchronous: o.Synchronous, unchecked: o.Unchecked}
}

// newOrders has a key of its own for a database.
func newOrders(t *testing.T, do, database string) orders {
	t.Helper()
	secret, public, err := evidence.GenerateKey("test.example/log", strings.NewReader(strings.Repeat("0123456789abcdef", 4)))
	if err != nil {
		t.Fatal(err)
	}
	return orders{Do: do, Database: database, Public: public, Secret: secret}
}

func (o orders) text() string {
	text, _ := json.Marshal(o)
	return ordersVariable + "=" + string(text)
}

// obey is the child's main.
func obey(text string) {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	do := map[string]func(orders){"load": load, "script": script, "rounds": rounds, "share": share, "opening": opening, "full": full, "prune": prune}
	do[o.Do](o)
}

// load makes changes as fast as it can. While the database does not answer, it tries on.
func load(o orders) {
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now(), opts: o.options()}
	f.checkpointsOften(400)
	ready(os.Getpid())
	together(o.Writers, func(i int) {
		for n := 0; n < o.Changes || o.Changes == 0; n++ {
			if err := f.tell(fmt.Sprintf("%s.%d.%d", o.Name, i, n), f.small); err != nil {
				time.Sleep(20 * time.Millisecond)
			}
		}
	})
	if err := s.Close(); err != nil {
		panic(err)
	}
}

// errTaken is why a writer goes on to the next one.
var errTaken = errors.New("somebody else has it")

// share takes things that one writer of all processes may have, one after the other, as load does.
func share(o orders) {
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now(), opts: o.options()}
	ready(os.Getpid())
	together(o.Writers, func(i int) {
		for thing, try := 0, 0; ; {
			err := f.tell(fmt.Sprintf("%s.%d.%d.%d", o.Name, i, thing, try), func(id string) (event.Receipt, error) {
				return f.Update(context.Background(), func(v *View) (event.Change, error) {
					n, err := v.Usage(bot, fmt.Sprint("thing", thing), 0)
					if err == nil && n > 0 {
						err = errTaken
					}
					return change(f.decided(id, "t1", bot, counts(fmt.Sprint("thing", thing), 60, 1)), f.decided(id+"b", "t1", bot)), err
				})
			})
			if try++; err == nil || errors.Is(err, errTaken) {
				thing, try = thing+1, 0
			}
		}
	})
}

// tell makes a change and says in one line what became of it: its id, the index of its first entry or -1, the head
// right after it as anybody could have kept it, and what was wrong.
func (f *fixture) tell(id string, make func(id string) (event.Receipt, error)) error {
	receipt, err := make(id)
	index := int64(-1)
	if err == nil {
		index = receipt.Indexes[0]
	}
	fmt.Println(id, index, base64.StdEncoding.EncodeToString(f.Checkpoint()), strings.ReplaceAll(fmt.Sprint(err), "\n", "; "))
	return err
}

// small is a change of two entries that waits for nothing.
func (f *fixture) small(id string) (event.Receipt, error) {
	return f.try(change(f.decided(id, "t1", bot, counts("c", 60, 1), touches("pii")), f.decided(id+"b", "t1", bot)))
}

// gives is a change of two entries, the second with more beside it than a page holds.
func (f *fixture) gives(id string) (event.Receipt, error) {
	return f.Update(context.Background(), func(v *View) (event.Change, error) {
		if _, err := v.Usage(bot, "c", 0); err != nil {
			return event.Change{}, err
		}
		second := f.decided(id+"b", "t1", bot)
		second.Values["more"] = json.RawMessage(`"` + strings.Repeat("x", 9000) + `"`)
		return change(f.decided(id, "t1", bot, counts("c", 60, 1), touches("pii")), second), nil
	})
}

// takes is a change of two entries that may use the reserve.
func (f *fixture) takes(id string) (event.Receipt, error) {
	return f.Revoke(context.Background(), func(*View) (event.Change, error) {
		return change(f.decided(id, "t1", bot, counts("c", 60, 1)), f.decided(id+"b", "t1", bot)), nil
	})
}

// scripted is the history that the faults meet; ids that begin with "revoke" take access away.
func (f *fixture) scripted() {
	for _, id := range []string{"a", "b", "revoke-c", "d", "revoke-e"} {
		if strings.HasPrefix(id, "revoke") {
			_ = f.tell(id, f.takes)
		} else {
			_ = f.tell(id, f.gives)
		}
	}
}

// rounds makes a few changes on PostgreSQL in each round, and says first which of the server's processes will commit them.
// After each it must work again by itself.
func rounds(o orders) {
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now(), opts: o.options()}
	if err := f.tell("first", f.small); err != nil {
		panic(err)
	}
	for n := 0; ready(f.process()); n++ {
		for _, id := range []string{"a", "b", "c", "d"} {
			_ = f.tell(fmt.Sprintf("%d.%s", n, id), f.small)
		}
		for i := 0; f.tell(fmt.Sprintf("%d.last.%d", n, i), f.small) != nil || f.process() == 0 || f.Recover(context.Background()) != nil; i++ {
			if i == 200 {
				panic("it does not work any more")
			}
			time.Sleep(50 * time.Millisecond) // a server may have to start again
		}
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
}

// process is which of PostgreSQL's processes commits; 0 if there is none.
func (f *fixture) process() (pid int) {
	_ = f.writes.row(context.Background(), `SELECT pg_backend_pid()`, nil, &pid)
	return pid
}

// script runs a history whose commits all come from one thread, and says that thread's number before it begins, so
// that strace can count its calls. Then the fault passes, and everything must work again.
func script(o orders) {
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now(), opts: o.options()}
	f.checkpointsOften(24)
	thread := 0
	s.beforeCommit = func(int) error {
		if thread == 0 {
			runtime.LockOSThread()
			thread = syscall.Gettid()
		}
		return nil
	}
	if err := f.tell("first", f.gives); err != nil {
		panic(err)
	}
	lift := limitFiles(o.FileLimit)
	ready(thread)
	f.scripted()
	lift()
	ready(0)
	f.end()
}

// opening does everything on the thread whose number it says first, but for the commits: making or recovering the
// database, opening and closing it.
func opening(o orders) {
	runtime.LockOSThread()
	ready(syscall.Gettid())
	s, err := Open(context.Background(), o.options())
	if err == nil {
		f := &fixture{Store: s, now: time.Now(), opts: o.options()}
		f.scripted()
		_ = s.Close()
	}
	ready(0)
	if s, err = Open(context.Background(), o.options()); err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now(), opts: o.options()}
	f.end()
}

// full fills a real disk of 1 MiB, which only this process sees, takes access away on it, and goes on when it has become larger.
func full(o orders) {
	folder := filepath.Dir(o.Database)
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=1m"); err != nil {
		fmt.Println("no disk:", err)
		return
	}
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now(), opts: o.options()}
	for n := 0; f.tell(fmt.Sprint("a", n), f.gives) == nil; n++ {
	}
	ready(0)
	_ = f.tell("revoke-b", f.takes)
	_ = f.tell("c", f.gives)
	_ = f.tell("revoke-d", f.takes)
	ready(0)
	if err := syscall.Mount("tmpfs", folder, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		panic(err)
	}
	f.end()
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(o.Database + suffix)
		if errors.Is(err, fs.ErrNotExist) { // closed, so all of it is in the database
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(o.Copy, filepath.Base(o.Database)+suffix), content, 0o600)
		}
		if err != nil {
			panic(err)
		}
	}
}

// end is after the fault.
func (f *fixture) end() {
	if err := f.Recover(context.Background()); err != nil {
		panic(err)
	}
	if err := f.tell("last", f.gives); err != nil {
		panic(err)
	}
	ready(0)
	if err := f.Close(); err != nil {
		panic(err)
	}
}

// ready says who does the work, and waits for a line; it is false when there is none any more.
func ready(process int) bool {
	fmt.Printf("ready,%d\n", process) // no acknowledgement
	_, err := fmt.Scanln()
	return !errors.Is(err, io.EOF)
}

// limitFiles makes writes beyond a length fail, and those that reach across it short, until the returned function is
// called; 0 is no limit.
func limitFiles(length int64) (lift func()) {
	if length == 0 {
		return func() {}
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		panic(err)
	}
	signal.Ignore(syscall.SIGXFSZ) // which would end the process
	set := func(limit syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			panic(err)
		}
	}
	set(syscall.Rlimit{Cur: uint64(length), Max: before.Max})
	return func() { set(before) }
}

// checkpointsOften makes SQLite's commits move the write-ahead log into the database when it has so many pages, so that it
// starts anew.
func (f *fixture) checkpointsOften(pages int) {
	if b, ok := f.db.(*sqlite); ok {
		if _, err := b.conn.ExecContext(context.Background(), "PRAGMA wal_autocheckpoint = "+strconv.Itoa(pages)); err != nil {
			panic(err)
		}
	}
}
