package replicate

import (
	"strings"
	"testing"
	"time"
)

// TestDocsProgress is told once a second.
func TestDocsProgress(t *testing.T) {
	var said strings.Builder
	now := time.Unix(0, 0)
	p := &docsProgress{out: &said, verb: "imported", now: func() time.Time { return now }, last: now}
	for range 25 {
		now = now.Add(100 * time.Millisecond)
		p.add()
	}
	if want := "imported 10 documents\nimported 20 documents\n"; said.String() != want {
		t.Errorf("it said %q, want %q", &said, want)
	}
}
