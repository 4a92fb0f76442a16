package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sluice"
	"sluice/inventory"
)

// The worker buries an order whose error is not ErrUnavailable: nothing but the data may do that to it.
func TestClassify_OnlyDataIsAnOrdersOwnFault(t *testing.T) {
	for code, available := range map[string]bool{
		"22021": true, "22003": true, "23514": true, "23505": true, "54000": true,
		"08006": false, "40001": false, "40P01": false, "53100": false, "53300": false, "55P03": false, "57014": false,
		"57P01": false, "57P03": false, "25P03": false, "25006": false, "42P01": false, "XX001": false,
	} {
		err := classify("reserve", fmt.Errorf("write: %w", &pgconn.PgError{Code: code}))
		if errors.Is(err, inventory.ErrUnavailable) == available {
			t.Errorf("SQLSTATE %s: got %v, want ErrUnavailable: %v", code, err, !available)
		}
	}
	for _, cause := range []error{io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded} {
		if err := classify("reserve", cause); !errors.Is(err, inventory.ErrUnavailable) || !errors.Is(err, cause) {
			t.Errorf("%v: got %v, want ErrUnavailable and the cause", cause, err)
		}
	}
	refusal := sluice.Refuse(sluice.NotHeld, "no")
	if err := classify("cancel", refusal); !errors.Is(err, refusal) || errors.Is(err, inventory.ErrUnavailable) {
		t.Errorf("a refusal: got %v", err)
	}
}
