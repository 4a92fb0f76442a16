// Command withpostgres runs another command with a private PostgreSQL server beside it, and removes the server
// afterwards. It never leaves a server or its files behind.
//
//	go run ./internal/withpostgres -- go test ./...
//
// The command finds the server in SLUICE_TEST_POSTGRES. Where PostgreSQL is not installed, root has it installed by
// apt-get; everybody else is told how.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"sluice/internal/pgcluster"
)

const usage = "usage: withpostgres -- command [argument ...]"

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	status, err := run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
		status = max(status, 1)
	}
	os.Exit(status)
}

// run answers the command's exit status.
func run(args []string) (status int, err error) {
	// From here on a signal ends the command, and us after it.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	cluster, err := start(context.Background())
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	return command(args, cluster.URL("postgres"), signals)
}

func start(ctx context.Context) (*pgcluster.Cluster, error) {
	cluster, err := pgcluster.Start(ctx)
	if !errors.Is(err, pgcluster.ErrNotInstalled) {
		return cluster, err //nolint:wrapcheck // it says what it was doing
	}
	if apt, lookErr := exec.LookPath("apt-get"); lookErr != nil || os.Geteuid() != 0 {
		return nil, err //nolint:wrapcheck // it says what to do
	} else if err := install(ctx, apt); err != nil {
		return nil, err
	}
	return pgcluster.Start(ctx) //nolint:wrapcheck // it says what it was doing
}

func install(ctx context.Context, apt string) error {
	for _, args := range [][]string{
		{"update", "-q"},
		{"install", "-q", "-y", "--no-install-recommends", "postgresql"},
	} {
		fmt.Fprintln(os.Stderr, "withpostgres: PostgreSQL is not installed: apt-get", strings.Join(args, " "))
		cmd := exec.CommandContext(ctx, apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}

// command runs the command to its end and passes on every signal that comes meanwhile.
func command(args []string, url string, signals <-chan os.Signal) (int, error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it ends by the signals that are passed on
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = environment(os.Environ(), url)
	if err := cmd.Start(); err != nil {
		return 127, fmt.Errorf("run %s: %w", args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig) // it may have ended this moment
		case err := <-ended:
			return statusOf(cmd.ProcessState), unlessExit(err)
		}
	}
}

// environment adds the server, and takes out a store that would win over it.
func environment(env []string, url string) []string {
	out := make([]string, 0, len(env)+1)
	for _, e := range env {
		if !strings.HasPrefix(e, "SLUICE_STORE=") && !strings.HasPrefix(e, pgcluster.Env+"=") {
			out = append(out, e)
		}
	}
	return append(out, pgcluster.Env+"="+url)
}

// statusOf is what a shell would say: 128 + the signal for a command that a signal ended.
func statusOf(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

// unlessExit drops the error that only repeats the exit status.
func unlessExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}
