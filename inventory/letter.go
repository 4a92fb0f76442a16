package inventory

import (
	"strings"
	"time"
	"unicode"

	"sluice"
)

// Clean is the letter as any store can keep it: a dead letter must never be refused for what made it one. The body is
// cut to MaxLetterBytes; NULs and broken UTF-8, which PostgreSQL does not take, are replaced.
func (l Letter) Clean() Letter {
	l.Body = l.Body[:min(len(l.Body), MaxLetterBytes)]
	l.Message = plain(l.Message)
	l.Error = plain(l.Error)
	if l.Order != nil {
		o := *l.Order
		o.Sale, o.User, o.Key = plain(o.Sale), plain(o.User), plain(o.Key)
		o.Attributes = []byte(plain(string(o.Attributes)))
		o.AcceptedAt = Micros(o.AcceptedAt)
		l.Order = &o
	}
	return l
}

// FailedRow is the letter's order as it is stored where it was not settled yet.
func FailedRow(o sluice.Order, now time.Time) Row {
	status := FirstStatus(&o, now)
	status.State = sluice.Failed
	return Row{Order: o, Status: status}
}

func plain(s string) string {
	const replacement = string(unicode.ReplacementChar)
	return strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
}

// DecideReplay settles the order that an operator made of a dead letter, as any other order. What failed stays failed: the
// order must have an id of its own. What did not fail, because it was settled before the letter came, must not be settled
// twice. The view has the letter's order, too.
func DecideReplay(v View, failed sluice.OrderID, order sluice.Order) (Decision, error) {
	if order.ID == failed {
		return Decision{}, sluice.Refuse(sluice.BadRequest, "order %s is the one that failed; what is made of it needs an id of its own", failed)
	}
	if before, settled := v.Settled[failed]; settled && before.State != sluice.Failed {
		return Decision{}, sluice.Refuse(sluice.BadRequest, "order %s is %s: it was settled all the same, and there is nothing to replay",
			failed, before.State)
	}
	d := Decide(v, []sluice.Order{order})
	for i := range d.Rows {
		d.Rows[i].ReplayOf = failed
	}
	return d, nil
}

// NoLetter refuses a message that is no dead letter.
func NoLetter(message string) error {
	return sluice.Refuse(sluice.NotFound, "%.80q is no dead letter", message)
}

// NoRefund refuses a number that no refund has.
func NoRefund(id int64) error {
	return sluice.Refuse(sluice.NotFound, "there is no refund %d", id)
}
