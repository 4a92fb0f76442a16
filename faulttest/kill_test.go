package faulttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const (
	rushTime = 90 * time.Second // the most that a rush may take, faults included
	saleID   = "rush"
)

// scene is what one run of a story happens in.
type scene struct {
	t      *testing.T
	store  store
	dir    string
	random *rand.Rand
}

// everywhere runs a story on both databases, SLUICE_FAULT_RUNS times, each time with a seed of its own that a failure
// prints and SLUICE_FAULT_SEED repeats.
func everywhere(t *testing.T, story func(scene)) {
	t.Helper()
	for _, name := range []string{"sqlite", "postgres"} {
		for run := range knob(t, "SLUICE_FAULT_RUNS", 1) {
			t.Run(fmt.Sprintf("%s/%d", name, run+1), func(t *testing.T) {
				seed := knob(t, "SLUICE_FAULT_SEED", int(time.Now().UnixNano()%1e9)) + run
				t.Logf("SLUICE_FAULT_SEED=%d", seed)
				dir := workDir(t)
				s := store{name: name, flag: "sqlite", dir: filepath.Join(dir, "store")}
				if name == "postgres" {
					s.flag = postgres(t) // made before any part: it is dropped after the last one is dead
				}
				story(scene{t: t, store: s, dir: dir, random: rand.New(rand.NewPCG(uint64(seed), 0))})
			})
		}
	}
}

// workDir is where a run keeps everything: gone with the test, or kept below SLUICE_FAULT_DIR to be looked at.
func workDir(t *testing.T) string {
	t.Helper()
	keep := os.Getenv("SLUICE_FAULT_DIR")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, t.Name())
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// between is a seeded number of accepted orders from low to high.
func between(random *rand.Rand, low, high int64) int64 { return low + random.Int64N(high-low+1) }

// rushWith lets the buyers in while the faults happen, and waits for both.
func rushWith(t *testing.T, b *buyers, faults func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rushTime)
	defer cancel()
	began := time.Now()
	var rush sync.WaitGroup
	rush.Go(func() { b.rush(ctx) })
	faults(ctx)
	rush.Wait()
	t.Logf("the rush took %v", time.Since(began).Round(time.Millisecond))
}

// await waits until so many orders have been accepted.
func await(ctx context.Context, t *testing.T, b *buyers, mark <-chan struct{}) {
	t.Helper()
	select {
	case <-mark:
	case <-ctx.Done():
		t.Errorf("only %d orders were accepted in time for the next fault", b.accepted.Load())
	}
}

// parts are the service as three processes.
type parts struct {
	door, admin           string
	nsqd, worker, ingress *process
	nsqdDir               string
	nsqdAddress, key      string
}

func launchParts(t *testing.T, s scene, bound string, workerFlags ...string) parts {
	t.Helper()
	p := launchBehind(t, s, workerFlags...)
	p.door, p.ingress = p.launchDoor(t, s.dir, "door-1", bound)
	return p
}

// launchBehind launches what stands behind the doors.
func launchBehind(t *testing.T, s scene, workerFlags ...string) parts {
	t.Helper()
	p := parts{
		admin: freeAddress(t), nsqdDir: filepath.Join(s.dir, "nsqd"), nsqdAddress: freeAddress(t), key: idKeyFile(t, s.dir),
	}
	p.nsqd = launch(t, s.dir, "nsqd", "nsqd", "--listen", p.nsqdAddress, "--data", p.nsqdDir)
	p.worker = launch(t, s.dir, "worker", append([]string{
		"worker", "--nsqd", p.nsqdAddress, "--admin", p.admin, "--store", s.store.flag, "--data", s.store.dir, "--id-key", p.key,
	}, workerFlags...)...)
	return p
}

// launchDoor launches one door, with a journal of its own.
func (p parts) launchDoor(t *testing.T, dir, id, bound string, flags ...string) (address string, door *process) {
	t.Helper()
	address = freeAddress(t)
	return address, launch(t, dir, id, append([]string{
		"ingress", "--listen", address, "--nsqd", p.nsqdAddress, "--worker", p.admin,
		"--id", id, "--bound", bound, "--data", filepath.Join(dir, "data-"+id), "--id-key", p.key,
	}, flags...)...)
}
