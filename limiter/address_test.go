package limiter

import (
	"net/netip"
	"testing"
	"time"

	"sluice"
)

func proxies(networks ...string) (p Proxies) {
	for _, n := range networks {
		p = append(p, netip.MustParsePrefix(n))
	}
	return p
}

// Only a trusted proxy is believed, and only about who stood before it.
func TestProxies_FindTheClient(t *testing.T) {
	trusted := proxies("10.0.0.0/8", "2001:db8:ffff::/48")
	for _, c := range []struct {
		what, peer string
		header     []string
		want       string
	}{
		{"a stranger's header is ignored", "203.0.113.7", []string{"198.51.100.1"}, "203.0.113.7"},
		{"a proxy names the buyer", "10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"what the buyer claimed stands further left", "10.0.0.1", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"a chain of proxies is walked through", "10.0.0.1", []string{"1.1.1.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"several lines are one list", "10.0.0.1", []string{"198.51.100.1", "10.9.9.9"}, "198.51.100.1"},
		{"a proxy without a header is the client", "10.0.0.1", nil, "10.0.0.1"},
		{"proxies all the way: the first", "10.0.0.1", []string{"10.0.0.3,10.0.0.2"}, "10.0.0.3"},
		{"nonsense ends the walk", "10.0.0.1", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"nonsense behind a proxy", "10.0.0.1", []string{"unknown, 10.0.0.2"}, "10.0.0.2"},
		{"an empty entry ends the walk", "10.0.0.1", []string{"198.51.100.1, ,"}, "10.0.0.1"},
		{"a port is no harm", "10.0.0.1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6 with a port", "2001:db8:ffff::1", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"IPv4 in IPv6 clothes is IPv4", "::ffff:10.0.0.1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"a zone is cut off", "10.0.0.1", []string{"fe80::1%eth0"}, "fe80::1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			var header [][]byte
			for _, line := range c.header {
				header = append(header, []byte(line))
			}
			if got := trusted.Client(netip.MustParseAddr(c.peer), header); got.String() != c.want {
				t.Errorf("client of %s with %q: %v, want %s", c.peer, c.header, got, c.want)
			}
		})
	}
}

func TestCaller_CountsAHouseholdAsOne(t *testing.T) {
	for address, want := range map[string]string{
		"198.51.100.1": "198.51.100.1", "::ffff:198.51.100.1": "198.51.100.1",
		"2001:db8:1:2::1": "2001:db8:1:2::", "2001:db8:1:2:ffff::9": "2001:db8:1:2::", "2001:db8:1:3::1": "2001:db8:1:3::",
		"fe80::1%eth0": "fe80::",
	} {
		if got := Caller(netip.MustParseAddr(address)); got.String() != want {
			t.Errorf("Caller(%s) = %v, want %s", address, got, want)
		}
	}
	if got := Caller(netip.Addr{}); got.IsValid() {
		t.Errorf("nobody's address is counted as %v", got)
	}
}

func FuzzProxies(f *testing.F) {
	f.Add([]byte("198.51.100.1, 10.0.0.2"))
	f.Add([]byte("[2001:db8::1]:80,,"))
	trusted := proxies("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, header []byte) {
		peer := netip.MustParseAddr("10.0.0.1")
		if got := trusted.Client(peer, [][]byte{header}); !got.IsValid() || got.Is4In6() || got.Zone() != "" {
			t.Errorf("client of %q: %v", header, got)
		}
		if got := trusted.Client(netip.MustParseAddr("192.0.2.1"), [][]byte{header}); got.String() != "192.0.2.1" {
			t.Errorf("a stranger's header %q is believed: %v", header, got)
		}
	})
}

func TestBlocks_TurnAwayWhoIsListedAndNobodyElse(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := NewBlocks([]sluice.Block{
		{User: "bot"},
		{User: "reformed", Until: now},
		{User: "waiting", Until: now.Add(time.Second)},
		{Network: netip.MustParsePrefix("198.51.100.0/24")},
		{Network: netip.MustParsePrefix("203.0.113.7/32")},
		{Network: netip.MustParsePrefix("192.0.2.0/24"), Until: now},
		{Network: netip.MustParsePrefix("2001:db8:1::/48"), Until: now.Add(time.Hour)},
	})
	for user, want := range map[string]bool{"bot": true, "reformed": false, "waiting": true, "Bot": false, "": false} {
		if got := b.User(now, []byte(user)); got != want {
			t.Errorf("user %q blocked: %t", user, got)
		}
	}
	for address, want := range map[string]bool{
		"198.51.100.0": true, "198.51.100.255": true, "198.51.101.0": false, "203.0.113.7": true, "203.0.113.8": false,
		"192.0.2.1": false, "2001:db8:1:ffff::1": true, "2001:db8:2::1": false, "::": false,
	} {
		if got := b.Address(now, netip.MustParseAddr(address)); got != want {
			t.Errorf("address %s blocked: %t", address, got)
		}
	}
	if b.Address(now, netip.Addr{}) || (*Blocks)(nil).User(now, []byte("bot")) || (*Blocks)(nil).Address(now, netip.MustParseAddr("::1")) {
		t.Error("nobody is blocked")
	}
}
