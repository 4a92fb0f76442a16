package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/config"
	"sluice/internal/pgcluster"
	"sluice/loadtest"
	"sluice/loadtest/lab"
	"sluice/loadtest/report"
)

func loadtestCommand() *cobra.Command {
	o := &loadOptions{}
	cmd := &cobra.Command{
		Use:   "loadtest [SCENARIO]",
		Short: "Measure what a service carries, and write a report of it",
		Long: "Plays a scenario against parts that it starts and stops itself, or against a service that runs, and writes a report.\n" +
			"Requests start when they are due, whatever the answers are; what was sold is counted in the database.\n\n" +
			"Scenarios: " + strings.Join(loadtest.Names(), ", ") + "; or the path of a YAML file.\n\n" +
			"Exit status: 0 the run is valid, every promise was kept and the scenario's limits (slo) hold; 1 not; 2 usage.",
		Example: "  sluice loadtest flash\n  sluice loadtest spike --store postgres --rounds 6\n" +
			"  sluice loadtest ./mine.yaml --target http://127.0.0.1:8080 --admin 127.0.0.1:8081",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), append(args, "flash")[0], loadtest.Measure)
		},
	}
	o.flags(cmd)
	cmd.Flags().IntVar(&o.rounds, "rounds", 1, "play it so many times, each with a fresh service; 6 for sluice loadtest compare")
	cmd.AddCommand(loadtestListCommand(), loadtestSearchCommand(), loadtestCompareCommand(), loadtestPlanCommand(), loadtestReportCommand(), loadtestNullCommand())
	return cmd
}

func loadtestSearchCommand() *cobra.Command {
	o, how := &loadOptions{rounds: 1}, loadtest.SearchOptions{}
	cmd := &cobra.Command{
		Use: "search [SCENARIO]", Short: "Search the highest rate at which the scenario's limits hold",
		Long: "Plays the scenario (capacity, where none is given) again and again with its rates scaled: up until its limits (slo) are broken, then\n" +
			"between, then at least six times around the knee.",
		Example: "  sluice loadtest search\n  sluice loadtest search capacity --store postgres --from 500",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := how.Check(); err != nil {
				return &usageError{err}
			}
			return o.run(c.Context(), append(args, "capacity")[0], func(ctx context.Context, m loadtest.Options) (*loadtest.Run, []loadtest.Interval, error) {
				return loadtest.MeasureCapacity(ctx, m, how)
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().Float64Var(&how.From, "from", 0, "orders a second to begin with; 0: 200")
	cmd.Flags().Float64Var(&how.Within, "within", 0, "how well to know the knee, a share of it; 0: 0.05")
	cmd.Flags().IntVar(&how.Repeats, "repeats", 0, "tries at the rate found; 0: 6")
	return cmd
}

func loadtestListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Print the scenarios that come with sluice", Example: "  sluice loadtest list", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			out := newTable(os.Stdout, "scenario\tabout")
			var errs []error
			for _, name := range loadtest.Names() {
				s, err := loadtest.Load(name)
				errs = append(errs, err, out.add(nil, name, s.About))
			}
			return errors.Join(append(errs, out.end())...)
		},
	}
}

// loadOptions are what is the same for all verbs that play scenarios.
type loadOptions struct {
	rounds           int
	store            string
	seed             uint64
	target           string
	admin, ca, token string
	metrics          []string
	anywhere         bool
	out, work        string
	noCeiling        bool
}

func (o *loadOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.store, "store", "sqlite", "database of the parts: sqlite, postgres (a private server, started and removed), or postgres://… (a database of its own there)")
	f.Uint64Var(&o.seed, "seed", 0, "another seed than the scenario's")
	f.StringVar(&o.out, "out", "results", "folder in which the report's folder is made")
	f.StringVar(&o.work, "work", "", "folder for the data of the parts; empty: the system's temporary one. Its disk is part of what is measured")
	f.BoolVar(&o.noCeiling, "no-ceiling", false, "leave out the half minute in which the generator is measured by itself")
	f.StringVar(&o.target, "target", "", "URL of a front door that runs already, instead of parts of its own")
	f.StringVar(&o.admin, "admin", "127.0.0.1:8081", "its operations API: sales are made there, and the books read")
	f.StringVar(&o.ca, "admin-ca", "", "file with the authorities of its certificate, in PEM; then it is asked over TLS only")
	f.StringVar(&o.token, "admin-token-file", "", "file with a token for it")
	f.StringSliceVar(&o.metrics, "metrics", nil, "URLs of its doors' metrics; they are asked with the same authorities, and with the token where nobody else hears it")
	f.BoolVar(&o.anywhere, "anywhere", false, "allow a target that is not on this machine: whoever runs it must have agreed")
	f.SortFlags = false
}

// ceiling measures the generator by itself. One that finds none, on a busy machine, keeps nobody from playing.
func (o *loadOptions) ceiling(ctx context.Context, m *loadtest.Options) error {
	if o.noCeiling {
		return nil
	}
	told("measuring the generator by itself")
	switch c, err := loadtest.MeasureCeiling(ctx, *m); {
	case errors.Is(err, loadtest.ErrNoCeiling):
		told("%v; the report will have no ceiling", err)
	case err != nil:
		return err
	default:
		m.Ceiling = &c
	}
	return nil
}

type player func(context.Context, loadtest.Options) (*loadtest.Run, []loadtest.Interval, error)

// run plays a scenario and writes the report.
func (o *loadOptions) run(ctx context.Context, scenario string, play player) (err error) {
	m, err := o.options(scenario)
	if err == nil {
		err = m.Check(ctx)
	}
	if err != nil {
		return &usageError{err}
	}
	if m.Lab, err = lab.New(o.work); err != nil {
		return &usageError{fmt.Errorf("--work: %w", err)}
	}
	defer func() { err = errors.Join(err, m.Lab.Close()) }()
	if err := writable(m.Lab.Dir(), "data"); err != nil {
		return &usageError{fmt.Errorf("--work: %w", err)}
	}
	m.Lab.Yield()
	debug.SetGCPercent(400) // the generator's own pauses would be measured, too
	end, err := o.database(ctx, &m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := o.ceiling(ctx, &m); err != nil {
		return err
	}
	told("playing %s", m.Scenario.Name)
	run, log, err := play(ctx, m)
	switch _, setup := errors.AsType[*loadtest.SetupError](err); {
	case setup:
		return &usageError{err}
	case run == nil:
		return err
	}
	return errors.Join(err, o.write(run, log))
}

// told tells how it goes.
func told(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// options are checked before anything is started.
func (o *loadOptions) options(scenario string) (m loadtest.Options, err error) {
	m = loadtest.Options{Rounds: o.rounds, Progress: os.Stderr, Say: told, Command: repeats(os.Args[1:])}
	if o.rounds < 1 || o.rounds > 100 {
		return m, fmt.Errorf("--rounds %d: want 1 to 100", o.rounds)
	}
	if m.Scenario, err = loadtest.Load(scenario); err != nil {
		return m, err
	}
	if o.seed != 0 {
		m.Scenario.Seed = o.seed
	}
	if m.Program, err = os.Executable(); err != nil {
		return m, err
	}
	if info, known := debug.ReadBuildInfo(); known {
		m.Commit = commit(info)
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil { //nolint:gosec // reports are for everybody
		return m, fmt.Errorf("--out: %w", err)
	}
	if err := writable(o.out, "a report"); err != nil {
		return m, fmt.Errorf("--out: %w", err)
	}
	if o.target != "" {
		m.Foreign, err = o.foreign()
	}
	return m, err
}

// repeats is the command that repeats a run, for a report that everybody may read: without the passwords of URLs.
func repeats(args []string) string {
	command := []string{"sluice"}
	for _, arg := range args {
		name, value := "", arg
		if strings.HasPrefix(arg, "--") && strings.Contains(arg, "=") {
			name, value, _ = strings.Cut(arg, "=")
			name += "="
		}
		if strings.Contains(value, "://") {
			u, err := url.Parse(value)
			if err != nil { // perhaps because of a password that has a # or a %
				scheme, _, _ := strings.Cut(value, "://")
				u = &url.URL{Scheme: scheme, Host: "xxxxx"}
			}
			if q := u.Query(); q.Has("password") { // as PostgreSQL's may have it too
				q.Set("password", "xxxxx")
				u.RawQuery = q.Encode()
			}
			value = u.Redacted()
		}
		command = append(command, name+value)
	}
	return strings.Join(command, " ")
}

// writable finds out before a long run whether what comes of it can be kept.
func writable(dir, what string) error {
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err == nil {
		_, err = probe.Write(make([]byte, 4<<20)) // more than a report mostly has
		err = errors.Join(err, probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return fmt.Errorf("%s can't be written there: %w", what, err)
	}
	return nil
}

func (o *loadOptions) foreign() (*loadtest.Service, error) {
	u, err := url.Parse(o.target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("--target %s: want the URL of a front door such as http://127.0.0.1:8080", o.target)
	}
	operations, err := operationsAt(config.Config{AdminCA: o.ca}, "admin", o.admin)
	if err != nil {
		return nil, err
	}
	for _, url := range o.metrics { // they are shown the token, too
		if _, err := operationsAt(config.Config{AdminCA: o.ca}, "metrics", url); err != nil {
			return nil, err
		}
	}
	admin := operations.url()
	if err := o.allowed(admin); err != nil {
		return nil, err
	}
	token, err := readToken(config.Config{TokenFile: o.token})
	if err != nil {
		return nil, err
	}
	return &loadtest.Service{Doors: []string{strings.TrimSuffix(o.target, "/")}, Metrics: o.metrics, Admin: admin, Token: token, Secure: operations.secure}, nil
}

// allowed keeps load, and the token, on this machine unless it is asked for in words that they may leave it.
func (o *loadOptions) allowed(admin string) error {
	if o.anywhere {
		return nil
	}
	for _, at := range append([][2]string{{"target", o.target}, {"admin", admin}}, named("metrics", o.metrics)...) {
		u, err := url.Parse(at[1])
		if err != nil || !loadtest.OnThisMachine(u.Hostname()) {
			return fmt.Errorf("--%s %s: it is not on this machine; a load test can keep others from working: --anywhere allows it", at[0], at[1])
		}
	}
	return nil
}

func named(flag string, values []string) (pairs [][2]string) {
	for _, v := range values {
		pairs = append(pairs, [2]string{flag, v})
	}
	return pairs
}

// database gets the parts' database ready; end ends what was started for it.
func (o *loadOptions) database(ctx context.Context, m *loadtest.Options) (end func() error, err error) {
	end = func() error { return nil }
	switch {
	case m.Foreign != nil:
	case o.store == "sqlite":
		m.Store = loadtest.Store{Kind: loadtest.SQLite}
	case o.store == "postgres":
		told("starting a private PostgreSQL")
		cluster, err := pgcluster.Start(ctx)
		if err != nil {
			return end, err
		}
		server := lab.NewTree("postgres", cluster.PID())
		if err := server.Yield(); err != nil {
			return end, errors.Join(fmt.Errorf("the priority of PostgreSQL: %w", err), cluster.Stop())
		}
		m.Store, end = loadtest.Store{Kind: loadtest.Postgres, Server: server, Database: pgcluster.Databases(cluster.URL("postgres"), "sluice_load")}, cluster.Stop
	case strings.HasPrefix(o.store, "postgres://"), strings.HasPrefix(o.store, "postgresql://"):
		if err := pgcluster.Reach(ctx, o.store); err != nil {
			return end, &usageError{fmt.Errorf("--store: %w", err)}
		}
		m.Store = loadtest.Store{Kind: loadtest.Postgres, Database: pgcluster.Databases(o.store, "sluice_load")}
	default:
		err = &usageError{fmt.Errorf("--store %s: want sqlite, postgres or postgres://…", o.store)}
	}
	return end, err
}

// write keeps the report, and says what it says first. Its folder has the day and the scenario; a second one of that day a number.
func (o *loadOptions) write(run *loadtest.Run, log []loadtest.Interval) error {
	name := run.Began.Format(time.DateOnly) + "-" + run.Scenario.Name
	if run.Target == "" {
		name += "-" + run.Store
	}
	dir := filepath.Join(o.out, name)
	for n := 2; exists(dir); n++ {
		dir = filepath.Join(o.out, name+"-"+strconv.Itoa(n))
	}
	err := report.Write(dir, run, log)
	if err != nil { // an hour of figures is worth another place
		dir, err = saveElsewhere(name, run, log, err)
	}
	if dir == "" {
		return err
	}
	verdict, good := report.Verdict(run)
	fmt.Println(verdict)
	fmt.Println("report: " + filepath.Join(dir, "report.md") + " and report.html")
	if !good {
		err = errors.Join(err, errors.New("the run does not show what it should; the report says why"))
	}
	return err
}

// saveElsewhere keeps a report in the system's temporary folder where its own place does not take it.
func saveElsewhere(name string, run *loadtest.Run, log []loadtest.Interval, why error) (dir string, err error) {
	folder, err := os.MkdirTemp("", "sluice-report-")
	if err != nil {
		return "", errors.Join(why, err)
	}
	dir = filepath.Join(folder, name)
	if err := report.Write(dir, run, log); err != nil {
		return "", errors.Join(why, err, os.RemoveAll(folder))
	}
	return dir, fmt.Errorf("the report is in %s instead: %w", dir, why)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
