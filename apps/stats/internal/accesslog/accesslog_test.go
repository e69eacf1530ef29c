package accesslog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	at := time.Date(2015, time.May, 17, 10, 5, 3, 0, time.UTC)
	const head = `192.0.2.7 - - [17/May/2015:10:05:03 +0000] `
	tests := []struct {
		name, line string
		want       Entry
	}{
		{"combined", head + `"GET /blog/a.html?x=1#y HTTP/1.1" 200 123 "http://example.org/" "Mozilla/5.0 (X11)"`,
			Entry{"192.0.2.7", "Mozilla/5.0 (X11)", "GET", "/blog/a.html", 200, at}},
		{"common", head + `"GET / HTTP/1.0" 304 -`, Entry{"192.0.2.7", "", "GET", "/", 304, at}},
		{"time zone", `::1 - - [17/May/2015:12:05:03 +0200] "POST /a HTTP/2.0" 404 0`,
			Entry{"::1", "", "POST", "/a", 404, at}},
		{"user with spaces", `a.example ident some body [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 1`,
			Entry{"a.example", "", "GET", "/a", 200, at}},
		{"escaped quotes", head + `"GET /\"q\" HTTP/1.1" 200 1 "-" "say \"hi\" \\ \x41"`,
			Entry{"192.0.2.7", `say "hi" \ A`, "GET", `/"q"`, 200, at}},
		{"bytes that are no UTF-8", head + `"GET /\xe4 HTTP/1.1" 200 1 "\xe4" "` + "\xff" + `"`,
			Entry{"192.0.2.7", "\uFFFD", "GET", "/\uFFFD", 200, at}},
		{"no request", head + `"-" 408 0 "-" "-"`, Entry{"192.0.2.7", "-", "-", "", 408, at}},
		{"HTTP/0.9", head + `"GET /a" 200 1`, Entry{"192.0.2.7", "", "GET", "/a", 200, at}},
		{"spaces in the target", head + `"GET /a b c HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "GET", "/a b c", 200, at}},
		{"absolute form", head + `"GET http://example.org/a?b HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "GET", "/a", 200, at}},
		{"absolute form without path", head + `"GET https://example.org HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "GET", "/", 200, at}},
		{"only a query", head + `"GET ?a=b HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "GET", "/", 200, at}},
		{"fields of their own", head + `"GET /a HTTP/1.1" 200 1 "-" "agent" 0.023 "more"`,
			Entry{"192.0.2.7", "agent", "GET", "/a", 200, at}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.line)
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.line, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const good = `192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 123 "-" "agent"`
	tests := map[string]string{
		"nothing":                "",
		"one word":               "hello",
		"JSON":                   `{"method":"GET","path":"/"}`,
		"no address":             " " + good,
		"no time":                `192.0.2.7 - - "GET / HTTP/1.1" 200 123`,
		"time of another kind":   strings.Replace(good, "17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03Z", 1),
		"no such day":            strings.Replace(good, "17/May", "31/Feb", 1),
		"status of letters":      strings.Replace(good, " 200 ", " abc ", 1),
		"status out of range":    strings.Replace(good, " 200 ", " 20000000000 ", 1),
		"no size":                strings.Replace(good, " 123 ", " ", 1),
		"size of letters":        strings.Replace(good, " 123 ", " 12x ", 1),
		"cut in the request":     good[:55],
		"cut in the agent":       good[:len(good)-1],
		"cut after the referrer": good[:len(good)-len(` "agent"`)],
	}
	if _, err := Parse(good); err != nil {
		t.Fatalf("Parse(%q): %v", good, err)
	}
	for name, line := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := Parse(line); !errors.Is(err, ErrFormat) {
				t.Errorf("Parse(%q) = %+v, %v; want ErrFormat", line, got, err)
			}
		})
	}
}

func TestExcluded(t *testing.T) {
	tests := []struct {
		method, path string
		status       int
		want         Reason
	}{
		{"GET", "/", 200, ""},
		{"GET", "/blog/a", 203, ""},
		{"GET", "/blog/a.html", 304, ""},
		{"GET", "/v1.2/notes", 200, ""},
		{"GET", "/x.php", 200, ""},
		{"GET", "/style.css", 200, NotPage},
		{"GET", "/A.PNG", 200, NotPage},
		{"GET", "/robots.txt", 200, NotPage},
		{"GET", "/a", 206, BadState},
		{"GET", "/a", 301, BadState},
		{"GET", "/a.png", 404, BadState},
		{"HEAD", "/", 200, NotGet},
		{"POST", "/a.png", 200, NotGet},
		{"-", "", 408, NotGet},
		{"GET", "*", 200, BadLine},
	}
	for _, tt := range tests {
		e := Entry{Method: tt.method, Path: tt.path, Status: tt.status}
		if got := e.Excluded(); got != tt.want {
			t.Errorf("%s %s answered %d: excluded = %q, want %q", tt.method, tt.path, tt.status, got, tt.want)
		}
	}
}

func line(second int, path string) string {
	at := time.Date(2015, time.May, 17, 10, 0, 0, 0, time.UTC).Add(time.Duration(second) * time.Second)
	return fmt.Sprintf("192.0.2.7 - - [%s] \"GET %s HTTP/1.1\" 200 1 \"-\" \"a\"\n", at.Format(timeLayout), path)
}

func read(t *testing.T, r io.Reader) (paths []string, skipped map[Reason]int, reader *Reader, err error) {
	t.Helper()
	reader, err = NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	skipped = make(map[Reason]int)
	for e, eachErr := range reader.PageViews(func(reason Reason) { skipped[reason]++ }) {
		if eachErr != nil {
			return paths, skipped, reader, eachErr
		}
		paths = append(paths, e.Path)
	}
	return paths, skipped, reader, nil
}

func TestReaderOrdersWithinTheWindow(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  []string
	}{
		{"in order", []string{line(0, "/a"), line(1, "/b"), line(90, "/c")}, []string{"/a", "/b", "/c"}},
		{"swapped", []string{line(30, "/b"), line(0, "/a"), line(90, "/c")}, []string{"/a", "/b", "/c"}},
		{"a whole window late", []string{line(60, "/b"), line(0, "/a")}, []string{"/a", "/b"}},
		{"more than a window late", []string{line(0, "/a"), line(61, "/c"), line(122, "/d"), line(3, "/late")},
			[]string{"/a", "/c", "/late", "/d"}},
		{"same second keeps the log's order", []string{line(5, "/b"), line(5, "/a"), line(4, "/0"), line(5, "/c")},
			[]string{"/0", "/b", "/a", "/c"}},
		{"no end on the last line", []string{line(1, "/b"), strings.TrimSpace(line(0, "/a"))}, []string{"/a", "/b"}},
		{"carriage returns", []string{strings.ReplaceAll(line(0, "/a"), "\n", "\r\n")}, []string{"/a"}},
		{"nothing", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, reader, err := read(t, strings.NewReader(strings.Join(tt.lines, "")))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
			if reader.Lines != int64(len(tt.lines)) {
				t.Errorf("Lines = %d, want %d", reader.Lines, len(tt.lines))
			}
		})
	}
}

func TestReaderCountsEveryLineLeftOut(t *testing.T) {
	in := line(0, "/a") + "\n" + "garbage\n" + line(1, "/a.css") + strings.Repeat("x", LineMax) + "y\n" +
		strings.Replace(line(2, "/b"), "GET", "PUT", 1) + strings.Replace(line(2, "/b"), " 200 ", " 500 ", 1) + line(3, "/c")
	paths, skipped, reader, err := read(t, strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/a", "/c"}, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	want := map[Reason]int{Blank: 1, BadLine: 1, NotPage: 1, TooLong: 1, NotGet: 1, BadState: 1}
	if diff := cmp.Diff(want, skipped); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if reader.Lines != 8 {
		t.Errorf("Lines = %d, want 8", reader.Lines)
	}
}

func TestReaderHoldsBackABoundedNumber(t *testing.T) {
	var in strings.Builder
	for i := range WindowMax + 10 {
		fmt.Fprint(&in, line(0, fmt.Sprintf("/%d", i)))
	}
	reader, err := NewReader(strings.NewReader(in.String()))
	if err != nil {
		t.Fatal(err)
	}
	n, most := 0, 0
	for _, err := range reader.PageViews(func(Reason) {}) {
		if err != nil {
			t.Fatal(err)
		}
		n, most = n+1, max(most, len(reader.held))
	}
	if n != WindowMax+10 || most > WindowMax {
		t.Errorf("yielded %d with at most %d held, want %d with at most %d", n, most, WindowMax+10, WindowMax)
	}
}

func TestReaderReadsGzip(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	fmt.Fprint(w, line(0, "/a"), line(1, "/b"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := zipped.Bytes()
	paths, _, _, err := read(t, iotest.OneByteReader(bytes.NewReader(whole)))
	if err != nil || len(paths) != 2 {
		t.Fatalf("read %q, %v; want both lines", paths, err)
	}
	if _, err := NewReader(bytes.NewReader(whole[:5])); err == nil {
		t.Error("a cut gzip header: no error")
	}
	if _, _, _, err := read(t, bytes.NewReader(whole[:len(whole)-4])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut gzip file: error %v, want io.ErrUnexpectedEOF", err)
	}
}

func TestReaderYieldsWhatCameBeforeAnError(t *testing.T) {
	broken := errors.New("the disk is gone")
	paths, _, _, err := read(t, io.MultiReader(strings.NewReader(line(1, "/b")+line(0, "/a")), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("error = %v, want %v", err, broken)
	}
	if diff := cmp.Diff([]string{"/a", "/b"}, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

func TestErrorsHoldNothingOfTheLine(t *testing.T) {
	_, _, _, err := read(t, io.MultiReader(strings.NewReader("198.51.100.77 secret"), iotest.ErrReader(errors.New("gone"))))
	if err == nil || strings.Contains(err.Error(), "198.51") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error = %v, want one without the line", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`192.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET /\"a?b HTTP/1.1" 200 123 "-" "\x41gent"`)
	f.Add(`::1 - a b [17/May/2015:10:05:03 +0200] "-" 408 -`)
	f.Add(`a b [17/May/2015:10:05:03 +0000] "GET http://x HTTP/1.1" 200 1 "" ""`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("Parse(%q): %v, want ErrFormat", text, err)
			}
			return
		}
		for _, s := range []string{e.Address, e.Agent, e.Method, e.Path} {
			if !utf8.ValidString(s) || len(s) > 3*len(text) {
				t.Errorf("Parse(%q) holds %q", text, s)
			}
		}
		if strings.ContainsAny(e.Path, "?#") || e.Address == "" || e.Status < 100 || e.Status > 999 {
			t.Errorf("Parse(%q) = %+v", text, e)
		}
	})
}
