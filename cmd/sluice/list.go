package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/api"
)

// listFlags are the flags of verbs that list what waits for an operator.
type listFlags struct {
	all    bool
	limit  int
	asJSON bool
}

// add gives a command the flags; all says what is listed beyond what waits, empty: nothing.
func (l *listFlags) add(cmd *cobra.Command, all string) {
	if all != "" {
		cmd.Flags().BoolVar(&l.all, "all", false, all)
	}
	cmd.Flags().IntVar(&l.limit, "limit", api.DefaultPage, "most entries to print")
	cmd.Flags().BoolVar(&l.asJSON, "json", false, "print JSON, one entry a line")
}

// printList prints the entries of as many pages as hold limit of them. fetch reads the page after a place, and answers the
// place of the next one; its zero is the first page, and the last one's next.
func printList[T any, Place comparable](flags *listFlags, header string, row func(T) []any, fetch func(after Place, limit int) ([]T, Place, error)) error {
	if flags.limit < 1 {
		return &usageError{fmt.Errorf("--limit %d: want 1 or more", flags.limit)}
	}
	out := newRows(os.Stdout, header, flags.asJSON)
	var after Place
	for left := flags.limit; left > 0; {
		entries, next, err := fetch(after, min(left, api.MaxPage))
		if err != nil {
			return out.endAfter(err)
		}
		for _, entry := range entries {
			if err := out.add(entry, row(entry)...); err != nil {
				return err
			}
		}
		if left -= len(entries); next == *new(Place) {
			return out.end()
		}
		after = next
	}
	return out.endBefore("--limit")
}

// rows prints entries, one after the other: however many there are, few are in memory at once.
type rows struct {
	n     int
	print func(entry any, columns []any) error
	flush func() error
	none  string // what is said where there was nothing to print
}

// newRows prints a table or, one entry a line, JSON.
func newRows(to io.Writer, header string, asJSON bool) *rows {
	if asJSON {
		e := json.NewEncoder(to)
		return &rows{print: func(entry any, _ []any) error { return e.Encode(entry) }, flush: func() error { return nil }}
	}
	return newTable(to, header)
}

// block is how many lines of a table are aligned together.
const block = 200

func newTable(to io.Writer, header string) *rows {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	lines := 0
	line := func(_ any, columns []any) error {
		if lines++; lines == 1 {
			fmt.Fprintln(t, header)
		}
		cells := make([]string, len(columns))
		for i, column := range columns {
			cells[i] = cell(column)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
		if lines%block == 0 {
			return t.Flush()
		}
		return nil
	}
	return &rows{print: line, flush: t.Flush, none: "none"}
}

func (r *rows) add(entry any, columns ...any) error {
	r.n++
	return r.print(entry, columns)
}

func (r *rows) end() error {
	if r.n == 0 && r.none != "" {
		fmt.Fprintln(os.Stderr, r.none)
	}
	return r.flush()
}

// endBefore says that there is more than was printed.
func (r *rows) endBefore(flag string) error {
	err := r.end()
	fmt.Fprintf(os.Stderr, "there may be more than these %d: see %s\n", r.n, flag)
	return err
}

// endAfter ends an output that an error cut short.
func (r *rows) endAfter(err error) error {
	if r.n == 0 {
		return err
	}
	_ = r.end() // what went wrong first is what is told
	return fmt.Errorf("after %d entries: %w", r.n, err)
}

// cell is a column as a table shows it.
func cell(column any) string {
	text := fmt.Sprint(column)
	if t, ok := column.(time.Time); ok {
		text = timeText(t)
	}
	if text = strings.Join(strings.Fields(text), " "); text == "" { // an error may have lines
		return "-"
	}
	return text
}

// timeText is a time as people and spreadsheets read it; empty for the zero time.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
