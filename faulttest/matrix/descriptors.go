package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"sluice/loadtest/lab"
)

// descriptors are stories of processes that may open few files, and of a crowd that takes them all.
var descriptors = []story{
	{
		name:   "few-descriptors",
		holds:  "A door keeps what it needs of few descriptors and turns the crowd away; buyers are served or told, and it goes on by itself.",
		length: 15 * time.Second,
		crowd:  perFile * doorFiles,
		labour: 1,
		setup:  map[string]setup{"door-1": {files: doorFiles, flags: []string{"--address-connections", "10000"}}}, // all buyers have one address
		inject: func(ctx context.Context, s *scene) error {
			s.wait(ctx, time.Second, 2*time.Second)
			return s.takeFiles(ctx, s.parts["door-1"], doorFiles, doorFiles/2)
		},
	},
	{
		name:   "no-descriptors",
		holds:  "The same where the door is told to take more connections than it may open files: it waits for one to be closed, and does not spin.",
		length: 15 * time.Second,
		crowd:  perFile * doorFiles,
		labour: 1,
		setup:  map[string]setup{"door-1": {files: doorFiles, flags: []string{"--max-connections", "10000", "--address-connections", "10000"}}},
		inject: func(ctx context.Context, s *scene) error {
			door := s.parts["door-1"]
			s.wait(ctx, time.Second, 2*time.Second)
			door.suffers("a crowd has all descriptors") // buyers wait in the kernel for one: nobody could answer them
			err := s.takeFiles(ctx, door, doorFiles, doorFiles-1)
			door.healed()
			return err
		},
	},
	{
		name:   "few-descriptors-worker",
		holds:  "A crowd that takes all descriptors of the worker keeps orders waiting; the door goes on, and so does the worker when it has gone.",
		length: 15 * time.Second,
		crowd:  perFile * fewWorkerFiles,
		labour: 1,
		setup:  map[string]setup{"worker": {files: fewWorkerFiles, flags: []string{"--admin-connections", "10000"}}},
		inject: func(ctx context.Context, s *scene) error {
			worker := s.parts["worker"]
			s.wait(ctx, time.Second, 2*time.Second)
			worker.suffers("a crowd has all descriptors")
			err := s.takeFiles(ctx, worker, fewWorkerFiles, fewWorkerFiles-1)
			worker.healed()
			return err
		},
	},
}

const (
	doorFiles      = 1280 // enough for those who wait for their orders, 600 at three times the capacity, when the crowd has gone
	fewWorkerFiles = 96
	perFile        = 2 // clients
	crowdTime      = 6 * time.Second
	// What a crowd may cost a part beside what it takes without: so much for each connection, which is accepted, told no and closed, and
	// a tenth of a processor. One that spins takes a whole one, whoever comes.
	visitCPU = 150 * time.Microsecond
	idleCPU  = 0.1
)

// takeFiles has a crowd, of perFile for each file that the part may open, hold every connection that it gets for some seconds. The part must
// have at least so many files open meanwhile, must not spin, and must answer when the crowd has gone.
func (s *scene) takeFiles(ctx context.Context, p *part, files int, least int64) error {
	before, err := p.busy(ctx, 2*time.Second, func() {})
	if err != nil {
		return err
	}
	t := &throng{size: perFile * files, to: p.address, visit: func(_ context.Context, conn net.Conn, _ int) {
		_, _ = io.Copy(io.Discard, conn) // holds it until it is turned away
	}}
	var most int64
	during, err := p.busy(ctx, 0, func() {
		most = s.mostFiles(ctx, p, func() { t.stay(ctx, crowdTime, s.seed) })
	})
	if err != nil {
		return err
	}
	s.must(most >= least, "%s had %d files open at most, and %d were to be taken", p.name, most, least)
	visits := float64(t.connected.Load())
	if during > before+idleCPU+visits*visitCPU.Seconds()/crowdTime.Seconds() {
		return fmt.Errorf("P9: %s took %.2f of a processor while a crowd had its descriptors and made %.0f connections, and %.2f before", p.name, during, visits, before)
	}
	if err := lab.Eventually(ctx, startTime, p.name+" answers again", func() error { return p.answers(ctx) }); err != nil {
		return err
	}
	return s.ready(ctx)
}

// busy is what share of a processor a part takes while do runs, and for some time after it.
func (p *part) busy(ctx context.Context, more time.Duration, do func()) (share float64, err error) {
	began := time.Now()
	from, err := p.process.CPU()
	if err != nil {
		return 0, err
	}
	do()
	pause(ctx, more)
	to, err := p.process.CPU()
	return float64(to-from) / float64(time.Since(began)), err
}
