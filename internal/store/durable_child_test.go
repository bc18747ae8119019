package store

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
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
	os.Exit(m.Run())
}

// orders are what a child does with which database.
type orders struct {
	Do          string // load, script or opening
	Database    string
	Public      string
	Secret      string
	Synchronous string
	Name        string // distinguishes its ids from those of others
	Writers     int
	Changes     int   // of each writer; 0: until it is killed
	FileLimit   int64 // how large a file may become while the script runs, in bytes; 0: unbounded
}

func (o orders) options() Options {
	signer, err := evidence.NewSigner(o.Secret)
	if err != nil {
		panic(err)
	}
	return Options{Path: o.Database, Signer: signer, VerifierKey: o.Public, Now: time.Now, Reserve: 1 << 16, synchronous: o.Synchronous}
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
	do := map[string]func(orders){"load": load, "script": script, "opening": opening}
	do[o.Do](o)
}

// load prints the id and index of each change after it was acknowledged, in one write.
func load(o orders) {
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now()}
	f.checkpointsOften(400)
	fmt.Println("open")
	together(o.Writers, func(i int) {
		for n := 0; n < o.Changes || o.Changes == 0; n++ {
			id := fmt.Sprintf("%s.%d.%d", o.Name, i, n)
			receipt, err := f.try(change(f.decided(id, "t1", bot, counts("c", 60, 1), touches("pii")), f.decided(id+"b", "t1", bot)))
			if err != nil {
				panic(err)
			}
			_, _ = fmt.Fprintln(os.Stdout, id, receipt.Indexes[0])
		}
	})
	if err := s.Close(); err != nil {
		panic(err)
	}
}

// told is what a child says of one change.
type told struct {
	ID         string
	Index      int64 // of its first entry
	Error      string
	Checkpoint []byte // the head right after it, as anybody could have kept it
}

// tell makes a change and says what became of it, in one write.
func (f *fixture) tell(id string, make func(id string) (event.Receipt, error)) error {
	receipt, err := make(id)
	line := told{ID: id, Checkpoint: f.Checkpoint()}
	if err != nil {
		line.Error = err.Error()
	} else {
		line.Index = receipt.Indexes[0]
	}
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
	return err
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

// script runs a history whose commits all come from one thread, and says that thread's number before it begins, so
// that strace can count its calls. Then the fault passes, and everything must work again.
func script(o orders) {
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now()}
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
		f := &fixture{Store: s, now: time.Now()}
		f.scripted()
		err = s.Close()
	}
	fmt.Fprintln(os.Stderr, err)
	ready(0)
	if s, err = Open(context.Background(), o.options()); err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now()}
	f.end()
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

// ready says which thread does the work, and waits for a line.
func ready(thread int) {
	fmt.Println("ready", thread)
	if _, err := fmt.Scanln(); err != nil && err.Error() != "unexpected newline" {
		panic(err)
	}
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

// checkpointsOften makes commits move the write-ahead log into the database when it has so many pages, so that it starts anew.
func (f *fixture) checkpointsOften(pages int) {
	if _, err := f.conn.ExecContext(context.Background(), "PRAGMA wal_autocheckpoint = "+strconv.Itoa(pages)); err != nil {
		panic(err)
	}
}
