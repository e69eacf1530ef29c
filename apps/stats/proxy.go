package stats

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
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
	CountryName *string  `json:"countryName"` // known from Netlify alone
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

// place returns where a request comes from, as a trusted proxy says. Without one
// nothing is known. (Fly tells the region of its own edge, which is no place of a
// visitor.)
func (t trusted) place(r *http.Request) geo {
	if _, byProxy := t.client(r); !byProxy {
		return geo{}
	}
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

// serveGeo tells a page where its visitor is, as far as a trusted proxy knows.
func (a *app) serveGeo(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "private, max-age=3600")
	h.Set("Access-Control-Allow-Origin", "*")
	_ = json.NewEncoder(w).Encode(trusted(a.TrustedProxies).place(r)) // the client may be gone
}
