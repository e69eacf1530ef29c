package stats

import (
	"cmp"
	"math"
	"slices"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/geoip"
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
	// CountryOnly says that no more than the country is known, and that this is its middle.
	CountryOnly bool `json:"countryOnly,omitzero"`
}

// place is a VisitorLocation that can be a map key.
type place struct {
	latitude, longitude float64
	city, country       string
	countryOnly         bool // the middle of the country, where no more is known
}

// city is a city as a map key: names repeat between countries.
type city struct{ name, country string }

// places is how many visitors are where, of each place once, most visitors first.
type places []counted

// inCountry returns the place of those of whom no more is known than their country.
func inCountry(country string) (place, bool) {
	latitude, longitude, ok := geoip.Centre(country)
	return place{latitude: latitude, longitude: longitude, country: country, countryOnly: true}, ok
}

// place returns where a visitor is. Those without both coordinates are in the middle of
// their country, and nowhere when that is not known either.
func (s *ActiveSession) place() (place, bool) {
	if s.Latitude == nil || s.Longitude == nil {
		if s.Country == nil {
			return place{}, false
		}
		return inCountry(*s.Country)
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

// groupedPlaces collects groups of an aggregate by place.
type groupedPlaces struct {
	found places
	// alike is set when two groups may be one place.
	alike bool
}

// add adds a group whose values are a place from the first one on.
func (p *groupedPlaces) add(g halcyon.GroupCount, first int) {
	group := g.Group[first:]
	latitude, known := group[0].AsFloat64()
	longitude, both := group[1].AsFloat64()
	if !known || !both {
		country, _ := group[2].AsString()
		if at, ok := inCountry(country); ok {
			p.alike = true // there may be groups with cities, or one coordinate
			p.found = append(p.found, counted{at, int(g.Count)})
		}
		return
	}
	at := place{latitude: tenth(latitude), longitude: tenth(longitude)}
	var named [2]bool
	at.country, named[0] = group[2].AsString()
	at.city, named[1] = group[3].AsString()
	p.alike = p.alike || math.Float64bits(at.latitude) != math.Float64bits(latitude) || math.Float64bits(at.longitude) != math.Float64bits(longitude) ||
		at.country == "" && named[0] || at.city == "" && named[1]
	p.found = append(p.found, counted{at, int(g.Count)})
}

// places returns what was added.
func (p *groupedPlaces) places() places {
	if p.alike {
		counts := make(map[place]int, len(p.found))
		for _, at := range p.found {
			counts[at.place] += at.count
		}
		return newPlaces(counts)
	}
	slices.SortFunc(p.found, counted.compare)
	return p.found
}

// newPlaces makes places of their counts.
func newPlaces(counts map[place]int) places {
	p := make(places, 0, len(counts))
	for at, count := range counts {
		p = append(p, counted{at, count})
	}
	slices.SortFunc(p, counted.compare)
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
	if x.country == y.country && x.city == y.city && x.countryOnly != y.countryOnly {
		if x.countryOnly {
			return 1
		}
		return -1
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
	listed, total := p.nameable(), 0
	for i := range listed {
		total += listed[i].count
	}
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

// nameable returns the places without the names of cities that have too few visitors.
func (p places) nameable() places {
	// A place that has enough alone names its city.
	if !slices.ContainsFunc(p, func(at counted) bool { return at.city != "" && at.count < cityVisitorsMin }) {
		return p
	}
	inCity := make(map[city]int)
	for i := range p {
		if at := &p[i]; at.city != "" {
			inCity[city{at.city, at.country}] += at.count
		}
	}
	counts := make(map[place]int, len(p)) // the cities of one place that are not named are one
	for _, at := range p {
		if at.city != "" && inCity[city{at.city, at.country}] < cityVisitorsMin {
			at.city = ""
		}
		counts[at.place] += at.count
	}
	return newPlaces(counts)
}

// location returns a place as it is shown. It shares the names.
func (at *place) location() VisitorLocation {
	location := VisitorLocation{Latitude: at.latitude, Longitude: at.longitude, CountryOnly: at.countryOnly}
	if at.city != "" {
		location.City = &at.city
	}
	if at.country != "" {
		location.Country = &at.country
	}
	return location
}
