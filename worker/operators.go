package worker

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"sluice"
)

// Operator is somebody who may use the operations API: a person, or the doors.
type Operator struct {
	Name  string // as the log tells who changed something
	Token string
}

// caller is who makes a call, and from where.
type caller struct{ operator, remote string }

// anyone is the operator's name where no tokens are asked for: then the API is served on loopback only.
const anyone = "loopback"

type callerKey struct{}

// callerOf answers who makes the call that ctx belongs to.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// guard asks for an operator's token, where there is any, for everything but the health checks, and notes whose it is.
func (w *Worker) guard(next http.Handler) http.Handler {
	known := make([]hashedOperator, len(w.cfg.Operators))
	for i, o := range w.cfg.Operators {
		known[i] = hashedOperator{o.Name, sha256.Sum256([]byte(o.Token))}
	}
	return http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
		name := anyone
		if len(known) > 0 {
			name = identify(known, r.Header.Get("Authorization"))
		}
		if name == "" && r.URL.Path != "/livez" && r.URL.Path != "/readyz" {
			writeProblem(res, sluice.Refuse(sluice.Unauthorized, "want the header Authorization: Bearer TOKEN"))
			return
		}
		ctx := context.WithValue(r.Context(), callerKey{}, caller{name, r.RemoteAddr})
		next.ServeHTTP(res, r.WithContext(ctx))
	})
}

// hashedOperator has the token as a hash: hashes are of one length, so comparing them tells nothing of the token's.
type hashedOperator struct {
	name  string
	token [sha256.Size]byte
}

// identify answers whose token a request shows; empty where it is nobody's. It compares with every token, so that the
// time it takes does not tell which one came close.
func identify(known []hashedOperator, authorization string) (name string) {
	token, bearer := strings.CutPrefix(authorization, "Bearer ")
	if !bearer {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	for i := range known {
		if subtle.ConstantTimeCompare(sum[:], known[i].token[:]) == 1 {
			name = known[i].name
		}
	}
	return name
}
