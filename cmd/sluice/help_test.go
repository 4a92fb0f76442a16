package main

import (
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestHelp_HasAnExampleForEveryCommand(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		n++
		if c.Short == "" || !strings.Contains(c.Example, c.CommandPath()) && c.Parent() != nil {
			t.Errorf("%s: %q, examples %q", c.CommandPath(), c.Short, c.Example)
		}
		if c.HasParent() && !c.Parent().HasParent() && c.GroupID == "" {
			t.Errorf("%s is in no group", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
	if n < 40 {
		t.Errorf("only %d commands were found", n)
	}
}

func TestVersion_SaysWhatItWasBuiltFrom(t *testing.T) {
	built := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: "2027-03-01T18:00:00Z"},
	}}
	if got, want := version(built, true), "v1.2.3 commit abc and changes of 2027-03-01T18:00:00Z go1.26.8"; got != want {
		t.Errorf("version = %s, want %s", got, want)
	}
	for _, c := range []struct{ args, says string }{
		{"--version", "sluice "},
		{"--help", "What waits for an operator:"},
		{"order pay --help", "sluice order pay " + exampleOrder + " --ref pay-4711"},
		{"completion bash", "bash completion"},
	} {
		if p := launch(t, strings.Fields(c.args)...); p.exit() != 0 || !strings.Contains(p.said(), c.says) {
			t.Errorf("sluice %s says %s", c.args, p.said())
		}
	}
}
