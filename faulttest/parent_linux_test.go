package faulttest

import "syscall"

// dieWithParent ends a child when the test binary dies, so that a timed out test leaves nothing running.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
