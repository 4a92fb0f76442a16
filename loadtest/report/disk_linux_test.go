package report

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Disks end at different places: while run.json is written, or at the last chart.
func TestWrite_LeavesNothingOnAFullDisk(t *testing.T) {
	run, intervals := flashSale(1)
	for _, size := range []string{"size=8k", "size=64k", "size=160k"} {
		disk := t.TempDir()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, size); err != nil {
			t.Skipf("a small disk can't be mounted here: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(disk, 0) })
		dir := filepath.Join(disk, "r")
		err := Write(dir, run, intervals)
		if !errors.Is(err, syscall.ENOSPC) || err.Error() != "report "+dir+": no space left on device" {
			t.Errorf("%s: %v", size, err)
		}
		if left := names(t, disk); len(left) > 0 {
			t.Errorf("%s: left are %q", size, left)
		}
	}
}

func TestWrite_LeavesTheOldReportWhereTheNewOneFindsNoRoom(t *testing.T) {
	run, intervals := flashSale(1)
	dir := filepath.Join(t.TempDir(), "r")
	if err := Write(dir, run, intervals); err != nil {
		t.Fatal(err)
	}
	before := read(t, dir, RunFile)
	run.Scenario.Name = "another"
	limitFiles(t, 20_000)
	err := Write(dir, run, intervals, Replace)
	if !errors.Is(err, syscall.EFBIG) || !strings.HasPrefix(err.Error(), "report "+dir+": ") {
		t.Errorf("with files of 20 kB at most: %v", err)
	}
	if read(t, dir, RunFile) != before {
		t.Error("the old report is not as it was")
	}
	if left := names(t, filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("left are %q", left)
	}
}

// limitFiles has this process write files of so many bytes at most, until the test's end.
func limitFiles(t *testing.T, size uint64) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}); err != nil {
		t.Fatal(os.NewSyscallError("setrlimit", err))
	}
	t.Cleanup(func() {
		_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
		signal.Reset(syscall.SIGXFSZ)
	})
}
