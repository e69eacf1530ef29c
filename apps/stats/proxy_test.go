package stats_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/apps/stats/internal/geoip/geoiptest"
)

func TestGeo(t *testing.T) {
	const nowhere = `{"city":null,"country":null,"countryName":null,"latitude":null,"longitude":null}`
	netlify := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	tests := []struct {
		name, peer string
		header     map[string]string
		want       string
	}{
		{"no header", "10.0.0.1:1", nil, nowhere},
		{"a forged header", "192.0.2.1:1", map[string]string{"CF-IPCountry": "CH"}, nowhere},
		{"a forged header through a proxy that is not trusted", "192.0.2.1:1", map[string]string{"CF-IPCountry": "CH", "X-Forwarded-For": "10.0.0.1"}, nowhere},
		{"Cloudflare", "10.0.0.1:1", map[string]string{"CF-IPCountry": "ch", "CF-IPCity": "Bern", "CF-IPLatitude": "46.9", "CF-IPLongitude": "7.4"},
			`{"city":"Bern","country":"CH","countryName":null,"latitude":46.9,"longitude":7.4}`},
		{"Cloudflare through version 6", "[fd00::7]:1", map[string]string{"CF-IPCountry": "CH"},
			`{"city":null,"country":"CH","countryName":null,"latitude":null,"longitude":null}`},
		{"Cloudflare does not know", "10.0.0.1:1", map[string]string{"CF-IPCountry": "XX", "CF-IPCity": "Bern"}, nowhere},
		{"Cloudflare for Tor", "10.0.0.1:1", map[string]string{"CF-IPCountry": "T1"}, nowhere},
		{"Vercel writes cities as in addresses", "10.0.0.1:1", map[string]string{"X-Vercel-IP-Country": "BR", "X-Vercel-IP-City": "S%C3%A3o%20Paulo"},
			`{"city":"São Paulo","country":"BR","countryName":null,"latitude":null,"longitude":null}`},
		{"Netlify writes JSON in base64", "10.0.0.1:1",
			map[string]string{"X-Nf-Geo": netlify(`{"city":"Bern","country":{"code":"CH","name":"Switzerland"},"latitude":46.9,"longitude":0}`)},
			`{"city":"Bern","country":"CH","countryName":"Switzerland","latitude":46.9,"longitude":0}`},
		{"no base64", "10.0.0.1:1", map[string]string{"X-Nf-Geo": "{}"}, nowhere},
		{"no JSON", "10.0.0.1:1", map[string]string{"X-Nf-Geo": netlify("[1")}, nowhere},
		{"half a coordinate", "10.0.0.1:1", map[string]string{"CF-IPCountry": "CH", "CF-IPLatitude": "46.9"},
			`{"city":null,"country":"CH","countryName":null,"latitude":null,"longitude":null}`},
		{"coordinates that are none", "10.0.0.1:1", map[string]string{"CF-IPCountry": "CH", "CF-IPLatitude": "NaN", "CF-IPLongitude": "1e9"},
			`{"city":null,"country":"CH","countryName":null,"latitude":null,"longitude":null}`},
		{"no letters", "10.0.0.1:1", map[string]string{"CF-IPCountry": "<>"}, nowhere},
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	w := newWorld(t, stats.Options{TrustedProxies: proxies})
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/api/geo", nil)
		r.RemoteAddr = tt.peer
		for name, v := range tt.header {
			r.Header.Set(name, v)
		}
		answer := httptest.NewRecorder()
		w.site().mux.ServeHTTP(answer, r)
		if diff := cmp.Diff(tt.want+"\n", answer.Body.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if got := answer.Header().Get("Cache-Control"); got != "private, max-age=3600" {
			t.Errorf("Cache-Control %q", got)
		}
	}
}

func TestAViewHasTheCountryThatATrustedProxyTells(t *testing.T) {
	w := newWorld(t, stats.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	s := w.site()
	s.header.Set("CF-IPCountry", "CH")
	s.header.Set("CF-IPLatitude", "46.948")
	s.header.Set("CF-IPLongitude", "7.447")
	s.counted(object{"name": "pageview", "url": "https://a.org/", "visitor": "ada"})
	s.counted(object{"name": "heartbeat", "url": "https://a.org/", "visitor": "ada"})
	s.peer = "198.51.100.1:1" // not of the proxy: the header is forged
	s.counted(object{"name": "pageview", "url": "https://a.org/", "visitor": "bob"})
	if diff := cmp.Diff(map[string]row{"CH": {"CH", 1, 1}}, w.values("country", nil)); diff != "" {
		t.Errorf("countries (-want +got):\n%s", diff)
	}
	if got := w.stats().VisitorLocations; len(got) != 1 || got[0].Latitude != 46.9 {
		t.Errorf("locations %+v, want one, to a tenth of a degree", got)
	}
}

// TestPlaceFiles: a trusted proxy that tells a place is believed first, then the file of
// cities, then that of countries. Who is only known to be in a country is in its middle.
func TestPlaceFiles(t *testing.T) {
	dir := t.TempDir()
	cities, countries := filepath.Join(dir, "cities.mmdb"), filepath.Join(dir, "countries.mmdb")
	type entry = map[string]any
	geoiptest.Write(t, cities, "City", map[string]entry{
		"81.2.69.0/24": {"city": entry{"names": entry{"en": "London"}}, "country": entry{"iso_code": "GB", "names": entry{"en": "United Kingdom"}},
			"location": entry{"latitude": 51.5142, "longitude": -0.0931}},
		"81.2.70.0/24": {"city": "Nowhere", "country_code": "g8", "latitude": 1.0, "longitude": 1.0},
	})
	geoiptest.Write(t, countries, "Country", map[string]entry{"81.2.0.0/16": {"country_code": "IE"}, "2a02:ec80::/32": {"country_code": "CH"}})
	w := newWorld(t, stats.Options{PlaceFiles: []string{cities, countries}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	tests := []struct {
		name, peer, forwarded, header string
		want                          string
	}{
		{"the file of cities", "81.2.69.7:1", "", "", `{"city":"London","country":"GB","countryName":"United Kingdom","latitude":51.5142,"longitude":-0.0931}`},
		{"the file of countries", "81.2.1.7:1", "", "", `{"city":null,"country":"IE","countryName":null,"latitude":null,"longitude":null}`},
		{"version 6", "[2a02:ec80::7]:1", "", "", `{"city":null,"country":"CH","countryName":null,"latitude":null,"longitude":null}`},
		{"a code that is none", "81.2.70.7:1", "", "", `{"city":null,"country":null,"countryName":null,"latitude":null,"longitude":null}`},
		{"in no file", "9.9.9.9:1", "", "", `{"city":null,"country":null,"countryName":null,"latitude":null,"longitude":null}`},
		{"whom the proxy brings", "10.0.0.1:1", "81.2.1.7", "", `{"city":null,"country":"IE","countryName":null,"latitude":null,"longitude":null}`},
		{"the proxy knows", "10.0.0.1:1", "81.2.1.7", "FR", `{"city":null,"country":"FR","countryName":null,"latitude":null,"longitude":null}`},
		{"the proxy does not know", "10.0.0.1:1", "81.2.1.7", "XX", `{"city":null,"country":"IE","countryName":null,"latitude":null,"longitude":null}`},
		{"a forged header", "81.2.1.7:1", "", "FR", `{"city":null,"country":"IE","countryName":null,"latitude":null,"longitude":null}`},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/api/geo", nil)
		r.RemoteAddr = tt.peer
		r.Header.Set("X-Forwarded-For", tt.forwarded)
		r.Header.Set("CF-IPCountry", tt.header)
		answer := httptest.NewRecorder()
		w.site().mux.ServeHTTP(answer, r)
		if diff := cmp.Diff(tt.want+"\n", answer.Body.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}

	for i, peer := range []string{"81.2.69.7:1", "81.2.1.7:1", "81.2.1.8:1", "9.9.9.9:1"} {
		s := w.site()
		s.peer = peer
		for _, name := range []string{"pageview", "heartbeat"} {
			s.counted(object{"name": name, "url": "https://a.org/", "visitor": visitorID(i)})
		}
	}
	if diff := cmp.Diff(map[string]row{"GB": {"GB", 1, 1}, "IE": {"IE", 2, 2}}, w.values("country", nil)); diff != "" {
		t.Errorf("countries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"51.5 -0.1  GB", "53.2 -8.1  IE only", "53.2 -8.1  IE only"}, w.presence("").Locations); diff != "" {
		t.Errorf("locations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"51.5 -0.1  GB", "53.2 -8.1  IE only", "53.2 -8.1  IE only"}, w.presence("a.org").Locations); diff != "" {
		t.Errorf("locations of the site (-want +got):\n%s", diff)
	}
}

func TestPlaceFileThatIsNone(t *testing.T) {
	app, err := halcyon.NewApp(stats.Module(stats.Options{PlaceFiles: []string{filepath.Join(t.TempDir(), "none.mmdb")}}))
	if err == nil {
		err = app.Open(t.TempDir(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	err = app.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "HALCYON_STATS_PLACE_FILES") || !strings.Contains(err.Error(), "none.mmdb") {
		t.Errorf("%v, want an error with the setting and the file", err)
	}
}

// TestForwardedHops: the rate limit counts the address that the last trusted proxy
// saw. What stands before it can be written by anybody.
func TestForwardedHops(t *testing.T) {
	w := newWorld(t, stats.Options{EventsPerSecond: 1e-9, EventsBurst: 1,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	s := w.site()
	for i, tt := range []struct {
		peer, forwarded string
		want            int
	}{
		{"10.0.0.1:1", "1.1.1.1", 202},
		{"10.0.0.1:1", "1.1.1.1", 429},
		{"10.0.0.1:1", "9.9.9.9, 1.1.1.1", 429}, // a forged hop
		{"10.0.0.1:1", "1.1.1.1, 10.0.0.2", 429},
		{"10.0.0.1:1", "::ffff:1.1.1.1", 429},
		{"10.0.0.1:1", "1.1.1.2", 202},
		{"192.0.2.1:1", "1.1.1.3", 202}, // its own address
		{"192.0.2.1:1", "1.1.1.4", 429},
		{"10.0.0.1:1", "garbage", 202}, // the proxy itself
		{"10.0.0.1:1", "", 429},
		{"10.0.0.1:1", "1.1.1.5:4711", 202}, // with the port
		{"10.0.0.1:1", "1.1.1.5:4712, 10.0.0.2:80", 429},
		{"10.0.0.1:1", "[2001:db8::5]:4711", 202},
	} {
		s.peer = tt.peer
		s.header.Set("X-Forwarded-For", tt.forwarded)
		status, _ := s.send(object{"name": "pageview", "url": "https://a.org/", "visitor": visitorID(i)})
		if status != tt.want {
			t.Errorf("event %d of %s for %q: %d, want %d", i, tt.peer, tt.forwarded, status, tt.want)
		}
	}
}

// TestAProxyThatIsNotTrustedIsToldOf: once, without its address, and only of one that may
// be one's own.
func TestAProxyThatIsNotTrustedIsToldOf(t *testing.T) {
	for _, tt := range []struct {
		peer, forwarded, trusted string
		want                     int
	}{
		{"10.0.0.1:1", "1.1.1.1", "192.168.0.0/16", 1},
		{"[::1]:1", "1.1.1.1", "192.168.0.0/16", 1},
		{"10.0.0.1:1", "1.1.1.1", "10.0.0.0/8", 0},
		{"10.0.0.1:1", "", "192.168.0.0/16", 0},
		{"203.0.113.1:1", "1.1.1.1", "192.168.0.0/16", 0}, // anybody can write the header
	} {
		w := newWorld(t, stats.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix(tt.trusted)}})
		var logged bytes.Buffer
		app, err := halcyon.NewApp(stats.Module(stats.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix(tt.trusted)}}))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Open(t.TempDir(), &halcyon.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))}); err != nil {
			t.Fatal(err)
		}
		if err := w.app.Close(); err != nil {
			t.Fatal(err)
		}
		w.app = app
		s := w.site()
		s.peer = tt.peer
		s.header.Set("X-Forwarded-For", tt.forwarded)
		for range 2 {
			s.post(`{"name":"pageview","url":"https://a.org/","visitor":"ada"}`)
		}
		if err := app.Close(); err != nil {
			t.Fatal(err)
		}
		text := logged.String()
		if got := strings.Count(text, "HALCYON_STATS_TRUSTED_PROXIES"); got != tt.want || strings.Contains(text, "10.0.0.1") || strings.Contains(text, "1.1.1.1") {
			t.Errorf("%s for %q: told %d times, want %d, without addresses:\n%s", tt.peer, tt.forwarded, got, tt.want, text)
		}
	}
}

func TestWhoMaySee(t *testing.T) {
	loopback, everywhere := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4zero}
	const private, off, key = stats.CodeKey, stats.CodeOff, "a key of the page"
	tests := []struct {
		name    string
		options stats.Options
		listen  net.Addr
		key     string
		want    string // the code of the queries
		page    int    // the page asks for the key by itself
	}{
		{"by default on loopback", stats.Options{}, loopback, "", "", 200},
		{"by default elsewhere, without a key set", stats.Options{}, everywhere, "", private, 200},
		{"by default elsewhere, no key shown", stats.Options{Key: key}, everywhere, "", private, 200},
		{"by default elsewhere, another shown", stats.Options{Key: key}, everywhere, "x", private, 200},
		{"by default elsewhere, the key shown", stats.Options{Key: key}, everywhere, key, "", 200},
		{"public", stats.Options{Visibility: stats.VisiblePublic}, everywhere, "", "", 200},
		{"key on loopback", stats.Options{Visibility: stats.VisibleKey, Key: key}, loopback, "", private, 200},
		{"off", stats.Options{Visibility: stats.VisibleOff, Key: key}, loopback, key, off, 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.options)
			w.app.Listening(tt.listen)
			for function, args := range map[string]object{
				"stats:getStats": {}, "stats:getSites": {}, "stats:getActiveCurve": {},
				"stats:getBreakdown": {"dimension": "path"}, "stats:getSeries": {"unit": "day"},
			} {
				if tt.key != "" {
					args["key"] = tt.key
				}
				outcome, err := w.query(function, args)
				code := ""
				if outcome.Failure != nil {
					code, _ = outcome.Failure.Data.Get("code").AsString()
				}
				if err != nil || code != tt.want {
					t.Errorf("%s: %q, %v; want %q", function, code, err, tt.want)
				}
			}
			answer := httptest.NewRecorder()
			w.site().mux.ServeHTTP(answer, httptest.NewRequest("GET", "/stats", nil))
			if answer.Code != tt.page {
				t.Errorf("the page: %d, want %d", answer.Code, tt.page)
			}
			if numbers := strings.Contains(answer.Body.String(), `id="first"`); numbers != (tt.want == "" && tt.key == "") {
				t.Errorf("the page has numbers in it: %t", numbers)
			}
			s := w.site()
			if status, reason := s.send(object{"name": "pageview", "url": "https://a.org/", "visitor": "ada"}); status != http.StatusAccepted || reason != "" {
				t.Errorf("a view: %d %q, want it counted whoever may see it", status, reason)
			}
		})
	}
}

func FuzzGeo(f *testing.F) {
	f.Add("eyJjaXR5IjoiQmVybiJ9", "1.1.1.1, 10.0.0.1", "S%C3%A3o", "46.9")
	w := newWorld(f, stats.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	mux := w.site().mux
	f.Fuzz(func(t *testing.T, netlify, forwarded, city, latitude string) {
		r := httptest.NewRequest("GET", "/api/geo", nil)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header["X-Nf-Geo"] = []string{netlify}
		r.Header["X-Forwarded-For"] = []string{forwarded}
		if len(netlify)%2 == 0 {
			r.Header.Del("X-Nf-Geo")
			r.Header["X-Vercel-Ip-Country"], r.Header["X-Vercel-Ip-City"] = []string{"CH"}, []string{city}
			r.Header["X-Vercel-Ip-Latitude"], r.Header["X-Vercel-Ip-Longitude"] = []string{latitude}, []string{latitude}
		}
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, r)
		var place struct{ Latitude, Longitude *float64 }
		if err := json.Unmarshal(answer.Body.Bytes(), &place); err != nil {
			t.Fatalf("%q: %v", answer.Body, err)
		}
		if place.Latitude != nil && (*place.Latitude < -90 || *place.Latitude > 90) || place.Longitude != nil && (*place.Longitude < -180 || *place.Longitude > 180) {
			t.Errorf("a place off the earth: %s", answer.Body)
		}
	})
}
