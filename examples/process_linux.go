package examples

import "syscall"

// dieWithParent ends a child when its parent dies, so that nothing is left running.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
