package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/api"
)

func TestDoors_HoldTheirNames(t *testing.T) {
	var d doors
	began := time.Now()
	for n, c := range []struct {
		after time.Duration
		door  api.Door
		sum   int64
		taken bool
	}{
		{0, api.Door{Door: "north", Instance: "a", Bound: 10}, 10, false},
		{1 * time.Second, api.Door{Door: "south", Instance: "a", Bound: 20}, 30, false},
		{2 * time.Second, api.Door{Door: "north", Instance: "b", Bound: 10}, 0, true},
		{4 * time.Second, api.Door{Door: "north", Instance: "a", Bound: 15}, 35, false}, // the first one is not disturbed
		{6 * time.Second, api.Door{Door: "north", Instance: "b", Leaving: true}, 0, false},
		{8 * time.Second, api.Door{Door: "north", Instance: "b", Bound: 10}, 0, true}, // nor by one that gives up
		{9 * time.Second, api.Door{Door: "north", Instance: "b", Bound: 10}, 30, false},
		{9 * time.Second, api.Door{Door: "north", Instance: "a", Bound: 10}, 0, true}, // it was gone, and now the name is
		{10 * time.Second, api.Door{Door: "north", Instance: "b", Leaving: true}, 20, false},
		{10 * time.Second, api.Door{Door: "north", Instance: "c", Bound: 10}, 30, false}, // a rolling restart does not wait
		{10 * time.Second, api.Door{Door: "north", Bound: 10}, 30, false},                // one that does not tell is taken at its word
		{10 * time.Second, api.Door{Door: "north", Instance: "d", Bound: 10}, 30, false},
		{10 * time.Second, api.Door{Instance: "a", Bound: 10}, 30, false}, // it is not counted
	} {
		sum, err := d.heard(began.Add(c.after), &c.door)
		if taken := sluice.RefusalOf(err) == sluice.NameTaken; sum != c.sum || (err != nil) != c.taken || err != nil && !taken {
			t.Errorf("%d: after %v %+v: %d, %v; want %d, taken: %t", n, c.after, c.door, sum, err, c.sum, c.taken)
		}
	}
}

// A door that died is let in at once when it comes back with its journal, however short ago it was heard; whoever has another journal, an
// older life of it, or a copy, is not.
func TestDoors_LetTheDeadComeBack(t *testing.T) {
	var d doors
	began := time.Now()
	for n, c := range []struct {
		door  api.Door
		taken bool
	}{
		{api.Door{Door: "north", Instance: "a", Journal: "j", Life: 1, Bound: 10}, false},
		{api.Door{Door: "north", Instance: "b", Journal: "j", Life: 2, Bound: 10}, false},
		{api.Door{Door: "north", Instance: "a", Journal: "j", Life: 1, Bound: 10}, true},
		{api.Door{Door: "north", Instance: "a", Journal: "j", Life: 1, Leaving: true}, false}, // it takes nothing along
		{api.Door{Door: "north", Instance: "copy", Journal: "j", Life: 2, Bound: 10}, true},
		{api.Door{Door: "north", Instance: "c", Journal: "k", Life: 3, Bound: 10}, true},
		{api.Door{Door: "north", Instance: "d", Life: 3, Bound: 10}, true}, // it does not say whose it is
		{api.Door{Door: "north", Instance: "b", Journal: "j", Life: 2, Bound: 10}, false},
		{api.Door{Door: "north", Instance: "copy's next", Journal: "j", Life: 3, Bound: 10}, false},
		{api.Door{Door: "north", Instance: "b", Journal: "j", Life: 2, Bound: 10}, true}, // now the first one knows of the copy
	} {
		sum, err := d.heard(began.Add(time.Duration(n)*time.Millisecond), &c.door)
		if taken := sluice.RefusalOf(err) == sluice.NameTaken; taken != c.taken || (err != nil) != c.taken || err == nil && !c.door.Leaving && sum != 10 {
			t.Errorf("%d: %+v: %d, %v; want taken: %t", n, c.door, sum, err, c.taken)
		}
	}
}

func TestFacts_AreForDoorsWithTheWorkersKeyAndANameOfTheirOwn(t *testing.T) {
	s := newShop(t, nil)
	own := s.keys.Fingerprint()
	for _, c := range []struct {
		body   string
		status int
		reason any
		detail string
	}{
		{fmt.Sprintf(`{"door":"north","bound":100,"id_key":%q,"instance":"a"}`, own), 200, nil, ""},
		{`{"door":"south","bound":100,"id_key":"0123456789abcdef","instance":"b"}`, 409, "wrong-key", "give all doors and workers the same --id-key"},
		{`{"door":"north","bound":100,"instance":"b"}`, 409, "name-taken", "want an --id of its own"},
		{`{"door":"north","bound":100,"instance":"a","leaving":true}`, 200, nil, ""},
		{`{"door":"north","bound":100,"instance":"b"}`, 200, nil, ""},
		{fmt.Sprintf(`{"door":"west","instance":%q}`, strings.Repeat("i", 65)), 400, "bad-request", "at most 64 bytes"},
	} {
		status, answer := s.call("POST", api.PathFacts, c.body, testToken)
		detail, _ := answer["detail"].(string)
		if status != c.status || answer["reason"] != c.reason || !strings.Contains(detail, c.detail) {
			t.Errorf("%s: %d %v, want %d %v", c.body, status, answer, c.status, c.reason)
		}
	}
}
