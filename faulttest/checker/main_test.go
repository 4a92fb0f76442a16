package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/faulttest/check"
)

// world is a sale as files, an API and a database show it. Tests plant faults into one of these; the checker itself is the real one.
type world struct {
	run     check.Run
	history []check.Event
	orders  []check.OrderRow
	sale    check.SaleRow
	events  []check.Happening
	at      map[string]map[string]check.Status // what each door says of each order
	idle    int64                              // what the door counts as outstanding
	forgets bool                               // the audit leaves the sale out
	mute    bool                               // doors have no metrics
}

// began is the wall clock's time of the history's beginning.
var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const second = int64(time.Second)

// honest is a sale of three units with a payment window of two seconds, at two doors with a bound of two orders each. anna pays, after
// her first answer was lost in a crash of the door; ben cancels; carl comes too late with his payment; dora and eve pay what came back,
// and fred hears that all is sold. gus is left in doubt, and has an order that was rejected; hal is left in doubt and has none.
func honest() *world {
	w := &world{
		run: check.Run{
			Case: "planted", Seed: 7, Again: "make faults ONLY=planted SEED=7", Sale: "s", Window: 2 * time.Second, SoldOut: true, Ended: true,
			Bounds: []check.Bound{{Door: "north", Bound: 2}, {Door: "south", Bound: 2}},
			Clocks: []check.Clock{{Before: 0, After: 1000, Database: began.Add(500)}},
			Faults: []check.Fault{{From: second / 2, To: second, Part: "north", What: "kill -9"}},
			Budget: time.Second, Settle: time.Second,
		},
		sale: check.SaleRow{ID: "s", Stock: 3, Sold: 3}, at: map[string]map[string]check.Status{"north": {}, "south": {}},
	}
	w.place("north", "anna", 0.4, answer(0, ""))
	w.place("north", "anna", 1.2, answer(200, "o-anna"))
	w.place("south", "ben", 1.4, answer(202, "o-ben"))
	w.place("south", "carl", 1.6, answer(202, "o-carl"))
	w.call(check.Follow, "north", "anna", 1.8, is("o-anna", "held", 2), "")
	w.call(check.Pay, "worker", "anna", 2.0, is("o-anna", "paid", 3), "ref-anna")
	w.call(check.Cancel, "worker", "ben", 2.2, is("o-ben", "cancelled", 3), "")
	late := answer(409, "o-carl")
	late.Reason = "too-late"
	w.call(check.Pay, "worker", "carl", 4.2, late, "ref-carl")
	w.call(check.Follow, "south", "carl", 4.4, is("o-carl", "expired", 3), "")
	w.place("north", "dora", 4.6, answer(202, "o-dora"))
	w.call(check.Pay, "worker", "dora", 4.9, is("o-dora", "paid", 3), "ref-dora")
	w.place("south", "eve", 5.0, answer(202, "o-eve"))
	w.call(check.Pay, "worker", "eve", 5.3, is("o-eve", "paid", 3), "ref-eve")
	w.place("north", "fred", 5.5, refusal(409, "sold-out"))
	w.place("north", "gus", 5.7, answer(0, ""))
	w.place("north", "hal", 5.8, refusal(503, "unavailable"))
	w.row("anna", "paid", 3, 1.3)
	w.row("ben", "cancelled", 3, 1.5)
	w.row("carl", "expired", 3, 1.7)
	w.row("dora", "paid", 3, 4.7)
	w.row("eve", "paid", 3, 5.1)
	w.row("gus", "rejected", 2, 5.9)
	w.happens()
	return w
}

func answer(status int, order string) check.Event {
	e := check.Event{Status: status, Order: order}
	if status == 200 || status == 202 {
		e.State, e.Version = "queued", 1
	}
	return e
}

func refusal(status int, reason string) check.Event {
	return check.Event{Status: status, Reason: reason}
}

func is(order, state string, version int64) check.Event {
	return check.Event{Status: 200, Order: order, State: state, Version: version}
}

func at(seconds float64) int64 { return int64(seconds * float64(time.Second)) }

// place is a purchase that is asked for at a time, and answered 50 ms later.
func (w *world) place(door, user string, seconds float64, a check.Event) {
	w.history = append(w.history, check.Event{At: at(seconds), Event: check.Ask, Call: check.Place, Door: door, User: user, Key: "k-" + user, Quantity: 1})
	a.At, a.Asked, a.Event, a.Call, a.Door, a.User, a.Key = at(seconds+0.05), at(seconds), check.Answer, check.Place, door, user, "k-"+user
	w.history = append(w.history, a)
}

func (w *world) call(call, door, user string, seconds float64, a check.Event, ref string) {
	w.history = append(w.history, check.Event{
		At: at(seconds), Event: check.Ask, Call: call, Door: door, User: user, Key: "k-" + user, Order: a.Order, Ref: ref,
	})
	a.At, a.Asked, a.Event, a.Call, a.Door, a.User, a.Key, a.Ref = at(seconds+0.05), at(seconds), check.Answer, call, door, user, "k-"+user, ref
	w.history = append(w.history, a)
}

func (w *world) row(user, state string, version int64, seconds float64) {
	id, reason := "o-"+user, ""
	if state == "rejected" {
		reason = "sold_out"
	}
	w.orders = append(w.orders, check.OrderRow{
		ID: id, Sale: "s", Buyer: user, Key: "k-" + user, Quantity: 1, State: state, Reason: reason, Version: version,
		SettledAt: began.Add(time.Duration(at(seconds))),
	})
	for _, door := range w.at {
		door[id] = check.Status{Order: id, State: state, Version: version}
	}
}

// happens writes the events of the rows as they are.
func (w *world) happens() {
	w.events = nil
	say := func(kind, order string, version int64) {
		w.events = append(w.events, check.Happening{Seq: int64(len(w.events)) + 1, At: began.Add(time.Duration(len(w.events))), Type: kind, Sale: "s", Order: order, Version: version})
	}
	say("sale.opened", "", 1)
	for _, r := range w.orders {
		if r.Version == 3 {
			say("order.held", r.ID, 2)
		}
		say("order."+r.State, r.ID, r.Version)
	}
	say("sale.sold_out", "", 2)
	say("sale.ended", "", 3)
}

// find is a row by its buyer.
func (w *world) find(user string) *check.OrderRow {
	return &w.orders[slices.IndexFunc(w.orders, func(r check.OrderRow) bool { return r.Buyer == user })]
}

func (w *world) drop(user string) {
	w.orders = slices.DeleteFunc(w.orders, func(r check.OrderRow) bool { return r.Buyer == user })
}

// stage writes the world to files and a database and serves the rest, and answers the run's folder.
func (w *world) stage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	w.run.Database = filepath.Join(dir, "inventory.db")
	db, err := sql.Open("sqlite", w.run.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // a test's own
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE sluice_orders (id TEXT, sale TEXT, buyer TEXT, key TEXT, quantity INTEGER, state TEXT, reason TEXT, version INTEGER, settled_at TEXT)`)
	exec(`CREATE TABLE sluice_sales (id TEXT, stock INTEGER, topups INTEGER, free INTEGER, held INTEGER, sold INTEGER, version INTEGER)`)
	for _, r := range w.orders {
		exec(`INSERT INTO sluice_orders VALUES (?, ?, ?, ?, ?, ?, NULLIF(?, ''), ?, ?)`,
			r.ID, r.Sale, r.Buyer, r.Key, r.Quantity, r.State, r.Reason, r.Version, r.SettledAt.Format(time.RFC3339Nano))
	}
	exec(`INSERT INTO sluice_sales VALUES (?, ?, ?, ?, ?, ?, 1)`, w.sale.ID, w.sale.Stock, w.sale.TopUps, w.sale.Free, w.sale.Held, w.sale.Sold)

	w.run.Admin = serve(t, w.operations())
	w.run.Doors = nil
	for _, name := range slices.Sorted(maps.Keys(w.at)) {
		address := serve(t, w.door(name))
		w.run.Doors = append(w.run.Doors, check.Door{Name: name, Address: address, Metrics: address})
	}
	if err := w.run.Write(dir); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(w.history, func(a, b check.Event) int { return int(a.At - b.At) })
	var lines bytes.Buffer
	for _, e := range w.history {
		if err := json.NewEncoder(&lines).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, check.HistoryFile), lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

// operations is the operations API, with the books as the database has them.
func (w *world) operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/sales/s", func(rw http.ResponseWriter, _ *http.Request) {
		reply(rw, map[string]any{"id": "s", "per_user_limit": 1})
	})
	mux.HandleFunc("GET /v1/audit", func(rw http.ResponseWriter, _ *http.Request) {
		count := map[string]int{}
		for _, r := range w.orders {
			count[r.State]++
		}
		s := w.sale
		if w.forgets {
			reply(rw, map[string]any{"balanced": true})
			return
		}
		reply(rw, map[string]any{"balanced": true, "sales": []any{map[string]any{
			"id": s.ID, "stock": s.Stock, "topups": s.TopUps, "free": s.Free, "held": s.Held, "sold": s.Sold, "orders": count,
		}}})
	})
	mux.HandleFunc("GET /v1/events", func(rw http.ResponseWriter, r *http.Request) {
		var after int64
		_, _ = fmt.Sscan(r.FormValue("after"), &after)
		page := []check.Happening{}
		for _, e := range w.events {
			if e.Seq > after {
				page = append(page, e)
			}
		}
		reply(rw, map[string]any{"events": page, "oldest": 1, "newest": w.events[len(w.events)-1].Seq})
	})
	return mux
}

func (w *world) door(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/orders/{id}", func(rw http.ResponseWriter, r *http.Request) {
		s, ok := w.at[name][r.PathValue("id")]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		reply(rw, s)
	})
	mux.HandleFunc("GET /metrics", func(rw http.ResponseWriter, _ *http.Request) {
		if !w.mute {
			fmt.Fprintf(rw, "sluice_door_outstanding_orders %d\n", w.idle)
		}
	})
	return mux
}

// judge runs the program.
// program is the checker as `make faults` builds it: what it finds is told by its exit status, and it has nothing but what is in a folder.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-checker-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "checker")
	if said, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the checker: %w\n%s", err, said)
	}
	return path, nil
})

func built(t *testing.T) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // a leftover in the temporary directory
	}
	os.Exit(code)
}

func judge(t *testing.T, dir string) (status int, out string, v check.Verdict) {
	t.Helper()
	var said bytes.Buffer
	checker := exec.CommandContext(t.Context(), built(t), dir)
	checker.Stdout, checker.Stderr = &said, &said
	if err := checker.Run(); err != nil && checker.ProcessState == nil {
		t.Fatal(err)
	}
	status = checker.ProcessState.ExitCode()
	text, err := os.ReadFile(filepath.Join(dir, check.VerdictFile))
	if err != nil {
		t.Fatalf("%v; it says:\n%s", err, &said)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return status, said.String(), v
}

// settleLong is for those who have nothing to wait for, on any machine.
const settleLong = 30 * time.Second

func TestChecker_SortsAnHonestSale(t *testing.T) {
	w := honest()
	w.run.Settle = settleLong
	status, out, v := judge(t, w.stage(t))
	want := check.Orders{Offered: 8, Accepted: 5, OK: 4, Recovered: 2, Refused: 1, Indeterminate: 1}
	if status != 0 || !v.OK || v.Orders != want {
		t.Errorf("status %d, %+v, want %+v:\n%s", status, v.Orders, want, out)
	}
	if v.Doubtful != 3 || v.Peak != 1 || v.Outage != 850*time.Millisecond || v.OutageAt != at(0.4) || v.Slowest != 50*time.Millisecond {
		t.Errorf("doubtful %d, peak %d, outage %v at %d, slowest %v", v.Doubtful, v.Peak, v.Outage, v.OutageAt, v.Slowest)
	}
}

// P1-P8, P10: a checker that finds nothing has to be one that would have found something. Each fault is planted into files, database
// and API, and found by the program.
func TestChecker_CatchesEveryPlantedFault(t *testing.T) {
	for fault, c := range map[string]struct {
		plant func(w *world)
		says  string
		story string // a line that the story has to have
		count check.Orders
	}{
		"an oversell": {
			plant: func(w *world) {
				w.row("ivo", "paid", 3, 5.4)
				w.sale.Sold = 4
				w.place("north", "ivo", 5.35, answer(202, "o-ivo"))
				w.call(check.Pay, "worker", "ivo", 5.6, is("o-ivo", "paid", 3), "ref-ivo")
				w.happens()
			},
			says: "P1: oversold: held 0 + sold 4 of 3", story: "order o-ivo of ivo is paid",
			count: check.Orders{Offered: 9, Accepted: 6, OK: 5, Recovered: 2, Refused: 1, Indeterminate: 1},
		},
		"a dropped 202": {
			plant: func(w *world) { w.drop("ben"); w.happens() },
			says:  "P3: lost: order o-ben of {ben k-ben}", story: "ben (k-ben) hears 202 from south: order o-ben is queued",
			count: check.Orders{Offered: 8, Accepted: 5, OK: 3, Lost: 1, Recovered: 2, Refused: 1, Indeterminate: 1},
		},
		"a 202 that is never settled": {
			plant: func(w *world) {
				w.find("dora").State, w.sale.Held, w.sale.Sold = "held", 1, 2
				w.at["north"]["o-dora"] = check.Status{Order: "o-dora", State: "held", Version: 2}
			},
			says:  "P3: order o-dora of {dora k-dora} is still held",
			count: check.Orders{Offered: 8, Accepted: 5, OK: 3, Lost: 1, Recovered: 2, Refused: 1, Indeterminate: 1},
		},
		"a doubled payment": {
			plant: func(w *world) { w.call(check.Pay, "worker", "anna", 2.4, is("o-anna", "paid", 3), "other-ref") },
			says:  "P6: order o-anna was paid more than once: [other-ref ref-anna]", story: "anna (k-anna) pays order o-anna with other-ref at worker",
		},
		"a payment that races the deadline and is taken all the same": {
			plant: func(w *world) { w.call(check.Pay, "worker", "carl", 4.3, is("o-carl", "paid", 3), "other-ref") },
			says:  "P6: order o-carl was paid by other-ref and is expired",
		},
		"a status that goes back": {
			plant: func(w *world) {
				w.call(check.Follow, "north", "anna", 2.4, is("o-anna", "paid", 3), "")
				w.call(check.Follow, "north", "anna", 2.6, is("o-anna", "held", 2), "")
			},
			says: "P10: order o-anna went back from version 3 to 2",
		},
		"an unexpected order": {
			plant: func(w *world) { w.row("ghost", "rejected", 2, 3); w.happens() },
			says:  "unexpected: nobody asked for order o-ghost", story: "order o-ghost of ghost is rejected",
			count: check.Orders{Offered: 8, Accepted: 5, OK: 4, Unexpected: 1, Recovered: 2, Refused: 1, Indeterminate: 1},
		},
		"an order of somebody who was refused": {
			plant: func(w *world) { w.row("fred", "rejected", 2, 5.6); w.happens() },
			says:  "unexpected: order o-fred exists and its buyer was told 409 sold-out",
			count: check.Orders{Offered: 8, Accepted: 5, OK: 4, Unexpected: 1, Recovered: 2, Indeterminate: 1},
		},
		"a bound that is exceeded": {
			plant: func(w *world) {
				for i, user := range []string{"p", "q", "r", "s", "t"} {
					w.place([]string{"north", "south"}[i%2], user, 3.0+float64(i)/100, answer(202, "o-"+user))
					w.row(user, "rejected", 2, 3.9)
				}
				w.happens()
			},
			says: "P4: with order o-t 5 were outstanding at all doors together, and the bound was 4", story: "t (k-t) hears 202",
		},
		"a door's share that is exceeded": {
			plant: func(w *world) {
				for i, user := range []string{"p", "q", "r"} {
					w.place("north", user, 3.0+float64(i)/100, answer(202, "o-"+user))
					w.row(user, "rejected", 2, 3.9)
				}
				w.happens()
			},
			says: "P4: with order o-r 3 were outstanding at north, and the bound was 2",
		},
		"a bound that was lowered": {
			plant: func(w *world) {
				w.run.Bounds = append(w.run.Bounds, check.Bound{At: at(1), Door: "north", Bound: 1}, check.Bound{At: at(1), Door: "south", Bound: 1})
				for i, user := range []string{"p", "q", "r"} {
					w.place([]string{"north", "south"}[i%2], user, 3.0+float64(i)/100, answer(202, "o-"+user))
					w.row(user, "rejected", 2, 3.9)
				}
				w.happens()
			},
			says: "P4: with order o-r 3 were outstanding at all doors together, and the bound was 2",
		},
		"a credit that leaks":                {plant: func(w *world) { w.idle = 1 }, says: "P4: north counts 1 orders as outstanding, and all are settled"},
		"a door that does not tell":          {plant: func(w *world) { w.mute = true }, says: "P4: north does not say how many orders are outstanding"},
		"a run that does not know its clock": {plant: func(w *world) { w.run.Clocks = nil }, says: "P4: the run does not say how the database's clock goes"},
		"an undersell": {
			plant: func(w *world) { w.sale.Stock, w.sale.Free = 4, 1 },
			says:  "P2: undersold: 1 units are left, and buyers went on until nothing was",
		},
		"a unit that came back twice": {
			plant: func(w *world) { w.sale.Free = 1 }, says: "P6: 1 units are free, and orders leave 0: units came back twice or not at all",
		},
		"an order that doors do not agree on": {
			plant: func(w *world) { w.at["south"]["o-ben"] = check.Status{Order: "o-ben", State: "expired", Version: 3} },
			says:  `P3: order o-ben of {ben k-ben} is "expired" (3) at south and "cancelled" (3) in the database`,
		},
		"a second order for one key": {
			plant: func(w *world) {
				w.row("anna", "rejected", 2, 1.35)
				w.orders[len(w.orders)-1].ID = "o-other"
				w.happens()
			},
			says: "P5: {anna k-anna} has the orders o-anna and o-other",
		},
		"more units than a buyer may have": {
			plant: func(w *world) {
				w.find("eve").Buyer = "dora"
			},
			says: "P5: dora owns 2 units, and the limit is 1",
		},
		"an event that is lost": {
			plant: func(w *world) {
				w.events = slices.DeleteFunc(w.events, func(e check.Happening) bool { return e.Type == "order.held" && e.Order == "o-eve" })
				for i := range w.events {
					w.events[i].Seq = int64(i) + 1
				}
			},
			says: "events: version 2 of order o-eve, which is paid, has no event",
		},
		"an event without its order": {
			plant: func(w *world) { w.events[1].Order = "o-nobody" }, says: "events: order o-nobody has events and is not in the database",
		},
		"an oversell that is undone": {
			plant: func(w *world) {
				for i, e := range w.events {
					if e.Type == "order.expired" { // after dora's and eve's
						w.events = append(slices.Delete(w.events, i, i+1), e)
						break
					}
				}
				for i := range w.events {
					w.events[i].Seq = int64(i) + 1
				}
			},
			says: "P1: oversold: with event 9, order o-eve, 4 units of 3 are held or sold",
		},
		"an order that is rejected while there are units": {
			plant: func(w *world) {
				gus := *w.find("gus")
				w.drop("gus")
				w.orders = slices.Insert(w.orders, 0, gus)
				w.happens()
			},
			says: "P2: order o-gus of 1 was rejected with event 2 as sold_out, and 3 units were free",
		},
		"an order that is rejected for a limit that is not reached": {
			plant: func(w *world) { w.find("gus").Reason = "user_limit" },
			says:  "P2: order o-gus of 1 was rejected with event 12 as user_limit, and gus had 0 of 1 units",
		},
		"an order that is rejected for no good reason": {
			plant: func(w *world) { w.find("gus").Reason = "stale" }, says: `P2: order o-gus was rejected as "stale" by an open sale`,
		},
		"an order that fails": {
			plant: func(w *world) { w.find("gus").State = "failed"; w.happens() }, says: "P2: order o-gus of gus failed, and nothing was wrong with it",
		},
		"a refusal of what was promised": {
			plant: func(w *world) {
				w.place("north", "dora", 4.7, refusal(503, "queue-full"))
				w.history[len(w.history)-1].Retry = second
			},
			says: "P5: north promised order o-dora to {dora k-dora}, and answered the same again with 503 queue-full", story: "dora (k-dora) hears 503 queue-full",
		},
		"an audit that leaves the sale out": {plant: func(w *world) { w.forgets = true }, says: "P8: the audit has 0 sales, the view has 1"},
		"a refusal that takes its time": {
			plant: func(w *world) {
				w.place("south", "slow", 6, refusal(503, "queue-full"))
				w.history[len(w.history)-1].At, w.history[len(w.history)-1].Retry = at(8), second
			},
			says: "P7: 1 of 10 answers took more than 1s: south answered slow with 503 queue-full after 2s",
		},
		"a refusal without a reason":    {plant: func(w *world) { w.place("south", "x", 6, refusal(409, "")) }, says: "P7: south refused x with 409 and no reason"},
		"a refusal that says not when":  {plant: func(w *world) { w.place("south", "x", 6, refusal(503, "queue-full")) }, says: "P7: south refused x with queue-full and does not say when"},
		"a refusal that is not the law": {plant: func(w *world) { w.place("south", "x", 6, refusal(404, "unknown-sale")) }, says: "P7: {x k-x} was refused with 404"},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			w := honest()
			c.plant(w)
			status, out, v := judge(t, w.stage(t))
			if status != 1 || v.OK || !strings.Contains(out, c.says) {
				t.Errorf("status %d, want %q, got:\n%s", status, c.says, out)
			}
			if !strings.Contains(out, "seed 7") || !strings.Contains(out, check.HistoryFile) || len(v.Story) == 0 {
				t.Errorf("it does not say what to look at:\n%s", out)
			}
			if !strings.Contains(strings.Join(v.Story, "\n"), c.story) {
				t.Errorf("the story has no line %q:\n%s", c.story, strings.Join(v.Story, "\n"))
			}
			if c.count != (check.Orders{}) && v.Orders != c.count {
				t.Errorf("got %+v, want %+v", v.Orders, c.count)
			}
		})
	}
}

// P7: an answer is late by what the door took, not by what the machine took from everybody; and that is no excuse for the rest.
func TestChecker_LeavesOutTheTimeInWhichTheMachineStoodStill(t *testing.T) {
	for stalled, ok := range map[float64]bool{1.2: true, 0.8: false} {
		w := honest()
		w.run.Settle = settleLong
		w.place("south", "slow", 6, refusal(503, "queue-full"))
		w.history[len(w.history)-1].At = at(8)
		w.history[len(w.history)-1].Retry = second
		w.run.Stalls = []check.Span{{From: at(5), To: at(6.1)}, {From: at(7), To: at(6.9 + stalled)}}
		if _, out, v := judge(t, w.stage(t)); v.OK != ok {
			t.Errorf("%v s of two were the machine's: ok %t, want %t:\n%s", stalled, v.OK, ok, out)
		}
	}
}

// A story is no longer than it has to be: who has nothing to do with it is not in it, and what was done to the parts is.
func TestChecker_TellsTheShortestStory(t *testing.T) {
	w := honest()
	w.drop("anna")
	w.happens()
	_, out, v := judge(t, w.stage(t))
	story := strings.Join(v.Story, "\n")
	for _, want := range []string{
		"0.400000s  anna (k-anna) asks north for 1", "0.450000s  anna (k-anna) gets no answer from north", "0.500000s  north: kill -9",
		"1.250000s  anna (k-anna) hears 200 from north: order o-anna is queued", "the end  order o-anna is not in the database",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("the story has no line %q:\n%s", want, out)
		}
	}
	for _, user := range []string{"ben", "carl", "dora", "eve"} {
		if strings.Contains(story, user) {
			t.Errorf("%s has nothing to do with it:\n%s", user, story)
		}
	}
}

func TestChecker_RefusesWhatItCannotJudge(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"no run": func(dir string) error { return os.Remove(filepath.Join(dir, check.RunFile)) },
		"half a run": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, check.RunFile), []byte(`{"sale":"s"}`), 0o600)
		},
		"no history":    func(dir string) error { return os.Remove(filepath.Join(dir, check.HistoryFile)) },
		"empty history": func(dir string) error { return os.Truncate(filepath.Join(dir, check.HistoryFile), 0) },
		"no JSON": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, check.HistoryFile), []byte("{\n"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := honest().stage(t)
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			if status := run(t.Context(), []string{dir}, &said, &said); status != 2 || !strings.HasPrefix(said.String(), "checker: ") {
				t.Errorf("status %d: %s", status, &said)
			}
		})
	}
	dir := honest().stage(t)
	if err := os.Remove(filepath.Join(dir, "inventory.db")); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if status := run(t.Context(), []string{dir}, &said, &said); status != 1 || !strings.Contains(said.String(), "the facts can't be read") {
		t.Errorf("without a database: status %d: %s", status, &said)
	}
	for _, args := range [][]string{nil, {"a", "b"}} {
		if status := run(t.Context(), args, &said, &said); status != 2 {
			t.Errorf("%q: status %d, want 2", args, status)
		}
	}
}
