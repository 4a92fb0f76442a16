#!/usr/bin/env bash
# A flash sale on this machine: starts `sluice up --demo` on free ports with data of its own, sends a crowd of
# buyers, and stops it again. The exit status is the crowd's: 0 only if everything adds up.
#
#   loadtest/demo.sh [sqlite | postgres] [crowd's flags ...]
#
# For postgres the server is the one in SLUICE_TEST_POSTGRES, as internal/withpostgres sets it.
set -euo pipefail

store=${1:-sqlite}
shift || true
case $store in
sqlite) ;;
postgres) store=${SLUICE_TEST_POSTGRES:?run it by: go run ./internal/withpostgres -- loadtest/demo.sh postgres} ;;
*)
	echo "demo.sh: store $store: want sqlite or postgres" >&2
	exit 2
	;;
esac

bin=$(cd "$(dirname "$0")/../bin" && pwd)
work=$(mktemp -d)
pid=

# Below the ports that the kernel gives to outgoing connections, of which the crowd needs many.
free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

# stop ends sluice, which drains first, and answers its exit status.
stop() {
	[[ -n $pid ]] || return 0
	local it=$pid status=0
	pid=
	kill -TERM "$it" 2>/dev/null || true
	for _ in {1..300}; do
		kill -0 "$it" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$it" 2>/dev/null && echo "demo.sh: sluice did not stop within 30 s" >&2
	wait "$it" || status=$?
	return "$status"
}

finish() {
	local status=$?
	stop || { echo "demo.sh: sluice ended with status $?" >&2 && status=$((status ? status : 1)); }
	if ((status)) && [[ -s $work/log ]]; then
		echo "demo.sh: the end of what sluice said:" >&2
		tail -n 40 "$work/log" >&2
	fi
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

door=127.0.0.1:$(free_port)
admin=127.0.0.1:$(free_port)
"$bin/sluice" up --demo --listen "$door" --admin "$admin" --data "$work/data" --store "$store" >"$work/log" 2>&1 &
pid=$!
"$bin/crowd" --url "http://$door" --admin "http://$admin" --sale demo --ready-within 30s "$@"
