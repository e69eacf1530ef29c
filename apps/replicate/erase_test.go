package replicate_test

import (
	"testing"

	"github.com/halcyon-db/halcyon/apps/replicate"
)

// TestErasedDocumentBeginsAnew: where the row of a document was is remembered, and it is another one after the document was erased and made again.
func TestErasedDocumentBeginsAnew(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	old := newPeer(t, 1)
	w.must("", "a", old.set("title", "old"))
	for range 2 {
		if _, err := w.docs("", "delete", "--erase", "tasks", "a"); err != nil {
			t.Fatal(err)
		}
		if got := w.recoverAs("", "a", nil); got.Exists || len(w.material("")) != 0 {
			t.Errorf("an erased document is %+v", got)
		}
		fresh := newPeer(t, 2)
		w.must("", "a", fresh.set("title", "new"))
		w.must("", "a", fresh.set("done", true))
		same(t, "made again", fresh, w.recoverAs("", "a", nil).Bytes)
	}
}
