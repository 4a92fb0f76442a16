package loadtest

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if folder != "" {
			_ = os.RemoveAll(folder) // a leftover in the temporary directory
		}
		os.Exit(status)
	}))
}
