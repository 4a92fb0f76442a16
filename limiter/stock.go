package limiter

// Stock says whether one more order may join a queue that speaks for queued units of a sale already. It may while the
// queue covers less than overAdmission times the free units: some orders ahead will be rejected, and a unit must
// not wait for a buyer. share is this door's part of all doors' bounds, 0 to 1. A door whose queue has none of the sale
// admits one as long as a unit is free, however small its share: no unit is out of every door's reach (P2).
func Stock(free, queued int64, overAdmission, share float64) bool {
	const rounding = 1e-6 // a product of fractions may come out a hair above a whole number
	return free > 0 && (queued == 0 || float64(queued)+rounding < overAdmission*share*float64(free))
}
