package stats

import (
	"slices"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

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
