package loadtest

import (
	"testing"
	"time"

	"sluice"
)

func TestCalm_IsWhenOrdersAreAnsweredAsASaleDoes(t *testing.T) {
	story := &Scenario{
		SLO: SLO{AcceptedP99: sluice.Duration(50 * time.Millisecond)},
		Phases: []Phase{
			{Name: "spike", For: sluice.Duration(2 * time.Second), Orders: Arrivals{Rate: 4000}},
			{Name: "after", For: sluice.Duration(8 * time.Second), Orders: Arrivals{Rate: 400}},
		},
	}
	good, never := Point{Orders: 400, Accepted: 400, AcceptedP99: 10}, -1.0
	for name, c := range map[string]struct {
		second Point // the first three after the spike
		rest   Point
		want   float64
	}{
		"at once":            {good, good, 0},
		"sold out":           {Point{Orders: 400, Refused: 400}, good, 0},
		"no orders were due": {Point{Pages: 10}, good, 0},
		"shed":               {Point{Orders: 400, Accepted: 399, Refused: 1, Shed: 1}, good, 3},
		"slow":               {Point{Orders: 400, Accepted: 400, AcceptedP99: 51}, good, 3},
		"some fail":          {Point{Orders: 400, Accepted: 399, Failed: 1}, good, 3},
		"all fail":           {Point{Orders: 400, Failed: 400}, good, 3},
		"nobody is answered": {Point{Orders: 400}, good, 3},
		"a dead service":     {Point{Orders: 400, Failed: 400}, Point{Orders: 400, Failed: 400}, never},
	} {
		var points []Point
		for i := range 10 {
			p := c.rest
			if i < 5 {
				p = c.second
			}
			p.At = float64(i + 1)
			points = append(points, p)
		}
		got := calmAgain(story, points)
		if (got == nil) != (c.want == never) || got != nil && *got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
