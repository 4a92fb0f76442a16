package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two doors of one name, or of different id keys, must not both take orders; a restarted one must not wait.
func TestIngress_IsTurnedAwayWithAForeignKeyOrAnothersName(t *testing.T) {
	nsqd, admin, data := freePort(t), freePort(t), t.TempDir()
	key, foreign := filepath.Join(data, "id.key"), filepath.Join(data, "foreign.key")
	write(t, key, []byte(strings.Repeat("k", 64)))
	write(t, foreign, []byte(strings.Repeat("f", 64)))
	launch(t, "nsqd", "--listen", nsqd, "--nsqd-http", "127.0.0.1:0", "--data", filepath.Join(data, "nsqd"))
	launch(t, "worker", "--nsqd", nsqd, "--admin", admin, "--data", filepath.Join(data, "worker"), "--id-key", key)
	open := func(name, folder, key string) (*process, string) {
		address := freePort(t)
		return launch(t, "ingress", "--listen", address, "--nsqd", nsqd, "--nsqd-http", "127.0.0.1:1", "--worker", admin, "--id", name,
			"--data", filepath.Join(data, folder), "--id-key", key), address
	}
	ready := func(door string) bool {
		status, _ := call(t, "GET", "http://"+door+"/readyz", "")
		return status == 200
	}
	turnedAway := func(p *process, door, why string) {
		t.Helper()
		eventually(t, "it says why it is turned away", func() bool {
			return strings.Contains(p.said(), "the worker turns this door away") && strings.Contains(p.said(), why)
		})
		if ready(door) || strings.Contains(p.said(), "the front door is up") {
			t.Errorf("it is ready: %s", p.said())
		}
	}
	first, at := open("north", "first", key)
	eventually(t, "the first door is ready", func() bool { return ready(at) })
	stranger, strangerAt := open("south", "stranger", foreign)
	turnedAway(stranger, strangerAt, "wrong-key")
	second, secondAt := open("north", "second", key)
	turnedAway(second, secondAt, "name-taken")
	if !ready(at) {
		t.Error("the second door disturbed the first one")
	}

	first.terminate()
	eventually(t, "the second door takes over", func() bool { return ready(secondAt) })
	if err := second.cmd.Process.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	second.exit()
	began := time.Now()
	_, at = open("north", "second", key)
	eventually(t, "it is ready again after its death", func() bool { return ready(at) })
	if waited := time.Since(began); waited > 8*time.Second { // 5s for its name, the rest for a busy machine
		t.Errorf("it waited for %v", waited)
	}
}
