package inventory

import (
	"context"

	"sluice"
)

// Deliveries keeps, for each endpoint of a webhook, the events that it has not taken: those that wait for their next attempt
// and those that were given up. Who serves an endpoint is decided by the lease of its reader (Outbox), not here.
type Deliveries interface {
	// AddWebhook notes that an endpoint exists, or is still served, and its address. It answers the name of this database,
	// which no other one has but its copies, and whether the endpoint is disabled.
	AddWebhook(ctx context.Context, name, address string) (source string, disabled bool, err error)

	// NoteWebhook keeps how an endpoint does. disable stays until ResumeWebhook.
	NoteWebhook(ctx context.Context, name string, health sluice.WebhookHealth, disable bool) error

	// ResumeWebhook enables an endpoint again. One that is enabled stays so. Refused: NotFound.
	ResumeWebhook(ctx context.Context, name string) error

	// Webhooks answers every endpoint that was ever added, in the order of their names. Behind is not told.
	Webhooks(ctx context.Context) ([]sluice.Webhook, error)

	// SaveDeliveries writes put as they are, forgets those numbered done, and of the dead ones all but the newest keep, in one
	// transaction. The body of a delivery that is known stays, and need not be given. It answers how many dead ones were
	// forgotten.
	SaveDeliveries(ctx context.Context, endpoint string, put []sluice.Delivery, done []int64, keep int) (forgotten int, err error)

	// ListDeliveries answers at most limit deliveries of a state after the one numbered after, in order, without bodies.
	ListDeliveries(ctx context.Context, endpoint string, state sluice.DeliveryState, after int64, limit int) ([]sluice.Delivery, error)

	// Delivery answers one with its body. Refused: NotFound.
	Delivery(ctx context.Context, endpoint string, seq int64) (sluice.Delivery, error)

	// ReplayDelivery has a dead delivery tried again, as if for the first time. Again it changes nothing. Refused: NotFound,
	// also where it only waits.
	ReplayDelivery(ctx context.Context, endpoint string, seq int64) (sluice.Delivery, error)

	// DropDelivery forgets a dead delivery. Refused: NotFound, also where it is not dead.
	DropDelivery(ctx context.Context, endpoint string, seq int64) error
}

// CleanDelivery is the delivery as any store can keep it.
func CleanDelivery(d sluice.Delivery) sluice.Delivery {
	d.LastError = plain(d.LastError)
	d.At, d.FirstAt, d.NextAt = Micros(d.At), Micros(d.FirstAt), Micros(d.NextAt)
	return d
}

// NoDelivery refuses a delivery that is not there, or not in the state that was asked for.
func NoDelivery(endpoint string, seq int64, what string) error {
	return sluice.Refuse(sluice.NotFound, "the webhook %.80q has no %s numbered %d", endpoint, what, seq)
}

// NoWebhook refuses an endpoint that was never added.
func NoWebhook(name string) error {
	return sluice.Refuse(sluice.NotFound, "%.80q is no webhook", name)
}

// CleanHealth is the health as any store can keep it.
func CleanHealth(h sluice.WebhookHealth) sluice.WebhookHealth {
	return sluice.WebhookHealth{FailingSince: Micros(h.FailingSince), LastError: plain(h.LastError)}
}
