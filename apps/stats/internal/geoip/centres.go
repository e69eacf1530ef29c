package geoip

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed centres.txt
var centresText string

// centres are the middles of countries by their codes.
var centres = sync.OnceValue(func() map[string][2]float64 {
	found := make(map[string][2]float64)
	for line := range strings.Lines(centresText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var code string
		var at [2]float64
		if _, err := fmt.Sscan(line, &code, &at[0], &at[1]); err != nil {
			panic(fmt.Sprintf("geoip: middles of countries: %q: %v", line, err))
		}
		found[code] = at
	}
	return found
})

// Centre returns the middle of a country, by its code of ISO 3166-1 in capitals, in
// degrees: the centroid of its largest piece of land. Uninhabited islands have none.
func Centre(country string) (latitude, longitude float64, ok bool) {
	at, ok := centres()[country]
	return at[0], at[1], ok
}
