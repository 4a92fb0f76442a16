package ingress

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"sluice"
)

// contentForm is what an HTML form posts; the only encoding of forms that is taken.
const contentForm = "application/x-www-form-urlencoded"

var formType = []byte(contentForm)

func isForm(h *fasthttp.RequestHeader) bool { return bytes.EqualFold(mediaType(h), formType) }

// parseForm reads the fields of a form, with the same limits as those of an object: user, quantity, and key, which is the
// Idempotency-Key.
func (r *request) parseForm(body []byte) *sluice.Error {
	if !escapesAreWhole(body) {
		return sluice.Refuse(sluice.BadRequest, "the form has a %% that two hexadecimal digits do not follow")
	}
	keyed, counted := len(r.key) > 0, false
	r.form.ParseBytes(body)
	for name, value := range r.form.All() {
		var err *sluice.Error
		switch string(name) {
		case "user":
			switch {
			case len(r.user) > 0:
				err = twice(name)
			case !r.setUser(value):
				err = sluice.Refuse(sluice.BadRequest, "user: want 1 to %d bytes of UTF-8 without control characters", sluice.MaxUserBytes)
			}
		case "quantity":
			if counted {
				err = twice(name)
			} else {
				err = r.setQuantity(value)
			}
			counted = true
		case "key":
			if keyed {
				err = twice(name)
			} else {
				err = r.setKey(value)
			}
			keyed = true
		case "":
		default:
			err = sluice.Refuse(sluice.BadRequest, "%.40q is not a field of an order; want user, quantity, key", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func twice(name []byte) *sluice.Error {
	return sluice.Refuse(sluice.BadRequest, "%s: it is there twice; want it once", name)
}

// escapesAreWhole reports whether every % begins an escape; what does not would be taken as it is.
func escapesAreWhole(body []byte) bool {
	for {
		i := bytes.IndexByte(body, '%')
		if i < 0 {
			return true
		}
		body = body[i+1:]
		if len(body) < 2 || !isHex(body[0]) || !isHex(body[1]) {
			return false
		}
	}
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
