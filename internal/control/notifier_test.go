package control

import "testing"

func TestNobodyWhoWaitedIsRemembered(t *testing.T) {
	n := newNotifier()
	changed, leave := n.wait("a")
	_, leaveToo := n.wait("a")
	leave()
	if len(n.waiting) != 1 {
		t.Error("one still waits")
	}
	leaveToo()
	if len(n.waiting) != 0 {
		t.Error("nobody waits, and the thing is remembered")
	}
	select {
	case <-changed:
		t.Error("woken by nothing")
	default:
	}
	changed, leave = n.wait("a")
	n.wake("a")
	<-changed
	_, leaveNext := n.wait("a")
	leave() // of the former change
	if len(n.waiting) != 1 {
		t.Error("whoever leaves late takes the next ones along")
	}
	leaveNext()
	n.wake("a")
	if len(n.waiting) != 0 {
		t.Error("not empty")
	}
}
