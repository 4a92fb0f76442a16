package ingress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice"
	"sluice/api"
)

// errNotIntroduced is what buyers hear of a door that the worker turns away; the log has why.
var errNotIntroduced = errors.New("this door may not take orders")

// Introduce waits until a worker lets the door in, or ctx ends. Until then the door must not listen to outcomes: another door of
// its name would miss those that it hears.
func (d *Door) Introduce(ctx context.Context) {
	const interval = 200 * time.Millisecond
	d.again(ctx, interval, func() bool {
		_, err := d.askFacts(ctx, false)
		d.noteAnswer(ctx, err)
		return err == nil
	})
}

// again does something at once and then at each tick, until it is done or ctx ends.
func (d *Door) again(ctx context.Context, interval time.Duration, do func() (done bool)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !do() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// askFacts tells the worker of the door, and asks for the facts.
func (d *Door) askFacts(ctx context.Context, leaving bool) (api.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	limits := d.limits.Load()
	name, life := d.Journal.Life()
	told, err := d.Truth.Facts(ctx, api.Door{
		Door: d.cfg.Name, Bound: limits.bound, LimitsVersion: limits.version,
		IDKey: d.Keys.Fingerprint(), Instance: d.instance, Leaving: leaving, Journal: name, Life: life,
	})
	switch refusal := refusalOfDoor(err); {
	case err == nil:
		d.turnedAway.Store(nil)
	case refusal != nil: // a worker that is away changes nothing
		d.turnedAway.Store(refusal)
	}
	return told, err
}

// refusalOfDoor is the refusal in err to talk to this door at all, or nil.
func refusalOfDoor(err error) *sluice.Error {
	refusal, ok := errors.AsType[*sluice.Error](err)
	if !ok || refusal.Refusal != sluice.NameTaken && refusal.Refusal != sluice.WrongKey {
		return nil
	}
	return refusal
}

// noteAnswer logs when the worker's answers begin to fail, and when they are there again. One goroutine at a time calls it.
func (d *Door) noteAnswer(ctx context.Context, err error) {
	said := ""
	if err != nil {
		said = string(sluice.RefusalOf(err))
	}
	if said == d.unheard || ctx.Err() != nil {
		return
	}
	d.unheard = said
	if refusalOfDoor(err) != nil {
		d.Logger.Error("the worker turns this door away; it takes no orders", "error", err)
		return
	}
	d.Logger.Warn("sale facts from the worker", "heard", err == nil, "error", err)
}

// leave lets go of the door's name, so that the next one need not wait.
func (d *Door) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := d.askFacts(ctx, true); err != nil {
		d.Logger.Debug("the worker did not hear that this door leaves", "error", err)
	}
}

// introduced answers why the worker turned the door away, or nil.
func (d *Door) introduced() error {
	if refusal := d.turnedAway.Load(); refusal != nil {
		return fmt.Errorf("%w: %s", errNotIntroduced, refusal.Refusal.Title())
	}
	return nil
}
