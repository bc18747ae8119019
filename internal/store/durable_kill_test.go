package store

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// kills is how often something is killed in a test.
const kills = 50 / min(sample, 6)

// Killed in the middle of commits, again and again: all that was acknowledged is there, nothing is there by half, and the log is
// one and the same for everybody who kept a checkpoint.
func TestI2_KilledServersLoseNothingThatTheyAcknowledged(t *testing.T) {
	o := newOrders(t, "load", filepath.Join(t.TempDir(), "writ.db"))
	o.Writers = 8
	var all []told
	for n := 0; n < kills && !t.Failed(); n++ {
		o.Name = fmt.Sprint("d", n)
		c := o.start(t)
		c.untilReady()
		c.goOn()
		c.listen(1 + rand.IntN(25))
		if err := c.process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c.last(o)...)
		o.holds(t, all)
	}
	t.Logf("%d changes", len(all))
}

// On PostgreSQL either the process or the database server is killed; the process goes on when there is a server again.
func TestI2_KilledPostgresLosesNothingThatWasAcknowledged(t *testing.T) {
	server := startServer(t)
	o := onServer(t, server, "load")
	o.Writers = 8
	var all []told
	var c *child
	for n := 0; n < kills && !t.Failed(); n++ {
		if c == nil {
			o.Name = fmt.Sprint("d", n)
			c = o.start(t)
			c.untilReady()
			c.goOn()
		}
		c.listen(1 + rand.IntN(25))
		if n%2 == 0 {
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.listen(1) // it has recovered by itself
			continue
		}
		if err := c.process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c.last(o)...)
		c = nil
		o.holds(t, all)
	}
	t.Logf("%d changes", len(all))
}

// listen waits until a child has acknowledged so many more changes.
func (c *child) listen(more int) {
	c.t.Helper()
	for more > 0 {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			c.t.Fatalf("the child ended: %v, %v", err, c.process.Wait())
		}
		one, err := parseTold(line)
		if err != nil {
			c.t.Fatal(err)
		}
		if c.told = append(c.told, one); one.index >= 0 {
			more--
		}
	}
}

// last is all that a child that was killed has said, and what it may have been at: the next change of each writer.
func (c *child) last(o orders) []told {
	c.t.Helper()
	c.untilEnd()
	if err := c.process.Wait(); err == nil {
		c.t.Error("the child ended by itself")
	}
	said := map[string]int{}
	for _, one := range c.told {
		said[strings.Split(one.id, ".")[1]]++
	}
	for i := range o.Writers {
		c.told = append(c.told, told{id: fmt.Sprintf("%s.%d.%d", o.Name, i, said[fmt.Sprint(i)]), index: -1})
	}
	return c.told
}

// Three processes serve one database and are killed at random: there is one log, nothing that was acknowledged is lost, and what
// only one may have was given to one.
func TestI1_ThreeProcessesAreOneLog(t *testing.T) {
	server := startServer(t)
	o := onServer(t, server, "share")
	o.Writers = 4
	var mu sync.Mutex
	var all []told
	t.Run("processes", func(t *testing.T) {
		for which := range 3 {
			t.Run(fmt.Sprint(which), func(t *testing.T) {
				t.Parallel()
				for n := range max(7/min(sample, 3), 2) {
					mine := o
					mine.Name = fmt.Sprintf("p%d-%d", which, n)
					c := mine.start(t)
					c.untilReady()
					c.goOn()
					c.listen(1 + rand.IntN(40))
					if err := c.process.Process.Kill(); err != nil {
						t.Error(err)
					}
					c.untilEnd()
					_ = c.process.Wait() // by the signal
					mu.Lock()
					all = append(all, c.tried(mine)...)
					mu.Unlock()
				}
			})
		}
	})
	there := o.holds(t, all)
	got := map[string]string{} // thing → who has it
	refused := 0
	for _, one := range all {
		thing := strings.Split(one.id, ".")[2]
		switch one.err {
		case errTaken.Error():
			refused++
		case "", "<nil>":
		default:
			t.Errorf("%s: %s", one.id, one.err) // nothing was wrong with the database
		}
		if !there[one.id] {
			continue
		}
		if got[thing] != "" {
			t.Errorf("%s and %s both have thing %s", got[thing], one.id, thing)
		}
		got[thing] = one.id
	}
	for i := range len(got) {
		if got[fmt.Sprint(i)] == "" {
			t.Errorf("nobody has thing %d", i)
		}
	}
	t.Logf("%d things, %d refusals", len(got), refused)
	if refused == 0 {
		t.Error("nobody wanted what another had")
	}
}

// tried is all that a child that was killed has said, and what its writers may have been at.
func (c *child) tried(o orders) []told {
	c.t.Helper()
	next := map[int]string{}
	for i := range o.Writers {
		next[i] = fmt.Sprintf("%s.%d.0.0", o.Name, i)
	}
	for _, one := range c.told {
		var writer, thing, try int
		if _, err := fmt.Sscanf(strings.TrimPrefix(one.id, o.Name), ".%d.%d.%d", &writer, &thing, &try); err != nil {
			c.t.Fatal(err)
		}
		if try++; one.index >= 0 || one.err == errTaken.Error() {
			thing, try = thing+1, 0
		}
		next[writer] = fmt.Sprintf("%s.%d.%d.%d", o.Name, writer, thing, try)
	}
	for _, id := range next {
		c.told = append(c.told, told{id: id, index: -1})
	}
	return c.told
}
