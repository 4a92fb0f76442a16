package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sluice"
	"sluice/api"
	"sluice/config"
	"sluice/ingress"
)

// demoPart creates the sale "demo" once the worker is there, and says how to buy once the door is.
func demoPart(cfg config.Config, operations operationsPeer, door string, opened <-chan struct{}) part {
	return part{"demo", func(ctx context.Context) error {
		token, err := readToken(cfg)
		if err != nil {
			return err
		}
		client := operations.client(token)
		defer client.Close()
		sale, err := createDemo(ctx, client)
		if err != nil {
			return err
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return nil
		}
		for _, open := demoState(sale, time.Now()); open && ctx.Err() == nil && !heardOf(ctx, cfg, door); {
			pause(ctx, 50*time.Millisecond)
		}
		if ctx.Err() == nil {
			fmt.Print(demoText(cfg, sale, operations.address, door, time.Now()))
		}
		<-ctx.Done()
		return nil
	}}
}

// createDemo makes the sale unless there is one, and answers it as it is.
func createDemo(ctx context.Context, client *api.Client) (sluice.Sale, error) {
	limit, window := 1, sluice.Duration(0)
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, demoTimeout)
		sale, err := client.CreateSale(limited, api.NewSale{ID: "demo", SKU: "demo", Stock: 1000, PerUserLimit: &limit, PaymentWindow: &window})
		if sluice.RefusalOf(err) == sluice.SaleExists {
			sale, err = client.Sale(limited, "demo")
		}
		cancel()
		if err == nil {
			return sale, nil
		}
		if r := sluice.RefusalOf(err); r != sluice.Internal && r != sluice.Unavailable {
			return sale, fmt.Errorf("create the sale demo: %w", err)
		}
		pause(ctx, 100*time.Millisecond) // the worker is not there yet
	}
	return sluice.Sale{}, nil
}

// demoTimeout bounds one try to reach a part that is just starting.
const demoTimeout = 5 * time.Second

// heardOf reports whether the door knows the sale. Behind TLS a name may be missing to ask: then it is taken for granted.
func heardOf(ctx context.Context, cfg config.Config, door string) bool {
	if cfg.TLSCert != "" {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, door+"/v1/sales/demo", http.NoBody)
	if err != nil {
		return false
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy stands before the door
	res, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode == http.StatusOK
}

// demoText says where things are, how the sale does and how to buy in it.
func demoText(cfg config.Config, sale sluice.Sale, operations, door string, now time.Time) string {
	state, open := demoState(sale, now)
	text := fmt.Sprintf("\nThe sale \"demo\" %s.\n\n"+
		"  front door   %s\n"+
		"  operations   %s   (sluice audit, sluice sale get demo, /metrics)\n\n", state, door, operations)
	if !open {
		return text
	}
	return text + "Buy one, then see what became of it:\n\n" + demoCalls(cfg, door) + "\n"
}

// demoState is how the sale does, and whether a buyer can have a unit.
func demoState(sale sluice.Sale, now time.Time) (state string, open bool) {
	switch {
	case !sale.EndsAt.IsZero() && !now.Before(sale.EndsAt):
		return "has ended: sluice sale change demo --ends-at none opens it again", false
	case sale.Paused:
		return "is paused: sluice sale resume demo opens it again", false
	case now.Before(sale.StartsAt):
		return "opens at " + sale.StartsAt.Format(time.RFC3339), false
	case sale.Free == 0 && sale.Held == 0:
		return "is sold out: sluice sale topup demo 1000 adds units", false
	case sale.Free == 0:
		return "has no free unit now: all others are held until they are paid", false
	default:
		return fmt.Sprintf("is open: %d of %d units are free, %d a buyer", sale.Free, sale.Stock+sale.TopUps, sale.PerUserLimit), true
	}
}

// demoCalls are commands that buy as the door wants to know its buyers.
func demoCalls(cfg config.Config, door string) string {
	body, header, before := `{"user":"alice","quantity":1}`, "", ""
	switch ingress.Identity(cfg.Identity) {
	case ingress.IdentityTicket:
		body, header = `{"quantity":1}`, ` -H "Authorization: Bearer $ticket"`
		before = "  ticket=$(" + issueCommand(cfg) + ")\n"
	case ingress.IdentityHeader:
		body, header = `{"quantity":1}`, fmt.Sprintf(" -H '%s: alice'", cfg.IdentityHeader) // which a trusted proxy sends
	default:
	}
	return before + fmt.Sprintf("  curl -s %s/v1/sales/demo/orders%s -H 'Content-Type: application/json' -d '%s'\n"+
		"  curl -s%s '%s/v1/orders/ORDER?wait=5s'\n", door, header, body, header, door)
}

// issueCommand is the command that makes a ticket for the door. Its key signs: the door may have the public half alone, as
// sluice ticket key names it.
func issueCommand(cfg config.Config) string {
	args := []string{"sluice ticket issue --ticket-key", quoted(strings.TrimSuffix(cfg.TicketKey, ".pub")), "--buyer alice"}
	for _, flag := range []struct{ name, value, standard string }{
		{"ticket-issuer", cfg.TicketIssuer, ""},
		{"ticket-audience", cfg.TicketAudience, ""},
		{"ticket-buyer-claim", cfg.TicketBuyer, "sub"},
	} {
		if flag.value != flag.standard {
			args = append(args, "--"+flag.name, quoted(flag.value))
		}
	}
	return strings.Join(args, " ")
}

// quoted is a word as a shell takes it.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
