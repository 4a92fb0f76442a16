package ingress

import "golang.org/x/sys/unix"

// hungUp asks the kernel for the end of what comes, or an error, of a socket. A look at the next byte would not do: behind TLS the last
// thing that comes is a record that says so.
func hungUp(fd int) bool {
	ask := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // the kernel's numbers are small
	n, err := unix.Poll(ask, 0)
	return err == nil && n > 0 && ask[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
