package enginetest

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
)

// Open returns an empty database in memory that is closed when the test ends.
func Open(t testing.TB, schema engine.Schema) *engine.DB {
	t.Helper()
	return OpenWith(t, schema, engine.Options{})
}

// OpenWith returns a database with some options: on the file system given, or
// an empty one in memory. Unless Fatal is set, a failing disk fails the test;
// unless FunctionTimeMax is, functions may take a minute, so that a test does
// not depend on how busy the machine is. A test may close the database itself.
func OpenWith(t testing.TB, schema engine.Schema, o engine.Options) *engine.DB {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { t.Errorf("the database failed: %v", err) }
	}
	if o.FunctionTimeMax == 0 {
		o.FunctionTimeMax = time.Minute
	}
	db, err := engine.Open("db", schema, &o)
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
			t.Errorf("close the database: %v", err)
		}
	})
	return db
}
