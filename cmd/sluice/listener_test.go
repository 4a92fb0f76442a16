package main

import (
	"testing"

	"sluice/config"
)

// What a process may open is shared by its buyers, its operators and the rest of it.
func TestConnections_LeaveFilesForTheRest(t *testing.T) {
	files := openFiles()
	operators := adminConnections(config.Config{})
	if operators < 1 || operators > 1024 || operators > max(files/4, 1) {
		t.Errorf("%d connections of operators with %d files", operators, files)
	}
	if alone, with := maxConnections(config.Config{}, 0), maxConnections(config.Config{}, operators); alone > 100_000 || with > alone || with < min(files/2, 100_000) {
		t.Errorf("%d connections of buyers alone, %d with operators, with %d files", alone, with, files)
	}
	if n := adminConnections(config.Config{AdminConnections: 7}); n != 7 {
		t.Errorf("%d connections of operators, want those that were asked for", n)
	}
}
