package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"sluice"
	"sluice/inventory"
)

// plan is how the database goes about a query.
func plan(t *testing.T, s *Store, query string, args ...any) string {
	t.Helper()
	var steps []string
	rows, err := s.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...) //nolint:sqlclosecheck // collect closes them
	err = collect(rows, err, func() error {
		var id, parent, unused int
		var detail string
		err := rows.Scan(&id, &parent, &unused, &detail)
		steps = append(steps, detail)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return strings.Join(steps, "; ")
}

// What doors, sweeps and operators ask all the time must not walk through the orders, however many there are.
func TestPlans_LookForOrdersInAnIndex(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), FileName))
	const owned = "USING INDEX orders_owned (buyer=?"
	for _, c := range []struct {
		name string
		q    inventory.OrderQuery
		want string
	}{
		{"of a buyer", inventory.OrderQuery{User: "u"}, owned},
		{"of a buyer of a sale", inventory.OrderQuery{User: "u", Sale: "s"}, owned + " AND sale=?"},
		{"of a buyer of a sale in a state", inventory.OrderQuery{User: "u", Sale: "s", State: sluice.Held}, owned + " AND sale=? AND state=?"},
		{"of a buyer in a state", inventory.OrderQuery{User: "u", State: sluice.Held}, owned},
		{"all", inventory.OrderQuery{}, "USING INDEX sqlite_autoindex_orders_1 (id>?)"},
		{"of a sale", inventory.OrderQuery{Sale: "s"}, "USING INDEX sqlite_autoindex_orders_1 (id>?)"},
	} {
		c.q.Limit = 10
		query, args := ordersQuery(c.q)
		if got := plan(t, s, query, args...); !strings.Contains(got, c.want) || strings.Contains(got, "SCAN orders") {
			t.Errorf("orders %s: got %q, want %q", c.name, got, c.want)
		}
	}
	const due = "SEARCH orders USING COVERING INDEX orders_due (sale=?"
	if got := plan(t, s, nextReleases); !strings.Contains(got, due) {
		t.Errorf("next releases: got %q, want %q", got, due)
	}
	const extend = "SELECT id FROM orders WHERE sale = ? AND state = 'held' AND pay_by < ? ORDER BY release_at LIMIT ?"
	if got := plan(t, s, extend, "s", 1, 1); !strings.Contains(got, "USING INDEX orders_due (sale=?)") || strings.Contains(got, "TEMP B-TREE") {
		t.Errorf("extend holds: got %q", got)
	}
}
