package faulttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"sluice/internal/pgcluster"
	"sluice/internal/race"
)

// binary is the program under test: the one in SLUICE_FAULT_BINARY, or one that the first test that needs it builds
// from the working tree.
var binary string

var build = sync.OnceValue(func() error {
	if given := os.Getenv("SLUICE_FAULT_BINARY"); given != "" {
		binary = given
		return nil
	}
	args := []string{"build", "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/sluice")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the program under test: %w\n%s", err, out)
	}
	return nil
})

// raceDetector builds the program under test with it, as these tests themselves are.
const raceDetector = race.Enabled

func TestMain(m *testing.M) {
	os.Exit(inTempDir(m))
}

func inTempDir(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sluice-faulttest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary directory
	binary = filepath.Join(dir, "sluice")
	return pgcluster.Main(m)
}

// postgres is the URL of a fresh database.
func postgres(t *testing.T) string {
	t.Helper()
	return pgcluster.Database(t)
}

// knob is a number from the environment.
func knob(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number above zero", name, text)
	}
	return n
}
