package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice"
	"sluice/api"
)

func TestSentence_IsForPeople(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("disk full"), "disk full"},
		{sluice.Refuse(sluice.NoSuchSale, "%q is no sale", "x"), `"x" is no sale (unknown-sale)`},
		{fmt.Errorf("create it: %w", sluice.Refuse(sluice.SaleExists, "sale x exists already")), "create it: sale x exists already (sale-exists)"},
		{sluice.Refuse(sluice.TooLate, ""), "The order can no longer be paid (too-late)"},
		{
			sluice.Refuse(sluice.Unauthorized, "want the header"),
			"The operator's token is missing or wrong: want --admin-token-file FILE, and in it a token that the worker knows (unauthorized)",
		},
		{&usageError{sluice.Refuse(sluice.BadRequest, "units: want a number")}, "units: want a number"},
		{sluice.Refuse(sluice.Internal, "see the worker's log"), "Something went wrong inside: see the worker's log (internal)"},
	} {
		if got := sentence(c.err); got != c.want {
			t.Errorf("sentence(%v) = %s, want %s", c.err, got, c.want)
		}
	}
}

// Whoever answers at the address, it is told what came back to what.
func TestAddress_OfSomethingElseIsNoticed(t *testing.T) {
	door, admin := freePort(t), freePort(t)
	launch(t, "up", "--demo", "--listen", door, "--admin", admin, "--data", t.TempDir())
	eventually(t, "the demo is open", func() bool { status, _ := call(t, "GET", "http://"+door+"/v1/sales/demo", ""); return status == 200 })
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer shop.Close()
	older := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.HeaderAPI, api.Operations)
		http.Error(w, `{"reason":"not-found"}`, http.StatusNotFound)
	}))
	defer older.Close()
	for _, c := range []struct{ args, address, says string }{
		{"sale get demo", door, "GET http://" + door + "/v1/sales/demo: what answered (200 OK)"},
		{"sale get nope", door, "GET http://" + door + "/v1/sales/nope: what answered (404 Not Found)"},
		{"sale end demo", door, "POST http://" + door + "/v1/sales/demo/end: what answered (405 Method Not Allowed)"},
		{"audit", door, "is it the address of a front door?"},
		{"audit", shop.URL, "GET " + shop.URL + "/v1/audit: what answered (200 OK)"},
		{"limits", shop.URL, "no worker's operations API"},
		{"pools", older.URL, "the worker answered 404 Not Found to GET /v1/pools (not-found)"},
		{"audit", "http://" + admin + "/v2", `this worker has no "/v2/v1/audit"`},
	} {
		p := launch(t, append(strings.Fields(c.args), "--admin", c.address)...)
		if code := p.exit(); code != 1 || !strings.Contains(p.said(), c.says) {
			t.Errorf("sluice %s at %s: exit %d, says %s; want 1, %q", c.args, c.address, code, p.said(), c.says)
		}
	}
}
