package simulate

import "sluice"

// Plant is a fault that is built into the edges, to prove that the checks would notice such a one.
type Plant string

// The faults that can be planted.
const (
	DiskLies        Plant = "the disk confirms what it does not have"             // so credits come back, and 202s go out, before anything is durable
	ForgetsRestored Plant = "a restored order is never carried"                   //
	LiesOfVersions  Plant = "an outcome claims a later version than it has"       // so a stale one is accepted
	NeverReconciles Plant = "nobody reconciles"                                   //
	ForgetsSettled  Plant = "the store does not look for what was settled before" // settlement is not idempotent
	FinishesFirst   Plant = "a worker finishes messages before it commits"        //
	AnnouncesFirst  Plant = "a worker tells the doors before it commits"          // so credits come back before the outcome is durable
	NoLock          Plant = "a transaction decides by what it read before it had the lock"
	PaysExpired     Plant = "a payment does not look at the hold's state"
	ExpiresTwice    Plant = "expiry gives units back twice"
	IgnoresBound    Plant = "a door is told a bound of its own and keeps to another"
)

// Plants lists them.
func Plants() []Plant {
	return []Plant{
		DiskLies, ForgetsRestored, LiesOfVersions, NeverReconciles, ForgetsSettled, FinishesFirst, AnnouncesFirst, NoLock,
		PaysExpired, ExpiresTwice, IgnoresBound,
	}
}

func (w *World) planted(p Plant) bool { return w.plant == p }

// forgets reports whether the door's carrier drops an order, as only a planted fault does.
func (l *doorLife) forgets(id sluice.OrderID) bool {
	return l.door.w.planted(ForgetsRestored) && l.restored[id]
}
