package inventorytest

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"sluice"
)

var webhookTests = []test{
	{"AWebhookIsAddedOnceAndTheDatabaseHasOneName", func(b *bench) {
		first, disabled, err := b.store.AddWebhook(b.Context(), "points", "https://a.example")
		b.must(err)
		again, _, err := b.store.AddWebhook(b.Context(), "points", "https://b.example")
		b.must(err)
		if len(first) != 12 || again != first || disabled {
			b.Errorf("got the names %q and %q, disabled %v", first, again, disabled)
		}
		hooks := b.webhooks()
		if len(hooks) != 1 || hooks[0].Address != "https://b.example" || time.Since(hooks[0].SeenAt).Abs() > time.Minute {
			b.Errorf("got %+v", hooks)
		}
	}},
	{"TheHealthOfAWebhookIsKept", func(b *bench) {
		b.addWebhook("points")
		since := time.Now().Add(-time.Hour).Truncate(time.Microsecond).UTC()
		b.must(b.store.NoteWebhook(b.Context(), "points", sluice.WebhookHealth{FailingSince: since, LastError: "no\x00\xff"}, false))
		h := b.webhooks()[0]
		if !h.FailingSince.Equal(since) || h.LastError != "no��" || h.Disabled {
			b.Errorf("got %+v", h)
		}
		b.must(b.store.NoteWebhook(b.Context(), "points", sluice.WebhookHealth{}, false))
		if h := b.webhooks()[0]; !h.FailingSince.IsZero() || h.LastError != "" {
			b.Errorf("got %+v", h)
		}
		b.must(b.store.NoteWebhook(b.Context(), "nobody", sluice.WebhookHealth{}, true)) // and nothing comes of it
	}},
	{"ADisabledWebhookStaysSoUntilItIsResumed", func(b *bench) {
		b.addWebhook("points")
		b.must(b.store.NoteWebhook(b.Context(), "points", sluice.WebhookHealth{LastError: "gone"}, true))
		b.must(b.store.NoteWebhook(b.Context(), "points", sluice.WebhookHealth{LastError: "gone"}, false))
		if _, disabled, err := b.store.AddWebhook(b.Context(), "points", ""); err != nil || !disabled {
			b.Errorf("disabled %v, %v", disabled, err)
		}
		for range 2 {
			b.must(b.store.ResumeWebhook(b.Context(), "points"))
		}
		if h := b.webhooks()[0]; h.Disabled || h.LastError != "" {
			b.Errorf("got %+v", h)
		}
		b.wantRefused(b.store.ResumeWebhook(b.Context(), "nobody"), sluice.NotFound)
	}},
	{"DeliveriesAreKeptAsTheyWereSaved", func(b *bench) {
		at := time.Now().Truncate(time.Microsecond).UTC()
		d := sluice.Delivery{
			Seq: 7, Key: "sale:demo", Type: sluice.EventEnded, At: at.Add(-time.Hour), State: sluice.DeliveryWaiting, Attempts: 2, FirstAt: at, NextAt: at.Add(time.Hour),
			LastError: "500", Body: []byte(`{"type":"sale.ended","data":{"user":"<\"ü😀"}}`),
		}
		b.save("points", d)
		b.wantDelivery("points", d)
		changed := d
		changed.Attempts, changed.NextAt, changed.State, changed.LastError = 3, time.Time{}, sluice.DeliveryDead, "no\x00"
		changed.Body = nil // it stays
		b.save("points", changed)
		changed.Body, changed.LastError = d.Body, "no�"
		b.wantDelivery("points", changed)
		b.wantDeliveries("points", sluice.DeliveryWaiting)
		b.wantDeliveries("points", sluice.DeliveryDead, 7)
		if page, err := b.store.ListDeliveries(b.Context(), "points", sluice.DeliveryDead, 0, 9); err != nil || page[0].Body != nil {
			b.Errorf("a list has bodies: %+v, %v", page, err)
		}
		b.wantDeliveries("other", sluice.DeliveryDead)
		_, err := b.store.Delivery(b.Context(), "other", 7)
		b.wantRefused(err, sluice.NotFound)
	}},
	{"WhatIsDoneIsForgotten", func(b *bench) {
		b.save("points", delivery(1, sluice.DeliveryWaiting), delivery(2, sluice.DeliveryWaiting), delivery(3, sluice.DeliveryWaiting))
		b.save("other", delivery(1, sluice.DeliveryWaiting))
		_, err := b.store.SaveDeliveries(b.Context(), "points", nil, []int64{1, 3, 99}, 10)
		b.must(err)
		b.wantDeliveries("points", sluice.DeliveryWaiting, 2)
		b.wantDeliveries("other", sluice.DeliveryWaiting, 1)
		b.addWebhook("points")
		if h := b.webhooks()[0]; h.Waiting != 1 || h.Dead != 0 {
			b.Errorf("got %+v", h)
		}
	}},
	{"ListsOfDeliveriesComeInPages", func(b *bench) {
		var all []sluice.Delivery
		for seq := range int64(7) {
			all = append(all, delivery(seq+1, sluice.DeliveryDead))
		}
		b.save("points", all...)
		for after, want := range map[int64][]int64{0: {1, 2, 3}, 3: {4, 5, 6}, 6: {7}, 7: nil} {
			page, err := b.store.ListDeliveries(b.Context(), "points", sluice.DeliveryDead, after, 3)
			b.must(err)
			if got := seqs(page); !slices.Equal(got, want) {
				b.Errorf("after %d: got %v, want %v", after, got, want)
			}
		}
	}},
	{"OnlyTheNewestDeadAreKept", func(b *bench) {
		for seq := range int64(5) {
			b.save("points", delivery(seq+1, sluice.DeliveryDead), delivery(seq+101, sluice.DeliveryWaiting))
		}
		b.save("other", delivery(1, sluice.DeliveryDead))
		forgotten, err := b.store.SaveDeliveries(b.Context(), "points", []sluice.Delivery{delivery(6, sluice.DeliveryDead)}, nil, 4)
		if err != nil || forgotten != 2 {
			b.Errorf("forgotten: %d, %v", forgotten, err)
		}
		b.wantDeliveries("points", sluice.DeliveryDead, 3, 4, 5, 6)
		b.wantDeliveries("points", sluice.DeliveryWaiting, 101, 102, 103, 104, 105)
		b.wantDeliveries("other", sluice.DeliveryDead, 1)
	}},
	{"ADeadDeliveryIsReplayedOrDropped", func(b *bench) {
		b.save("points", delivery(1, sluice.DeliveryDead), delivery(2, sluice.DeliveryDead), delivery(3, sluice.DeliveryWaiting))
		for range 2 {
			d, err := b.store.ReplayDelivery(b.Context(), "points", 1)
			if err != nil || d.State != sluice.DeliveryAgain || d.Attempts != 0 || !d.NextAt.IsZero() || len(d.Body) == 0 {
				b.Errorf("replayed: %+v, %v", d, err)
			}
		}
		b.must(b.store.DropDelivery(b.Context(), "points", 2))
		b.wantDeliveries("points", sluice.DeliveryAgain, 1)
		b.wantDeliveries("points", sluice.DeliveryDead)
		for _, seq := range []int64{1, 2, 3, 4} {
			b.wantRefused(b.store.DropDelivery(b.Context(), "points", seq), sluice.NotFound)
		}
		for _, seq := range []int64{2, 3, 4} {
			_, err := b.store.ReplayDelivery(b.Context(), "points", seq)
			b.wantRefused(err, sluice.NotFound)
		}
		b.addWebhook("points")
		if h := b.webhooks()[0]; h.Waiting != 2 || h.Dead != 0 {
			b.Errorf("got %+v", h)
		}
	}},
}

func delivery(seq int64, state sluice.DeliveryState) sluice.Delivery {
	return sluice.Delivery{
		Seq: seq, Key: fmt.Sprint("order-", seq), Type: sluice.EventPaid, At: time.Now(), State: state, Attempts: 1, LastError: "connection refused", Body: []byte(`{}`),
	}
}

func seqs(page []sluice.Delivery) (seqs []int64) {
	for _, d := range page {
		seqs = append(seqs, d.Seq)
	}
	return seqs
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) addWebhook(name string) {
	b.Helper()
	_, _, err := b.store.AddWebhook(b.Context(), name, "https://shop.example")
	b.must(err)
}

func (b *bench) webhooks() []sluice.Webhook {
	b.Helper()
	hooks, err := b.store.Webhooks(b.Context())
	b.must(err)
	return hooks
}

func (b *bench) save(endpoint string, put ...sluice.Delivery) {
	b.Helper()
	_, err := b.store.SaveDeliveries(b.Context(), endpoint, put, nil, 100)
	b.must(err)
}

func (b *bench) wantDelivery(endpoint string, want sluice.Delivery) {
	b.Helper()
	got, err := b.store.Delivery(b.Context(), endpoint, want.Seq)
	b.must(err)
	if !reflect.DeepEqual(got, want) {
		b.Errorf("got %+v, want %+v", got, want)
	}
}

func (b *bench) wantDeliveries(endpoint string, state sluice.DeliveryState, want ...int64) {
	b.Helper()
	page, err := b.store.ListDeliveries(b.Context(), endpoint, state, 0, 1000)
	b.must(err)
	if got := seqs(page); !slices.Equal(got, want) {
		b.Errorf("%s deliveries of %s: got %v, want %v", state, endpoint, got, want)
	}
}
