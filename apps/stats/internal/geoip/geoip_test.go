package geoip_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/stats/internal/geoip"
	"github.com/halcyon-db/halcyon/apps/stats/internal/geoip/geoiptest"
)

// entry is an entry of a file, as its maker writes it.
type entry = map[string]any

// TestLookup has an entry as each maker of files writes it. The first file knows cities,
// the second countries, the third addresses of version 4 alone.
func TestLookup(t *testing.T) {
	dir := t.TempDir()
	cities, countries, old := filepath.Join(dir, "cities.mmdb"), filepath.Join(dir, "countries.mmdb"), filepath.Join(dir, "old.mmdb")
	geoiptest.Write(t, cities, "GeoLite2-City", map[string]entry{
		"81.2.69.0/24": {"city": entry{"names": entry{"en": "London", "de": "London"}}, "country": entry{"iso_code": "GB", "names": entry{"en": "United Kingdom"}},
			"location": entry{"latitude": 51.5, "longitude": 0.0}},
		"2a02:ec80::/32": {"country": entry{"iso_code": "NL"}, "location": entry{"latitude": 52.4}},
		"81.2.70.0/24":   {"location": entry{"latitude": 1.0, "longitude": 2.0}}, // of no country: the next file is asked
		"81.2.71.0/24":   {"country": "GB", "country_code": 7.0, "city": entry{"names": "x"}},
	})
	geoiptest.Write(t, countries, "ip-location-db", map[string]entry{
		"81.2.0.0/16":    {"country_code": "IE"},
		"82.0.0.0/24":    {"city": "Zürich", "country": "CH", "lat": "47.37", "lng": "8.54"},               // IPinfo
		"82.0.1.0/24":    {"country": "Australia", "country_code": "AU"},                                   // IPinfo's free one
		"82.0.2.0/24":    {"city": "Bern", "country_code": "CH", "latitude": 46.9, "longitude": "eastern"}, // ip-location-db, and a fault
		"82.0.3.0/24":    {"registered_country": entry{"iso_code": "US"}},                                  // where it was registered is no place
		"2a02::/16":      {"country_code": "DE"},
		"2001:4860::/32": {"country_code": "US"},
	})
	geoiptest.Write(t, old, geoiptest.Version4, map[string]entry{"83.0.0.0/8": {"country_code": "PL"}})
	files, err := geoip.Open([]string{cities, countries, old}, time.Now, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		address string
		want    geoip.Found
		ok      bool
	}{
		{"81.2.69.142", geoip.Found{Country: "GB", CountryName: "United Kingdom", City: "London", Latitude: new(51.5), Longitude: new(0.0)}, true},
		{"::ffff:81.2.69.142", geoip.Found{Country: "GB", CountryName: "United Kingdom", City: "London", Latitude: new(51.5), Longitude: new(0.0)}, true},
		{"2a02:ec80::1", geoip.Found{Country: "NL", Latitude: new(52.4)}, true},
		{"81.2.70.1", geoip.Found{Country: "IE"}, true},
		{"81.2.71.1", geoip.Found{Country: "GB"}, true},
		{"81.2.1.1", geoip.Found{Country: "IE"}, true},
		{"82.0.0.1", geoip.Found{Country: "CH", City: "Zürich", Latitude: new(47.37), Longitude: new(8.54)}, true},
		{"82.0.1.1", geoip.Found{Country: "AU", CountryName: "Australia"}, true},
		{"82.0.2.1", geoip.Found{Country: "CH", City: "Bern", Latitude: new(46.9)}, true},
		{"82.0.3.1", geoip.Found{}, false},
		{"2001:4860::8", geoip.Found{Country: "US"}, true},
		{"83.1.2.3", geoip.Found{Country: "PL"}, true},
		{"9.9.9.9", geoip.Found{}, false},
		{"10.1.2.3", geoip.Found{}, false},
		{"127.0.0.1", geoip.Found{}, false},
		{"fe80::1%eth0", geoip.Found{}, false},
		{"2620:fe::9", geoip.Found{}, false},
	}
	for _, tt := range tests {
		got, ok := files.Lookup(netip.MustParseAddr(tt.address))
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
			t.Errorf("%s: known %t, want %t (-want +got):\n%s", tt.address, ok, tt.ok, diff)
		}
	}
	if _, ok := files.Lookup(netip.Addr{}); ok {
		t.Error("no address at all is somewhere")
	}
}

// A file that is replaced counts a minute later; one that is no file of places by then
// does not, is told once a minute, and the old one goes on.
func TestReplacedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "places.mmdb")
	write := func(country string) {
		geoiptest.Write(t, path, "test", map[string]entry{"81.0.0.0/8": {"country_code": country, "padding": strings.Repeat("x", len(country))}})
	}
	write("GB")
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var told []error
	files, err := geoip.Open([]string{path}, func() time.Time { return now }, func(err error) { told = append(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if got, _ := files.Lookup(netip.MustParseAddr("81.1.1.1")); got.Country != want {
			t.Errorf("%s: %q, want %q", now.Format(time.TimeOnly), got.Country, want)
		}
	}
	check("GB")
	write("FR")
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	now = now.Add(59 * time.Second)
	check("GB")
	now = now.Add(time.Second)
	check("FR")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	check("FR")
	check("FR")
	if err := os.WriteFile(path, []byte("<html>404"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	check("FR")
	if len(told) != 2 || !errors.Is(told[0], fs.ErrNotExist) || !strings.Contains(told[1].Error(), "no MaxMind DB") {
		t.Errorf("told %q, want that it is gone, and that it is no file of places", told)
	}
	write("DE")
	now = now.Add(time.Minute)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { check("DE") })
	}
	wg.Wait()
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.mmdb")
	if err := os.WriteFile(text, []byte("no places"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "nothing.mmdb"): "nothing.mmdb", text: "no MaxMind DB", dir: "it is no file"} {
		if _, err := geoip.Open([]string{path}, time.Now, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", path, err, want)
		}
	}
}

func TestCentre(t *testing.T) {
	for country, want := range map[string][2]float64{"CH": {46.8, 8.2}, "US": {39.5, -99.1}, "FJ": {-17.8, 178}, "RE": {-21.1, 55.5}, "XK": {42.6, 20.9}} {
		latitude, longitude, ok := geoip.Centre(country)
		if got := [2]float64{latitude, longitude}; !ok || got != want {
			t.Errorf("%s: %v, %t; want %v", country, got, ok, want)
		}
	}
	for _, none := range []string{"", "XX", "ch", "Switzerland", "#"} {
		if _, _, ok := geoip.Centre(none); ok {
			t.Errorf("%q has a middle", none)
		}
	}
}

// FuzzFile has files of any bytes: they are refused or say nothing, and end nothing.
func FuzzFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed.mmdb")
	geoiptest.Write(f, path, "seed", map[string]entry{"81.0.0.0/8": {"country": entry{"iso_code": "GB"}, "location": entry{"latitude": 1.0}}})
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "fuzz.mmdb")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := geoip.Open([]string{path}, time.Now, nil)
		if err != nil {
			return
		}
		for _, address := range []string{"81.1.1.1", "2001:4860::1", "0.0.0.0", "255.255.255.255"} {
			files.Lookup(netip.MustParseAddr(address))
		}
	})
}
