package engine

import (
	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
)

// WithGroups sets how many transactions a group takes and how many groups may
// be in flight.
func (o Options) WithGroups(attempts, flying int) Options {
	o.commit = commit.Options{GroupAttemptsMax: attempts, GroupsInFlight: flying}
	return o
}

// SweepOnce removes what its retention has passed, as happens every 10 minutes.
func (db *DB) SweepOnce() error { return db.sweepOnce() }

// StoredOutcomes returns how many outcomes of requests are stored.
func (db *DB) StoredOutcomes() (n int) {
	s := db.states.acquireDurable()
	defer db.states.release(s)
	r := keys.Prefixed([]byte{keys.PrefixRequest})
	it, err := s.snap.Iterate(r.Start, r.End)
	if err != nil {
		panic(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n
}
