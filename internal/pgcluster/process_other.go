//go:build !linux

package pgcluster

import "syscall"

// Outside Linux the server runs as whoever we are, who must not be root, and does not notice if we are killed.

func give(string) error                                        { return nil }
func unprivileged() *syscall.SysProcAttr                       { return &syscall.SysProcAttr{} }
func dependent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }
