package config

import (
	"strings"
	"testing"
)

// Whatever comes from the file, the environment and the flags at once, the whole configuration is good or is an error, which
// tells no password of a store.
func FuzzSources(f *testing.F) {
	f.Add("bound: 3\n", uint8(0), "127.0.0.1:1", uint8(1), "x")
	f.Add("pools: [{name: vip, rate: 5}]\ntrusted-proxies: [10.0.0.0/8]\n", uint8(40), "30s", uint8(50), "1")
	f.Add("store: postgres://u:hunter2@h/db\n", uint8(4), "mysql://u:hunter2@h/db", uint8(4), "postgres:u:hunter2@h")
	f.Add("? postgres://u:hunter2@h.example/db\n: x\n", uint8(4), "hunter2 x", uint8(4), "")
	keys := Keys()
	f.Fuzz(func(t *testing.T, text string, env uint8, envValue string, flag uint8, flagValue string) {
		if strings.ContainsRune(envValue, 0) {
			return
		}
		t.Setenv(EnvName(keys[int(env)%len(keys)]), envValue)
		key := keys[int(flag)%len(keys)]
		if find(key).kind == kindBool {
			flagValue = "true"
		}
		c, err := load(t, keys, "--config", file(t, text), "--"+key+"="+flagValue)
		if err != nil {
			if strings.Contains(err.Error(), "u:hunter2") {
				t.Errorf("a password is told: %v", err)
			}
			return
		}
		if c.Bound < 1 || c.Bound > maxOrders || c.Data == "" || c.Batch < 1 || c.DrainWorkers < 1 || c.MaxWait < 0 || c.EventBacklog < 1000 ||
			c.Store != SQLite && !strings.HasPrefix(c.Store, "postgres://") && !strings.HasPrefix(c.Store, "postgresql://") || len(c.CORSOrigins) > maxOrigins {
			t.Errorf("%q, %s=%q, %s=%q give %+v", text, keys[int(env)%len(keys)], envValue, key, flagValue, c)
		}
	})
}
