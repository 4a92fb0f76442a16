package loadtest

import (
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Progress is how a round stands.
type Progress struct {
	Phase                  string
	Rate                   float64 // requests that were sent in the last whole second
	Accepted, Shed, Failed int64   // so far
	P99                    time.Duration
	Done, Left             time.Duration
}

func (p Progress) String() string {
	return fmt.Sprintf("%s: %s, %d accepted, %d shed, %d failed, p99 %v, %v left",
		p.Phase, rateText(p.Rate), p.Accepted, p.Shed, p.Failed, readable(p.P99), max(0, p.Left).Round(time.Second))
}

// readable is d with about three digits.
func readable(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Microsecond; unit /= 10 {
		if d >= unit {
			return d.Round(unit / 100)
		}
	}
	return d.Round(10 * time.Nanosecond)
}

// plainEvery is how often a line is written where lines stay, as in the log of a build.
const plainEvery = 5 * time.Second

// progress shows a round while it runs: a bar on a terminal, a plain line every five seconds anywhere else. Its methods are for one
// goroutine, and never fail: a bar that can't be drawn must not end a measurement.
type progress struct {
	w     io.Writer
	total time.Duration
	width func() int               // of the terminal, in columns
	bar   *progressbar.ProgressBar // nil: plain lines
	next  time.Duration            // of the round, for the next plain line
}

// newProgress shows a round that takes total, on w.
func newProgress(w io.Writer, total time.Duration) *progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return barProgress(w, total, func() int {
			columns, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80
			}
			return columns
		})
	}
	return &progress{w: w, total: total, next: plainEvery}
}

const barColumns = 16

func barProgress(w io.Writer, total time.Duration, width func() int) *progress {
	total = max(total, time.Millisecond)
	return &progress{w: w, total: total, width: width, bar: progressbar.NewOptions64(
		total.Milliseconds(), progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(barColumns), progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionShowDescriptionAtLineEnd())}
}

// show tells how the round stands; call it as often as once a second or more.
func (p *progress) show(now Progress) {
	if p.bar == nil {
		if now.Done >= p.next {
			p.next = now.Done.Truncate(plainEvery) + plainEvery
			fmt.Fprintln(p.w, "loadtest:", now)
		}
		return
	}
	done := max(0, min(now.Done, p.total-time.Millisecond)) // a full bar would not be drawn again, and orders may be settling yet
	_ = p.bar.Set64(done.Milliseconds())
	p.bar.Describe(clip(now.String(), p.width()-barColumns-len(" 100% ||   "))) // a line that wraps can't be drawn over
}

// end leaves the last line as it is.
func (p *progress) end() {
	if p.bar != nil {
		fmt.Fprintln(p.w)
	}
}

// clip is s, cut to so many characters.
func clip(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:max(0, most)])
}
