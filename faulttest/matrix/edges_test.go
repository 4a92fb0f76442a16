package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/faulttest/check"
)

// A disk is full to the last byte, or to what is to be left, and has its room back when it is emptied.
func TestDisk_FillsAndEmpties(t *testing.T) {
	d, err := newDisk(4)
	if _, ok := errors.AsType[*skipped](err); ok {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", d.dir, err)
		}
	}()
	if err := d.fill(1 << 20); err != nil {
		t.Fatal(err)
	}
	if free, err := d.free(); err != nil || free > 1<<20 || free == 0 {
		t.Errorf("%d bytes are free, %v; want almost 1 MiB", free, err)
	}
	if err := d.fill(0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "x"), []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a byte more: %v, want no space left", err)
	}
	if err := d.empty(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "x"), make([]byte, 3<<20), 0o600); err != nil {
		t.Error(err)
	}
}

func TestReadAnswer(t *testing.T) {
	text := "HTTP/1.1 202 Accepted\r\nServer: sluice\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\nnonsense\n"
	in := bufio.NewReader(strings.NewReader(text))
	for _, want := range []struct {
		status int
		body   string
	}{{202, "{}"}, {503, ""}} {
		status, body, err := readAnswer(in)
		if err != nil || status != want.status || string(body) != want.body {
			t.Errorf("got %d %q %v, want %+v", status, body, err, want)
		}
	}
	if _, _, err := readAnswer(in); err == nil {
		t.Error("nonsense is an answer")
	}
}

// S10: a young process is compared with young ones, and an old one with old ones.
func TestGrowth_ComparesProcessesOfOneAge(t *testing.T) {
	second := int64(time.Second)
	sample := func(at, born, memory int64) check.Sample {
		return check.Sample{At: at * second, Part: "door", Born: born * second, Use: check.Use{Memory: memory}}
	}
	samples := []check.Sample{
		sample(10, 0, 900), // too early
		sample(130, 0, 100), sample(205, 200, 40),
		sample(900, 200, 105), sample(1005, 1000, 44), sample(1006, 1000, 44), sample(1015, 1000, 400),
	}
	ratio, early, late := growth(samples, "door", 120*second, 800*second)
	if ratio != 1.1 || early != 40 || late != 44 {
		t.Errorf("got %v of %d and %d, want 1.1 of 40 and 44", ratio, early, late)
	}
	if ratio, _, _ := growth(samples, "worker", 120*second, 800*second); ratio != 0 {
		t.Errorf("of a part that was never seen: %v", ratio)
	}
}

// A run is late only where all that went wrong, however it was joined, is time.
func TestOnlyLate_LooksAtEveryFailure(t *testing.T) {
	other := errors.New("P8: sluice audit")
	for err, want := range map[error]bool{
		late("a"):                         true,
		other:                             false,
		errors.Join(late("a"), late("b")): true,
		errors.Join(errors.Join(late("a"), other), nil):     false,
		errors.Join(nil, errors.Join(late("a")), late("b")): true,
		fmt.Errorf("the fault: %w", late("a")):              false,
	} {
		if got := onlyLate(err); got != want {
			t.Errorf("%q: %v, want %v", err, got, want)
		}
	}
}
