package loadtest

import (
	"slices"

	"sluice"
)

// refusedForLoad are the refusals of a service that has too much to do. Others, such as sold-out or rate-limited, would be there at
// any load, and unavailable is a failure.
var refusedForLoad = []sluice.Refusal{sluice.QueueFull, sluice.TooSlow}

// forLoad says that a refusal is because the service carries no more, and not because of the sale.
func forLoad(reason string) bool { return slices.Contains(refusedForLoad, sluice.Refusal(reason)) }

// Shed is how many requests were refused for load: the others were refused for what they asked for, or for what was left.
func (f *Figures) Shed() (n int64) {
	for _, why := range refusedForLoad {
		n += f.Refused[string(why)]
	}
	return n
}
