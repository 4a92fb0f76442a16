package main

import "syscall"

// apart keeps a terminal's interrupt from a child, and ends the child should the scoreboard die before it.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
