package replicate

import (
	"fmt"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

func TestDocCache(t *testing.T) {
	c := docCache{bytesMax: 10 * 5000}
	put := func(i int) {
		d := yjs.NewDoc(nil)
		if err := d.Map("fields").Set("n", i); err != nil {
			t.Fatal(err)
		}
		c.put(fmt.Appendf(nil, "version %d", i), d, 100)
	}
	holds := func(i int) bool {
		d := c.take(fmt.Appendf(nil, "version %d", i))
		if d == nil {
			return false
		}
		if n, _ := d.Map("fields").Get("n"); n != float64(i) {
			t.Errorf("version %d is another document, %v", i, n)
		}
		return true
	}
	for i := range 30 {
		put(i)
	}
	if holds(0) || !holds(29) || c.mu.bytes > c.bytesMax || len(c.mu.byVersion) != c.mu.order.Len() {
		t.Errorf("of 30 documents %d are there, of %d bytes", c.mu.order.Len(), c.mu.bytes)
	}
	if holds(29) {
		t.Error("a document is in two hands")
	}
	put(28) // again
	c.drop(time.Now().Add(-time.Hour))
	if !holds(28) {
		t.Error("a document that was just used is gone")
	}
	c.drop(time.Now().Add(time.Hour))
	if c.mu.order.Len() != 0 || c.mu.bytes != 0 || len(c.mu.byVersion) != 0 {
		t.Errorf("after all were dropped there are %d documents of %d bytes", c.mu.order.Len(), c.mu.bytes)
	}
	small := docCache{bytesMax: 1}
	small.put([]byte("v"), yjs.NewDoc(nil), 1)
	if small.take([]byte("v")) != nil || small.mu.bytes != 0 {
		t.Error("a document that is larger than the cache is kept")
	}
}

// TestHeadIDsAreBounded: many documents are forgotten in part, and those that are known are right.
func TestHeadIDsAreBounded(t *testing.T) {
	var c headIDs
	for i := range 2 * headIDsMax {
		name := fmt.Sprint(i)
		c.put(name, halcyon.ID[head](name))
	}
	if n := len(c.mu.ids); n != headIDsMax {
		t.Errorf("%d ids are kept, want %d", n, headIDsMax)
	}
	for name, id := range c.mu.ids {
		if string(id) != name {
			t.Fatalf("%q is at %q", name, id)
		}
	}
}
