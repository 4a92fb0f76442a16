package inventory

import "sluice"

// MaxPage is the most that one call may list or move.
const MaxPage = 1000

// CheckPage refuses a size that no page may have.
func CheckPage(limit int) error {
	if limit < 1 || limit > MaxPage {
		return sluice.Refuse(sluice.BadRequest, "limit %d: want 1 to %d", limit, MaxPage)
	}
	return nil
}

// Clean is the query with texts as the store keeps them; see Letter.Clean.
func (q OrderQuery) Clean() OrderQuery {
	q.Sale, q.User, q.State = plain(q.Sale), plain(q.User), sluice.State(plain(string(q.State)))
	return q
}

// CleanMessage is a message's id as a letter has it; see Letter.Clean.
func CleanMessage(id string) string { return plain(id) }

// NewRecord fills in what a record has of the stored order, and the attributes, which are nil where there are none.
func NewRecord(r Record, o Stored, attributes string) Record {
	s := o.Status
	r.Status, r.PaymentRef, r.ReleaseAt = s, o.PaymentRef, o.ReleaseAt
	r.Order.ID, r.Order.Sale, r.Order.User, r.Order.Quantity = s.Order, s.Sale, s.User, s.Units
	if attributes != "" {
		r.Order.Attributes = []byte(attributes)
	}
	return r
}
