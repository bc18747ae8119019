package store

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/writ-project/writ/internal/pgtest"
)

// cutter stands between a store and its PostgreSQL server, and can cut the connection that commits.
type cutter struct {
	folder   string
	listener net.Listener
	server   string
	running  sync.WaitGroup

	mu    sync.Mutex
	armed int // direction in which it cuts; 0: it does not
	after int // bytes
	seen  [3]int
	cuts  int
}

// The directions.
const (
	toServer = 1
	toStore  = 2
)

// newCutter returns one in front of a server, and the URL of a database through it.
func newCutter(t *testing.T, server *pgtest.Server, database string) (*cutter, string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "writ-cut-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{folder: folder, server: server.Socket()}
	if c.listener, err = new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(folder, filepath.Base(server.Socket()))); err != nil {
		t.Fatal(err)
	}
	c.running.Go(c.accept)
	t.Cleanup(func() {
		if err := errors.Join(c.listener.Close(), os.RemoveAll(folder)); err != nil {
			t.Error(err)
		}
		c.running.Wait()
	})
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return c, server.URL(u.Path[1:], folder)
}

func (c *cutter) accept() {
	for {
		store, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("unix", c.server)
		if err != nil {
			_ = store.Close() // as if the server had refused it
			continue
		}
		link := &link{cutter: c, ends: [3]net.Conn{toServer: server, toStore: store}}
		c.running.Go(func() { link.pass(toServer) })
		c.running.Go(func() { link.pass(toStore) })
	}
}

// link is one connection.
type link struct {
	*cutter
	ends    [3]net.Conn
	commits bool // it has committed something
}

// pass hands on what comes for one end, until either end closes or the link is cut.
func (l *link) pass(to int) {
	from := toServer + toStore - to
	defer func() {
		for _, end := range []net.Conn{l.ends[toServer], l.ends[toStore]} {
			_ = end.Close() // both pass functions do it
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := l.ends[from].Read(buffer)
		part, cut := l.count(to, buffer[:n])
		if _, err := l.ends[to].Write(part); err != nil || cut {
			return
		}
		if err != nil {
			return
		}
	}
}

// count is how much of the data may pass.
func (l *link) count(to int, data []byte) (part []byte, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if to == toServer && bytes.Contains(data, []byte("FOR UPDATE")) { // the statement is prepared once
		l.commits = true
	}
	if !l.commits {
		return data, false
	}
	left := l.after - l.seen[to]
	l.seen[to] += len(data)
	if l.armed != to || left >= len(data) {
		return data, false
	}
	l.armed = 0
	l.cuts++
	return data[:max(left, 0)], true
}

// arm cuts once, after so many bytes in a direction from now on.
func (c *cutter) arm(to, after int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.after, c.seen, c.cuts = to, after, [3]int{}, 0
}

// disarm is how often it has cut.
func (c *cutter) disarm() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = 0
	return c.cuts
}

// The connection is cut at every place of a history, in particular while nobody knows whether a commit has happened: what was
// acknowledged is there, what was not is there as a whole or not at all, and the store goes on by itself.
func TestI1_ACutAnywhere(t *testing.T) {
	server := startServer(t)
	direct := onServer(t, server, "rounds")
	through := direct
	var cut *cutter
	cut, through.Database = newCutter(t, server, direct.Database)
	c := through.start(t)
	c.untilReady()
	harmless := 0
	for to, step := range map[int]int{toServer: 211, toStore: 23} {
		t.Run(fmt.Sprint(to), func(t *testing.T) {
			c.t = t
			n := 0
			for cuts := 1; cuts > 0; n += step * min(sample, 5) {
				before := len(c.told)
				cut.arm(to, n)
				c.goOn()
				c.untilReady()
				cuts = cut.disarm()
				refused := 0
				for _, one := range c.told[before:] {
					if one.index < 0 {
						refused++
					}
				}
				if refused > 1 {
					t.Errorf("one cut made %d changes fail", refused)
				}
				harmless += cuts - refused // such as those after a commit whose answer was lost
			}
			t.Logf("%d bytes", n)
		})
	}
	c.t = t
	c.ends(true)
	t.Logf("%d changes; %d cuts made none fail", len(c.told), harmless)
	direct.holds(t, c.told)
}
