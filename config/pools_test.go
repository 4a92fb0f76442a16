package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLoad_ReadsPoolsAlikeFromEverySource(t *testing.T) {
	want := []Pool{
		{Name: "vip", Topic: "orders-vip", Rate: 500, Workers: 3, Batch: 100, Flush: 2 * time.Millisecond},
		{Name: "bulk", Channel: "slow", Workers: 1, Batch: 10, Flush: 0, Window: 40},
	}
	const text = "vip topic=orders-vip rate=500, name=bulk channel=slow workers=1 batch=10 flush=0s window=40"
	common := []string{"--drain-workers", "3", "--batch", "100", "--drain-rate", "9", "--window", "77"}
	for name, args := range map[string][]string{
		"flag": {"--pools", text},
		"text": {"--config", file(t, "pools: "+text+"\n")},
		"list": {"--config", file(t, "pools:\n- vip topic=orders-vip rate=500\n- {name: bulk, channel: slow, workers: 1, batch: 10, flush: 0s, window: 40}\n")},
	} {
		c, err := load(t, Keys(), append(args, common...)...)
		if err != nil || !reflect.DeepEqual(c.Pools, want) {
			t.Errorf("%s: %+v, %v; want %+v", name, c.Pools, err, want)
		}
		if p := (Pool{Name: "settle", Rate: 9, Workers: 3, Batch: 100, Flush: 2 * time.Millisecond, Window: 77}); c.DefaultPool() != p {
			t.Errorf("%s: default pool %+v, want %+v", name, c.DefaultPool(), p)
		}
	}
}

func TestLoad_SaysWhatIsWrongWithAPool(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"vip, vip", "there is a pool vip already"},
		{"settle rate=5", "there is a pool settle already"},
		{"Vip", `pool "Vip": want a name of 1 to 64`},
		{"rate=5", `pool "": want a name`},
		{"vip rtae=5", `"rtae" is no field of a pool: want a name, and then topic=`},
		{"vip fast", `pool "vip": "fast": want a name, and then topic=`},
		{"vip rate=fast", `pool "vip": rate "fast": want a whole number from 0 to 1000000`},
		{"vip rate=5 rate=6", "rate is given twice"},
		{"vip topic=", `topic "": it must not be empty`},
		{"vip workers=0", `workers "0": want a whole number from 1 to 64`},
		{"vip batch=2000", `want a whole number from 1 to 1000`},
		{"vip flush=2h", `flush "2h": want a duration from 0s to 1s`},
		{"vip window=-1", `window "-1"`},
		{"vip,,bulk", `pool "": want a name`},
		{strings.Repeat("p,", 3), "there is a pool p already"},
	} {
		_, err := load(t, Keys(), "--pools", c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--pools") {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
	for _, text := range []string{"pools: {vip: {rate: 5}}\n", "pools:\n- name: vip\n  rate: {a: 1}\n", "pools:\n- [vip]\n"} {
		if c, err := load(t, Keys(), "--config", file(t, text)); err == nil {
			t.Errorf("%q is taken: %+v", text, c.Pools)
		}
	}
}
