package queue

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fullDisk is a small file system in memory, with a folder written and no room left.
func fullDisk(t *testing.T, f folder) (dir string, makeRoom func()) {
	t.Helper()
	dir = t.TempDir()
	err := syscall.Mount("sluice", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=1m,mode=700")
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("mount: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	for name, content := range f {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not fill: %v", err)
	}
	return dir, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

// P3: an nsqd that was killed and finds its disk full does not start, and loses nothing of what it has.
func TestServer_LosesNothingWhereItsDiskIsFull(t *testing.T) {
	noLeaks(t)
	a, b, c := onDisk("a"), onDisk("bb"), onDisk(strings.Repeat("c", 5000))
	was := files("1\n0,31\n0,31\n", a+b, c+c[:99], none, b+c)
	was["nsqd.dat"] = `{"topics":[{"name":"events","channels":[{"name":"points"}]}]}`
	dir, makeRoom := fullDisk(t, was)
	cfg := ServerConfig{Listen: freeAddr(t), DataDir: dir}
	for range 3 { // times that its supervisor tries
		if s, err := StartServer(cfg); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "queue events:points") {
			if err == nil {
				stopServer(t, s)
			}
			t.Errorf("StartServer = %v, want no room and the queue", err)
		}
	}
	left := readFolder(t, dir)
	delete(left, "filler")
	if !maps.Equal(left, was) {
		t.Errorf("the folder is\n%q, want it as it was\n%q", left, was)
	}
	makeRoom()
	if err := salvage(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	readsBack(t, dir, wholeMessages(b+c+b+c))
}
