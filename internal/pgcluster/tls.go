package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// SpeakTLS has the server offer TLS with a certificate and its key (PEM), and let in whom the lines of hba let in
// (pg_hba.conf); nobody may get in without being asked then but by them. It returns when both are in force.
func (c *Cluster) SpeakTLS(ctx context.Context, cert, key []byte, hba string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // the statements' own errors say what matters
	for name, content := range map[string][]byte{"server.crt": cert, "server.key": key, "pg_hba.conf": []byte(hba)} {
		if err := c.put(name, content); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, "ALTER SYSTEM SET ssl = on"); err != nil {
		return fmt.Errorf("turn TLS on: %w", err)
	}
	if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	for { // this session hears of it when the server's first process has
		var on string
		if err := conn.QueryRow(ctx, "SHOW ssl").Scan(&on); err != nil || on == "on" {
			return errors.Join(err, ctx.Err())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// put writes a file of the server's into its data.
func (c *Cluster) put(name string, content []byte) error {
	file := filepath.Join(c.data(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		return fmt.Errorf("keep %s private: %w", name, err)
	}
	return give(file)
}
