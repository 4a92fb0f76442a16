package check

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A buyer who sends a whole request at once is never too slow (P7).
func TestCheck_CallsARequestThatWasReadAtOnceAndFoundTooSlowAViolation(t *testing.T) {
	found := Check(Facts{Run: Run{Sale: "rush"}, History: []Event{
		{At: 1, Event: Ask, Call: Place, Door: "door-1", User: "a", Key: "k", Quantity: 1},
		{At: 2, Asked: 1, Event: Answer, Call: Place, Door: "door-1", User: "a", Key: "k", Status: http.StatusRequestTimeout, Reason: "too-slow-request"},
	}})
	for _, f := range found {
		if strings.Contains(f.Text, "P7") && strings.Contains(f.Text, "408") {
			return
		}
	}
	t.Errorf("nobody minds: %+v", found)
}

// A verdict is late only where every violation is about answers that came, and not very late.
func TestVerdict_IsLateWhereOnlyTimeIsWrong(t *testing.T) {
	for what, c := range map[string]struct {
		took   time.Duration
		status int
		want   bool
	}{
		"an answer after three seconds":  {3 * time.Second, 503, true},
		"an answer after eleven seconds": {11 * time.Second, 503, false},
		"no answer after three seconds":  {3 * time.Second, 0, false},
	} {
		f := findings{Facts: Facts{Run: Run{Budget: 2 * time.Second}, History: []Event{
			{Event: Answer, Call: Place, Door: "a", Asked: 0, At: int64(c.took), Status: c.status, Reason: "queue-full", Retry: 1},
		}}}
		f.prompt()
		if got := (Verdict{Violations: f.list}).Late(); got != c.want || len(f.list) != 1 {
			t.Errorf("%s: late %v, want %v: %v", what, got, c.want, f.list)
		}
	}
	if (Verdict{Violations: []Violation{{Late: true}, {}}}).Late() || (Verdict{OK: true}).Late() {
		t.Error("a verdict with another violation, or none, is late")
	}
}
