package stats

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

// TestTakeOff compares it with counting anew and sorting all.
func TestTakeOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		paths := []string{"/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"}
		left := make(map[string]int)
		var all, want []PathCount
		for _, path := range paths {
			count, less := rapid.IntRange(0, 6).Draw(t, "count"), rapid.IntRange(0, 7).Draw(t, "less")
			if less > 0 {
				left[path] = less
			}
			if count > 0 {
				all = append(all, PathCount{Path: path, Count: count})
			}
			if count > less {
				want = append(want, PathCount{Path: path, Count: count - less})
			}
		}
		slices.SortFunc(all, PathCount.compare)
		slices.SortFunc(want, PathCount.compare)
		got := takeOff(slices.Clone(all), len(left), func(at *PathCount) (*int, int) { return &at.Count, left[at.Path] }, PathCount.compare)
		if !slices.Equal(got, want) {
			t.Fatalf("%v less %v is %v, want %v", all, left, got, want)
		}
	})
}

// TestPlacesAlike: groups that differ in what is not shown are one place.
func TestPlacesAlike(t *testing.T) {
	group := func(latitude float64, city *string, count int64) halcyon.GroupCount {
		named := value.Value{}
		if city != nil {
			named = value.String(*city)
		}
		return halcyon.GroupCount{Group: []value.Value{value.Float64(latitude), value.Float64(7), value.String("CH"), named}, Count: count}
	}
	var p groupedPlaces
	for _, g := range []struct {
		latitude float64
		city     *string
		count    int64
	}{{10, new("Basel"), 2}, {10.04, new("Basel"), 3}, {20, nil, 4}, {20, new(""), 4}} {
		p.add(group(g.latitude, g.city, g.count), 0)
	}
	want := places{{place{latitude: 20, longitude: 7, country: "CH"}, 8}, {place{latitude: 10, longitude: 7, country: "CH", city: "Basel"}, 5}}
	if got := p.places(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
