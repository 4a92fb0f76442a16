// Command sluice runs the service that a shop puts in front of a flash sale, its parts, and the tools of its operators.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	klog "github.com/go-kratos/kratos/v2/log"
	"github.com/spf13/cobra"

	"sluice"
	"sluice/config"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "sluice:", discreet(sentence(err)))
	os.Exit(exitStatus(err))
}

// sentence is an error as people are told it: what was wrong, with the refusal's name at the end for those who look it up.
func sentence(err error) string {
	refusal, ok := errors.AsType[*sluice.Error](err)
	if !ok {
		return err.Error()
	}
	told := cmp.Or(refusal.Detail, refusal.Refusal.Title())
	switch refusal.Refusal {
	case sluice.BadRequest:
		return strings.Replace(err.Error(), refusal.Error(), told, 1) // a flag's value, which needs no other name
	case sluice.Unauthorized:
		told = refusal.Refusal.Title() + ": want --admin-token-file FILE, and in it a token that the worker knows"
	case sluice.Internal:
		told = refusal.Refusal.Title() + ": " + told
	default:
	}
	return strings.Replace(err.Error(), refusal.Error(), fmt.Sprintf("%s (%s)", told, refusal.Refusal), 1)
}

// withPassword finds URLs that have a name and perhaps a password before their host, or a password among their parameters.
var withPassword = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s"']*(@|password=)[^\s"']*`)

// discreet leaves out what may be a password. Whoever mistypes a command line is told so by libraries that quote it.
func discreet(text string) string { return withPassword.ReplaceAllString(text, "$1…") }

func exitStatus(err error) int {
	if _, ok := errors.AsType[*config.Error](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// usageError is a command line that can't be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func root() *cobra.Command {
	cobra.EnableCommandSorting = false // the order within a group is ours
	cmd := &cobra.Command{
		Use:   "sluice",
		Short: "Answers every buyer of a flash sale at once, and never sells a unit twice",
		Long: "sluice stands in front of a shop's flash sale: it answers every buyer at once, admits orders up to an exact\n" +
			"bound, and settles them at a pace that the database can take. Nothing that it promised is lost.",
		Example:       "  sluice up --demo\n  sluice sale create spring --stock 1000\n  sluice audit",
		Version:       version(debug.ReadBuildInfo()),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
	})
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetVersionTemplate("sluice {{.Version}}\n")
	for _, g := range []struct {
		id, title string
		verbs     []*cobra.Command
	}{
		{"run", "Run it, whole or in parts:", []*cobra.Command{upCommand(), nsqdCommand(), workerCommand(), ingressCommand()}},
		{"sell", "Sales and their orders:", []*cobra.Command{saleCommand(), orderCommand(), auditCommand()}},
		{"steer", "Steer doors and workers while they run:", []*cobra.Command{limitsCommand(), poolsCommand(), blockCommand(), unblockCommand()}},
		{"settle", "What waits for an operator:", []*cobra.Command{deadLetterCommand(), refundCommand(), webhookCommand()}},
		{"measure", "Measure before the night:", []*cobra.Command{loadtestCommand()}},
		{"connect", "Connect a shop:", []*cobra.Command{ticketCommand(), eventCommand()}},
	} {
		cmd.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, verb := range g.verbs {
			verb.GroupID = g.id
			cmd.AddCommand(verb)
		}
	}
	return cmd
}

// usageArgs makes a mistake in the arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
		}
		return nil
	}
}

// serviceCommand makes a verb that loads its configuration and runs until it is told to stop.
func serviceCommand(use, short, example string, keys []string, run func(ctx context.Context, cfg config.Config, log *slog.Logger) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.Flags())
			if err != nil {
				return err
			}
			return run(c.Context(), cfg, newLogger(cfg))
		},
	}
	config.Flags(cmd.Flags(), append(keys, "log-format", "log-verbose")...)
	cmd.Flags().SortFlags = false
	return cmd
}

func newLogger(cfg config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if cfg.LogVerbose {
		options.Level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, options))
	if cfg.LogFormat == "json" {
		logger = slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	klog.SetLogger(kratosLog{logger})
	return logger
}

// kratosLog passes on what Kratos' transports log: they write to its global logger.
type kratosLog struct{ to *slog.Logger }

func (k kratosLog) Log(level klog.Level, keyvals ...any) error {
	to := slog.LevelDebug // its "server listening" and the like are told better elsewhere
	if level > klog.LevelInfo {
		to = slog.LevelWarn
	}
	k.to.Log(context.Background(), to, "kratos", keyvals...)
	return nil
}
