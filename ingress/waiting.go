package ingress

import (
	"sync"
	"sync/atomic"

	"sluice"
)

// waitingRoom lets requests wait for news of an order: at most `most` of them, whoever comes later is answered at once.
type waitingRoom struct {
	most  int
	count atomic.Int64

	mu    sync.Mutex
	bells map[sluice.OrderID]*bell
}

// bell rings once for everybody who waits for one order.
type bell struct {
	rung    chan struct{}
	waiting int
}

// enter registers for news of id, or answers nil where the room is full. Whoever enters must leave.
func (w *waitingRoom) enter(id sluice.OrderID) *bell {
	if !w.sit() {
		return nil
	}
	return w.listen(id)
}

func (w *waitingRoom) leave(id sluice.OrderID, b *bell) {
	w.unlisten(id, b)
	w.rise()
}

// sit takes a place in the room; false where it is full. Whoever sits must rise.
func (w *waitingRoom) sit() bool {
	if w.count.Add(1) > int64(w.most) {
		w.count.Add(-1)
		return false
	}
	return true
}

func (w *waitingRoom) rise() { w.count.Add(-1) }

// listen registers somebody who has a place for news of id, until it rings or they unlisten.
func (w *waitingRoom) listen(id sluice.OrderID) *bell {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bells == nil {
		w.bells = make(map[sluice.OrderID]*bell)
	}
	b := w.bells[id]
	if b == nil {
		b = &bell{rung: make(chan struct{})}
		w.bells[id] = b
	}
	b.waiting++
	return b
}

func (w *waitingRoom) unlisten(id sluice.OrderID, b *bell) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.waiting--
	if b.waiting == 0 && w.bells[id] == b {
		delete(w.bells, id)
	}
}

// wake rings for everybody who waits for id.
func (w *waitingRoom) wake(id sluice.OrderID) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.bells[id]; b != nil {
		close(b.rung)
		delete(w.bells, id)
	}
}
