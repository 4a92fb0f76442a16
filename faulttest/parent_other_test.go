//go:build !linux

package faulttest

import "syscall"

// dieWithParent has no equivalent here: only the tests' clean-ups end the children.
func dieWithParent() *syscall.SysProcAttr { return nil }
