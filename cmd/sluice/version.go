package main

import (
	"runtime/debug"
	"strings"
)

// version is what this program was built from: the module's version, the commit, and the Go that built it.
func version(info *debug.BuildInfo, known bool) string {
	if !known {
		return "unknown (built without module support)"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	commit := settings["vcs.revision"]
	if commit == "" {
		commit = "unknown"
	}
	if settings["vcs.modified"] == "true" {
		commit += " and changes"
	}
	parts := []string{info.Main.Version, "commit " + commit}
	if at := settings["vcs.time"]; at != "" {
		parts = append(parts, "of "+at)
	}
	return strings.Join(append(parts, info.GoVersion), " ")
}
