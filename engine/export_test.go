package engine

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
)

// OpenEmbeddedLog opens the log inside of a store without a database around it.
func OpenEmbeddedLog(t testing.TB, fs vfs.FS) (log CommitLog, closeLog func()) {
	t.Helper()
	s, err := store.Open("log", store.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	l, err := newEmbeddedLog(s)
	if err != nil {
		t.Fatal(err)
	}
	return l, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// WithGroups sets how many transactions a group takes and how many groups may
// be in flight.
func (o Options) WithGroups(attempts, flying int) Options {
	o.commit = commit.Options{GroupAttemptsMax: attempts, GroupsInFlight: flying}
	return o
}

// WithBuildHook calls f before each step of the builder.
func (o Options) WithBuildHook(f func()) Options {
	o.buildHook = f
	return o
}

// WithLoadHook calls f at each stage of a load: written, marked, ingested.
func (o Options) WithLoadHook(f func(stage string)) Options {
	o.loadHook = f
	return o
}

// WithBuiltAtOpen sets up to how many rows Open waits for the builds of a table.
func (o Options) WithBuiltAtOpen(rows int64) Options {
	o.builtAtOpen = rows
	return o
}

// SweepOnce removes what its retention has passed, as happens every 10 minutes.
func (db *DB) SweepOnce() error { return db.sweepOnce() }

// StoredOutcomes returns how many outcomes of requests are stored.
func (db *DB) StoredOutcomes() (n int) {
	db.Stored(keys.PrefixRequest, func(_, _ []byte) { n++ })
	return n
}

// Stored calls f for every stored key of a kind.
func (db *DB) Stored(prefix byte, f func(key, val []byte)) {
	s := db.states.acquireDurable()
	defer db.states.release(s)
	r := keys.Prefixed([]byte{prefix})
	it, err := s.snap.Iterate(r.Start, r.End)
	if err != nil {
		panic(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		f(it.Key(), it.Value())
	}
}

// Damage puts and removes keys behind the engine's back; a nil value removes.
// The next commit makes it visible.
func (db *DB) Damage(kv map[string][]byte) error {
	b := db.store.NewBatch()
	for k, v := range kv {
		var err error
		if v == nil {
			err = b.Delete([]byte(k))
		} else {
			err = b.Set([]byte(k), v)
		}
		if err != nil {
			return err
		}
	}
	return db.store.ApplyDurably(b)
}

// LiveClosed reports whether live queries have ended but for the runs in progress.
func (db *DB) LiveClosed() bool {
	db.hub.mu.Lock()
	defer db.hub.mu.Unlock()
	return db.hub.mu.closed
}
