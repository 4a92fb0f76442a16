package check

import (
	"fmt"
	"time"
)

// Use is what a process has of what its machine has little of.
type Use struct {
	Memory     int64 `json:"memory"`               // resident, in bytes
	Files      int64 `json:"files"`                // open ones, connections too
	Goroutines int64 `json:"goroutines,omitempty"` // 0: it does not tell
}

// Sample is what a part used at a moment.
type Sample struct {
	At   int64  `json:"at"`
	Part string `json:"part"`
	Born int64  `json:"born"` // when its process was started
	Use
}

// Room is how much more a part may use than it did at rest, before the buyers came.
type Room struct {
	Part string `json:"part"`
	Use         // when all is over
	Peak int64  `json:"peak"` // bytes resident, at any time
	Each int64  `json:"each"` // bytes more, at any time, for each goroutine that it had at most more than at rest: one serves a connection
}

// flat: memory, goroutines and open files are bounded whatever was done (P9): when all is over no part has more of them than it may, and
// its memory never was more.
func (f *findings) flat() {
	for _, text := range f.Leaks() {
		f.wrong("P9: %s", text)
	}
}

// Leaks says which parts use more than they may after the last sample of each.
func (r Run) Leaks() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, room := range r.Rooms {
		var rest, last *Sample
		peak, busiest := Sample{}, int64(0)
		for i, s := range r.Samples {
			if s.Part != room.Part {
				continue
			}
			if last = &r.Samples[i]; s.At <= r.Rest {
				rest = last
			}
			if s.Memory > peak.Memory {
				peak = s
			}
			busiest = max(busiest, s.Goroutines)
		}
		if rest == nil || last == rest {
			say("nobody knows what %s used before and after", room.Part)
			continue
		}
		crowd := room.Each * max(0, busiest-rest.Goroutines)
		if got, more := peak.Memory, room.Peak+crowd; got > rest.Memory+more {
			say("%s had %d MiB at %.1fs, and at rest %d; %d more are its room", room.Part, got>>20, time.Duration(peak.At).Seconds(), rest.Memory>>20, more>>20)
		}
		if got, more := last.Memory, room.Memory+crowd; got > rest.Memory+more {
			say("%s has %d MiB when all is over, and at rest before %d; %d more are its room", room.Part, got>>20, rest.Memory>>20, more>>20)
		}
		if last.Files > rest.Files+room.Files {
			say("%s has %d files open when all is over, and at rest before %d; %d more are its room", room.Part, last.Files, rest.Files, room.Files)
		}
		if last.Goroutines > rest.Goroutines+room.Goroutines {
			say("%s has %d goroutines when all is over, and at rest before %d; %d more are its room", room.Part, last.Goroutines, rest.Goroutines, room.Goroutines)
		}
	}
	return wrong
}
