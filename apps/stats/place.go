package stats

import (
	"cmp"
	"math"
	"slices"

	"github.com/halcyon-db/halcyon"
)

const (
	// locationsMax is the most visitors that are listed one by one; above it
	// they are listed by place.
	locationsMax = 1000

	// cityVisitorsMin is how many visitors a city needs before it is named, so
	// that no single visitor is.
	cityVisitorsMin = 3
)

// A VisitorLocation is where a visitor is, as coarse as it is made public: to a
// tenth of a degree, and never with a path or an id.
type VisitorLocation struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	City      *string `json:"city"`
	Country   *string `json:"country"`
	Count     *int    `json:"count"` // visitors there, when listed by place
}

// place is a VisitorLocation that can be a map key.
type place struct {
	latitude, longitude float64
	city, country       string
}

// city is a city as a map key: names repeat between countries.
type city struct{ name, country string }

// places is how many visitors are where.
type places map[place]int

// place returns where a visitor is. Those without both coordinates are nowhere.
func (s *ActiveSession) place() (place, bool) {
	if s.Latitude == nil || s.Longitude == nil {
		return place{}, false
	}
	at := place{latitude: tenth(*s.Latitude), longitude: tenth(*s.Longitude)}
	if s.Country != nil {
		at.country = *s.Country
	}
	if s.City != nil {
		at.city = *s.City
	}
	return at, true
}

// addGroup adds a group of an aggregate whose values are a place from the first one on.
func (p places) addGroup(g halcyon.GroupCount, first int) {
	group := g.Group[first:]
	latitude, known := group[0].AsFloat64()
	longitude, both := group[1].AsFloat64()
	if !known || !both {
		return
	}
	at := place{latitude: tenth(latitude), longitude: tenth(longitude)}
	at.country, _ = group[2].AsString()
	at.city, _ = group[3].AsString()
	p[at] += int(g.Count)
}

// less takes off visitors.
func (p places) less(left places) places {
	for at, count := range left {
		if p[at] -= count; p[at] <= 0 {
			delete(p, at)
		}
	}
	return p
}

// counted is a place and how many visitors are there.
type counted struct {
	place
	count int
}

// compare puts the place with more visitors first.
func (x counted) compare(y counted) int {
	switch {
	case x.count != y.count:
		return cmp.Compare(y.count, x.count)
	case x.latitude != y.latitude:
		return cmp.Compare(x.latitude, y.latitude)
	case x.longitude != y.longitude:
		return cmp.Compare(x.longitude, y.longitude)
	}
	return cmp.Or(cmp.Compare(x.country, y.country), cmp.Compare(x.city, y.city))
}

// tenth rounds to a tenth of a degree. The sum turns -0 into 0.
func tenth(degrees float64) float64 { return math.Round(degrees*10)/10 + 0 }

// coarse is tenth for a coordinate that may not be known.
func coarse(degrees *float64) *float64 {
	if degrees == nil {
		return nil
	}
	rounded := tenth(*degrees)
	return &rounded
}

// list returns the locations in an order that says nothing about the visitors'.
func (p places) list() []VisitorLocation {
	inCity, total := make(map[city]int), 0
	for at, count := range p {
		total += count
		if at.city != "" {
			inCity[city{at.city, at.country}] += count
		}
	}
	listed := make([]counted, 0, len(p))
	unnamed := make(places) // the cities of one place that are not named are one
	for at, count := range p {
		if at.city != "" && inCity[city{at.city, at.country}] >= cityVisitorsMin {
			listed = append(listed, counted{at, count})
			continue
		}
		at.city = ""
		unnamed[at] += count
	}
	for at, count := range unnamed {
		listed = append(listed, counted{at, count})
	}
	slices.SortFunc(listed, counted.compare)
	if total > locationsMax {
		listed = listed[:min(len(listed), locationsMax)]
		locations := make([]VisitorLocation, len(listed))
		for i := range listed {
			locations[i] = listed[i].location()
			locations[i].Count = &listed[i].count
		}
		return locations
	}
	locations := make([]VisitorLocation, 0, total)
	for i := range listed {
		for range listed[i].count {
			locations = append(locations, listed[i].location())
		}
	}
	return locations
}

// location returns a place as it is shown. It shares the names.
func (at *place) location() VisitorLocation {
	location := VisitorLocation{Latitude: at.latitude, Longitude: at.longitude}
	if at.city != "" {
		location.City = &at.city
	}
	if at.country != "" {
		location.Country = &at.country
	}
	return location
}
