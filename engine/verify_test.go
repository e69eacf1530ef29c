package engine_test

import (
	"context"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
)

// verify fails the test if the database contradicts itself.
func verify(t testing.TB, db *engine.DB) engine.Report {
	t.Helper()
	r, err := db.Verify(context.Background())
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	for _, f := range r.Faults {
		t.Errorf("verify: %s", f)
	}
	if r.FaultsTotal > 0 {
		t.Fatalf("verify found %d faults", r.FaultsTotal)
	}
	return r
}
