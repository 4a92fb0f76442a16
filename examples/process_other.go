//go:build !linux

package examples

import "syscall"

// dieWithParent has no equivalent here: only the end of the stage ends the children.
func dieWithParent() *syscall.SysProcAttr { return nil }
