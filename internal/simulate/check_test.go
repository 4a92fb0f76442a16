package simulate

import (
	"bytes"
	"testing"

	"sluice"
)

// P3: a refusal is the last word on what was left in doubt at its door before it was asked for, and not on what was still under way.
func TestChecker_ARefusalEndsTheDoubtBeforeIt(t *testing.T) {
	keys, err := sluice.NewIDKey(bytes.Repeat([]byte("k"), sluice.MinIDKeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	for _, under := range []bool{false, true} {
		c := newChecker(&World{keys: keys})
		d := &door{shown: map[sluice.OrderID]shown{}}
		ask := func() *request {
			r := &request{wish: wish{0, "k1", 1}, buyer: "b", door: d}
			c.sent(r)
			return r
		}
		first := ask()
		if !under {
			c.over(first, true)
		}
		second := ask()
		if under {
			c.over(first, true)
		}
		second.status, second.answer.Reason = 503, string(sluice.QueueFull)
		c.answered(second)
		c.asked[second.question()].orders[sluice.OrderID{1}] = true
		if c.wanted(second.question()); (c.found == nil) != under {
			t.Errorf("the first was under way: %t; found %v", under, c.found)
		}
	}
}
