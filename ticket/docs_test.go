package ticket

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The manual's keys and programs are made and run as it says, and what they print must be a good ticket. A program whose
// language is missing here is skipped.
func TestDocs_ProgramsIssueGoodTickets(t *testing.T) {
	manual, err := os.ReadFile("../docs/tickets.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	need(t, "openssl")
	for _, line := range regexp.MustCompile(`(?m)^openssl .*$`).FindAllString(string(manual), -1) {
		run(t, dir, "sh", "-c", line)
	}
	programs := regexp.MustCompile("(?s)```(?:php|js|java)\n[^\n]*// ([^ ]+): ([^\n]+)\n.*?```").FindAllStringSubmatch(string(manual), -1)
	if len(programs) != 4 {
		t.Fatalf("%d programs; want 4", len(programs))
	}
	for _, p := range programs {
		t.Run(p[1], func(t *testing.T) {
			command := strings.Fields(p[2])
			need(t, command[0])
			_, source, _ := strings.Cut(strings.TrimSuffix(p[0], "```"), "\n")
			if err := os.WriteFile(filepath.Join(dir, p[1]), []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			token := strings.TrimSpace(run(t, dir, command[0], command[1:]...))
			keys := filepath.Join(dir, strings.Replace(command[2], ".key", ".key.pub", 1))
			v, err := Open(Config{KeyFile: keys}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			got, err := v.Verify([]byte(token), time.Now())
			if left := time.Until(got.Expires); err != nil || got.Buyer != "u1" || got.Class != "members" || left < 25*time.Minute || left > 30*time.Minute {
				t.Errorf("%q: %+v, %v", token, got, err)
			}
		})
	}
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not here", program)
	}
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Every sentence that a buyer may hear is explained.
func TestDocs_ExplainEveryRefusal(t *testing.T) {
	manual, err := os.ReadFile("../docs/tickets.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("ticket.go")
	if err != nil {
		t.Fatal(err)
	}
	sentences := regexp.MustCompile(`(?m)^\terr[A-Za-z]+ += errors\.New\("(.*)"\)$`).FindAllStringSubmatch(string(source), -1)
	if len(sentences) != 16 {
		t.Fatalf("%d sentences; want 16", len(sentences))
	}
	for _, s := range sentences {
		if !strings.Contains(string(manual), "\n| "+s[1]+" | ") {
			t.Errorf("docs/tickets.md does not explain %q", s[1])
		}
	}
}
