package lab

import "syscall"

// Apart keeps a terminal's interrupt from a child, and ends the child should the lab die before it.
func Apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
