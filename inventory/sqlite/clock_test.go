package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/inventory"
)

// The wall clock is not ours to move: a store that finds a written time in its future stands for a host whose clock was set
// back, one with a written time in its past for a host whose clock was set forward.

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// noted is the time that is written down; forget writes another one.
func noted(t *testing.T, s *Store) time.Time {
	t.Helper()
	var us int64
	if err := s.write.QueryRowContext(t.Context(), "SELECT at FROM clock").Scan(&us); err != nil {
		t.Fatal(err)
	}
	return time.UnixMicro(us)
}

func plant(t *testing.T, s *Store, at time.Time) {
	t.Helper()
	if _, err := s.write.ExecContext(t.Context(), "UPDATE clock SET at = ?", at.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, s *Store, id string) time.Time {
	t.Helper()
	c, err := s.CreateSale(t.Context(), sluice.Sale{ID: id, Stock: 1, PerUserLimit: 1, OverAdmission: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c.Now
}

func TestClock_GoesOnFromItsAnchorAsTimePasses(t *testing.T) {
	anchor := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	c := newClock(time.Now(), anchor)
	first := c.now()
	if d := first.Sub(anchor); d < 0 || d > time.Minute {
		t.Errorf("it begins %v after its anchor", d)
	}
	// An opening time without its monotonic reading would follow the wall clock; here it is one hour of it ago.
	if c := newClock(time.Now().Add(-time.Hour), anchor); c.now().Sub(anchor) < time.Hour {
		t.Errorf("got %v an hour after %v", c.now(), anchor)
	}
	if s := fmt.Sprint(c.opened); !strings.Contains(s, "m=") {
		t.Errorf("opened at %s: without the monotonic clock a jump of the wall clock would move every deadline", s)
	}
	time.Sleep(2 * time.Millisecond)
	if next := c.now(); !next.After(first) || next != inventory.Micros(next) {
		t.Errorf("after %v comes %v", first, next)
	}
}

func TestClock_IsTheHostsAtTheStart(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), FileName))
	if now := create(t, s, "a"); time.Since(now).Abs() > time.Minute {
		t.Errorf("the store says %v, the host %v", now, time.Now())
	}
	if !strings.Contains(fmt.Sprint(s.clock.opened), "m=") {
		t.Error("the store's clock follows the wall clock")
	}
}

func TestClock_IsNotSetBackByARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	last := time.Now().Add(clockBehind - time.Minute)
	plant(t, openAt(t, path), last)
	s := openAt(t, path)
	first := create(t, s, "a")
	if first.Before(inventory.Micros(last)) || first.Sub(last) > time.Minute {
		t.Errorf("the store was at %v and goes on at %v", last, first)
	}
	if second := create(t, s, "b"); second.Before(first) {
		t.Errorf("after %v comes %v", first, second)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if again := create(t, openAt(t, path), "c"); first.Sub(again) > noteEvery { // the time that is written down may be so far behind
		t.Errorf("after another restart comes %v, before %v", again, first)
	}
}

func TestClock_FollowsAHostThatIsAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	plant(t, openAt(t, path), time.Now().Add(-1000*time.Hour))
	s := openAt(t, path)
	if now := create(t, s, "a"); time.Since(now).Abs() > time.Minute {
		t.Errorf("the store says %v, the host %v", now, time.Now())
	}
	if at := noted(t, s); time.Since(at).Abs() > time.Minute {
		t.Errorf("%v is written down", at)
	}
}

func TestClock_AsksForHelpWhereTheHostIsFarBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	plant(t, openAt(t, path), time.Now().Add(clockBehind+time.Minute))
	_, err := Open(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "set the clock") || !strings.Contains(err.Error(), "UPDATE clock SET at = 0") {
		t.Fatalf("got %v, want it to say what to do", err)
	}
	if !errors.Is(err, inventory.ErrUnavailable) {
		t.Errorf("%v: it comes right when the clock is set, without a restart", err)
	}
	func() { // as it says
		s := &Store{path: path}
		if err := s.open(context.WithoutCancel(t.Context()), path); err == nil {
			t.Error("it opened")
		}
		if _, err := s.write.ExecContext(t.Context(), "UPDATE clock SET at = 0"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	if now := create(t, openAt(t, path), "a"); time.Since(now).Abs() > time.Minute {
		t.Errorf("the store says %v, the host %v", now, time.Now())
	}
}

func TestClock_IsWrittenDownOnceASecondAndNeverBack(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), FileName))
	create(t, s, "a")
	first := noted(t, s)
	if time.Since(first).Abs() > time.Minute {
		t.Fatalf("the first transaction wrote %v down", first)
	}
	create(t, s, "b")
	if at := noted(t, s); at != first && at.Sub(first) < noteEvery {
		t.Errorf("%v was written down %v after %v", at, at.Sub(first), first)
	}
	s.clock.anchor = s.clock.anchor.Add(noteEvery) // a second later
	create(t, s, "c")
	if at := noted(t, s); at.Sub(first) < noteEvery {
		t.Errorf("a second later %v is written down, after %v", at, first)
	}
	ahead := time.Now().Add(time.Hour).Truncate(time.Microsecond) // another process on the file
	if _, err := s.write.ExecContext(t.Context(), "UPDATE clock SET at = ?", ahead.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	s.clock.anchor = s.clock.anchor.Add(noteEvery)
	create(t, s, "d")
	if at := noted(t, s); !at.Equal(ahead) {
		t.Errorf("%v is written down, want %v", at, ahead)
	}
}
