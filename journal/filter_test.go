package journal

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice"
)

func randomID(r *rand.Rand) (id sluice.OrderID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // as a UUIDv8 has them
	return id
}

// What was added is never missing; what was not is missing nearly always.
func TestFilter_ErrsOnOneSideAlone(t *testing.T) {
	const blocks, orders, probes = 1 << 10, 40_000, 100_000 // as full as the real one is at ten million
	f := newFilter(blocks * filterBlockBytes)
	f.ready.Store(true)
	added, others := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(2, 2))
	for range orders {
		f.add(randomID(added))
	}
	again := rand.New(rand.NewPCG(1, 1))
	for range orders {
		if id := randomID(again); f.missing(id) {
			t.Fatalf("%v was added and is missing", id)
		}
	}
	wrong := 0
	for range probes {
		if !f.missing(randomID(others)) {
			wrong++
		}
	}
	if share := float64(wrong) / probes; share > 0.03 || share == 0 {
		t.Errorf("%.2f %% of unknown orders are not missing at %d orders", 100*share, orders)
	}
}

// However orders are settled and asked for at the same time, one whose settlement was recorded is found.
func TestFilter_FindsWhatWasSettledAtOnce(t *testing.T) {
	j := open(t, options(t, vfs.NewMem()))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for range 200 {
				id := randomID(r)
				c, err := j.Settle([]sluice.Status{{Order: id, State: sluice.Paid, Version: 2}})
				if err != nil {
					t.Error(err)
					return
				}
				<-c.Done()
				if _, known, err := j.Settled(id); !known || err != nil {
					t.Errorf("%v: known %t, %v", id, known, err)
				}
			}
		})
	}
	wg.Wait()
}

// After a restart an order of an earlier run is found, before and after the filter has learned of it.
func TestFilter_LearnsOfEarlierRuns(t *testing.T) {
	disk := vfs.NewMem()
	j := open(t, options(t, disk))
	r := rand.New(rand.NewPCG(3, 3))
	statuses := make([]sluice.Status, 5000)
	for i := range statuses {
		statuses[i] = sluice.Status{Order: randomID(r), State: sluice.Paid, Version: 2}
	}
	c, err := j.Settle(statuses)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, options(t, disk))
	find := func() {
		for i := range statuses {
			if _, known, err := j.Settled(statuses[i].Order); !known || err != nil {
				t.Fatalf("order %d of an earlier run: known %t, %v", i, known, err)
			}
		}
	}
	find()
	for deadline := time.Now().Add(10 * time.Second); !j.filter.ready.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the filter is never ready")
		}
	}
	find()
	if _, known, err := j.Settled(randomID(r)); known || err != nil {
		t.Errorf("an unknown order: known %t, %v", known, err)
	}
}
