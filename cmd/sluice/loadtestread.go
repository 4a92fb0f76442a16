package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/loadtest"
	"sluice/loadtest/capacity"
	"sluice/loadtest/compare"
	"sluice/loadtest/report"
)

func loadtestCompareCommand() *cobra.Command {
	limit, force := fmt.Sprintf("%g%%", 100*compare.DefaultLimit), false
	cmd := &cobra.Command{
		Use: "compare A B", Short: "Tell whether B went better than A, by the statistics of benchstat",
		Long: "A and B are folders of reports, or several of them with commas between. Each needs four valid rounds at least (--rounds 6).\n\n" +
			"Exit status: 0 nothing is worse beyond the limit, 1 something is or a promise was broken, 2 usage, or too few rounds for a verdict.",
		Example: "  sluice loadtest compare results/2027-03-01-flash-sqlite results/2027-03-08-flash-sqlite --limit 5%",
		Args:    usageArgs(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			most, err := capacity.ParseShare(limit)
			if err != nil {
				return &usageError{fmt.Errorf("--limit %w", err)}
			}
			a, err := readRuns(args[0])
			if err != nil {
				return &usageError{err}
			}
			b, err := readRuns(args[1])
			if err != nil {
				return &usageError{err}
			}
			c, err := compare.Compare(a, b, compare.Options{Limit: most, Force: force})
			if err != nil {
				return &usageError{err}
			}
			if err := c.WriteText(os.Stdout); err != nil {
				return err
			}
			switch {
			case c.Regressed():
				return errors.New("the second is worse than the first beyond the limit")
			case !c.Judged():
				return &usageError{errors.New("there are too few rounds for a verdict")}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&limit, "limit", limit, "share by which a figure may be worse")
	cmd.Flags().BoolVar(&force, "force", false, "compare although scenario, settings or store differ")
	return cmd
}

// readRuns reads reports with commas between.
func readRuns(paths string) (runs []*loadtest.Run, err error) {
	for path := range strings.SplitSeq(paths, ",") {
		run, err := report.Read(path)
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// number reads a flag's value as people write it.
type number[T any] struct {
	value *T
	parse func(string) (T, error)
	text  string
}

func (n *number[T]) String() string { return n.text }
func (n *number[T]) Type() string   { return "value" }

// Set implements pflag.Value.
func (n *number[T]) Set(text string) (err error) {
	*n.value, err = n.parse(text)
	n.text = text
	return err
}

func loadtestPlanCommand() *cobra.Command {
	o := capacity.DefaultOptions()
	var measured, against, within string
	var buyers, stock int64
	cmd := &cobra.Command{
		Use: "plan", Short: "Reckon machines, bound, waits and refusals for a sale from a measured report",
		Long: "Every formula is printed with its numbers, and every margin. With --check, a second report is predicted from the first instead, and what\n" +
			"was measured put beside it: exit status 1 where the model is further off than --within.",
		Example: "  sluice loadtest plan --report results/2027-03-01-flash-sqlite --peak 500000/s --stock 10000\n" +
			"  sluice loadtest plan --report results/2027-03-01-spike-sqlite --check results/2027-03-01-ramp-sqlite --within 15%",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if measured == "" {
				return &usageError{errors.New("--report is missing: the folder of a measured run")}
			}
			run, err := report.Read(measured)
			if err != nil {
				return &usageError{err}
			}
			if against != "" {
				return checkPlan(run, against, within)
			}
			if !c.Flags().Changed("peak") || !c.Flags().Changed("stock") {
				return &usageError{errors.New("--peak and --stock are needed: how many orders a second at the highest, such as 500000/s, and how many units")}
			}
			o.Buyers, o.Stock = float64(buyers), stock
			p, err := capacity.Reckon(run, o)
			if err != nil {
				return &usageError{err}
			}
			return p.WriteText(os.Stdout)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&measured, "report", "", "folder of the measured run's report")
	f.Var(&number[float64]{value: &o.Peak, parse: capacity.ParseRate}, "peak", "orders at the highest, such as 500000/s or 30000/min")
	f.Var(&number[int64]{value: &stock, parse: capacity.ParseCount}, "stock", "units for sale")
	f.Var(&number[int64]{value: &buyers, parse: capacity.ParseCount}, "buyers", "who come at the peak's rate; instead of --burst")
	f.DurationVar(&o.Burst, "burst", 0, "how long the peak holds (default 10s)")
	f.IntVar(&o.Quantity, "quantity", o.Quantity, "units of an order")
	f.DurationVar(&o.MaxWait, "max-wait", o.MaxWait, "longest wait in the queue to admit for")
	f.Var(&number[float64]{value: &o.DrainRate, parse: capacity.ParseRate}, "drain-rate", "orders that your database carries, such as 2000/s; what was measured less a margin, if not given")
	f.Var(&number[float64]{value: &o.Pages, parse: capacity.ParseRate}, "pages", "requests for the sale's page at the peak; as in the report, if not given")
	f.IntVar(&o.Cores, "cores", o.Cores, "cores of a machine")
	f.Var(&number[float64]{value: &o.Use, parse: capacity.ParseShare, text: "60%"}, "use", "highest use of its processors")
	f.Var(&number[float64]{value: &o.Retry, parse: capacity.ParseShare}, "retry", "share of refused buyers who come again; as in the report, if not given")
	f.IntVar(&o.Tries, "tries", 0, "most requests of a buyer; 0: as in the report")
	f.IntVar(&o.Spare, "spare", o.Spare, "machines of a kind that may fail")
	f.BoolVar(&o.Force, "force", false, "reckon although the report is invalid or partial")
	f.StringVar(&against, "check", "", "folder of a second report, to be predicted from the first")
	f.StringVar(&within, "within", "25%", "how far off a prediction may be")
	return cmd
}

func checkPlan(run *loadtest.Run, against, within string) error {
	limit, err := capacity.ParseShare(within)
	if err != nil {
		return &usageError{fmt.Errorf("--within %w", err)}
	}
	other, err := report.Read(against)
	if err != nil {
		return &usageError{err}
	}
	lines, err := capacity.Check(run, other, limit)
	if err != nil {
		return &usageError{err}
	}
	if err := capacity.WriteCheck(os.Stdout, lines, limit); err != nil {
		return err
	}
	if capacity.Failed(lines) {
		return errors.New("the model is further off than the limit")
	}
	return nil
}

func loadtestReportCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "report RUN", Short: "Write the report of a run again, from its run.json",
		Example: "  sluice loadtest report results/2027-03-01-flash-sqlite --out /tmp/flash",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			run, err := report.Read(args[0])
			if err != nil {
				return &usageError{err}
			}
			if out == "" {
				out = filepath.Join(os.TempDir(), run.Began.Format(time.DateOnly)+"-"+run.Scenario.Name)
			}
			log, err := report.ReadLog(args[0])
			if err != nil {
				return &usageError{err}
			}
			if err := report.Write(out, run, log); err != nil {
				return err
			}
			fmt.Println("report: " + filepath.Join(out, "report.html"))
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder to make; empty: one in the system's temporary folder")
	return cmd
}
