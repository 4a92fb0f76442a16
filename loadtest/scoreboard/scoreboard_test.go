package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestMostOutstanding_IsTheLargestOverAllTimes(t *testing.T) {
	for _, c := range []struct {
		name              string
		accepted, settled []int64
		want              int
	}{
		{"nothing", nil, nil, 0},
		{"one at a time", []int64{1, 3, 5}, []int64{2, 4, 6}, 1},
		{"all before the first is settled", []int64{1, 2, 3}, []int64{4, 5, 6}, 3},
		{"never settled", []int64{1, 2, 3, 4}, []int64{9}, 4},
		{"unsorted, and most in the middle", []int64{7, 1, 2, 3, 9}, []int64{6, 5, 4, 8, 10}, 3},
		{"settled before its answer came", []int64{5, 6}, []int64{1, 2}, 0},
		{"in the same microsecond", []int64{1, 2}, []int64{2, 3}, 1},
	} {
		if got := mostOutstanding(c.accepted, c.settled); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestReadAnswer_KnowsWholeFromPartAndWrong(t *testing.T) {
	const good = "HTTP/1.1 503 Service Unavailable\r\nServer: sluice\r\nContent-Length: 5\r\nRetry-After: 1\r\n\r\nhello"
	for n := range len(good) {
		if _, _, whole, err := readAnswer([]byte(good[:n])); whole || err != nil {
			t.Fatalf("%q: whole %t, %v", good[:n], whole, err)
		}
	}
	status, body, whole, err := readAnswer([]byte(good))
	if status != 503 || string(body) != "hello" || !whole || err != nil {
		t.Errorf("got %d %q %t %v", status, body, whole, err)
	}
	for _, bad := range []string{good + "x", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n"} {
		if _, _, _, err := readAnswer([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// A window with one wrong answer is void.
func TestLoad_FailsWithTheFirstWrongAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "000100") {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	l := &load{
		addresses: []string{address}, connections: 4,
		request: func(b []byte, n int64) []byte { return orderRequest(b, address, "demo", n) },
		judge: func(_ int64, a answer) (string, error) {
			if a.status != http.StatusTooManyRequests {
				return "", wrongAnswer(a, "429")
			}
			return "429", nil
		},
	}
	defer l.close()
	if tally, err := l.run(t.Context(), 10*time.Second, 50); err != nil || tally.answers["429"] != 50 {
		t.Errorf("50 requests: %v, %v", tally.answers, err)
	}
	if _, err := l.run(t.Context(), 10*time.Second, 1000); err == nil || !strings.Contains(err.Error(), "answered 202") {
		t.Errorf("with a wrong answer: %v", err)
	}
}

// An open model sends on while answers are missing, and ends with the first refusal.
func TestStep_DoesNotWaitForAnswers(t *testing.T) {
	const refused = 20
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == refused {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.ReadAll(r.Body) // or the server does not notice that the client has gone
		<-r.Context().Done()
	}))
	defer server.Close()
	s := &step{address: server.Listener.Addr().String(), rate: 100}
	took, err := s.run(t.Context(), 10*time.Second)
	if err != nil || took < (refused-2)*10*time.Millisecond || s.open < refused {
		t.Errorf("first refusal after %v over %d connections, %v", took, s.open, err)
	}
}

func TestStep_SaysThatNothingWasRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	defer server.Close()
	s := &step{address: server.Listener.Addr().String(), rate: 100}
	if took, err := s.run(t.Context(), 200*time.Millisecond); !errors.Is(err, errNoRefusal) || took < 200*time.Millisecond {
		t.Errorf("got %v, %v", took, err)
	}
}

func TestInterleaved_TakesTurnsAndKeepsRoundsTogether(t *testing.T) {
	var order string
	side := func(name string) func() (string, error) {
		return func() (string, error) {
			order += name
			return name, nil
		}
	}
	for want, sides := range map[string][]func() (string, error){
		"ABBAAB":    {side("A"), side("B")},
		"ABCCBAABC": {side("A"), side("B"), side("C")},
	} {
		order = ""
		done, err := interleaved(3, sides...)
		if order != want || len(done) != len(sides) || err != nil {
			t.Errorf("got %s, want %s; %d sides, %v", order, want, len(done), err)
		}
		for i, did := range done {
			if strings.Join(did, "") != strings.Repeat(string(rune('A'+i)), 3) {
				t.Errorf("side %d: %v", i, did)
			}
		}
	}
}

func TestRow_ReachesOnlyWithANumberOnTheRightSide(t *testing.T) {
	most, least := row{}, row{least: true}
	for _, c := range []struct {
		r      row
		figure float64
		want   bool
	}{{most, 1.25, true}, {most, 1.26, false}, {least, 1.25, true}, {least, 1.24, false}, {most, math.NaN(), false}, {least, math.NaN(), false}} {
		if got := c.r.reaches(c.figure, 1.25); got != c.want {
			t.Errorf("least %t, %v: got %t", c.r.least, c.figure, got)
		}
	}
}

// A row with several rivals is reached only if it is reached against each.
func TestRace_NeedsEveryRatio(t *testing.T) {
	l := &lab{progress: io.Discard}
	for _, c := range []struct {
		theirs, others int64
		want           bool
	}{{100, 10, true}, {201, 10, false}, {100, 51, false}} {
		side := func(name string, orders int64, must float64) contender {
			return contender{name: name, run: func() (speed, error) { return speed{orders: orders, took: time.Second}, nil }, must: must}
		}
		f, err := l.race(t.Context(), 3, side("ours", 100, 0), side("theirs", c.theirs, 0), side("others", c.others, 2))
		if err != nil {
			t.Fatal(err)
		}
		e := newEntry(row{id: "S4", title: "speed", must: 0.5, least: true, unit: "×"}, f)
		if e.OK != c.want || e.Ratio != 100/float64(c.theirs) || e.Also[0].Ratio != 100/float64(c.others) || e.Runs != 3 {
			t.Errorf("%+v: got %+v", c, e)
		}
		table := board{e}.table()
		if strings.Contains(table, "missed") == c.want || !strings.Contains(table, "speed against others") || !strings.Contains(table, "speed against theirs") {
			t.Errorf("%+v: got\n%s", c, table)
		}
	}
	failing := contender{name: "theirs", run: func() (speed, error) { return speed{}, io.ErrUnexpectedEOF }}
	if _, err := l.race(t.Context(), 3, failing, failing); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a side that fails: %v", err)
	}
}

// A row that can't run here keeps its entry, is no failure of the others, and is no success alone.
func TestMeasure_SkipsWithoutPassing(t *testing.T) {
	o := options{results: t.TempDir(), work: t.TempDir()}
	good := row{id: "S1", must: 1, unit: "×", measure: func(context.Context, *lab) (figure, error) { return over([]float64{1}), nil }}
	without := row{id: "S4", measure: func(context.Context, *lab) (figure, error) {
		return figure{}, fmt.Errorf("%w: no database", errSkipped)
	}}
	if err := measure(t.Context(), o, []row{good, without}, io.Discard); err != nil {
		t.Errorf("beside another: %v", err)
	}
	if err := measure(t.Context(), o, []row{without}, io.Discard); err == nil || !strings.Contains(err.Error(), "skipped: S4") {
		t.Errorf("alone: %v", err)
	}
	b, err := readBoard(o.results)
	if err != nil || len(b) != 1 || b[0].ID != "S1" {
		t.Errorf("the board has %+v, %v", b, err)
	}
}

func TestBoard_KeepsRowsThatWereNotRun(t *testing.T) {
	dir := t.TempDir()
	for _, id := range []string{"S10", "S2", "S1", "S2"} {
		b, err := readBoard(dir)
		if err != nil {
			t.Fatal(err)
		}
		b.put(newEntry(row{id: id, must: 1, unit: "×"}, over([]float64{3, 1, 2})))
		if err := b.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	b, err := readBoard(dir)
	var ids []string
	for _, e := range b {
		ids = append(ids, e.ID)
	}
	if !slices.Equal(ids, []string{"S1", "S2", "S10"}) || err != nil {
		t.Errorf("got %v, %v", ids, err)
	}
	if e := b[0]; e.Ratio != 2 || e.Spread != [2]float64{1, 3} || e.OK {
		t.Errorf("got %+v", e)
	}
	if err := os.WriteFile(filepath.Join(dir, "scoreboard.json"), []byte("no board"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readBoard(dir); err == nil {
		t.Error("a damaged board was read")
	}
}

func TestChoose_NamesWhatThereIs(t *testing.T) {
	chosen, err := choose("s9, S1")
	if err != nil || len(chosen) != 2 || chosen[0].id != "S1" || chosen[1].id != "S9" {
		t.Errorf("got %v, %v", chosen, err)
	}
	if _, err := choose("S1,S77"); err == nil || !strings.Contains(err.Error(), rowNames()) {
		t.Errorf("an unknown row: %v", err)
	}
}
