package journal

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice"
)

// Whatever a damaged disk has under a key of ours, it is read or it is an error: no panic, and nothing known of an order
// under whose key lies what is no record.
func FuzzKeys_OfADamagedDisk(f *testing.F) {
	o := order(5)
	good := make([]byte, orderBytes(o))
	putOrder(good, o)
	f.Add([]byte("o"), good)
	f.Add(append([]byte("o"), o.ID[:]...), good)
	f.Add(append([]byte("o12345678"), o.ID[:]...), good)
	f.Add(append([]byte("s"), o.ID[:]...), []byte{recordVersion})
	f.Add(append([]byte("a"), o.ID[:]...), putAttempt(1<<31))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) == 0 || len(key) > 1000 || len(value) > 1<<16 {
			return
		}
		disk := vfs.NewMem()
		j := open(t, options(t, disk))
		appendAll(t, j, order(1))
		if err := j.db.Set(key, value, nil); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Open(options(t, disk))
		if err != nil {
			return
		}
		defer func() { _ = again.Close() }()
		n := 0
		err = again.Outstanding(func(sluice.Order, uint64) error { n++; return nil })
		if err == nil && (n < 1 || n > 2) {
			t.Errorf("key %x, value %x: %d orders are outstanding; want 1 or 2", key, value, n)
		}
		for _, id := range []sluice.OrderID{order(1).ID, o.ID} {
			if s, known, err := again.Settled(id); err == nil && known && !s.State.Valid() {
				t.Errorf("key %x, value %x: %v is %q", key, value, id, s.State)
			}
			_, _ = again.Attempt(id)
		}
		_, _ = again.Forget(func(sluice.Status) bool { return true })
	})
}
