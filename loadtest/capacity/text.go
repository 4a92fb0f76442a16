package capacity

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"sluice"
	"sluice/loadtest/internal/figure"
)

// WriteText writes the plan: machines, what buyers see, how it was reckoned, margins and doubts.
func (p *Plan) WriteText(w io.Writer) error {
	var b bytes.Buffer
	o := &p.Options
	fmt.Fprintf(&b, "For %s orders a second during %s (%s buyers), %s units, from the report of %q:\n\n",
		figure.Number(o.Peak), o.Burst.Round(10*time.Millisecond), figure.Number(o.Buyers), humanize.Comma(o.Stock), p.Model.Scenario)
	p.writeMachines(&b)
	p.writeBuyers(&b)
	p.writeFormulae(&b)
	p.writeMargins(&b)
	if len(p.Warnings) > 0 {
		fmt.Fprintf(&b, "\nWarnings\n\n")
		for _, text := range p.Warnings {
			fmt.Fprintf(&b, "  - %s.\n", text)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return nil
}

func (p *Plan) writeMachines(b *bytes.Buffer) {
	set := map[string]string{
		door:     fmt.Sprintf("--bound %d --max-wait %v each, %s memory, %s disk for the journal", p.DoorBound, p.Options.MaxWait, humanize.Bytes(uint64(p.Door)), humanize.Bytes(uint64(p.Journal))),
		nsqd:     humanize.Bytes(uint64(p.NSQd)) + " memory for messages",
		worker:   "the spare one shares the work",
		database: "one; its spare is the database's own matter",
	}
	table := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "machines\tnumber\tcores each\tbusiest\t")
	for _, m := range p.Machines {
		number := fmt.Sprint(m.Needed)
		if m.Spare > 0 {
			number = fmt.Sprintf("%d + %d spare", m.Needed, m.Spare)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\n", m.Kind, number, m.Cores, figure.Percent(m.Busy), set[m.Kind])
	}
	_ = table.Flush() // into memory: it can't fail
}

func (p *Plan) writeBuyers(b *bytes.Buffer) {
	s := &p.seen
	fmt.Fprintf(b, "\nWhat buyers see\n\n")
	table := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	row := func(what, text string) { fmt.Fprintf(table, "  %s\t%s\n", what, text) }
	share := func(n float64) string {
		return fmt.Sprintf("%s (%s)", figure.Number(float64(int64(n+0.5))), figure.Percent(n/max(1, s.offered)))
	}
	row("requests to buy", figure.Number(float64(int64(s.offered+0.5)))+", with those who come again")
	row("accepted", share(s.accepted))
	row("told to come again: the queue is full", share(s.refused[sluice.QueueFull]+s.refused[sluice.TooSlow])+", the shed share")
	row("told that all units are spoken for", share(s.refused[sluice.NoneFree]))
	row("told that it is sold out", share(s.refused[sluice.AllSold]))
	row("accepted, then told that it is sold out", share(max(0, s.accepted-s.sold/float64(p.Options.Quantity))))
	row("units sold", fmt.Sprintf("%s of %s", figure.Number(float64(int64(s.sold+0.5))), humanize.Comma(p.Options.Stock)))
	row("wait of an accepted order", fmt.Sprintf("median %s, p99 %s, longest %s", duration(s.waitP50), duration(s.waitP99), duration(s.waitMax)))
	row("most orders waiting", fmt.Sprintf("%s, bound %s", figure.Number(float64(int64(s.outstanding+0.5))), humanize.Comma(p.Bound)))
	row("first refusal for load", when(s.firstShed))
	row("sold out", when(s.soldOut))
	row("queue empty", when(s.idle))
	_ = table.Flush() // into memory: it can't fail
}

func duration(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond).String()
}

func when(s float64) string {
	if s < 0 {
		return "never"
	}
	return "after " + duration(s)
}

func (p *Plan) writeFormulae(b *bytes.Buffer) {
	o, m := &p.Options, p.Model
	fmt.Fprintf(b, "\nHow this was reckoned\n\n  Costs, in processor time of one core, fitted to the report's seconds by least squares:\n")
	for _, part := range []string{door, nsqd, worker, database} {
		if f := m.fits[part]; f != nil {
			fmt.Fprintf(b, "    %s: %s\n", part, f)
		}
	}
	fmt.Fprintf(b, "  The load is the busiest second of a model in steps of %v, which admits, settles and sells as the service does.\n", time.Second/aSecond)
	for _, k := range []struct {
		part string
		load events
	}{{door, p.peak}, {nsqd, p.busy}, {worker, p.busy}, {database, p.busy}} {
		if f := m.fits[k.part]; f != nil {
			fmt.Fprintf(b, "  %s = ⌈ load ÷ (cores × use − idle) ⌉ = ⌈ (%s) ÷ (%d × %s − %s) ⌉ = ⌈ %s ÷ %s ⌉ = %d\n", k.part, f.put(k.load), o.Cores, figure.Number(o.Use),
				figure.Number(f.idle()), figure.Number(f.work(k.load)), figure.Number(float64(o.Cores)*o.Use-f.idle()), p.needed(k.part))
		}
	}
	if o.DrainRate > 0 {
		fmt.Fprintf(b, "  drain rate = %s orders/s, as given\n", figure.Number(p.Drain))
	} else {
		fmt.Fprintf(b, "  drain rate = measured × margin = %s × %s = %s orders/s (%s)\n", figure.Number(m.drain), figure.Number(drainMargin), figure.Number(p.Drain), m.drainFrom)
	}
	fmt.Fprintf(b, "  bound = drain rate × longest wait = %s × %s s = %s orders: the longest wait that can be promised honestly; of a door: ÷ %d = %s\n",
		figure.Number(p.Drain), figure.Number(o.MaxWait.Seconds()), humanize.Comma(p.Bound), p.doors(), humanize.Comma(p.DoorBound))
	fmt.Fprintf(b, "  admitted = while outstanding < bound, and units spoken for < over-admission × free units = %s × %s at the start\n",
		figure.Number(sluice.DefaultOverAdmission), humanize.Comma(o.Stock))
	fmt.Fprintf(b, "  wait of an order = orders before it ÷ drain rate + %s s of its own (%s)\n", figure.Number(m.settle), m.settleHow)
	fmt.Fprintf(b, "  shed share = refused for load ÷ requests to buy = %s ÷ %s = %s\n", figure.Number(float64(int64(p.seen.shed()*p.seen.offered+0.5))),
		figure.Number(float64(int64(p.seen.offered+0.5))), figure.Percent(p.seen.shed()))
	fmt.Fprintf(b, "  journal of a door = accepted ÷ doors × %d bytes = %s ÷ %d × %d\n", journalBytes, figure.Number(float64(int64(p.seen.accepted))), p.doors(), journalBytes)
	fmt.Fprintf(b, "  memory of nsqd = bound × %d bytes = %s × %d\n", messageBytes, humanize.Comma(p.Bound), messageBytes)
	fmt.Fprintf(b, "  memory of a door = highest measured + its bound × %d bytes = %s MB + %s × %d\n", creditBytes, figure.Number(m.memory), humanize.Comma(p.DoorBound), creditBytes)
}

func (p *Plan) needed(kind string) int {
	for _, m := range p.Machines {
		if m.Kind == kind {
			return m.Needed
		}
	}
	return 0
}

// String lists the costs with their standard errors.
func (f *Fit) String() string {
	var costs []string
	for _, t := range f.terms {
		text := micro(t.each) + " each " + t.name
		if t.kinds[0] == second {
			text = figure.Number(t.each) + " cores idle"
		}
		if f.points > 0 {
			wrong := micro(t.err)
			if t.kinds[0] == second {
				wrong = figure.Number(t.err)
			}
			text += " (± " + wrong + ")"
		}
		costs = append(costs, text)
	}
	all := strings.Join(costs, " + ")
	if f.points > 0 {
		return fmt.Sprintf("%s; R² %.3f over %d s", all, f.r2, f.points)
	}
	return all + "; from totals"
}

func micro(seconds float64) string { return figure.Number(seconds*1e6) + " µs" }

// put writes the load with its numbers put in, without what processes cost by being there.
func (f *Fit) put(e events) string {
	var parts []string
	for _, t := range f.terms {
		if t.kinds[0] != second {
			parts = append(parts, fmt.Sprintf("%s/s × %s", figure.Number(float64(int64(e.sum(t.kinds)+0.5))), micro(t.each)))
		}
	}
	return strings.Join(parts, " + ")
}

func (p *Plan) writeMargins(b *bytes.Buffer) {
	o := &p.Options
	fmt.Fprintf(b, "\nMargins and assumptions\n\n")
	drain := fmt.Sprintf("drain rate: %s of what was measured", figure.Percent(drainMargin))
	if o.DrainRate > 0 {
		drain = "drain rate: as given, without a margin"
	}
	for _, text := range []string{
		fmt.Sprintf("processors: busy to %s at most, so that %s × the load fits; and %d spare of doors and workers", figure.Percent(o.Use), figure.Number(1/o.Use), o.Spare),
		drain + "; it is not multiplied by machines, since one sale is one row",
		fmt.Sprintf("the peak holds for the whole burst from its first moment on; %s of those who are told to come again do, %d requests each at most",
			figure.Percent(o.Retry), max(1, o.Tries)),
		fmt.Sprintf("%s page requests a second come with the peak", figure.Number(o.Pages)),
		"a core is like one of the machine that was measured. The generator shared its processors: rates suffer from that, costs hardly do",
		"load is spread evenly over doors; units that are held and not paid for come back after the sale's rush",
		fmt.Sprintf("%d bytes of journal and %d bytes of nsqd's memory an order, %d bytes of a door's memory an outstanding order: assumed for orders without large attributes, and not measured",
			journalBytes, messageBytes, creditBytes),
	} {
		fmt.Fprintf(b, "  - %s.\n", text)
	}
}
