//go:build !linux

package lab

import "syscall"

// Apart has nothing to offer here: without /proc there is no processor time to read either, and measuring says so.
func Apart() *syscall.SysProcAttr { return nil }
