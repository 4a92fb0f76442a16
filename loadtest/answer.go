package loadtest

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"sluice"
)

// answer is what a request led to.
type answer struct {
	class Class
	why   string        // a refusal's reason, or what failed
	order string        // id; of accepted and repeated
	again time.Duration // when the buyer was told to come again; 0: not

	unknown bool // what became of it
}

// classify reads an answer.
func classify(r request, result *vegeta.Result) answer {
	if result.Code == 0 {
		return answer{class: Failed, why: failure(result.Error), unknown: true}
	}
	switch {
	case r.kind == page && result.Code == http.StatusOK:
		return answer{class: Page}
	case r.kind == order && (result.Code == http.StatusAccepted || result.Code == http.StatusOK):
		a := answer{class: Accepted, order: field(result.Body, "order")}
		if result.Code == http.StatusOK {
			a.class = Repeated
		}
		if a.order == "" {
			return answer{class: Failed, why: "no order in the answer", unknown: true}
		}
		return a
	}
	reason := sluice.Refusal(field(result.Body, "reason"))
	switch {
	case reason == "":
		return answer{class: Failed, why: "status " + strconv.Itoa(int(result.Code)), unknown: true}
	case forLoad(string(reason)) || slices.Contains(refusedByTheSale, reason):
		return answer{class: Refused, why: string(reason), again: retryAfter(result)}
	}
	return answer{class: Failed, why: string(reason), unknown: reason == sluice.Unavailable || reason == sluice.Internal}
}

// refusedByTheSale are refusals that the story has room for. All others, such as bad-ticket, rate-limited or unknown-sale, say that the
// test is set up wrongly and measures how fast it is sent away: they are failures. (Before a sale opens, not-started is the answer; see
// tally.yetToOpen.)
var refusedByTheSale = []sluice.Refusal{sluice.AllSold, sluice.NoneFree, sluice.Ended, sluice.SalePaused}

// timedOut is the name of a failure whose time was over.
const timedOut = "timeout"

// failure names what went wrong by one of a few names: an error's text may hold anything.
func failure(text string) string {
	for _, known := range []struct{ part, name string }{
		{"Timeout", timedOut},
		{"timeout", timedOut},
		{"deadline exceeded", timedOut},
		{"refused", "connection refused"},
		{"reset", "connection reset"},
		{"EOF", "connection closed"},
		{"broken pipe", "connection closed"},
		{"cannot assign", "no port left"},
		{"too many open files", "too many open files"},
		{"canceled", "interrupted"},
	} {
		if strings.Contains(text, known.part) {
			return known.name
		}
	}
	return "other"
}

// field reads a string or a number of a flat JSON object that the door writes without spaces. Decoding the whole would cost the
// generator more than sending it.
func field(body []byte, name string) string {
	_, rest, found := bytes.Cut(body, []byte(`"`+name+`":`))
	if !found {
		return ""
	}
	if quoted, is := bytes.CutPrefix(rest, []byte(`"`)); is {
		value, _, _ := bytes.Cut(quoted, []byte(`"`))
		return string(value)
	}
	end := bytes.IndexAny(rest, ",}")
	return string(rest[:max(0, end)])
}

func retryAfter(result *vegeta.Result) time.Duration {
	if ms, err := strconv.ParseFloat(field(result.Body, "retry_after_ms"), 64); err == nil && ms > 0 {
		return time.Duration(ms * float64(time.Millisecond))
	}
	if s, err := strconv.ParseUint(result.Headers.Get("Retry-After"), 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	return 0
}
