package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"sluice"
	"sluice/api"
	"sluice/inventory"
	"sluice/inventory/sqlite"
	"sluice/queue"
)

// asked is one call of the command line, and what it must come to.
type asked struct {
	args string
	code int
	says []string
}

// ask runs each call at the worker of admin.
func ask(t *testing.T, admin string, calls []asked) {
	t.Helper()
	for _, c := range calls {
		p := launch(t, append(strings.Fields(c.args), "--admin", admin)...)
		code := p.exit()
		if code != c.code {
			t.Errorf("sluice %s: exit %d, want %d; it says\n%s", c.args, code, c.code, p.said())
		}
		for _, says := range c.says {
			if !strings.Contains(p.said(), says) {
				t.Errorf("sluice %s does not say %q but\n%s", c.args, says, p.said())
			}
		}
	}
}

// shopFront is a running sluice whose buyers are told what they may do by their names.
type shopFront struct {
	t           *testing.T
	door, admin string
}

func openFront(t *testing.T, data string) *shopFront {
	t.Helper()
	s := &shopFront{t, freePort(t), freePort(t)}
	launch(t, "up", "--listen", s.door, "--admin", s.admin, "--data", data)
	eventually(t, "ready", func() bool { status, _ := call(t, "GET", "http://"+s.door+"/readyz", ""); return status == 200 })
	return s
}

func (s *shopFront) open(sale string) {
	s.t.Helper()
	if status, answer := call(s.t, "POST", "http://"+s.admin+"/v1/sales", sale); status != 201 {
		s.t.Fatalf("create %s: %d %v", sale, status, answer)
	}
}

// buy places an order and answers its id once it is settled.
func (s *shopFront) buy(sale, user string) (id string) {
	s.t.Helper()
	eventually(s.t, "the order of "+user+" is settled", func() bool {
		status, order := call(s.t, "POST", "http://"+s.door+"/v1/sales/"+sale+"/orders", fmt.Sprintf(`{"user":%q}`, user))
		if status != 200 && status != 202 {
			return false
		}
		id = order["order"].(string)
		_, order = call(s.t, "GET", fmt.Sprintf("http://%s/v1/orders/%s?wait=5s", s.door, id), "")
		return order["status"] != "queued"
	})
	return id
}

func TestOrder_IsTracedListedPaidAndCancelled(t *testing.T) {
	s := openFront(t, t.TempDir())
	s.open(`{"id":"spring","stock":10,"payment_window":"15m"}`)
	paid, cancelled := s.buy("spring", "alice"), s.buy("spring", `bob, "the, =builder"`)
	ask(t, s.admin, []asked{
		{"order get " + paid, 0, []string{`"status": "held"`, `"user": "alice"`}},
		{"order get 00000000-0000-8000-8000-000000000000", 1, []string{"was never issued", "(unknown-order)"}},
		{"order get spring", 2, []string{"spring", exampleOrder}},
		{"order pay " + paid, 2, []string{"--ref is missing"}},
		{"order pay " + paid + " --ref pay-1", 0, []string{`"status": "paid"`}},
		{"order pay " + paid + " --ref pay-1", 0, []string{`"status": "paid"`}},
		{"order pay " + paid + " --ref pay-2", 1, []string{"(already-paid)"}},
		{"order cancel " + paid, 1, []string{"only a held order can be cancelled", "(not-held)"}},
		{"order cancel " + cancelled, 0, []string{`"status": "cancelled"`}},
		{"order trace " + paid, 0, []string{
			"user alice wants 1 of sale spring", "admitted", "order.held        2        pay by ", "order.paid        3        ref pay-1",
			"order.refund_due  3        ref pay-2, refund because already_paid", "now it is paid, version 3, settled ",
		}},
		{"order trace " + paid + " --json", 0, []string{`"type": "order.paid"`, `"payment_ref": "pay-1"`}},
		{"order trace", 2, []string{"accepts 1 arg"}},
		{"order list", 0, []string{"order ", "alice", "cancelled"}},
		{"order list --user alice --format json", 0, []string{`"user":"alice","status":"paid"`}},
		{"order list --limit 1", 0, []string{"there may be more than these 1: see --limit and --all"}},
		{"order list --limit 2 --format csv", 0, []string{"order,sale,user,units,status"}},
		{"order list --sale summer", 0, []string{"none"}},
		{"order list --state queued", 2, []string{"want held, paid"}},
		{"order list --format xml", 2, []string{`"xml": want table, json or csv`}},
		{"order list --limit -1", 2, []string{"--limit -1"}},
		{"order list --limit 5 --all", 2, []string{"want one of them"}},
		{"refund list", 0, []string{"pay-2", "already_paid", "alice"}},
		{"refund list --limit 0", 2, []string{"--limit 0"}},
		{"refund given 1", 0, []string{`"given_at"`}},
		{"refund given 99", 1, []string{"there is no refund 99"}},
		{"refund given x", 2, []string{"want the number of a refund"}},
		{"refund list", 0, []string{"none"}},
		{"refund list --all --json", 0, []string{`"payment_ref":"pay-2"`}},
		{"event list", 0, []string{`{"seq":1,"type":"sale.opened"`, `"type":"order.cancelled"`}},
		{"event list --after 2 --limit 1", 0, []string{`{"seq":3,`}},
		{"event list --after -1", 2, []string{"after -1"}},
		{"event list --after 1000", 1, []string{"the newest event is number"}},
	})
	p := launch(t, "order", "list", "--all", "--format", "csv", "--admin", s.admin)
	p.exit()
	records, err := csv.NewReader(strings.NewReader(p.said())).ReadAll()
	if err != nil || len(records) != 3 {
		t.Fatalf("%d lines of CSV, %v: %s", len(records), err, p.said())
	}
	for _, r := range records[1:] {
		if r[0] == cancelled && (r[2] != `bob, "the, =builder"` || r[4] != "cancelled" || r[3] != "1") {
			t.Errorf("%q", r)
		}
	}
}

// An export reads page after page.
func TestOrderList_StreamsAllPages(t *testing.T) {
	const pages = 3
	asked := 0
	books := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderAPI, api.Operations)
		page := api.Orders{}
		asked++
		for n := range api.MaxPage {
			page.Orders = append(page.Orders, api.Order{Status: sluice.Status{User: fmt.Sprintf("%s-%d", r.FormValue("after"), n), State: sluice.Paid}})
		}
		if asked < pages {
			page.Next = fmt.Sprint("page-", asked)
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	defer books.Close()
	p := launch(t, "order", "list", "--all", "--format", "csv", "--admin", books.URL)
	if code := p.exit(); code != 0 || strings.Count(p.said(), "\n") != 1+pages*api.MaxPage || !strings.Contains(p.said(), ",page-2-999,") {
		t.Errorf("exit %d with %d lines", code, strings.Count(p.said(), "\n"))
	}
	asked = pages - 2
	p = launch(t, "order", "list", "--limit", "1500", "--admin", books.URL)
	if p.exit(); strings.Count(p.said(), " paid ") != 1500 || !strings.Contains(p.said(), "there may be more than these 1500") {
		t.Errorf("%d lines of a table", strings.Count(p.said(), " paid "))
	}
}

func TestDeadLetter_IsShownReplayedAndDropped(t *testing.T) {
	data := t.TempDir()
	order := sluice.Order{ID: sluice.OrderID{1}, Sale: "spring", User: "alice", Quantity: 1}
	body := queue.AppendOrder(nil, order)
	store, err := sqlite.Open(t.Context(), filepath.Join(data, "inventory.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []inventory.Letter{
		{Message: "0000000000000001", Body: body, Order: &order, Attempts: 5, Error: "a bad\nday"},
		{Message: "0000000000000002", Body: []byte("no order"), Error: "it can't be read"},
		{Message: "0000000000000003", Body: []byte{0xff, 0xfe}, Error: "it can't be read"},
	} {
		if _, err := store.Bury(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	s := openFront(t, data)
	s.open(`{"id":"spring","stock":10,"payment_window":"0s"}`)
	ask(t, s.admin, []asked{
		{"deadletter list", 0, []string{"message ", "0000000000000001", "a bad day", order.ID.String()}},
		{"deadletter list --limit 2", 0, []string{"0000000000000002", "there may be more than these 2: see --limit"}},
		{"deadletter list --json", 0, []string{`"message":"0000000000000003"`}},
		{"deadletter list --limit none", 2, []string{"none"}},
		{"deadletter show 0000000000000001", 0, []string{`"user": "alice"`, `"attempts": 5`}},
		{"deadletter show 0000000000000002", 0, []string{`"body": "no order"`}},
		{"deadletter show 0000000000000003", 0, []string{`"body_base64": "//4="`}},
		{"deadletter show 4", 1, []string{`"4" is no dead letter`}},
		{"deadletter show", 2, []string{"accepts 1 arg"}},
		{"deadletter replay 0000000000000001", 0, []string{`"status": "paid"`}},
		{"deadletter replay 0000000000000001", 0, []string{`"status": "paid"`}},
		{"deadletter replay 0000000000000002", 2, []string{"can't be replayed"}},
		{"deadletter drop 0000000000000002", 0, []string{"is dropped"}},
		{"deadletter drop 0000000000000002", 1, []string{"is no dead letter"}},
		{"deadletter drop 0000000000000003", 0, nil},
		{"deadletter list", 0, []string{"none"}},
		{"deadletter list --all", 0, []string{"0000000000000001"}},
		{"audit", 0, []string{"balanced: true"}},
	})
}

func TestSale_IsChangedPausedAndListed(t *testing.T) {
	s := openFront(t, t.TempDir())
	ask(t, s.admin, []asked{
		{"sale list", 0, []string{"none"}},
		{"sale create spring --stock 10 --payment-grace 2m --starts-at 2099-01-01T00:00:00Z", 0, []string{`"payment_grace": "2m0s"`}},
		{"sale create autumn --stock 0", 0, nil},
		{"sale list", 0, []string{"spring  -    not started  10", "autumn  -    sold out     0"}},
		{"sale change spring --starts-at none --per-user-limit 2 --payment-window 0s --payment-grace 0s --max-age 1m --sku boots --over-admission 2 " +
			"--reserved-for members --reserved-share 0.1 --checkout-url https://shop.example/{order} --ends-at 2099-01-01T00:00:00Z", 0, []string{
			`"per_user_limit": 2`, `"payment_window": "0s"`, `"max_age": "1m0s"`, `"sku": "boots"`, `"over_admission": 2`, `"reserved_share": 0.1`,
			`"checkout_url": "https://shop.example/{order}"`, `"ends_at": "2099`,
		}},
		{"sale change spring --ends-at none", 0, []string{`"per_user_limit": 2`}},
		{"sale list", 0, []string{"spring  boots  open"}},
		{"sale change spring", 2, []string{"what shall change"}},
		{"sale change spring --ends-at never", 2, []string{"want none, or an RFC 3339 time"}},
		{"sale change spring --per-user-limit 0", 2, []string{"per_user_limit 0: want 1 to"}},
		{"sale change summer --sku x", 1, []string{`no sale "summer" (unknown-sale)`}},
		{"sale change", 2, []string{"accepts 1 arg"}},
		{"sale pause spring", 0, []string{`"paused": true`}},
		{"sale list --limit 1 --json", 0, []string{`{"id":"autumn"`, "there may be more"}},
		{"sale list", 0, []string{"spring  boots  paused"}},
		{"sale resume spring", 0, []string{`"free": 10`}},
		{"sale resume summer", 1, []string{"(unknown-sale)"}},
		{"sale extend-holds spring --for 15m", 0, []string{`"extended": 0`, `"until"`}},
		{"sale extend-holds spring", 2, []string{"--for is missing"}},
		{"sale extend-holds spring --for -1m", 2, []string{"want more than 0s"}},
		{"sale end spring", 0, nil},
		{"sale list", 0, []string{"spring  boots  ended"}},
	})
	p := launch(t, "sale", "get", "spring", "--admin", s.admin)
	if p.exit(); strings.Contains(p.said(), "starts_at") || strings.Contains(p.said(), "2099-01") {
		t.Errorf("none did not take its times away: %s", p.said())
	}
}

// Whoever follows sees each event once, through a restart of the worker.
func TestEventFollow_OutlivesAWorker(t *testing.T) {
	data, door, admin := t.TempDir(), freePort(t), freePort(t)
	args := []string{"up", "--listen", door, "--admin", admin, "--data", data}
	up := launch(t, args...)
	ready := func() bool { status, _ := call(t, "GET", "http://"+admin+"/readyz", ""); return status == 200 }
	eventually(t, "ready", ready)
	create := func(sale string) {
		if p := launch(t, "sale", "create", sale, "--stock", "1", "--admin", admin); p.exit() != 0 {
			t.Fatal(p.said())
		}
	}
	create("one")
	eventually(t, "its event is there", func() bool {
		_, events := call(t, "GET", "http://"+admin+"/v1/events", "")
		return events["newest"] == 1.0
	})
	follow, all := launch(t, "event", "follow", "--admin", admin), launch(t, "event", "follow", "--after", "0", "--admin", admin)
	eventually(t, "the first one is told", func() bool { return strings.Contains(all.said(), `"sale":"one"`) })
	// Whoever follows without a number hears what comes from then on, and nobody hears when that is: sales come until one is told.
	sales := 1
	eventually(t, "a new one is told", func() bool {
		sales++
		create(fmt.Sprint("new-", sales))
		return strings.Contains(follow.said(), `"sale":"new-`)
	})
	up.terminate()
	eventually(t, "it waits", func() bool { return strings.Contains(follow.said(), "waiting for the worker") })
	launch(t, args...)
	eventually(t, "ready again", ready)
	create("last")
	eventually(t, "both are told the last one", func() bool {
		return strings.Contains(follow.said(), `"sale":"last"`) && strings.Contains(all.said(), `"sale":"last"`)
	})
	if code := follow.terminate(); code != 0 || strings.Contains(follow.said(), `"sale":"one"`) {
		t.Errorf("exit %d, said %s", code, follow.said())
	}
	if code := all.terminate(); code != 0 || strings.Count(all.said(), `"type":"sale.opened"`) != sales+1 {
		t.Errorf("exit %d, said %s", code, all.said())
	}
	if p := launch(t, "event", "follow", "--admin", freePort(t)); p.exit() != 1 || !strings.Contains(p.said(), "refused") {
		t.Errorf("where there never was a worker: %s", p.said())
	}
}
