package simulate

import (
	"testing/synctest"
	"time"

	"sluice"
)

// late: once all is well again, units that come back find a buyer at every door within a second (P2).
func (w *World) late() {
	for n, d := range w.doors {
		w.act(TopUp, 0, 0, 1)
		time.Sleep(healEvery)
		w.round()
		r := &request{wish: wish{0, "late", 1}, buyer: "late" + d.name, door: d}
		w.check.sent(r)
		d.life.send(r)
		synctest.Wait()
		w.settle()
		if r.status != 202 && d.bound > 0 {
			w.check.fail("P2", "a unit is free and the queue is empty, but door %s answers %d %s", d.name, r.status, r.answer.Reason)
			return
		}
		for range 5 {
			w.round()
			time.Sleep(healEvery)
		}
		if row := w.store.orders[r.answer.Order]; row == nil || row.was[0].State == sluice.Rejected {
			w.check.fail("P2", "a unit is free, but the order of door %s is not settled well: %+v", d.name, row)
		}
		_ = n
	}
}

// compare: every door, asked twice, says of every order what the store says, and says so again after a crash.
func (w *World) compare() {
	time.Sleep(11 * time.Second) // what was asked before may be asked again
	w.readAll(nil)
	w.readAll(w.check.agreed)
	for n := range w.doors {
		w.act(CrashDoor, n, diskSynced)
		w.act(StartDoor, n)
		w.act(Refresh, n)
	}
	w.answerAll()
	for _, d := range w.doors {
		if n := d.life.real.Outstanding(); n != 0 {
			w.check.fail("P3", "door %s has %d orders outstanding after another start", d.name, n)
		}
	}
	w.readAll(nil)
	w.readAll(w.check.agreed)
}

func (w *World) readAll(see func(*request)) {
	var all []*request
	for _, d := range w.doors {
		for _, id := range w.check.known {
			r := &request{read: id, buyer: "?", door: d}
			w.check.sent(r)
			d.life.send(r)
			all = append(all, r)
		}
	}
	for range 3 {
		synctest.Wait()
		for n := range w.doors {
			w.act(Inquire, n)
		}
		w.answerAll()
		time.Sleep(healEvery)
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
	w.settle()
	if see != nil {
		for _, r := range all {
			see(r)
		}
	}
}
