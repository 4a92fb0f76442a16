package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"sluice"
	"sluice/inventory"
)

// classify adds inventory.ErrUnavailable to whatever is not the orders' own fault. Only what the data itself caused
// stays without it: the worker looks for the bad order then, and would bury good ones for a full disk, or for a file
// that broke under it.
func (s *Store) classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*sluice.Error](err); ok {
		return err
	}
	if !s.closed.Load() && isDataError(err) {
		return fmt.Errorf("sqlite: %s: %w", doing, err)
	}
	if isUnsound(err) {
		doing += ": " + s.path + ": " + unsound
	}
	return fmt.Errorf("sqlite: %s: %w: %w", doing, inventory.ErrUnavailable, err)
}

func isDataError(err error) bool {
	switch primaryCode(err) {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_TOOBIG, lib.SQLITE_RANGE:
		return true
	}
	return false
}

const unsound = "this is not a sound SQLite database"

func isUnsound(err error) bool {
	code := primaryCode(err)
	return code == lib.SQLITE_NOTADB || code == lib.SQLITE_CORRUPT
}

// retryable is for migrations only: another process is doing the same.
func retryable(err error) bool {
	switch primaryCode(err) {
	case lib.SQLITE_BUSY, lib.SQLITE_ERROR, lib.SQLITE_CONSTRAINT, lib.SQLITE_SCHEMA:
		return true
	}
	return false
}

// primaryCode is SQLite's result code without its extension; SQLITE_OK where err has none.
func primaryCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return lib.SQLITE_OK
}

// explain says what an operator can do about a database that does not open.
func explain(err error) error {
	if isUnsound(err) { // waiting does not help
		return fmt.Errorf("%s: %w", unsound, err)
	}
	hint := ""
	switch primaryCode(err) {
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		hint = "another process holds it locked; stop that one, or give this one a file of its own"
	case lib.SQLITE_CANTOPEN, lib.SQLITE_PERM, lib.SQLITE_READONLY, lib.SQLITE_AUTH:
		hint = "the file and its directory must exist and be writable by this user"
	case lib.SQLITE_FULL:
		hint = "the disk is full"
	default:
		return fmt.Errorf("%w: %w", inventory.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w: %w", hint, inventory.ErrUnavailable, err)
}
