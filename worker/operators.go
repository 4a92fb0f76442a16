package worker

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/health/grpc_health_v1"

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

// healthPaths are open to everybody: load balancers and supervisors have no tokens.
var healthPaths = []string{"/livez", "/readyz", grpc_health_v1.Health_Check_FullMethodName}

// guard is Guard of this worker's operators.
func (w *Worker) guard(next http.Handler) http.Handler { return Guard(w.cfg.Operators, next) }

// Guard asks for an operator's token, where there is any, for everything but the health checks, and notes whose it is.
// Without any, it turns away what pages may have made somebody's browser send. Who is nobody's keeps no connection: each of
// his ends with its answer, so that a crowd of such can't keep them all.
func Guard(operators []Operator, next http.Handler) http.Handler {
	known := make([]hashedOperator, len(operators))
	for i, o := range operators {
		known[i] = hashedOperator{o.Name, sha256.Sum256([]byte(o.Token))}
	}
	return http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
		name := anyone
		if len(known) > 0 {
			name = identify(known, r.Header.Get("Authorization"))
		} else if fromAPage(r) {
			res.Header().Set("Connection", "close")
			refuse(res, r, sluice.Refuse(sluice.BadOrigin, "without operators' tokens only programs on this machine may call, by its own address; give it --admin-token-file"))
			return
		}
		if name == "" {
			res.Header().Set("Connection", "close")
		}
		if name == "" && !slices.Contains(healthPaths, r.URL.Path) {
			refuse(res, r, sluice.Refuse(sluice.Unauthorized, "want the header Authorization: Bearer TOKEN; over gRPC, metadata of that name"))
			return
		}
		ctx := context.WithValue(r.Context(), callerKey{}, caller{name, r.RemoteAddr})
		next.ServeHTTP(res, r.WithContext(ctx))
	})
}

// fromAPage reports whether a page may have made somebody's browser send the request: one of another origin, or one whose
// name was made to point at this machine.
func fromAPage(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	own := host == "localhost" || err == nil && address.IsLoopback()
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return !own || origin != "" && origin != scheme+r.Host || site != "" && site != "same-origin" && site != "none"
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
