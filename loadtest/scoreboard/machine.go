package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine is what figures depend on besides the source.
type machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	FileSystem string  `json:"file_system"`   // of the data
	Sync       float64 `json:"sync_ms"`       // to write 4 KiB durably; median
	Load       string  `json:"load_average"`  // 1, 5 and 15 minutes, at the end of the row
	Steal      float64 `json:"steal_percent"` // of processor time that others took during the row
}

func readMachine(dir string) (machine, error) {
	m := machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(), FileSystem: fileSystem(dir)}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(kernel)), "-") // what follows names whose machine it is
	var err error
	m.Sync, err = syncTime(dir)
	return m, err
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// fileSystem names the kind of file system: on one in memory nothing is durable, and a sync costs nothing.
func fileSystem(dir string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "unknown"
	}
	switch uint32(s.Type) {
	case 0xef53:
		return "ext4"
	case 0x01021994:
		return "tmpfs"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x794c7630:
		return "overlayfs"
	}
	return fmt.Sprintf("%#x", uint32(s.Type))
}

func syncTime(dir string) (ms float64, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // nothing of it is needed
	block, took := make([]byte, 4<<10), make([]float64, 50)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took[i] = milliseconds(time.Since(began))
	}
	return median(took), os.Remove(f.Name())
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func loadAverage() string {
	load, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(load))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// stat is the processor time of the whole machine, in ticks.
type stat struct{ all, steal float64 }

func readStat() (s stat) {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	for i, field := range fields[min(1, len(fields)):min(9, len(fields))] { // guests are counted in user time already
		n, _ := strconv.ParseFloat(field, 64)
		s.all += n
		if i == 7 {
			s.steal = n
		}
	}
	return s
}

// stealSince is the share of processor time since before that the host gave to others, in percent.
func (s stat) stealSince(before stat) float64 {
	if s.all <= before.all {
		return 0
	}
	return 100 * (s.steal - before.steal) / (s.all - before.all)
}

// describe is the machine in a line.
func (m machine) describe() string {
	parts := []string{
		fmt.Sprintf("%d cores (%s)", m.Cores, m.CPU), "Linux " + m.Kernel, m.Go,
		fmt.Sprintf("%s, a sync takes %.2f ms", m.FileSystem, m.Sync), "load average " + m.Load, fmt.Sprintf("steal %.1f %%", m.Steal),
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}
