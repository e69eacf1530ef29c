package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The part of the world that the map shows, in tenths of a degree: all of its width,
// and of its height what people live in. It is an equirectangular projection, so the
// page places a dot by its longitude and latitude alone; map.ts has the same numbers.
const (
	mapWidth = 3600
	mapNorth = 840
	mapSouth = -580
)

// landSource is Natural Earth's land at 1:110 million as TopoJSON, and landSprite the
// picture that the build makes of it.
const (
	landSource = "node_modules/world-atlas/land-110m.json"
	landSprite = "stats/dist/world.svg"
)

// topology is what is used of a TopoJSON file: rings that are made of arcs, whose
// points are quantized differences.
type topology struct {
	Transform struct {
		Scale, Translate [2]float64
	} `json:"transform"`
	Arcs    [][][2]float64 `json:"arcs"`
	Objects struct {
		Land      layer `json:"land"`
		Countries layer `json:"countries"`
	} `json:"objects"`
}

// layer is what a topology has of one kind.
type layer struct {
	Geometries []geometry `json:"geometries"`
}

// geometry is a polygon or several, each as its outer ring and those of its holes.
type geometry struct {
	Type       string          `json:"type"`
	Arcs       json.RawMessage `json:"arcs"`
	ID         string          `json:"id"` // of a country: its number in ISO 3166-1, or ""
	Properties struct {
		Name string `json:"name"`
	} `json:"properties"`
}

// polygons returns the rings as lists of numbers of arcs.
func (g *geometry) polygons() (all [][][]int, err error) {
	switch g.Type {
	case "MultiPolygon":
		err = json.Unmarshal(g.Arcs, &all)
	case "Polygon":
		all = make([][][]int, 1)
		err = json.Unmarshal(g.Arcs, &all[0])
	default:
		err = fmt.Errorf("a %s is neither a Polygon nor a MultiPolygon", g.Type)
	}
	return all, err
}

// readTopology reads a file of the workspace.
func readTopology(dir, name string) (*topology, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	t := new(topology)
	return t, json.Unmarshal(text, t)
}

// land returns the land of the earth as an SVG picture of one path.
func land(dir string) ([]byte, error) {
	t, err := readTopology(dir, landSource)
	if err != nil {
		return nil, fmt.Errorf("draw the land: %w", err)
	}
	var path strings.Builder
	for _, geometry := range t.Objects.Land.Geometries {
		polygons, err := geometry.polygons()
		if err != nil {
			return nil, fmt.Errorf("draw the land: %w", err)
		}
		for _, polygon := range polygons {
			for _, ring := range polygon {
				points, err := t.ring(ring)
				if err != nil {
					return nil, fmt.Errorf("draw the land: %w", err)
				}
				drawRing(&path, points)
			}
		}
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d"><path d="%s"/></svg>`+"\n",
		mapWidth, mapNorth-mapSouth, path.String()), nil
}

// ring returns the points of a ring on the picture. An arc with a negative number is
// the one of its complement, backward.
func (t *topology) ring(arcs []int) ([][2]int, error) {
	var points [][2]int
	for _, number := range arcs {
		index := number
		if number < 0 {
			index = ^number
		}
		if index >= len(t.Arcs) {
			return nil, fmt.Errorf("a ring names arc %d of %d", index, len(t.Arcs))
		}
		arc := t.Arcs[index]
		drawn := make([][2]int, len(arc))
		var x, y float64
		for i, step := range arc {
			x, y = x+step[0], y+step[1]
			longitude := x*t.Transform.Scale[0] + t.Transform.Translate[0]
			latitude := y*t.Transform.Scale[1] + t.Transform.Translate[1]
			at := i
			if number < 0 {
				at = len(arc) - 1 - i
			}
			drawn[at] = [2]int{round((longitude + 180) * 10), mapNorth - round(latitude*10)}
		}
		points = append(points, drawn...)
	}
	return points, nil
}

// drawRing adds a ring to the path, unless it lies south of the picture.
func drawRing(path *strings.Builder, points [][2]int) {
	north := mapNorth - mapSouth
	for _, p := range points {
		north = min(north, p[1])
	}
	if north >= mapNorth-mapSouth {
		return
	}
	// What is beyond the edge of the picture is not seen, so it is drawn on both sides.
	unwrapped := unwrap(points)
	west, east := 0, mapWidth
	for _, p := range unwrapped {
		west, east = min(west, p[0]), max(east, p[0])
	}
	drawAt(path, unwrapped, 0)
	if west < 0 {
		drawAt(path, unwrapped, mapWidth)
	}
	if east > mapWidth {
		drawAt(path, unwrapped, -mapWidth)
	}
}

// unwrap returns a ring that crosses the 180th meridian, where it jumps from side to
// side, as if the picture went on there.
func unwrap(points [][2]int) [][2]int {
	unwrapped := make([][2]int, len(points))
	shift := 0
	for i, p := range points {
		if i > 0 {
			switch step := p[0] - points[i-1][0]; {
			case step > mapWidth/2:
				shift -= mapWidth
			case step < -mapWidth/2:
				shift += mapWidth
			}
		}
		unwrapped[i] = [2]int{p[0] + shift, p[1]}
	}
	return unwrapped
}

// drawAt adds a closed line, moved to the east.
func drawAt(path *strings.Builder, points [][2]int, move int) {
	var last [2]int
	for i, p := range points {
		switch {
		case i == 0:
			fmt.Fprintf(path, "M%d %d", p[0]+move, p[1])
		case p != last:
			fmt.Fprintf(path, "l%d %d", p[0]-last[0], p[1]-last[1])
		}
		last = p
	}
	path.WriteString("z")
}

func round(v float64) int {
	if v < 0 {
		return int(v - 0.5)
	}
	return int(v + 0.5)
}
