package loadtest

import (
	"context"
	"time"
)

// How often a service is asked whether it is idle. The audit counts whole tables, and is asked less often.
const (
	idleInterval  = 50 * time.Millisecond
	auditInterval = 500 * time.Millisecond
)

// waitIdle waits until no order is outstanding at any door, and answers when that was; not ok: it did not come within the time given.
// Where no door tells, it goes by the audit of sales: all that was promised is settled, and then nothing more for a while.
func (w *watch) waitIdle(ctx context.Context, most time.Duration, sales []string, promised int64) (at time.Time, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if len(w.doors) > 0 {
		return w.untilNoneOutstanding(ctx)
	}
	return untilSettled(ctx, w.service, sales, promised)
}

func (w *watch) untilNoneOutstanding(ctx context.Context) (at time.Time, ok bool) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, w.patience)
		told, errs := w.ask(limited, w.doors)
		cancel()
		outstanding := 0.0
		for _, r := range told {
			outstanding += r.outstanding
		}
		if len(errs) == 0 && outstanding == 0 {
			return time.Now(), true
		}
		_ = sleep(ctx, idleInterval) // the loop sees the end
	}
	return time.Time{}, false
}

func untilSettled(ctx context.Context, s *Service, sales []string, promised int64) (at time.Time, ok bool) {
	client := s.operations()
	defer client.Close()
	var last int64 = -1
	for ctx.Err() == nil {
		if ledger, err := client.Audit(ctx); err == nil {
			switch settled := linesOf(ledger, sales).settled(); {
			case settled != last:
				at, last = time.Now(), settled
			case settled >= promised:
				return at, true
			}
		}
		_ = sleep(ctx, auditInterval)
	}
	return time.Time{}, false
}
