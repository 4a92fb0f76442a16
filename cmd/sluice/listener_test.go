package main

import (
	"testing"

	"sluice/config"
)

func TestAddressConnections_LeaveRoomForOthers(t *testing.T) {
	for _, c := range []struct{ all, address, want int }{{400, 0, 100}, {3, 0, 1}, {400, 7, 7}, {400, 500, 500}} {
		if got := addressConnections(config.Config{MaxConnections: c.all, AddressConnections: c.address}); got != c.want {
			t.Errorf("of %d connections an address may have %d, want %d (address-connections %d)", c.all, got, c.want, c.address)
		}
	}
}
