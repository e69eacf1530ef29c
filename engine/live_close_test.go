package engine_test

import (
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
)

// A run of a live query that is in progress when the database is closed ends, and Close with it.
func TestCloseWhileALiveQueryRuns(t *testing.T) {
	for name, full := range map[string]func() []byte{"without Full": nil, "with Full": func() []byte { return []byte("full") }} {
		t.Run(name, func(t *testing.T) {
			db, err := engine.Open("db", schema, &engine.Options{FS: vfs.NewMem()})
			if err != nil {
				t.Fatal(err)
			}
			closed := make(chan error, 1)
			s := db.NewQuerySet(func() {})
			s.Add(1, engine.LiveQuery{Key: "q", Full: full, Run: func(*engine.Tx) []byte {
				go func() { closed <- db.Close() }()
				for !db.LiveClosed() {
					runtime.Gosched()
				}
				return []byte("result")
			}})
			s.Poll(0) // starts it
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
}
