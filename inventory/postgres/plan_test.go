package postgres

import (
	"strings"
	"testing"

	"sluice"
	"sluice/internal/pgcluster"
	"sluice/inventory"
)

// plan is how the database goes about a query, on a connection as the store has them.
func plan(t *testing.T, s *Store, query string, args ...any) string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), "EXPLAIN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var step string
		if err := rows.Scan(&step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, strings.TrimSpace(step))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return strings.Join(steps, "; ")
}

// What doors, sweeps and operators ask all the time must not walk through the orders, however many there are, and whatever
// the database knows of their number: it is told before and after the table was analysed with ten thousand of them.
func TestPlans_LookForOrdersInAnIndex(t *testing.T) {
	s, err := Open(t.Context(), pgcluster.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a test's own
	for _, statistics := range []string{"none", "some"} {
		if statistics == "some" {
			const fill = "INSERT INTO orders (id, sale, buyer, key, attempt, quantity, attributes, state, reason, version, pay_by, release_at, settled_at) " +
				"SELECT gen_random_uuid(), 's' || n % 3, 'u' || n, '', 0, 1, '', 'held', '', 2, now(), now(), now() FROM generate_series(1, 10000) AS n"
			for _, statement := range []string{fill, "ANALYZE"} {
				if _, err := s.pool.Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, q := range []inventory.OrderQuery{{User: "u"}, {User: "u", Sale: "s"}, {User: "u", State: sluice.Held}, {User: "u", Sale: "s", State: sluice.Held}} {
			q.Limit = 10
			query, args := ordersQuery(q)
			if got := plan(t, s, query, args...); !strings.Contains(got, "orders_owned") || !strings.Contains(got, "(buyer = ") || strings.Contains(got, "Seq Scan") {
				t.Errorf("statistics: %s, orders of %+v: got %q", statistics, q, got)
			}
		}
		query, args := ordersQuery(inventory.OrderQuery{Limit: 10})
		if got := plan(t, s, query, args...); !strings.Contains(got, "orders_pkey") || strings.Contains(got, "Sort") {
			t.Errorf("statistics: %s, all orders: got %q, want them in id order without sorting", statistics, got)
		}
		if got := plan(t, s, nextReleases); !strings.Contains(got, "Index Only Scan using orders_due") || strings.Contains(got, "Sort") {
			t.Errorf("statistics: %s, next releases: got %q", statistics, got)
		}
	}
}
