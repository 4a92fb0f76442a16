package postgres

import (
	"context"
	"maps"
)

// OpenPatient is Open for tests that hold a lock themselves: the server's limits would fail whoever waits for it where this machine stands
// still meanwhile. Only one caller at a time.
func OpenPatient(ctx context.Context, url string) (*Store, error) {
	defer func(usual map[string]string) { parameters = usual }(parameters)
	parameters = maps.Clone(parameters)
	parameters["lock_timeout"], parameters["statement_timeout"] = "1min", "1min"
	return Open(ctx, url)
}
