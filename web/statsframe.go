package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// StatsFrame is what the first paint of the statistics page shows. Its script, which
// comes later, shows the same and goes on from there.
type StatsFrame struct {
	// Data is the results that the numbers are from, as a JSON object in Convex's
	// encoding: stats, curve and sites, of getStats, getActiveCurve and getSites.
	Data []byte

	Active  int         // visitors who are here
	Where   []StatsPath // where they are, most visitors first; the page has room for StatsPathsMax
	Paths   int         // pages they are on, those that Where leaves out too
	Curve   []int       // active visitors of each minute, the newest last
	Located int         // of the active visitors, those whose place is known
	// Countries are the active visitors of each country, most first; there is room for
	// ten. Their names are the script's.
	Countries []int

	Views, Visitors, Posts, Pages int
	Since                         time.Time // the first view, in the time zone whose day is shown; zero: there is none

	Unvisited bool     // nothing but the page itself has been seen
	Sites     []string // to choose from; empty: there is nothing to choose
	MadeUp    string   // the site whose visitors are made up, if there is one
}

// StatsPath is how many visitors are on a path.
type StatsPath struct {
	Path, Title string
	Visitors    int
}

// StatsPathsMax is how many paths the page says visitors are on; of others it counts
// the visitors.
const StatsPathsMax = 6

// shownFrame is a frame as the template shows it.
type shownFrame struct {
	StatsFrame
	Data                    template.JS
	MorePaths, MoreVisitors int
	CurveLine, CurveArea    string
	CurvePeak               int
}

// statsView is what the template of the page shows.
type statsView struct {
	Style, Shares template.CSS
	Boot          template.JS
	Known         *shownFrame // nil without a frame
	Frame         shownFrame  // the same, or nothing
}

var statsFuncs = template.FuncMap{
	"number": number,
	"counted": func(n int, noun string) string {
		if n != 1 {
			noun += "s"
		}
		return number(n) + " " + noun
	},
	"icon": func() template.HTML {
		return template.HTML(strings.Replace(strings.TrimSpace(string(embedded("icon.svg"))), `<svg xmlns="http://www.w3.org/2000/svg" `, `<svg width="28" height="28" aria-hidden="true" `, 1))
	},
	"date":     func(t time.Time) string { return t.Format("Jan 2, 2006") },
	"readable": readable,
}

// statsIndex is the page as a template, with what is the same in all answers.
type statsIndex struct {
	template *template.Template
	style    template.CSS
	boot     template.JS
	hashes   struct{ style, boot string } // of these, for the policy
}

var statsPage = sync.OnceValue(func() *statsIndex {
	page := &statsIndex{
		template: template.Must(template.New("stats").Funcs(statsFuncs).Parse(withVersions(string(embedded("index.html")), `"`))),
		style:    template.CSS(strings.TrimSpace(withVersions(string(embedded("stats.css")), ""))),
		boot:     template.JS(strings.TrimSpace(string(embedded("boot.js")))),
	}
	page.hashes.style, page.hashes.boot = policyHash(string(page.style)), policyHash(string(page.boot))
	return page
})

// policyHash is how a Content-Security-Policy names something that is written in the page.
func policyHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// serve answers GET and HEAD with the page of this moment. It is not to be kept: its
// numbers are for who may see them now.
func (p *statsIndex) serve(w http.ResponseWriter, r *http.Request, frame *StatsFrame) {
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "This address answers GET only.", http.StatusMethodNotAllowed)
		return
	}
	view := statsView{Style: p.style, Boot: p.boot}
	styles := p.hashes.style
	if frame != nil {
		view.Frame = frame.shown()
		view.Known = &view.Frame
		if view.Shares = shares(view.Frame.Where); view.Shares != "" {
			styles += policyHash(string(view.Shares))
		}
	}
	var page bytes.Buffer
	if err := p.template.Execute(&page, view); err != nil {
		panic(fmt.Sprintf("web: statistics page: %v", err)) // it writes to memory, and the template fits its view
	}
	body := page.Bytes()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Content-Security-Policy", fmt.Sprintf(statsPolicy, p.hashes.boot, styles))
	header.Set("Vary", "Accept-Encoding")
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		body = packQuickly(body)
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // a client that went away needs no answer
	}
}

var quickPackers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(fmt.Sprintf("web: gzip: %v", err))
	}
	return w
}}

// packQuickly returns the body gzipped, for one answer.
func packQuickly(body []byte) []byte {
	w := quickPackers.Get().(*gzip.Writer)
	defer quickPackers.Put(w)
	var packed bytes.Buffer
	w.Reset(&packed)
	if _, err := w.Write(body); err != nil {
		panic(fmt.Sprintf("web: gzip into memory: %v", err))
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("web: gzip into memory: %v", err))
	}
	return packed.Bytes()
}

// shown works out what the template needs beside the frame.
func (f *StatsFrame) shown() shownFrame {
	s := shownFrame{StatsFrame: *f}
	// Inside of a script element only a "<" can end it, and JSON has another way to write one.
	s.Data = template.JS(bytes.ReplaceAll(f.Data, []byte("<"), []byte(`\u003c`)))
	s.Where = f.Where[:min(len(f.Where), StatsPathsMax)]
	if s.MorePaths = max(f.Paths, len(f.Where)) - len(s.Where); s.MorePaths > 0 {
		s.MoreVisitors = f.Active
		for _, on := range s.Where {
			s.MoreVisitors = max(0, s.MoreVisitors-on.Visitors)
		}
	}
	if len(f.Curve) > 0 {
		curve := append(append([]int(nil), f.Curve[:len(f.Curve)-1]...), f.Active) // the newest minute is not over
		s.CurveLine = outline(curve)
		s.CurveArea = s.CurveLine + fmt.Sprintf("L%d %dL0 %[2]dZ", curveWidth, curveHeight)
		for _, active := range curve {
			s.CurvePeak = max(s.CurvePeak, active)
		}
	}
	return s
}

// The size of the curve; web/stats/src/curve.ts has the same.
const (
	curveWidth  = 119
	curveHeight = 40
)

// outline returns a curve from left to right as an SVG path. The script draws the same.
func outline(values []int) string {
	top := 1
	for _, v := range values {
		top = max(top, v)
	}
	step := float64(curveWidth) / float64(max(1, len(values)-1))
	var path strings.Builder
	for i, v := range values {
		command := byte('L')
		if i == 0 {
			command = 'M'
		}
		path.WriteByte(command)
		path.WriteString(strconv.FormatFloat(float64(i)*step, 'f', 1, 64))
		path.WriteByte(' ')
		path.WriteString(strconv.FormatFloat(curveHeight-1-float64(v)/float64(top)*(curveHeight-3), 'f', 1, 64))
	}
	return path.String()
}

// shares returns the style of the bars behind where visitors are. Attributes of style
// are refused by the policy.
func shares(where []StatsPath) template.CSS {
	var style strings.Builder
	for i, on := range where {
		fmt.Fprintf(&style, "#where tbody tr:nth-child(%d) .share{width:%.4g%%}", i+1, 100*float64(on.Visitors)/float64(max(1, where[0].Visitors)))
	}
	return template.CSS(style.String())
}

// number returns 12345 as 12,345.
func number(n int) string {
	digits := strconv.Itoa(n)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
