// Package simulate drives the protocol, doors, journals, queue, workers and store, through schedules of crashes and of lost,
// repeated and reordered messages, and checks the promises after every step. It never opens a socket and never waits: time is
// testing/synctest's, and the same schedule gives the same run.
//
// What decides is the real code: ingress.Door with its credits and its journal on Pebble, queue.Sighting, worker.Settler,
// inventory's decisions. Models are the edges alone: a disk that syncs when told and loses the rest, an nsqd that loses, repeats and
// reorders, a store that is away or whose answer gets lost, a connection that holds its request up. The loops that give the real parts time are not run: each of their
// passes is an action of the schedule, so it comes when the schedule says.
//
// Read action.go first (what a schedule is), then world.go (a run) and step.go (one action of it); what actions do is in the at*.go, the
// parts are in door.go, disk.go, queue.go, worker.go and store.go, what must hold in check.go and healed.go.
package simulate
