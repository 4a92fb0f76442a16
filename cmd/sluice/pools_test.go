package main

import (
	"strings"
	"testing"
)

func TestPools_AreOperatedFromTheCommandLine(t *testing.T) {
	admin := freePort(t)
	up := launch(t, "up", "--listen", freePort(t), "--admin", admin, "--data", t.TempDir(), "--drain-rate", "2000", "--drain-workers", "3",
		"--pools", "vip topic=orders-vip rate=50 workers=1")
	eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+admin+"/readyz", ""); return status == 200 })
	eventually(t, "the pools are set", func() bool {
		_, answer := call(t, "GET", "http://"+admin+"/v1/pools", "")
		pools, _ := answer["worker"].([]any)
		return len(pools) == 2 && pools[0].(map[string]any)["state"] == "draining"
	})
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"pools", 0, []string{"settle  draining  2000/s", "vip  draining    50/s"}},
		{"pools set settle --rate 500 --window 64", 0, []string{"500/s  500      64       64"}},
		{"pools get --json", 0, []string{`"rate": 500,`, `"name": "vip"`, `"largest_window": 64`}},
		{"pools set settle --window 0", 0, []string{"settle    paused"}},
		{"pools set settle --reset rate,window", 0, []string{"settle  draining  2000/s    -"}},
		{"pools set settle --rate 0 --json", 0, []string{`"version": 4`}},
		{"pools set", 2, []string{"accepts 1 arg"}},
		{"pools set settle", 2, []string{"what shall be set"}},
		{"pools set settle --rate 0.5", 2, []string{"rate 0.5: want 0, or 1 to"}},
		{"pools set setle --rate 5", 2, []string{`"setle" is no pool of this worker: it has settle, vip`}},
		{"pools set settle --reset batch", 2, []string{`"batch": want rate or window`}},
		{"pools set settle --rate 5 --reset rate", 2, []string{"set and reset at once"}},
		{"pools sideways", 2, []string{"sideways"}},
	} {
		p := launch(t, append(strings.Fields(c.args), "--admin", admin)...)
		code := p.exit()
		for _, says := range c.says {
			if code != c.code || !strings.Contains(p.said(), says) {
				t.Errorf("sluice %s: exit %d, says\n%s\nwant %d, %q", c.args, code, p.said(), c.code, says)
			}
		}
	}
	if said := up.said(); strings.Count(said, `"pools changed"`) != 4 {
		t.Errorf("it logs %s", said)
	}
	if p := launch(t, "worker", "--pools", "vip rtae=5", "--admin", freePort(t)); p.exit() != 2 || !strings.Contains(p.said(), `"rtae" is no field of a pool`) {
		t.Errorf("a bad pool: it says %s", p.said())
	}
}
