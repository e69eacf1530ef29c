package stats

import (
	"fmt"
	"testing"
)

// TestValuesOfADay: of a day with more values than are told apart the rest is one; what
// was added there is taken out there, also when there is room again by then.
func TestValuesOfADay(t *testing.T) {
	const more = 5
	d := newDayValues([]Rollup{{Site: "a.org", Kind: kindPaths}})
	path := func(i int) label { return label{DimensionPath, fmt.Sprint("/", i)} }
	first := func(n int) sum { return sum{views: n, firsts: map[int]int{0: n}} }
	for i := range dayPathsMax + more {
		d.add(path(i), first(1))
	}
	parts := dayPathsMax/valuesMax + 1
	if len(d.rows) != parts || len(d.rows[parts-1].Values) != 1 {
		t.Fatalf("%d rows, the last with %d values; want %d and one value", len(d.rows), len(d.rows[len(d.rows)-1].Values), parts)
	}
	other := &d.rows[parts-1].Values[0]
	if other.Value != valueOther || other.Views != more {
		t.Fatalf("the rest is %+v, want %d views", other, more)
	}
	// What one was added to before it was told apart comes out of the rest.
	d.add(path(1), first(-3))
	if v := d.rows[0].Values[1]; v.Views != 0 || len(v.Firsts) != 0 || other.Views != more-2 || other.Firsts[1] != more-2 {
		t.Errorf("three views of a path that has one are taken out: %+v and the rest %+v", v, other)
	}
	d.add(path(dayPathsMax+1), first(-1))
	if other.Views != more-3 || len(d.rows) != parts {
		t.Errorf("a view that is in the rest is taken out: the rest is %+v", other)
	}
}
