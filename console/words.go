package console

import (
	"fmt"
	"time"

	"sluice"
)

// words are a title and what there is to say below it.
type words struct{ Title, Text string }

// refused is why an order was not taken, in a buyer's words.
var refused = map[sluice.Refusal]words{
	sluice.BadRequest:           {"That did not work", "The order could not be understood. Go back to the shop and try once more."},
	sluice.TooLarge:             {"That did not work", "The order was too large. Go back to the shop and try once more."},
	sluice.UnsupportedMediaType: {"That did not work", "The order came in a form that is not understood here. Go back to the shop and try once more."},
	sluice.TooSlowRequest:       {"That took too long", "The order did not arrive in time: the connection may be bad. Try once more."},
	sluice.IdempotencyMismatch:  {"You have ordered already", "This order is in, for another number of units. It stays as it was."},
	sluice.NoSuchSale:           {"There is no such sale", "It may be over, or the address may be wrong."},
	sluice.NoSuchOrder:          {"There is no such order", "The address may be wrong, or the order may be somebody else's."},
	sluice.NotFound:             {"There is nothing here", "The address may be wrong."},
	sluice.MethodNotAllowed:     {"There is nothing to see here", "Orders are placed on the shop's own page."},
	sluice.NotStarted:           {"Not yet", "The sale has not started."},
	sluice.Ended:                {"The sale is over", "It has ended, and takes no more orders."},
	sluice.SalePaused:           {"A short break", "The sale is paused. Nothing was ordered."},
	sluice.AllSold:              {"Sold out", "Every unit has found its buyer."},
	sluice.NoneFree:             {"None is free right now", "Every unit is held for somebody, or spoken for. What is not paid for comes back."},
	sluice.RateLimited:          {"A little too fast", "You have asked very often. Nothing was ordered."},
	sluice.BadTicket:            {"Please come in through the shop", "Your ticket for this sale is missing, or it is not good any more. The shop gives you a new one."},
	sluice.BadOrigin:            {"Not from that page", "The order came from a page that may not order here. Nothing was ordered. Order on the shop's own page."},
	sluice.Blocked:              {"Not possible from here", "Orders from you, or from your network, are turned away. If you think that this is a mistake, write to the shop."},
	sluice.QueueFull:            {"So many people at once", "The line is full. Nothing was ordered, and your chances are as good as anybody's."},
	sluice.TooSlow:              {"The line is very long", "You would wait for too long. Nothing was ordered, and your chances are as good as anybody's."},
	sluice.Unavailable:          {"We can't tell yet", "Something is slow on our side, and nothing is certain at this moment."},
}

// otherwise is for what no buyer should ever meet.
var otherwise = words{"Something went wrong", "This is our mistake, not yours. Go back to the shop and try once more."}

func refusedWords(r sluice.Refusal) words {
	if w, ok := refused[r]; ok {
		return w
	}
	return otherwise
}

// rejected is why an admitted order got nothing.
var rejected = map[sluice.Reason]words{
	sluice.SoldOut:     {"Sold out", "There were not enough units left when it was your turn. You pay nothing."},
	sluice.UserLimit:   {"You have your share", "You have as many units as one buyer may have, so this order got none. You pay nothing."},
	sluice.SaleClosed:  {"The sale is over", "Your order came in after the end. You pay nothing."},
	sluice.Stale:       {"It took too long", "Your order waited for longer than the shop allows, so it was let go. You pay nothing."},
	sluice.UnknownSale: {"There is no such sale", "The sale was taken back. You pay nothing."},
}

// outcome is what there is to say of an order.
func outcome(s *sluice.Status) words {
	switch s.State {
	case sluice.Queued:
		return words{"You are in the line", ""}
	case sluice.Held:
		return words{"It is yours", ""}
	case sluice.Paid:
		return words{"It is yours", fmt.Sprintf("Your order is complete: %s.", units(s.Units))}
	case sluice.Expired:
		return words{"The time is over", "The order was not paid in time, and its units went back on sale. You pay nothing."}
	case sluice.Cancelled:
		return words{"The order was cancelled", "Its units went back on sale. You pay nothing."}
	case sluice.Rejected:
		if w, ok := rejected[s.Reason]; ok {
			return w
		}
		return words{"It did not work out", "The order got no units. You pay nothing."}
	default:
		return words{"Something went wrong", "Your order could not be settled. Write to the shop with the number below."}
	}
}

func units(n int) string {
	if n == 1 {
		return "1 unit"
	}
	return fmt.Sprintf("%d units", n)
}

// about is a time as one says it.
func about(d time.Duration) string {
	switch s := max(1, int64(d.Round(time.Second)/time.Second)); {
	case s == 1:
		return "1 second"
	case s < 90:
		return fmt.Sprintf("%d seconds", s)
	case s < 90*60:
		return fmt.Sprintf("%d minutes", (s+30)/60)
	default:
		return fmt.Sprintf("%d hours", (s+1800)/3600)
	}
}
