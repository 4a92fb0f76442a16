package worker

import (
	"sync"
	"time"

	"sluice"
	"sluice/api"
)

// doors remembers the doors that poll: their bounds, so that each can be told what part of all it is, and which run of a door
// has its name. A door that was silent for doorSilence is gone.
type doors struct {
	mu    sync.Mutex
	known map[string]doorHeard
}

type doorHeard struct {
	bound    int64
	instance string
	journal  string
	life     uint64
	at       time.Time
}

// succeeds reports whether a door is the next life of one that has died: nobody else can have its journal, and this one was opened later.
// Of two that go by copies of one journal the second is turned away, or the first as soon as the second starts again.
func (d doorHeard) succeeds(before doorHeard) bool {
	return d.journal != "" && d.journal == before.journal && d.life > before.life
}

const (
	doorSilence = 10 * time.Second
	maxDoors    = 1000
)

// heard notes a door and answers the sum of all bounds. Two doors of one name would take each other's news: the one that comes
// second is refused until the first has left, or was silent for api.NameHeld; but not one that comes back from the dead.
func (d *doors) heard(now time.Time, door *api.Door) (sum int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[string]doorHeard)
	}
	before, known := d.known[door.Door]
	this := doorHeard{door.Bound, door.Instance, door.Journal, door.Life, now}
	other := known && before.instance != "" && door.Instance != "" && before.instance != door.Instance && !this.succeeds(before)
	switch {
	case other && now.Sub(before.at) < api.NameHeld:
		if door.Leaving { // it never had the name
			return 0, nil
		}
		return 0, sluice.Refuse(sluice.NameTaken,
			"another door with the id %.80q is there: want an --id of its own for each; the name of a door that has died and does not come back is free after %v", door.Door, api.NameHeld)
	case door.Leaving:
		delete(d.known, door.Door)
	case door.Door != "" && door.Bound >= 0 && (known || len(d.known) < maxDoors):
		d.known[door.Door] = this
	}
	for name, door := range d.known {
		if now.Sub(door.at) > doorSilence {
			delete(d.known, name)
			continue
		}
		sum += door.bound
	}
	return sum, nil
}

// checkDoor refuses a door that makes ids which no worker would take for genuine.
func (w *Worker) checkDoor(door *api.Door) error {
	if own := w.Keys.Fingerprint(); door.IDKey != "" && door.IDKey != own {
		return sluice.Refuse(sluice.WrongKey, "the id key of door %.80q has the fingerprint %.80q, this worker's has %q: give all doors and workers the same --id-key",
			door.Door, door.IDKey, own)
	}
	if max(len(door.Instance), len(door.Journal)) > api.MaxInstanceBytes {
		return sluice.Refuse(sluice.BadRequest, "instance, journal: want at most %d bytes", api.MaxInstanceBytes)
	}
	return nil
}
