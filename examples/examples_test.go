package examples

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/race"
)

// programs is the folder that the first test that needs them builds the programs into.
var programs string

var build = sync.OnceValue(func() error {
	flags := []string{}
	if race.Enabled {
		flags = append(flags, "-race")
	}
	return Build(context.Background(), programs, flags...)
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-examples-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// Fan-out, competing consumers, a service that is killed and one that is away, and a data layer that publishes what a
// saver stores: the story of make examples.
func TestRun_EveryServiceGetsEverythingOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	if err := build(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	err := Run(t.Context(), programs, &said)
	t.Log(said.String())
	if err != nil {
		t.Error(err)
	}
}

// honest is a sale of three orders whose books add up.
func honest() *Books {
	return &Books{
		Buyers:   2,
		Outcomes: map[string]string{"a": "paid", "b": "cancelled", "c": "rejected"},
		Points:   []Credit{{Order: "a", Points: 10}},
		Coupons:  []Coupon{{Order: "a", Code: "x"}},
		Notes: []Note{
			{Order: "a", Version: 2, Worker: "one", Text: "It is yours."},
			{Order: "a", Version: 3, Worker: "two", Text: last["paid"]},
			{Order: "b", Version: 3, Worker: "one", Text: last["cancelled"]},
			{Order: "c", Version: 2, Worker: "two", Text: last["rejected"]},
		},
		Reports: []Report{{ID: "visit-buyer-0000"}, {ID: "visit-buyer-0001"}},
	}
}

func TestCheck_PassesHonestBooks(t *testing.T) {
	if wrong := honest().Check(); len(wrong) > 0 {
		t.Errorf("honest books are said to be wrong: %q", wrong)
	}
}

func TestCheck_CatchesEveryPlantedFault(t *testing.T) {
	for fault, c := range map[string]struct {
		plant func(b *Books)
		says  string
	}{
		"an order without points": {func(b *Books) { b.Points = nil }, "points: has a 0 times"},
		"an order credited twice": {func(b *Books) { b.Points = append(b.Points, b.Points[0]) }, "points: has a 2 times"},
		"points for nothing":      {func(b *Books) { b.Points = append(b.Points, Credit{"b", 10}) }, "points: has b, which it should not"},
		"too many points":         {func(b *Books) { b.Points[0].Points = 20 }, "points: order a got 20"},
		"an order without coupon": {func(b *Books) { b.Coupons = nil }, "coupons: has a 0 times"},
		"two coupons":             {func(b *Books) { b.Coupons = append(b.Coupons, Coupon{"a", "y"}) }, "coupons: has a 2 times"},
		"a code given twice":      {func(b *Books) { b.Coupons = append(b.Coupons, b.Coupons[0]) }, "coupons: 1 codes for 2"},
		"a buyer who was not told": {func(b *Books) {
			b.Notes = b.Notes[:3]
		}, "notifications: has c 0 times"},
		"a buyer who was told twice": {func(b *Books) {
			b.Notes = append(b.Notes, b.Notes[3])
		}, "notifications: version 2 of order c after 2"},
		"one worker who does it all": {func(b *Books) {
			for i := range b.Notes {
				b.Notes[i].Worker = "one"
			}
		}, "want the work of two workers"},
		"a report that is lost":        {func(b *Books) { b.Reports = b.Reports[:1] }, "report: has visit-buyer-0001 0 times"},
		"a report that is there twice": {func(b *Books) { b.Reports = append(b.Reports, b.Reports[0]) }, "report: has visit-buyer-0000 2 times"},
	} {
		t.Run(fault, func(t *testing.T) {
			b := honest()
			c.plant(b)
			if got := strings.Join(b.Check(), "\n"); !strings.Contains(got, c.says) {
				t.Errorf("want %q, got:\n%s", c.says, got)
			}
		})
	}
}

// A program that is not there is said to be so, and nothing is left running.
func TestRun_SaysWhatCouldNotBeStarted(t *testing.T) {
	defer goleak.VerifyNone(t)
	err := Run(t.Context(), filepath.Join(t.TempDir(), "nowhere"), &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "start sluice") {
		t.Errorf("got %v; want that sluice could not be started", err)
	}
}
