package compare

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sluice/loadtest/internal/figure"
)

// WriteText writes the comparison, its verdict first.
func (c Comparison) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n%s: %d valid rounds of A, %d of B\n\n", c.verdict(), c.Scenario, c.Rounds[0], c.Rounds[1])
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "figure\tA\tB\tchange\t")
	for i := range c.Lines {
		l := &c.Lines[i]
		fmt.Fprintf(table, "%s, %s\t%s\t%s\t%s\t%s\n", l.Figure, l.unit(), l.A.text(l.Unit), l.B.text(l.Unit), l.changeText(), l.verdict(c.Limit))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	notes := append([]string{"Medians, with their confidence interval at 95 %, which takes six rounds a side; Mann-Whitney U, alpha 0.05: of twenty " +
		"figures that did not change one looks as if it had."}, c.Notes...)
	if _, err := fmt.Fprintf(w, "\n%s\n", strings.Join(notes, "\n")); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	return nil
}

// verdict is the whole in a sentence.
func (c Comparison) verdict() string {
	var regressed, worse, better []string
	for i := range c.Lines {
		switch l := &c.Lines[i]; {
		case l.Regressed:
			regressed = append(regressed, l.Figure)
		case l.Verdict == Worse:
			worse = append(worse, l.Figure)
		case l.Verdict == Better:
			better = append(better, l.Figure)
		}
	}
	limit := figure.Percent(c.Limit)
	switch {
	case len(c.Broken) > 0:
		return "REGRESSION: promises were broken in B: " + strings.Join(c.Broken, "; ")
	case len(regressed) > 0:
		return "REGRESSION: worse by more than " + limit + ": " + strings.Join(regressed, ", ")
	case !c.Judged():
		return "No verdict: " + c.tooFew()
	case len(worse) > 0:
		return "No regression beyond " + limit + "; worse within it: " + strings.Join(worse, ", ")
	case len(better) > 0:
		return "No regression; better: " + strings.Join(better, ", ")
	}
	return "No significant change"
}

func (c Comparison) tooFew() string { return tooFew(c.Rounds[0], c.Rounds[1]) }

func tooFew(a, b int) string {
	return fmt.Sprintf("not enough rounds: %d and %d, need %d a side at least (--rounds 6)", a, b, fewest)
}

func (l *Line) verdict(limit float64) string {
	switch l.Verdict {
	case TooFew:
		return tooFew(l.A.N, l.B.N)
	case Same:
		return fmt.Sprintf("%s (p=%.2f, n=%d+%d)", Same, l.P, l.A.N, l.B.N)
	case Better, Worse:
	}
	text := fmt.Sprintf("%s (p=%.3f, n=%d+%d)", l.Verdict, l.P, l.A.N, l.B.N)
	if l.Regressed {
		text += ", beyond the limit of " + figure.Percent(limit)
	}
	return text
}

func (l *Line) changeText() string {
	share, known := l.Change()
	if !known {
		return "-"
	}
	return figure.Change(share)
}

func (l *Line) unit() string {
	if l.Unit == "share" {
		return "%"
	}
	return l.Unit
}

func (s Side) text(unit string) string {
	if s.N == 0 {
		return "-"
	}
	v := s.Median
	if unit == "share" {
		v *= 100
	}
	return figure.Number(v) + " ± " + s.Range
}
