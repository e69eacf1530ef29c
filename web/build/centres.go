package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"

	"golang.org/x/text/language"
)

// countriesSource is Natural Earth's countries at 1:50 million as TopoJSON, and
// centresFile where the middle of each is written, below the workspace.
const (
	countriesSource = "node_modules/world-atlas/countries-50m.json"
	centresFile     = "../apps/stats/internal/geoip/centres.txt"
)

// centresHead says what the file is.
const centresHead = `# The middle of each country's largest piece of land: code of ISO 3166-1, latitude, longitude.
# Worked out by web/build from Natural Earth, 1:50 million (public domain), in which a few small
# ones are missing, or are parts of others; these stand in web/build.
`

// codeless are countries that Natural Earth has without a number and that have a code
// all the same.
var codeless = map[string]string{"Kosovo": "XK"}

// apart are inhabited countries that Natural Earth does not have at this scale, or has as
// parts of others.
var apart = map[string][2]float64{
	"BQ": {12.2, -68.3}, "CC": {-12.2, 96.8}, "CX": {-10.5, 105.6}, "GF": {3.9, -53.1}, "GI": {36.1, -5.3}, "GP": {16.2, -61.6}, "MQ": {14.6, -61.0},
	"RE": {-21.1, 55.5}, "SJ": {78.6, 16.7}, "TK": {-9.2, -171.8}, "TV": {-8.5, 179.2}, "YT": {-12.8, 45.2},
}

// centres returns the middle of each country that has a code, one a line.
func centres(dir string) ([]byte, error) {
	t, err := readTopology(dir, countriesSource)
	if err != nil {
		return nil, fmt.Errorf("find the middles of countries: %w", err)
	}
	type country struct {
		line string
		area float64
	}
	found := make(map[string]country)
	for _, geometry := range t.Objects.Countries.Geometries {
		code := codeless[geometry.Properties.Name]
		if number, err := strconv.Atoi(geometry.ID); err == nil {
			region, err := language.EncodeM49(number)
			if err != nil {
				return nil, fmt.Errorf("find the middle of %s: %w", geometry.Properties.Name, err)
			}
			code = region.String()
		}
		if code == "" {
			continue
		}
		polygons, err := geometry.polygons()
		if err != nil {
			return nil, fmt.Errorf("find the middle of %s: %w", geometry.Properties.Name, err)
		}
		// Parts of one country that are apart in Natural Earth have its code: the
		// largest counts.
		largest := found[code]
		for _, polygon := range polygons {
			ring, err := t.ring(polygon[0])
			if err != nil {
				return nil, fmt.Errorf("find the middle of %s: %w", geometry.Properties.Name, err)
			}
			if latitude, longitude, area := middle(unwrap(ring)); area > largest.area {
				largest = country{centreLine(code, latitude, longitude), area}
			}
		}
		found[code] = largest
	}
	var lines []string
	for code, at := range apart {
		if _, twice := found[code]; twice {
			return nil, fmt.Errorf("find the middles of countries: %s has one already", code)
		}
		lines = append(lines, centreLine(code, at[0], at[1]))
	}
	for _, c := range found {
		lines = append(lines, c.line)
	}
	slices.Sort(lines)
	var out bytes.Buffer
	out.WriteString(centresHead)
	for _, line := range lines {
		out.WriteString(line)
	}
	return out.Bytes(), nil
}

func centreLine(code string, latitude, longitude float64) string {
	return fmt.Sprintf("%s %.1f %.1f\n", code, latitude, longitude)
}

// middle returns the centroid of a ring on the picture, in degrees, and its size.
func middle(points [][2]int) (latitude, longitude, size float64) {
	var x, y, double float64
	for i, p := range points {
		q := points[(i+1)%len(points)]
		cross := float64(p[0]*q[1] - q[0]*p[1])
		x, y, double = x+float64(p[0]+q[0])*cross, y+float64(p[1]+q[1])*cross, double+cross
	}
	if double == 0 { // an island of a point
		x, y, double = float64(3*points[0][0]), float64(3*points[0][1]), 1
	}
	x, y = x/(3*double), y/(3*double)
	latitude, longitude = (mapNorth-y)/10, math.Mod(x/10+720, 360)-180
	// What is far from the equator is drawn wider than it is.
	return latitude, longitude, math.Abs(double) * math.Cos(latitude*math.Pi/180)
}
