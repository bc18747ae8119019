package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// Killed in the middle of commits, again and again: all that was acknowledged is there, nothing is there by half, and the log is
// one and the same for everybody who kept a checkpoint.
func TestI2_KilledServersLoseNothingThatTheyAcknowledged(t *testing.T) {
	o := newOrders(t, "load", filepath.Join(t.TempDir(), "writ.db"))
	o.Writers = 8
	var all []told
	for n := range max(50/sample, 5) {
		o.Name = fmt.Sprint("d", n)
		all = append(all, o.kill(t)...)
		o.holds(t, all)
	}
	unknown := 0
	for _, one := range all {
		if one.index < 0 {
			unknown++
		}
	}
	t.Logf("%d changes were acknowledged", len(all)-unknown)
}

// kill runs a child until it has acknowledged a few changes, kills it, and returns all that it acknowledged.
func (o orders) kill(t *testing.T) (all []told) {
	t.Helper()
	c := o.start(t)
	after := 1 + rand.IntN(60)
	counted := map[string]int{} // writer → its acknowledged changes
	for n := 0; ; n++ {
		if n == after {
			if err := c.process.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, err := c.lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // a line that was cut off was not acknowledged in full
		}
		if err != nil {
			t.Fatal(err)
		}
		if line == "open\n" {
			continue
		}
		one, err := parseTold(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
		counted[strings.Split(one.id, ".")[1]]++
	}
	for i := range o.Writers { // what each was at may be there
		all = append(all, told{id: fmt.Sprintf("%s.%d.%d", o.Name, i, counted[fmt.Sprint(i)]), index: -1})
	}
	if err := c.process.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	return all
}
