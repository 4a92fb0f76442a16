package worker

import (
	"testing"
	"time"

	"sluice"
)

// keep has the store keep deliveries of the endpoint points, as a dispatcher does.
func (s *shop) keep(state sluice.DeliveryState, seqs ...int64) {
	s.t.Helper()
	_, _, err := s.store.AddWebhook(s.t.Context(), "points", "https://points.example")
	must(s.t, err)
	var put []sluice.Delivery
	for _, seq := range seqs {
		put = append(put, sluice.Delivery{
			Seq: seq, Key: "sale:demo", Type: sluice.EventEnded, At: time.Now(), State: state, Attempts: 1, FirstAt: time.Now(),
			LastError: "500", Body: []byte(`{"type":"sale.ended"}`),
		})
	}
	_, err = s.store.SaveDeliveries(s.t.Context(), "points", put, nil, 100)
	must(s.t, err)
}

func TestWebhooks_AreSeenAndTheirDeadReplayedAndDropped(t *testing.T) {
	s := newShop(t, nil)
	if status, out := s.call("GET", "/v1/webhooks", "", testToken); status != 200 || len(out["webhooks"].([]any)) != 0 {
		t.Errorf("a shop without webhooks: %d %v", status, out)
	}
	s.keep(sluice.DeliveryDead, 1, 2, 3)
	s.keep(sluice.DeliveryWaiting, 4)
	must(t, s.store.NoteWebhook(t.Context(), "points", sluice.WebhookHealth{FailingSince: time.Now(), LastError: "410"}, true))
	for _, c := range []struct {
		method, path string
		status       int
		key          string
		want         any
	}{
		{"GET", "/dead?limit=2", 200, "deliveries", 2},
		{"GET", "/dead?after=2", 200, "deliveries", 1},
		{"GET", "/dead?after=3", 200, "deliveries", 0},
		{"GET", "/dead?limit=0", 400, "reason", "bad-request"},
		{"GET", "/dead?limit=1001", 400, "reason", "bad-request"},
		{"GET", "/dead?before=3", 400, "reason", "bad-request"},
		{"GET", "/dead/1", 200, "state", "dead"},
		{"GET", "/dead/4", 404, "reason", "not-found"},
		{"GET", "/dead/first", 400, "reason", "bad-request"},
		{"POST", "/dead/1/replay", 200, "state", "again"},
		{"POST", "/dead/1/replay", 200, "state", "again"},
		{"POST", "/dead/4/replay", 404, "reason", "not-found"},
		{"POST", "/dead/x/replay", 400, "reason", "bad-request"},
		{"DELETE", "/dead/2", 200, "seq", 2.0},
		{"DELETE", "/dead/2", 404, "reason", "not-found"},
		{"DELETE", "/dead/1", 404, "reason", "not-found"},
		{"GET", "/dead", 200, "deliveries", 1},
		{"POST", "/resume", 200, "waiting", 2.0},
		{"PUT", "/resume", 405, "reason", "method-not-allowed"},
	} {
		status, out := s.call(c.method, "/v1/webhooks/points"+c.path, "", testToken)
		got := out[c.key]
		if list, ok := got.([]any); ok {
			got = len(list)
		}
		if status != c.status || got != c.want {
			t.Errorf("%s %s = %d %v; want %d %v", c.method, c.path, status, out, c.status, c.want)
		}
	}
	for _, call := range [][2]string{{"GET", "/dead"}, {"POST", "/resume"}, {"GET", "/dead/1"}} {
		if status, out := s.call(call[0], "/v1/webhooks/nobody"+call[1], "", testToken); status != 404 {
			t.Errorf("%v of nobody: %d %v", call, status, out)
		}
	}
	status, out := s.call("GET", "/v1/webhooks", "", testToken)
	if hook := out["webhooks"].([]any)[0].(map[string]any); status != 200 || hook["waiting"] != 2.0 || hook["dead"] != 1.0 || hook["disabled"] != nil {
		t.Errorf("%d %v", status, out)
	}
	for event, times := range map[string]int{"webhook's dead event replayed": 2, "webhook's dead event dropped": 1, "webhook resumed": 1} {
		told := s.log.events(t, event)
		if len(told) != times || told[0]["operator"] != "tests" || told[0]["endpoint"] != "points" {
			t.Errorf("%q is logged as %v; want %d times", event, told, times)
		}
	}
}
