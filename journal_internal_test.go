package halcyon

import (
	"slices"
	"testing"
)

// Runs of a query may go on beside each other, at different snapshots. Where its pages end is settled by the first that ends: the others are done
// again with its ends, or the page after would begin where the one before does not end.
func TestPagesEndWhereTheFirstRunPutTheEnd(t *testing.T) {
	var j journal
	first, second := j.get(), j.get()
	if !j.settle(second, []string{"c"}) {
		t.Fatal("the run that ends first is not taken")
	}
	if j.settle(first, []string{"e"}) {
		t.Error("a run that was begun without ends moves them")
	}
	if again := j.get(); !slices.Equal(again, []string{"c"}) || !j.settle(again, []string{"c", "h"}) {
		t.Errorf("a run with the ends %q that reads a page more is not taken", again)
	}
}
