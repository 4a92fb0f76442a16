package worker

import (
	"sync"
	"time"
)

// doors remembers the bounds of the doors that poll, so that each can be told what part of all it is. A door that was
// silent for doorSilence is gone.
type doors struct {
	mu    sync.Mutex
	known map[string]doorBound
}

type doorBound struct {
	bound int64
	heard time.Time
}

const (
	doorSilence = 10 * time.Second
	maxDoors    = 1000
)

// heard notes a door and answers the sum of all bounds.
func (d *doors) heard(now time.Time, name string, bound int64) (sum int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[string]doorBound)
	}
	if _, known := d.known[name]; name != "" && bound >= 0 && (known || len(d.known) < maxDoors) {
		d.known[name] = doorBound{bound, now}
	}
	for name, door := range d.known {
		if now.Sub(door.heard) > doorSilence {
			delete(d.known, name)
			continue
		}
		sum += door.bound
	}
	return sum
}
