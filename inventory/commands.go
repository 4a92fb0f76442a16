package inventory

import (
	"fmt"
	"sync/atomic"
)

// commandsOfConnection is how many payments and cancellations may run or wait for each connection: so few that a second or two is
// enough for all of them, because who waits for longer gives up and comes again, and takes the place of somebody else.
const commandsOfConnection = 16

// Commands bounds the payments and cancellations that run or wait in a store (P9). It never waits. Stores enter them all.
type Commands struct {
	most int64
	in   atomic.Int64
}

// Limit bounds the commands to those that so many connections serve in good time. It comes before the first Enter.
func (c *Commands) Limit(connections int) { c.most = commandsOfConnection * int64(connections) }

// Enter lets a command in, which leaves when it is over. Where as many as may be are in already, its error is ErrUnavailable: nothing has
// happened, and the same call may succeed once others have left.
func (c *Commands) Enter(doing string) (leave func(), err error) {
	if c.in.Add(1) > c.most {
		c.leave()
		return nil, fmt.Errorf("%s: %w: %d others wait for it", doing, ErrUnavailable, c.most)
	}
	return c.leave, nil
}

func (c *Commands) leave() { c.in.Add(-1) }
