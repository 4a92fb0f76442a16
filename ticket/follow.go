package ticket

import (
	"context"
	"crypto/sha256"
	"time"
)

// followEvery is how often the key file is looked at.
const followEvery = 5 * time.Second

// Follow takes over what the key file becomes, until ctx ends. A file that can't be used is told once, and the keys that were
// in force stay.
func (v *Verifier) Follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := v.look()
		switch {
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			v.log.Warn("new ticket keys can't be used; the old ones stay", "error", err)
		}
	}
}

// look reads the key file, and puts its keys in force if they are others. The whole file is read: its time and size may be
// what they were.
func (v *Verifier) look() error {
	content, err := readKeyFile(v.config.KeyFile)
	if err != nil {
		return err
	}
	if sha256.Sum256(content) == v.ring.Load().sum {
		return nil
	}
	ring, err := newKeyring(v.config.KeyFile, content)
	if err != nil {
		return err
	}
	v.use(ring)
	return nil
}
