package pgcluster

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is whom the server runs as: PostgreSQL refuses root. Nil where we are somebody else already.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else to become is not an error
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			errs = append(errs, err)
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("find an unprivileged user for PostgreSQL: %w", errors.Join(errs...))
}

// give makes the directory the server's own.
func give(dir string) error {
	who, err := account()
	if err != nil || who == nil {
		return err
	}
	if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
		return fmt.Errorf("give %s to the server's user: %w", dir, err)
	}
	return nil
}

func unprivileged() *syscall.SysProcAttr {
	who, err := account()
	if err != nil {
		who = nil // give has said so already
	}
	return &syscall.SysProcAttr{Credential: who}
}

// dependent makes a process that gets a fast shutdown when we die, and that a terminal's Ctrl-C does not reach.
func dependent(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Setpgid = true
	attr.Pdeathsig = syscall.SIGINT
	return attr
}
