package stats

import (
	"cmp"
	"math"
	"slices"
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

// places collects where active visitors are.
type places struct {
	located []place
	inCity  map[city]int
}

func newPlaces() *places { return &places{inCity: make(map[city]int)} }

// add takes in a visitor. Those without both coordinates are nowhere.
func (p *places) add(visitor ActiveSession) {
	if visitor.Latitude == nil || visitor.Longitude == nil {
		return
	}
	at := place{latitude: tenth(*visitor.Latitude), longitude: tenth(*visitor.Longitude)}
	if visitor.Country != nil {
		at.country = *visitor.Country
	}
	if visitor.City != nil {
		at.city = *visitor.City
		p.inCity[city{at.city, at.country}]++
	}
	p.located = append(p.located, at)
}

// tenth rounds to a tenth of a degree. The sum turns -0 into 0.
func tenth(degrees float64) float64 { return math.Round(degrees*10)/10 + 0 }

// list returns the locations in an order that says nothing about the visitors'.
func (p *places) list() []VisitorLocation {
	visitors := make(map[place]int)
	for _, at := range p.located {
		if p.inCity[city{at.city, at.country}] < cityVisitorsMin {
			at.city = ""
		}
		visitors[at]++
	}
	listed := make([]place, 0, len(visitors))
	for at := range visitors {
		listed = append(listed, at)
	}
	slices.SortFunc(listed, func(x, y place) int {
		return cmp.Or(
			cmp.Compare(visitors[y], visitors[x]),
			cmp.Compare(x.latitude, y.latitude), cmp.Compare(x.longitude, y.longitude),
			cmp.Compare(x.country, y.country), cmp.Compare(x.city, y.city))
	})
	if len(p.located) > locationsMax {
		listed = listed[:min(len(listed), locationsMax)]
		locations := make([]VisitorLocation, 0, len(listed))
		for _, at := range listed {
			location := at.location()
			location.Count = new(int)
			*location.Count = visitors[at]
			locations = append(locations, location)
		}
		return locations
	}
	locations := make([]VisitorLocation, 0, len(p.located))
	for _, at := range listed {
		for range visitors[at] {
			locations = append(locations, at.location())
		}
	}
	return locations
}

func (at place) location() VisitorLocation {
	location := VisitorLocation{Latitude: at.latitude, Longitude: at.longitude}
	if at.city != "" {
		location.City = &at.city
	}
	if at.country != "" {
		location.Country = &at.country
	}
	return location
}
