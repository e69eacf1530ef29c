package stats

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon/apps/stats/internal/geoip"
)

// trusted is the networks of the proxies whose headers are believed.
type trusted []netip.Prefix

// has reports whether an address is one of a trusted proxy.
func (t trusted) has(at netip.Addr) bool {
	at = at.Unmap().WithZone("")
	for _, network := range t {
		if network.Contains(at) {
			return true
		}
	}
	return false
}

// forwardedMax is how many hops of X-Forwarded-For are looked at.
const forwardedMax = 32

// client returns the address that a request comes from, and whether the proxy
// that brought it is trusted: the rightmost hop that is not a trusted proxy. What
// stands left of it, anybody can have written. It is used at once and kept
// nowhere.
func (t trusted) client(r *http.Request) (address string, byProxy bool) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	at, err := netip.ParseAddr(host)
	if err != nil || !t.has(at) {
		return host, false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= max(0, len(hops)-forwardedMax); i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break // written by nobody who is trusted
		}
		if at = hop.Unmap().WithZone(""); !t.has(at) {
			break
		}
	}
	return at.String(), true
}

// parseHop reads an address to which some proxies, such as Azure's, add the port.
func parseHop(hop string) (netip.Addr, error) {
	if at, err := netip.ParseAddrPort(hop); err == nil {
		return at.Addr(), nil
	}
	return netip.ParseAddr(hop)
}

// geo is the place of a request: the answer of GET /api/geo, with the names that
// the original's front end reads. What is not known is null.
type geo struct {
	City        *string  `json:"city"`
	Country     *string  `json:"country"`     // ISO 3166-1 alpha-2
	CountryName *string  `json:"countryName"` // known from Netlify and from files that have it
	Latitude    *float64 `json:"latitude"`
	Longitude   *float64 `json:"longitude"`
}

// vendorPlace are the headers in which a hosting service puts the place of a
// visitor.
type vendorPlace struct {
	country, city, latitude, longitude string
	escaped                            bool // the city is URL-encoded
}

var vendorPlaces = []vendorPlace{
	{country: "CF-IPCountry", city: "CF-IPCity", latitude: "CF-IPLatitude", longitude: "CF-IPLongitude"},
	{country: "X-Vercel-IP-Country", city: "X-Vercel-IP-City", latitude: "X-Vercel-IP-Latitude", longitude: "X-Vercel-IP-Longitude", escaped: true},
	{country: "CloudFront-Viewer-Country", city: "CloudFront-Viewer-City", latitude: "CloudFront-Viewer-Latitude", longitude: "CloudFront-Viewer-Longitude", escaped: true},
}

// openPlaces opens the files that tell the places of addresses.
func (a *app) openPlaces(logger *slog.Logger) (err error) {
	a.places = nil
	if len(a.PlaceFiles) == 0 {
		return nil
	}
	a.places, err = geoip.Open(a.PlaceFiles, time.Now, func(err error) {
		logger.Warn("a file of places can't be read, the one before goes on to be used", slog.Any("error", err))
	})
	if err != nil {
		return fmt.Errorf("%s, Options.PlaceFiles: %w", envPlaceFiles, err)
	}
	return nil
}

// placeOf returns where a request comes from: as a trusted proxy says, and else as the
// files of places say of its address. The address is used here and kept nowhere.
func (a *app) placeOf(r *http.Request) geo {
	proxies := trusted(a.TrustedProxies)
	address, byProxy := proxies.client(r)
	if byProxy {
		if place := proxyPlace(r); place != (geo{}) {
			return place
		}
	}
	at, err := netip.ParseAddr(address)
	if a.places == nil || err != nil {
		return geo{}
	}
	found, ok := a.places.Lookup(at)
	country := countryCode(found.Country)
	if !ok || country == nil {
		return geo{}
	}
	return geo{City: placeText(found.City), Country: country, CountryName: placeText(found.CountryName)}.at(found.Latitude, found.Longitude)
}

// proxyPlace returns where a request comes from as the proxy says that brought it. (Fly
// tells the region of its own edge, which is no place of a visitor.)
func proxyPlace(r *http.Request) geo {
	if netlify := r.Header.Get("X-Nf-Geo"); netlify != "" {
		return netlifyPlace(netlify)
	}
	for _, vendor := range vendorPlaces {
		country := countryCode(r.Header.Get(vendor.country))
		if country == nil {
			continue
		}
		city := r.Header.Get(vendor.city)
		if vendor.escaped {
			if plain, err := url.PathUnescape(city); err == nil {
				city = plain
			}
		}
		return geo{City: placeText(city), Country: country}.
			at(decimal(r.Header.Get(vendor.latitude)), decimal(r.Header.Get(vendor.longitude)))
	}
	return geo{}
}

// netlifyPlace reads Netlify's header: base64 of JSON.
func netlifyPlace(header string) geo {
	text, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return geo{}
	}
	var read struct {
		City    string `json:"city"`
		Country struct {
			Code string `json:"code"`
			Name string `json:"name"`
		} `json:"country"`
		Latitude  *float64 `json:"latitude"`
		Longitude *float64 `json:"longitude"`
	}
	if json.Unmarshal(text, &read) != nil {
		return geo{}
	}
	place := geo{City: placeText(read.City), Country: countryCode(read.Country.Code)}
	if place.Country != nil {
		place.CountryName = placeText(read.Country.Name)
	}
	return place.at(read.Latitude, read.Longitude)
}

// at adds the coordinates, both or none.
func (g geo) at(latitude, longitude *float64) geo {
	latitude, longitude = coordinate(latitude, 90), coordinate(longitude, 180)
	if latitude != nil && longitude != nil {
		g.Latitude, g.Longitude = latitude, longitude
	}
	return g
}

// countryCode reads the code of a country. XX, ZZ and T1 (Tor) stand for none.
func countryCode(code string) *string {
	code = strings.ToUpper(strings.TrimSpace(code))
	if len(code) != 2 || code == "XX" || code == "ZZ" || code == "T1" {
		return nil
	}
	for i := range len(code) {
		if code[i] < 'A' || code[i] > 'Z' {
			return nil
		}
	}
	return &code
}

func placeText(text string) *string {
	if !utf8.ValidString(text) {
		return nil
	}
	return placeName(&text)
}

func decimal(text string) *float64 {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return nil
	}
	return &n
}

// serveGeo tells a page where its visitor is, as far as that is known.
func (a *app) serveGeo(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "private, max-age=3600")
	h.Set("Access-Control-Allow-Origin", "*")
	_ = json.NewEncoder(w).Encode(a.placeOf(r)) // the client may be gone
}
