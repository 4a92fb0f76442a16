package lab

import (
	"errors"
	"testing"
	"time"
)

var errTooLittle = errors.New("the processor time of its children is missing")

// Processor time of children counts while they run and after they have ended.
func TestTree_IsAProcessWithItsChildren(t *testing.T) {
	l := newLab(t)
	const busy = `busy() { i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; }; (busy) ; echo one; (busy; sleep 600) & wait`
	p := start(t, l, "parent", "sh", "-c", busy)
	tree := NewTree("parent", p.PID())
	var cpu time.Duration
	err := Eventually(t.Context(), 20*time.Second, "both children have worked", func() (err error) {
		cpu, err = tree.CPU()
		if own, err2 := p.CPU(); err == nil && err2 == nil && cpu < own+100*time.Millisecond {
			return errTooLittle
		}
		return err
	})
	if err != nil {
		t.Fatalf("%v; processor time %v", err, cpu)
	}
	one, err := p.Memory()
	all, err2 := tree.Memory()
	if err != nil || err2 != nil || all < one/2 || all > 100<<20 {
		t.Errorf("%d bytes, and %d with its children (%v, %v)", one, all, err, err2)
	}
}
