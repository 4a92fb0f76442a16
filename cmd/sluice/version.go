package main

import (
	"cmp"
	"runtime/debug"
	"strings"
)

// version is what this program was built from: the module's version, the commit, and the Go that built it.
func version(info *debug.BuildInfo, known bool) string {
	if !known {
		return "unknown (built without module support)"
	}
	parts := []string{info.Main.Version, "commit " + commit(info)}
	if at := buildSetting(info, "vcs.time"); at != "" {
		parts = append(parts, "of "+at)
	}
	return strings.Join(append(parts, info.GoVersion), " ")
}

// commit is what this program was built from.
func commit(info *debug.BuildInfo) string {
	name := cmp.Or(buildSetting(info, "vcs.revision"), "unknown")
	if buildSetting(info, "vcs.modified") == "true" {
		name += " and changes"
	}
	return name
}

func buildSetting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
