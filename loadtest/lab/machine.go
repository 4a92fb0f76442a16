package lab

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

// Machine is what figures depend on besides the source.
type Machine struct {
	CPU        string  `json:"cpu"`
	Cores      int     `json:"cores"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	FileSystem string  `json:"file_system"`   // of the data
	Sync       float64 `json:"sync_ms"`       // to write 4 KiB durably; median
	Load       string  `json:"load_average"`  // 1, 5 and 15 minutes, at the end
	Steal      float64 `json:"steal_percent"` // of processor time that others took meanwhile
}

// ReadMachine describes the machine, and the disk that dir is on. Load and Steal are of a time: see Since.
func ReadMachine(dir string) (Machine, error) {
	m := Machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(), FileSystem: fileSystem(dir)}
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
		took[i] = float64(time.Since(began)) / float64(time.Millisecond)
	}
	slices.Sort(took)
	return took[len(took)/2], os.Remove(f.Name())
}

func loadAverage() string {
	load, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(load))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// Moment is the processor time of the whole machine until then, in ticks.
type Moment struct{ all, steal float64 }

// Now is the present moment. Without /proc nothing is known of it, and Steal since then is 0.
func Now() (m Moment) {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	for i, field := range fields[min(1, len(fields)):min(9, len(fields))] { // guests are counted in user time already
		n, _ := strconv.ParseFloat(field, 64)
		m.all += n
		if i == 7 {
			m.steal = n
		}
	}
	return m
}

// Steal is the share of processor time since then that the host gave to others, in percent.
func (m Moment) Steal() float64 {
	now := Now()
	if now.all <= m.all {
		return 0
	}
	return 100 * (now.steal - m.steal) / (now.all - m.all)
}

// Since is the machine with the load that it has now, and what was stolen since a moment.
func (m Machine) Since(then Moment) Machine {
	m.Load, m.Steal = loadAverage(), then.Steal()
	return m
}

// Describe is the machine in a line.
func (m Machine) Describe() string {
	parts := []string{
		fmt.Sprintf("%d cores (%s)", m.Cores, m.CPU), "Linux " + m.Kernel, m.Go,
		fmt.Sprintf("%s, a sync takes %.2f ms", m.FileSystem, m.Sync), "load average " + m.Load, fmt.Sprintf("steal %.1f %%", m.Steal),
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}
