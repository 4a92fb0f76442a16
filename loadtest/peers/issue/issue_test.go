package issue

import (
	"os"
	"path/filepath"
	"testing"
)

// The id that sluice.IDKey gives this order.
func TestID_IsTheDoors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id.key")
	if err := os.WriteFile(file, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := key.ID("rush", "buyer-000000000007", "a key"), "cd80f910-c408-8724-9673-1bacef2954fb"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
