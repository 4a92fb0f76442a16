package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A program whose wall clock can be wrong: sluice, built with another time.Now, which adds what a file says to the seconds that the
// kernel says. The monotonic clock is left alone, as it is when an operator sets a machine's clock. Go asks the kernel without the C
// library, so nothing can be put between them from outside; that is why it is built so, from the standard library of the Go in use.

// clockFile is the variable that names the file: eight bytes, in the machine's order.
const clockFile = "FAULTS_CLOCK"

// shiftedClock is added to package time. It maps the file, so that the clock jumps when the file is written.
const shiftedClock = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var wallShift = mapWallShift()

func mapWallShift() *int64 {
	path, ok := syscall.Getenv("` + clockFile + `")
	if !ok {
		return nil
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("` + clockFile + `: " + err.Error())
	}
	shift, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("` + clockFile + `: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&shift[0]))
}

func shiftedNow() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = runtimeNow()
	if wallShift != nil {
		sec += atomic.LoadInt64(wallShift)
	}
	return sec, nsec, mono
}
`

// askedClock is what time.Now asks, and askedShifted what it asks instead.
var askedClock, askedShifted = []byte("	sec, nsec, mono := runtimeNow()\n"), []byte("	sec, nsec, mono := shiftedNow()\n")

// buildShifted builds the program next to the one under test.
func buildShifted(ctx context.Context, sluice string) (path string, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	dir, err := os.MkdirTemp("", "sluice-clock-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	overlay, err := writeOverlay(dir, filepath.Join(string(bytes.TrimSpace(root)), "src", "time"))
	if err != nil {
		return "", err
	}
	built := filepath.Join(dir, "sluice")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", built, "sluice/cmd/sluice")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sluice with another clock (in its module's folder): %w\n%s", err, text)
	}
	path = sluice + "-shifted"
	text, err := os.ReadFile(built)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path+".new", text, 0o755); err != nil { //nolint:gosec // it is run
		return "", err
	}
	return path, os.Rename(path+".new", path) // who runs the old one keeps it
}

// writeOverlay writes what go build is to read in place of the standard library's files, and the list of it.
func writeOverlay(dir, source string) (list string, err error) {
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return "", err
	}
	if n := bytes.Count(text, askedClock); n != 1 {
		return "", fmt.Errorf("time.Now of this Go is another one: it asks for the clock in %d places", n)
	}
	files := map[string][]byte{
		"time.go":    bytes.Replace(text, askedClock, askedShifted, 1),
		"shifted.go": []byte(shiftedClock),
	}
	replace := map[string]string{}
	for name, text := range files {
		replace[filepath.Join(source, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list = filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, overlay, 0o600)
}

// setClock has the shifted parts' wall clocks be off by so many seconds from now on.
func (s *scene) setClock(seconds int64) error {
	_, err := s.clock.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(seconds)), 0) //nolint:gosec // the same bits
	return err
}
