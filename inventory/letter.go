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
