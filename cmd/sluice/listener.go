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
	reservedFiles           = 512 // for the journal, the queue and the store
	defaultConnections      = 100_000
	defaultAdminConnections = 1024
)

// maxConnections is the limit given, or what the limit of open files leaves once the rest of the process, and its operators, have their
// share.
func maxConnections(cfg config.Config, operators int) int {
	if cfg.MaxConnections > 0 {
		return cfg.MaxConnections
	}
	files := openFiles()
	return min(max(files/2, files-reservedFiles-operators), defaultConnections)
}

// adminConnections is the limit given of the operations API, or what becomes a process that needs its files for other things.
func adminConnections(cfg config.Config) int {
	if cfg.AdminConnections > 0 {
		return cfg.AdminConnections
	}
	return min(max(openFiles()/4, 1), defaultAdminConnections)
}

// openFiles is how many files the process may have open; of very many, some.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 2*defaultConnections))
}
