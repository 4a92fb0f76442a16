package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"sluice"
	"sluice/internal/pgcluster"
	"sluice/inventory"
	"sluice/inventory/postgres"
)

// shop is a connection to a database as a shop has it, with the default search_path.
func shop(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// column is the first column of what a query answers.
func column(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		got = append(got, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return got
}

const relations = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v', 'S') AND relnamespace = '%s'::regnamespace ORDER BY relname"

// settleOne settles an order, so that there is something in the tables.
func settleOne(t *testing.T, store *postgres.Store) {
	t.Helper()
	if _, err := store.CreateSale(t.Context(), sluice.Sale{ID: "s", Stock: 10, PerUserLimit: 10, OverAdmission: 1}); err != nil {
		t.Fatal(err)
	}
	c, err := store.Reserve(t.Context(), []sluice.Order{{ID: sluice.OrderID{9}, Sale: "s", User: "u", Quantity: 2}})
	if err != nil || c.Statuses[0].State != sluice.Paid {
		t.Fatalf("got %+v, %v", c, err)
	}
}

func TestOpen_KeepsToASchemaOfItsOwn(t *testing.T) {
	at := pgcluster.Database(t)
	db := shop(t, at)
	settleOne(t, open(t, at))
	if got, want := column(t, db, fmt.Sprintf(relations, "public")), []string{"sluice_orders", "sluice_sales"}; !slices.Equal(got, want) {
		t.Errorf("in public: got %q, want %q", got, want)
	}
	own := column(t, db, fmt.Sprintf(relations, "sluice"))
	for _, want := range []string{"sales", "orders", "dead_letters", "refunds_due", "documents", "events", "schema_version", "sluice_orders", "sluice_sales"} {
		if !slices.Contains(own, want) {
			t.Errorf("in sluice: got %q, want %s among them", own, want)
		}
	}
	// The views are a contract: they answer on a plain connection.
	if got := column(t, db, "SELECT buyer || ' ' || state || ' ' || quantity FROM sluice_orders"); !slices.Equal(got, []string{"u paid 2"}) {
		t.Errorf("sluice_orders: got %q", got)
	}
	if got := column(t, db, "SELECT id || ' ' || free || ' ' || sold FROM sluice_sales"); !slices.Equal(got, []string{"s 8 2"}) {
		t.Errorf("sluice_sales: got %q", got)
	}
}

// A shop's database has tables of these names, and perhaps another program's goose migrations, with numbers like ours.
func TestOpen_IsNotInTheWayOfAShopsOwnTables(t *testing.T) {
	at := pgcluster.Database(t)
	db := shop(t, at)
	tables := []string{"orders", "sales", "limits", "events", "dead_letters", "clock", "goose_db_version", "schema_version"}
	for _, table := range tables {
		run(t, db, fmt.Sprintf("CREATE TABLE %s (shops_own text, version_id bigint, is_applied boolean)", table),
			fmt.Sprintf("INSERT INTO %s VALUES ('kept', 99, true)", table))
	}
	for range 2 { // on an empty database and on our own
		if err := open(t, at).Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	settleOne(t, open(t, at))
	for _, table := range tables {
		if got := column(t, db, "SELECT shops_own FROM public."+table); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("the shop's table %s: got %q", table, got)
		}
	}
}

func TestOpen_RespectsASearchPath(t *testing.T) {
	for name, params := range map[string]string{
		"search_path": "&search_path=flash",
		"options":     "&options=-c%20search_path%3Dflash",
	} {
		t.Run(name, func(t *testing.T) {
			at := pgcluster.Database(t)
			db := shop(t, at)
			run(t, db, "CREATE SCHEMA flash")
			settleOne(t, open(t, at+params))
			if got := column(t, db, "SELECT buyer FROM flash.orders"); !slices.Equal(got, []string{"u"}) {
				t.Errorf("got %q in the schema that the URL names", got)
			}
			if got := column(t, db, fmt.Sprintf(relations, "public")); len(got) != 0 {
				t.Errorf("in public: got %q, want nothing", got)
			}
			if got := column(t, db, "SELECT nspname FROM pg_namespace WHERE nspname = 'sluice'"); len(got) != 0 {
				t.Error("a schema was made that nobody asked for")
			}
			if got := column(t, db, "SELECT buyer FROM flash.sluice_orders"); !slices.Equal(got, []string{"u"}) {
				t.Errorf("the views are not there: got %q", got)
			}
		})
	}
}

// role makes a role that may do nothing yet, and answers the URL with which it connects.
func role(t *testing.T, db *sql.DB, at string) (name, as string) {
	t.Helper()
	name = "shop_" + column(t, db, "SELECT current_database()")[0]
	run(t, db, "CREATE ROLE "+name+" LOGIN")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_, owned := db.ExecContext(ctx, "DROP OWNED BY "+name+" CASCADE")
		_, role := db.ExecContext(ctx, "DROP ROLE "+name)
		if err := errors.Join(owned, role); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(name)
	return name, u.String()
}

// What waiting does not mend must not be waited for: the error says what an operator has to do, and doing it helps.
func TestOpen_SaysWhichRightIsMissing(t *testing.T) {
	ctx, at := t.Context(), pgcluster.Database(t)
	db := shop(t, at)
	name, as := role(t, db, at)
	database := column(t, db, "SELECT current_database()")[0]
	refused := func(want ...string) {
		t.Helper()
		store, err := postgres.Open(ctx, as)
		if err == nil {
			t.Fatal("it opened", store.Close())
		}
		if errors.Is(err, inventory.ErrUnavailable) {
			t.Errorf("%v: this is nothing to wait for", err)
		}
		for _, w := range append(want, "permission denied", database) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("got %v, want %q in it", err, w)
			}
		}
	}
	refused("GRANT CREATE ON DATABASE "+database+" TO "+name, "CREATE SCHEMA sluice AUTHORIZATION "+name)
	run(t, db, "CREATE SCHEMA sluice AUTHORIZATION "+name)
	refused("GRANT CREATE ON SCHEMA public TO "+name, "search_path=sluice")
	settleOne(t, open(t, as+"&search_path=sluice")) // the other way that it tells of
	run(t, db, "GRANT CREATE ON SCHEMA public TO "+name)
	if err := open(t, as).Ping(ctx); err != nil {
		t.Fatal(err)
	}
	run(t, db, "REVOKE CREATE ON SCHEMA public FROM "+name) // what is made needs no right to make it
	if sales, err := open(t, as).Sales(ctx); err != nil || len(sales.Sales) != 1 {
		t.Errorf("got %+v, %v, want the sale of before", sales, err)
	}
	if got := column(t, shop(t, as), "SELECT buyer FROM sluice_orders"); !slices.Equal(got, []string{"u"}) {
		t.Errorf("the views: got %q", got)
	}
}

func TestOpen_DoesNotTakeAViewThatIsNotItsOwn(t *testing.T) {
	for _, relation := range []string{"CREATE TABLE sluice_sales (id text)", "CREATE VIEW sluice_sales AS SELECT 1 AS id"} {
		at := pgcluster.Database(t)
		db := shop(t, at)
		run(t, db, relation)
		_, err := postgres.Open(t.Context(), at)
		if err == nil || errors.Is(err, inventory.ErrUnavailable) || !strings.Contains(err.Error(), "public.sluice_sales is there and is not sluice's") {
			t.Errorf("%s: got %v", relation, err)
		}
		if got := column(t, db, fmt.Sprintf(relations, "public")); !slices.Equal(got, []string{"sluice_sales"}) {
			t.Errorf("%s: in public: got %q", relation, got)
		}
	}
}

// Several processes start with an empty database at once: all of them get along.
func TestOpen_ManyAtOnceMakeOneSchema(t *testing.T) {
	for _, params := range []string{"", "&search_path=public"} {
		at := pgcluster.Database(t)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				store, err := postgres.Open(t.Context(), at+params)
				if err == nil {
					_, sales := store.Sales(t.Context())
					err = errors.Join(sales, store.Close())
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("%q: %v", params, err)
		}
		settleOne(t, open(t, at+params))
	}
}

func TestOpen_WaitsForADatabaseThatIsAway(t *testing.T) {
	u, err := url.Parse(pgcluster.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	u.Host = "127.0.0.1:1" // nobody listens there
	if _, err := postgres.Open(t.Context(), u.String()); !errors.Is(err, inventory.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
