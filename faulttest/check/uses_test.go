package check

import (
	"bytes"
	"strings"
	"testing"
	"unsafe"
)

// P9: each of the figures is judged, and so is a part of which nothing is known.
func TestLeaks_NamesWhatGrew(t *testing.T) {
	room := Room{Part: "door", Use: Use{Memory: 100, Files: 10, Goroutines: 5}, Peak: 1000}
	rest := Sample{At: 1, Part: "door", Use: Use{Memory: 50, Files: 20, Goroutines: 30}}
	high := Sample{At: 2, Part: "door", Use: Use{Memory: 1050, Files: 900, Goroutines: 900}}
	for _, c := range []struct {
		name string
		all  []Sample
		want string // in the only complaint; empty: there is none
	}{
		{"all is given back", []Sample{rest, high, {3, "door", 0, Use{150, 30, 35}}}, ""},
		{"memory stays", []Sample{rest, high, {3, "door", 0, Use{151, 30, 35}}}, "when all is over"},
		{"files stay", []Sample{rest, high, {3, "door", 0, Use{150, 31, 35}}}, "31 files"},
		{"goroutines stay", []Sample{rest, high, {3, "door", 0, Use{150, 30, 36}}}, "36 goroutines"},
		{"memory was too much for a while", []Sample{rest, {2, "door", 0, Use{1051, 20, 30}}, {3, "door", 0, Use{50, 20, 30}}}, "at 0.0s"},
		{"nothing is known of before", []Sample{high, {3, "door", 0, Use{50, 20, 30}}}, "nobody knows"},
		{"nothing is known of after", []Sample{rest}, "nobody knows"},
		{"another part's are not its own", []Sample{rest, {3, "worker", 0, Use{50, 20, 30}}}, "nobody knows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Run{Rest: 1, Samples: c.all, Rooms: []Room{room}}.Leaks()
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// P9: what a crowd took may stay, since a runtime keeps it for a while, and no more than that.
func TestLeaks_CountsWhatACrowdTook(t *testing.T) {
	room := Room{Part: "door", Use: Use{Memory: 100, Goroutines: 5}, Peak: 200, Each: 2}
	rest, crowd := Sample{At: 1, Part: "door", Use: Use{50, 0, 30}}, Sample{At: 2, Part: "door", Use: Use{450, 0, 130}}
	for last, most := range map[int64]bool{350: true, 351: false} {
		r := Run{Rest: 1, Samples: []Sample{rest, crowd, {3, "door", 0, Use{last, 0, 30}}}, Rooms: []Room{room}}
		if got := r.Leaks(); (len(got) == 0) != most {
			t.Errorf("%d at the end: %q", last, got)
		}
	}
	crowd.Memory++
	if got := (Run{Rest: 1, Samples: []Sample{rest, crowd, rest}, Rooms: []Room{room}}).Leaks(); len(got) != 1 {
		t.Errorf("a byte too much at the peak: %q", got)
	}
}

// A history that streams keeps what was promised and none of its events, which are all in its lines.
func TestStream_KeepsLinesAlone(t *testing.T) {
	var lines bytes.Buffer
	h := Stream(&lines)
	for range 2 {
		h.Add(Event{Event: Answer, Call: Place, User: "a", Key: "k", Status: 202, Order: "1"})
		h.Add(Event{Event: Answer, Call: Place, User: "b", Key: "k", Status: 503, Reason: "queue-full"})
	}
	if n := h.Promised(); n != 1 || len(h.Events()) != 0 {
		t.Errorf("%d promised and %d events in memory, want 1 and none", n, len(h.Events()))
	}
	events, err := ReadHistory(&lines)
	if err != nil || len(events) != 4 || events[2].User != "a" || events[3].Reason != "queue-full" {
		t.Errorf("read %+v, %v", events, err)
	}
}

// A long run's history is read into memory: texts that many events have are there once.
func TestReadHistory_SharesTexts(t *testing.T) {
	var lines bytes.Buffer
	h := Stream(&lines)
	for range 2 {
		h.Add(Event{Event: Answer, Call: Place, Door: "door-1", User: "buyer-000001", Key: "key-000001-0", Status: 503, Reason: "queue-full"})
	}
	events, err := ReadHistory(&lines)
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for what, texts := range map[string][2]string{
		"door": {events[0].Door, events[1].Door}, "user": {events[0].User, events[1].User},
		"key": {events[0].Key, events[1].Key}, "reason": {events[0].Reason, events[1].Reason},
	} {
		if unsafe.StringData(texts[0]) != unsafe.StringData(texts[1]) {
			t.Errorf("two events have a %s of their own", what)
		}
	}
}
