//go:build !linux

package pgcluster

import (
	"os"
	"syscall"
)

// Outside Linux the server runs as whoever we are, who must not be root, does not notice if we are killed, and what it
// leaves then stays.

func give(string) error                                        { return nil }
func unprivileged() *syscall.SysProcAttr                       { return &syscall.SysProcAttr{} }
func dependent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }
func own(string) (*os.File, error)                             { return nil, nil } //nolint:nilnil // no lock is not an error
func removeLeftovers(string)                                   {}
