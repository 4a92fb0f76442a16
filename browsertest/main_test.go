// Package browsertest looks at a running sluice through a real browser: what buyers see, and what pages of others can't do.
// It has a module of its own, so that driving a browser is no business of the product, and believes the public contract only.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// sluice is the program under test, chromium the browser.
var sluice, chromium string

func TestMain(m *testing.M) {
	status, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "browsertest:", err)
		status = 1
	}
	os.Exit(status)
}

func prepareAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "browsertest")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	if chromium, err = findChromium(ctx); err != nil {
		return 1, err
	}
	sluice = filepath.Join(dir, "sluice")
	build := exec.CommandContext(ctx, "go", "build", "-o", sluice, "./cmd/sluice")
	build.Dir, build.Stdout, build.Stderr = "..", os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1, fmt.Errorf("build sluice: %w", err)
	}
	return m.Run(), nil
}

// findChromium finds the browser. Where it is missing, root has it installed by apt-get; everybody else is told how.
func findChromium(ctx context.Context) (string, error) {
	for {
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if path, err := exec.LookPath(name); err == nil {
				return path, nil
			}
		}
		apt, err := exec.LookPath("apt-get")
		if err != nil || os.Geteuid() != 0 {
			return "", fmt.Errorf("chromium is not installed; on Debian: apt-get install chromium")
		}
		for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"}} {
			fmt.Fprintln(os.Stderr, "browsertest: chromium is not installed: apt-get", args)
			cmd := exec.CommandContext(ctx, apt, args...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			if err := cmd.Run(); err != nil {
				return "", fmt.Errorf("apt-get %s: %w", args[0], err)
			}
		}
	}
}
