// Package pgcluster runs a private PostgreSQL server for tests: loopback only, durable as in production, gone with
// the process that started it. It never touches a server that it did not start, and removes of others only what a
// killed process left behind.
package pgcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser  = "sluice"
	prefix     = "sluice-postgres-" // of a cluster's directory: then its owner's process id, "-" and a random number
	lockName   = "lock"             // held while the owner or the server runs
	startTries = 3                  // somebody else may take the free port first
	startLimit = 60 * time.Second
	stopLimit  = 20 * time.Second
)

// ErrNotInstalled says that this machine has no PostgreSQL server programs.
var ErrNotInstalled = errors.New("PostgreSQL's programs initdb and postgres were found neither in PATH nor in " +
	"/usr/lib/postgresql/*/bin: run `make setup`, or `apt-get install postgresql`")

// Cluster is a running server. Start makes it; whoever started it calls Stop.
type Cluster struct {
	inside string // what dir is in; empty: where temporary files are
	dir    string
	port   int
	log    *os.File
	lock   *os.File // nil where there are no such locks

	process *os.Process
	done    chan struct{} // closed when the server has ended
}

// Start makes a new cluster in a temporary directory and waits until it answers.
func Start(ctx context.Context) (*Cluster, error) { return StartIn(ctx, "") }

// StartIn is Start inside a folder that the server's user may enter, on a disk which may be small: the log takes it by the MiB.
// Empty: where temporary files are.
func StartIn(ctx context.Context, inside string) (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	removeLeftovers(os.TempDir())
	c := &Cluster{inside: inside}
	if err := c.create(ctx, bin); err != nil {
		return nil, errors.Join(fmt.Errorf("create a PostgreSQL cluster: %w", err), c.remove())
	}
	for range startTries {
		if c.port, err = freePort(ctx); err != nil {
			break
		}
		if err = c.run(ctx, bin); err == nil {
			return c, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), c.remove())
}

// URL names a database of the cluster.
func (c *Cluster) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(superuser), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// PID is the server's first process: the others are its children.
func (c *Cluster) PID() int { return c.process.Pid }

// Ended reports whether the server has ended by itself. Restart brings it back.
func (c *Cluster) Ended() bool {
	select {
	case <-c.done:
		return c.process != nil
	default:
		return false
	}
}

// Stop ends the server and removes its files. It disconnects whoever is still connected.
func (c *Cluster) Stop() error { return errors.Join(c.halt(), c.remove()) }

// binaries finds the directory of the server's programs: PATH first, then Debian's, highest version first.
func binaries() (string, error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if program, err := filepath.EvalSymlinks(initdb); err == nil && executable(filepath.Join(filepath.Dir(program), "postgres")) {
			return filepath.Dir(program), nil
		}
	}
	best, version := "", 0.0
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	for _, dir := range dirs {
		v, err := strconv.ParseFloat(filepath.Base(filepath.Dir(dir)), 64)
		if err == nil && v > version && executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			best, version = dir, v
		}
	}
	if best == "" {
		return "", ErrNotInstalled
	}
	return best, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func (c *Cluster) create(ctx context.Context, bin string) (err error) {
	if c.dir, err = os.MkdirTemp(c.inside, fmt.Sprintf("%s%d-", prefix, os.Getpid())); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if c.lock, err = own(c.dir); err != nil {
		return err
	}
	if err := give(c.dir); err != nil {
		return err
	}
	if c.log, err = os.Create(filepath.Join(c.dir, "log")); err != nil {
		return fmt.Errorf("make a log: %w", err)
	}
	// Only initdb itself skips the disk; the server does not.
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata="+c.data(), "--username="+superuser,
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if c.inside != "" {
		initdb.Args = append(initdb.Args, "--wal-segsize=1")
	}
	initdb.Dir, initdb.SysProcAttr = c.dir, unprivileged()
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) run(ctx context.Context, bin string) error {
	// Not CommandContext: the server outlives ctx, and is asked to stop, not killed.
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", c.data(), //nolint:noctx // see above
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(c.port), "-c", "unix_socket_directories=",
		"-c", "fsync=on", "-c", "max_connections=200", "-c", "shared_buffers=128MB", "-c", "log_destination=stderr",
		"-c", "logging_collector=off")
	server.Dir, server.Stdout, server.Stderr, server.SysProcAttr = c.dir, c.log, c.log, dependent(unprivileged())
	if c.lock != nil {
		server.ExtraFiles = []*os.File{c.lock}
	}

	started := make(chan error)
	c.done = make(chan struct{})
	go func(done chan struct{}) { // ends with the server; halt waits for it
		// The kernel sends the death signal when the thread that started the server ends: this one must not.
		runtime.LockOSThread()
		defer close(done)
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait() // why it ended is in its log
		}
	}(c.done)
	if err := <-started; err != nil {
		return fmt.Errorf("run %s: %w", server.Path, err)
	}
	c.process = server.Process
	if err := c.ready(ctx); err != nil {
		return errors.Join(err, c.halt(), c.tail())
	}
	return nil
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return port, nil
}

// ready waits until the server answers.
func (c *Cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL("postgres"))
		if err == nil {
			return conn.Close(ctx) //nolint:wrapcheck // a connection that was good a moment ago
		}
		select {
		case <-c.done:
			return errors.New("the server ended at once")
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of the server's log as an error.
func (c *Cluster) tail() error {
	text, err := os.ReadFile(c.log.Name())
	if err != nil {
		return fmt.Errorf("read the server's log: %w", err)
	}
	text = text[max(0, len(text)-2000):]
	return fmt.Errorf("the server's log ends: %s", strings.TrimSpace(string(text)))
}

// halt asks for a fast shutdown, and kills only what does not obey.
func (c *Cluster) halt() error {
	if c.process == nil {
		return nil
	}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, os.Kill} {
		if err := c.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
		select {
		case <-c.done:
			c.process = nil
			return nil
		case <-time.After(stopLimit):
		}
	}
	return errors.New("stop PostgreSQL: it does not end")
}

func (c *Cluster) remove() error {
	var errs []error
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	return errors.Join(errs...)
}
