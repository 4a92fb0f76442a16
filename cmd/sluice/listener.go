package main

import (
	"errors"
	"net"
	"syscall"
	"time"

	"sluice/config"
)

// patientListener outlives a shortage of descriptors: fasthttp would take it for the end of the listener, and a flood
// of connections would end the service.
type patientListener struct{ net.Listener }

// Accept waits a moment and tries again while the process or the machine has no descriptor left.
func (l patientListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) {
			return c, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const (
	reservedFiles      = 512 // for the journal, the queue, the store and connections of operators
	defaultConnections = 100_000
)

// maxConnections is the limit given, or what the limit of open files leaves once the rest has its share.
func maxConnections(cfg config.Config) int {
	if cfg.MaxConnections > 0 {
		return cfg.MaxConnections
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return defaultConnections / 100
	}
	files := int(min(limit.Cur, defaultConnections))
	return max(files/2, files-reservedFiles)
}
