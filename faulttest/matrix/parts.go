package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"sluice/faulttest/check"
	"sluice/internal/pgcluster"
	"sluice/loadtest/lab"
)

const (
	startTime = 30 * time.Second
	stopTime  = 20 * time.Second
)

// part is a process of the service. What is done to it is written down as a fault of the run. The story's goroutine uses it.
type part struct {
	scene   *scene
	name    string
	verb    string
	args    []string
	setup   setup
	data    string // its folder
	address string // what it serves
	process *lab.Process
	fault   int // number of the one that it suffers from, and 1; 0: none
}

// start starts it, or starts it again, and waits until it answers. That ends what was done to it.
func (p *part) start(ctx context.Context) (err error) {
	if err := p.launch(); err != nil {
		return err
	}
	if err := lab.Eventually(ctx, startTime, p.name+" answers", func() error { return p.answers(ctx) }); err != nil {
		return fmt.Errorf("%w; it says:\n%s", err, p.process.Said(20))
	}
	p.healed()
	return nil
}

// launch starts it, whether it will answer or not.
func (p *part) launch() (err error) {
	program := p.scene.programs.sluice
	if p.setup.program != "" {
		program = p.setup.program
	}
	args := append(append([]string{p.verb}, p.args...), p.setup.flags...)
	p.process, err = p.scene.lab.Run(lab.Command{Name: p.name, Program: program, Args: args, Env: p.setup.env, Files: p.setup.files})
	if err == nil {
		p.scene.watch(p, program)
	}
	return err
}

func (p *part) answers(ctx context.Context) error {
	if p.process.Ended() {
		return fmt.Errorf("%s has ended", p.name)
	}
	if p.verb == "nsqd" {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", p.address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return status(ctx, http.MethodGet, "http://"+p.address+"/livez")
}

// kill is kill -9.
func (p *part) kill() error {
	p.suffers("kill -9")
	return p.scene.lab.Kill(p.process)
}

// stop is SIGTERM, and waits until it has ended.
func (p *part) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	p.suffers("SIGTERM")
	return p.scene.lab.Quit(ctx, p.process)
}

// freeze is SIGSTOP.
func (p *part) freeze(ctx context.Context) error {
	p.suffers("SIGSTOP")
	return p.process.Freeze(ctx)
}

// thaw is SIGCONT.
func (p *part) thaw() error {
	err := p.process.Signal(syscall.SIGCONT)
	p.healed()
	return err
}

func (p *part) suffers(what string) { p.fault = p.scene.suffers(p.fault, p.name, what) }

func (p *part) healed() { p.fault = p.scene.healed(p.fault) }

// database is the PostgreSQL server of a scene, as a part.
type database struct {
	scene   *scene
	cluster *pgcluster.Cluster
	fault   int
}

func (d *database) suffers(what string) { d.fault = d.scene.suffers(d.fault, "postgres", what) }

// kill is kill -9 of all its processes.
func (d *database) kill() error {
	d.suffers("kill -9")
	return d.cluster.Kill()
}

// start starts it again.
func (d *database) start(ctx context.Context) error {
	err := d.cluster.Restart(ctx)
	d.fault = d.scene.healed(d.fault)
	return err
}

// freeze is SIGSTOP of all its processes.
func (d *database) freeze() error {
	d.suffers("SIGSTOP")
	return d.cluster.Freeze()
}

// thaw is SIGCONT.
func (d *database) thaw() error {
	err := d.cluster.Thaw()
	d.fault = d.scene.healed(d.fault)
	return err
}

// suffers writes down that something is done to a part, from now until it is healed.
func (s *scene) suffers(before int, part, what string) int {
	s.healed(before)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, check.Fault{From: s.history.Now(), To: forever, Part: part, What: what})
	return len(s.faults)
}

// forever is later than any run.
const forever = int64(time.Hour)

func (s *scene) healed(fault int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fault > 0 && s.faults[fault-1].To == forever {
		s.faults[fault-1].To = s.history.Now()
	}
	return 0
}

// newParts describes the parts, with addresses and folders of their own; none runs yet.
func (s *scene) newParts(ctx context.Context) (err error) {
	address := func() (a string) {
		if err == nil {
			a, err = s.lab.FreeAddress()
		}
		return a
	}
	if s.joined {
		return s.newUp(ctx)
	}
	nsqd := s.part("nsqd", "nsqd", address())
	nsqd.args = []string{"--listen", nsqd.address, "--data", nsqd.data, "--bound", fmt.Sprint(totalBound)}
	if err = errors.Join(err, s.newWorker(ctx, "worker")); err != nil {
		return err
	}
	for i := range max(1, s.doors) {
		if err := s.newDoor(ctx, fmt.Sprintf("door-%d", i+1), totalBound/max(1, s.doors)); err != nil {
			return err
		}
	}
	return nil
}

// newUp describes all parts as one process. Only its door's address and that of the operations API are known from outside.
func (s *scene) newUp(ctx context.Context) error {
	door, err := s.lab.FreeAddress()
	if err != nil {
		return err
	}
	p := s.part("up", "up", door)
	s.parts["worker"] = &part{scene: s, name: "worker", data: p.data}
	if s.parts["worker"].address, err = s.lab.FreeAddress(); err != nil {
		return err
	}
	store := "sqlite"
	if s.postgres != nil {
		if store, err = s.postgresFor(ctx, p.name); err != nil {
			return err
		}
	}
	p.args = []string{
		"--listen", door, "--admin", s.parts["worker"].address, "--store", store, "--data", p.data, "--bound", fmt.Sprint(totalBound),
		"--id-key", s.key, "--drain-rate", fmt.Sprint(capacity), "--journal-memory", journalMemory,
	}
	s.doorList = append(s.doorList, check.Door{Name: p.name, Address: door, Metrics: s.parts["worker"].address})
	s.setBound(p.name, totalBound)
	return nil
}

func (s *scene) part(name, verb, address string) *part {
	p := &part{scene: s, name: name, verb: verb, address: address, data: filepath.Join(s.dir, name), setup: s.setup[name]}
	if dir := s.diskOf(name); dir != "" {
		p.data = dir
	}
	s.parts[name] = p
	s.order = append(s.order, p)
	return p
}

// newWorker describes a worker; the story may start more than the one that there is.
func (s *scene) newWorker(ctx context.Context, name string) error {
	address, err := s.lab.FreeAddress()
	if err != nil {
		return err
	}
	p := s.part(name, "worker", address)
	nsqd, http, err := s.nsqdFor(ctx, name)
	if err != nil {
		return err
	}
	store, data := "sqlite", s.parts["worker"].data // SQLite's file is there
	if s.postgres != nil {
		if store, err = s.postgresFor(ctx, name); err != nil {
			return err
		}
		data = p.data
	}
	p.args = []string{
		"--nsqd", nsqd, "--nsqd-http", http, "--admin", address, "--store", store, "--data", data,
		"--id-key", s.key, "--drain-rate", fmt.Sprint(capacity),
	}
	return nil
}

// journalMemory, in MiB, is small: what fills large caches for minutes looks like a leak, and a small memory table is written out while
// faults happen.
const journalMemory = "8"

func (s *scene) newDoor(ctx context.Context, name string, bound int) error {
	address, err := s.lab.FreeAddress()
	if err != nil {
		return err
	}
	metrics, err := s.lab.FreeAddress()
	if err != nil {
		return err
	}
	p := s.part(name, "ingress", address)
	nsqd, http, err := s.nsqdFor(ctx, name)
	if err != nil {
		return err
	}
	worker, err := s.connection(ctx, link{name, "worker"}, s.parts["worker"].address)
	if err != nil {
		return err
	}
	p.args = []string{
		"--listen", address, "--metrics", metrics, "--id", name, "--bound", fmt.Sprint(bound), "--nsqd", nsqd, "--nsqd-http", http,
		"--worker", worker, "--data", p.data, "--id-key", s.key, "--journal-memory", journalMemory,
	}
	s.doorList = append(s.doorList, check.Door{Name: name, Address: address, Metrics: metrics})
	s.setBound(name, int64(bound))
	return nil
}

// setBound writes down that a door's share is another one from now on.
func (s *scene) setBound(door string, bound int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounds = append(s.bounds, check.Bound{At: s.history.Now(), Door: door, Bound: bound})
}
