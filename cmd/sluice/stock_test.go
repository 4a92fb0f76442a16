package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// P2: half of the buyers let their holds expire, and every unit is sold in the end, at one door and at three.
func TestSale_SellsEveryUnitAlthoughHalfOfTheHoldsExpire(t *testing.T) {
	for _, doors := range []int{1, 3} {
		t.Run(fmt.Sprintf("doors=%d", doors), func(t *testing.T) {
			const stock = 60
			rush := startRush(t, doors)
			if status, answer := call(t, "POST", "http://"+rush.admin+"/v1/sales",
				fmt.Sprintf(`{"id":"demo","stock":%d,"payment_window":"700ms"}`, stock)); status != 201 {
				t.Fatalf("create the sale: %d %v", status, answer)
			}
			var wg sync.WaitGroup
			for n := range 4 * stock {
				wg.Go(func() { rush.buyer(n, n%2 == 0) })
			}
			eventually(t, "every unit is sold", func() bool {
				_, sale := call(t, "GET", "http://"+rush.admin+"/v1/sales/demo", "")
				return sale["sold"] == float64(stock)
			})
			rush.over.Store(true)
			wg.Wait()
			if rush.refused.Load() == 0 {
				t.Error("nobody was told none-free: the doors did not know the stock")
			}
			if _, audit := call(t, "GET", "http://"+rush.admin+"/v1/audit", ""); audit["balanced"] != true {
				t.Errorf("audit: %v", audit)
			}
		})
	}
}

// rush is a sale with buyers at several doors.
type rush struct {
	t       *testing.T
	doors   []string
	admin   string
	over    atomic.Bool
	refused atomic.Int64 // none-free
}

func startRush(t *testing.T, doors int) *rush {
	t.Helper()
	nsqd, data := freePort(t), t.TempDir()
	r := &rush{t: t, admin: freePort(t)}
	key := filepath.Join(data, "id.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, "nsqd", "--listen", nsqd, "--nsqd-http", "127.0.0.1:0", "--data", filepath.Join(data, "nsqd"))
	launch(t, "worker", "--nsqd", nsqd, "--admin", r.admin, "--data", filepath.Join(data, "worker"), "--id-key", key)
	for n := range doors {
		door := freePort(t)
		r.doors = append(r.doors, door)
		launch(t, "ingress", "--listen", door, "--nsqd", nsqd, "--nsqd-http", "127.0.0.1:1", "--worker", r.admin,
			"--id", fmt.Sprintf("door-%d", n), "--bound", "100", "--data", filepath.Join(data, fmt.Sprint(n)), "--id-key", key)
		eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+door+"/readyz", ""); return status == 200 })
	}
	return r
}

// buyer asks until the sale is over or it has had a hold. One who pays and comes too late with that, as on a slow disk, comes again
// under another name.
func (r *rush) buyer(n int, pays bool) {
	door, late := r.doors[n%len(r.doors)], 0
	for !r.over.Load() {
		status, answer := call(r.t, "POST", "http://"+door+"/v1/sales/demo/orders", fmt.Sprintf(`{"user":"buyer-%d-%d"}`, n, late))
		if answer["reason"] == "none-free" {
			r.refused.Add(1)
		}
		if status != 202 && status != 200 {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		_, order := call(r.t, "GET", fmt.Sprintf("http://%s%s?wait=5s", door, answer["href"]), "")
		if order["status"] == "held" && !pays {
			return
		}
		if order["status"] == "held" {
			if r.pay(order, fmt.Sprintf("p%d-%d", n, late)) {
				return
			}
			late++
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// pay asks until it is told whether the hold was paid in time.
func (r *rush) pay(order map[string]any, ref string) (inTime bool) {
	for !r.over.Load() {
		status, answer := call(r.t, "POST", fmt.Sprintf("http://%s%s/pay", r.admin, order["href"]), fmt.Sprintf(`{"payment_ref":%q}`, ref))
		if status == 200 || answer["reason"] == "too-late" {
			return status == 200
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}
