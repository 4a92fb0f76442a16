//go:build !linux

package main

import "syscall"

// apart has nothing to offer here: without /proc there is no processor time to read either, and measuring says so.
func apart() *syscall.SysProcAttr { return nil }
