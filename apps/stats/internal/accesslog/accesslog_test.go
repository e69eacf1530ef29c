package accesslog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
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
			Entry{"192.0.2.7", "Mozilla/5.0 (X11)", "http://example.org/", "GET", "/blog/a.html", "x=1", 200, at, ""}},
		{"common", head + `"GET / HTTP/1.0" 304 -`, Entry{"192.0.2.7", "", "", "GET", "/", "", 304, at, ""}},
		{"time zone", `::1 - - [17/May/2015:12:05:03 +0200] "POST /a HTTP/2.0" 404 0`,
			Entry{"::1", "", "", "POST", "/a", "", 404, at, ""}},
		{"time zone of half an hour, of the day before", `::1 - - [16/May/2015:23:35:03 -1030] "GET /a HTTP/2.0" 404 0`,
			Entry{"::1", "", "", "GET", "/a", "", 404, at, ""}},
		{"user with spaces", `a.example ident some body [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 1`,
			Entry{"a.example", "", "", "GET", "/a", "", 200, at, ""}},
		{"escaped quotes", head + `"GET /\"q\" HTTP/1.1" 200 1 "-" "say \"hi\" \\ \x41"`,
			Entry{"192.0.2.7", `say "hi" \ A`, "-", "GET", `/"q"`, "", 200, at, ""}},
		{"bytes that are no UTF-8", head + `"GET /\xe4 HTTP/1.1" 200 1 "\xe4" "` + "\xff" + `"`,
			Entry{"192.0.2.7", "\uFFFD", "\uFFFD", "GET", "/\uFFFD", "", 200, at, ""}},
		{"NULs", head + "\"GET /\x00 HTTP/1.1\" 200 1 \"\x00\" \"a\x00\"",
			Entry{"192.0.2.7", "a\x00", "\x00", "GET", "/\x00", "", 200, at, ""}},
		{"no request", head + `"-" 408 0 "-" "-"`, Entry{"192.0.2.7", "-", "-", "-", "", "", 408, at, ""}},
		{"HTTP/0.9", head + `"GET /a" 200 1`, Entry{"192.0.2.7", "", "", "GET", "/a", "", 200, at, ""}},
		{"spaces in the target", head + `"GET /a b c HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "", "GET", "/a b c", "", 200, at, ""}},
		{"absolute form", head + `"GET http://example.org/a?b HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "", "GET", "/a", "b", 200, at, ""}},
		{"absolute form without path", head + `"GET https://example.org HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "", "GET", "/", "", 200, at, ""}},
		{"only a query", head + `"GET ?a=b HTTP/1.1" 200 1`, Entry{"192.0.2.7", "", "", "GET", "/", "a=b", 200, at, ""}},
		{"with a virtual host", `www.example.org:443 ` + head + `"GET /a HTTP/1.1" 200 1 "-" "agent"`,
			Entry{"192.0.2.7", "agent", "-", "GET", "/a", "", 200, at, "www.example.org:443"}},
		{"with a virtual host, version 6", `example.org:80 2001:db8::7 - ada [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 1 "-" "agent"`,
			Entry{"2001:db8::7", "agent", "-", "GET", "/a", "", 200, at, "example.org:80"}},
		{"fields of their own", head + `"GET /a HTTP/1.1" 200 1 "-" "agent" 0.023 "more"`,
			Entry{"192.0.2.7", "agent", "-", "GET", "/a", "", 200, at, ""}},
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
		"no such month":          strings.Replace(good, "17/May", "17/anF", 1),
		"hour 24":                strings.Replace(good, ":10:05:03", ":24:05:03", 1),
		"day 0":                  strings.Replace(good, "17/May", "00/May", 1),
		"letters in the time":    strings.Replace(good, ":10:05:03", ":1a:05:03", 1),
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
	const person = "Mozilla/5.0"
	tests := []struct {
		method, target string
		status         int
		agent          string
		want           Reason
	}{
		{"GET", "/", 200, person, ""},
		{"GET", "/blog/a", 203, person, ""},
		{"GET", "/blog/a.html", 304, person, ""},
		{"GET", "/v1.2/notes", 200, person, ""},
		{"GET", "/x.php", 200, person, ""},
		{"GET", "/style.css", 200, person, NotPage},
		{"GET", "/A.PNG", 200, person, NotPage},
		{"GET", "/robots.txt", 200, person, NotPage},
		{"GET", "/a", 206, person, BadState},
		{"GET", "/a", 301, person, BadState},
		{"GET", "/a.png", 404, person, BadState},
		{"HEAD", "/", 200, person, NotGet},
		{"POST", "/a.png", 200, person, NotGet},
		{"-", "", 408, person, NotGet},
		{"GET", "*", 200, person, BadLine},
		{"GET", "/feed", 200, person, NotFeed},
		{"GET", "/blog/Feed/", 200, person, NotFeed},
		{"GET", "/rss.xml", 200, person, NotFeed},
		{"GET", "/rss-full.xml", 200, person, NotFeed},
		{"GET", "/feed.json", 200, person, NotFeed},
		{"GET", "/a/b.atom", 200, person, NotFeed},
		{"GET", "/?flav=rss20", 200, person, NotFeed},
		{"GET", "/blog/tags/x?a=b&Flav=Atom", 200, person, NotFeed},
		{"GET", "/?feed=rss2", 200, person, NotFeed},
		{"GET", "/?flav=html", 200, person, ""},
		{"GET", "/?q=feed", 200, person, ""},
		{"GET", "/feeds-and-seeds", 200, person, ""},
		{"GET", "/feed.html", 200, person, ""},
		{"GET", "/feed/", 404, person, BadState},
		{"GET", "/", 200, "a bot", RobotPrefix + "bot"},
		{"GET", "/", 200, "-", NoAgent},
		{"GET", "/", 200, "", ""}, // the common format tells no agent
		{"GET", "/a.css", 200, "a bot", NotPage},
	}
	rules := DefaultRules()
	rules.Robot = func(agent string) (string, bool) { return "bot", strings.Contains(agent, "bot") }
	everything := rules
	everything.Feeds, everything.Robot, everything.Statuses, everything.Assets = true, nil, []int{200, 203, 206, 301, 304, 404}, nil
	for _, tt := range tests {
		e := Entry{Method: tt.method, Status: tt.status, Agent: tt.agent}
		e.Path, e.Query, _ = strings.Cut(tt.target, "?")
		if got := rules.Excluded(&e); got != tt.want {
			t.Errorf("%s %s answered %d to %q: excluded = %q, want %q", tt.method, tt.target, tt.status, tt.agent, got, tt.want)
		}
		if tt.want == NotGet || tt.want == BadLine {
			continue
		}
		if got := everything.Excluded(&e); got != "" {
			t.Errorf("%s %s answered %d to %q: excluded = %q by rules that take everything", tt.method, tt.target, tt.status, tt.agent, got)
		}
	}
}

func line(second int, path string) string {
	at := time.Date(2015, time.May, 17, 10, 0, 0, 0, time.UTC).Add(time.Duration(second) * time.Second)
	return fmt.Sprintf("192.0.2.7 - - [%s] \"GET %s HTTP/1.1\" 200 1 \"-\" \"a\"\n", at.Format("02/Jan/2006:15:04:05 -0700"), path)
}

// readAll reads a log to its end.
func readAll(r *Reader) (paths []string, skipped map[Reason]int, err error) {
	skipped = make(map[Reason]int)
	var views []Entry
	for {
		var reason Reason
		if views, reason, err = r.Next(views); err != nil {
			break
		}
		if reason != "" {
			skipped[reason]++
		}
	}
	views, reason := r.Finish(views)
	if reason != "" {
		skipped[reason]++
	}
	for _, e := range views {
		paths = append(paths, e.Path)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return paths, skipped, err
}

func read(t *testing.T, r io.Reader) (paths []string, skipped map[Reason]int, reader *Reader, err error) {
	t.Helper()
	reader, err = NewReader(r, DefaultRules(), Mark{})
	if err != nil {
		t.Fatal(err)
	}
	paths, skipped, err = readAll(reader)
	return paths, skipped, reader, err
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
			if reader.Lines() != int64(len(tt.lines)) {
				t.Errorf("Lines = %d, want %d", reader.Lines(), len(tt.lines))
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
	if reader.Lines() != 8 {
		t.Errorf("Lines = %d, want 8", reader.Lines())
	}
}

func TestReaderHoldsBackABoundedNumber(t *testing.T) {
	long := strings.Repeat("x", 60_000)
	for name, write := range map[string]func(i int) (string, int){
		"many":  func(i int) (string, int) { return line(0, fmt.Sprintf("/%d", i)), WindowMax },
		"large": func(i int) (string, int) { return line(i%50, fmt.Sprintf("/%s%d", long, i)), windowBytesMax / 4096 },
	} {
		t.Run(name, func(t *testing.T) {
			var in strings.Builder
			_, limit := write(0)
			n := limit + 10
			for i := range n {
				if name == "large" && i == 2000 {
					n = i // two thousand of them are 120 MB already
					break
				}
				text, _ := write(i)
				in.WriteString(text)
			}
			reader, err := NewReader(strings.NewReader(in.String()), DefaultRules(), Mark{})
			if err != nil {
				t.Fatal(err)
			}
			var views []Entry
			most := 0
			for {
				if views, _, err = reader.Next(views); err != nil {
					break
				}
				most = max(most, len(reader.held))
				if reader.bytes > windowBytesMax+8<<10 {
					t.Fatalf("%d bytes are held back", reader.bytes)
				}
			}
			views, _ = reader.Finish(views)
			if len(views) != n || most > limit || reader.bytes != 0 {
				t.Errorf("yielded %d with at most %d held, and %d bytes left; want %d with at most %d, and none", len(views), most, reader.bytes, n, limit)
			}
		})
	}
}

// A log that is read in pieces, each by a Reader of its own, gives what it gives
// in one.
func TestReaderGoesOnFromAnyMark(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		var log strings.Builder
		clock := 1000
		for range 40 {
			switch rnd.IntN(10) {
			case 0:
				log.WriteString("garbage\n")
			case 1:
				log.WriteString("\n")
			case 2:
				log.WriteString(strings.Repeat("z", LineMax+rnd.IntN(3)) + "\n")
			case 3:
				log.WriteString(line(clock, "/a.css"))
			case 4:
				log.WriteString(line(clock-rnd.IntN(300), fmt.Sprintf("/late-%d", log.Len())))
			default:
				clock += rnd.IntN(40)
				log.WriteString(line(clock-rnd.IntN(70), fmt.Sprintf("/%d", log.Len())))
			}
		}
		text := log.String()
		if rnd.IntN(2) == 0 {
			text = strings.TrimSuffix(text, "\n") // may or may not be a whole line
		}
		wantPaths, wantSkipped, reader, err := read(t, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		wantLines := reader.Lines()

		var paths []string
		skipped := make(map[Reason]int)
		var lines int64
		var mark Mark
		for done := false; !done; {
			reader, err := NewReader(iotest.HalfReader(strings.NewReader(text)), DefaultRules(), mark)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			var views []Entry
			for most := int64(1 + rnd.IntN(12)); reader.Lines() < most; {
				var reason Reason
				views, reason, err = reader.Next(views)
				if err != nil {
					views, reason = reader.Finish(views)
					done = true
				}
				if reason != "" {
					skipped[reason]++
				}
				if done {
					break
				}
			}
			for _, e := range views {
				paths = append(paths, e.Path)
			}
			lines += reader.Lines()
			mark = reader.Mark()
		}
		if diff := cmp.Diff(wantPaths, paths); diff != "" {
			t.Errorf("seed %d: views (-in one piece +in pieces):\n%s", seed, diff)
		}
		if diff := cmp.Diff(wantSkipped, skipped); diff != "" || lines != wantLines {
			t.Errorf("seed %d: %d lines, %d in pieces; left out (-in one piece +in pieces):\n%s", seed, wantLines, lines, diff)
		}
	}
}

// A file that grows is read on, whatever stood at its end.
func TestReaderReadsWhatHasGrown(t *testing.T) {
	whole := line(0, "/a") + line(1, "/b") + line(2, "/c")
	for cut := range len(whole) + 1 {
		grown := &growing{text: whole[:cut]}
		reader, err := NewReader(grown, DefaultRules(), Mark{})
		if err != nil {
			t.Fatal(err)
		}
		before, _, err := readAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		mark := reader.Mark()
		grown.text = whole[cut:]
		after, skipped, err := readAll(reader)
		delete(skipped, Unfinished)
		if got := append(before, after...); err != nil || len(got) != 3 || len(skipped) > 0 {
			t.Errorf("cut at %d: got %q, left out %v, %v", cut, got, skipped, err)
		}
		// The same in another run.
		if reader, err = NewReader(strings.NewReader(whole), DefaultRules(), mark); err != nil {
			t.Fatal(err)
		}
		after, skipped, err = readAll(reader)
		if got := append(before, after...); err != nil || len(got) != 3 || len(skipped) > 0 {
			t.Errorf("cut at %d, in another run: got %q, left out %v, %v", cut, got, skipped, err)
		}
	}
	if _, err := NewReader(strings.NewReader("short"), DefaultRules(), Mark{Position: 10, From: 10}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a log that ends before the mark: %v", err)
	}
}

// growing is a file that others append to.
type growing struct{ text string }

func (g *growing) Read(b []byte) (int, error) {
	if g.text == "" {
		return 0, io.EOF
	}
	n := copy(b, g.text)
	g.text = g.text[n:]
	return n, nil
}

func TestFingerprints(t *testing.T) {
	head := line(0, "/a") + "garbage\n" + line(1, "/b?c")
	of := func(text string) []string {
		t.Helper()
		list, err := Fingerprints(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	whole := of(head)
	if len(whole) != 3 || len(whole[0]) != 32 || whole[0] == whole[1] || whole[1] == whole[2] {
		t.Fatalf("got %q", whole)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	fmt.Fprint(w, head)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"of other addresses": strings.ReplaceAll(head, "192.0.2.7", "198.51.100.9"), "gzipped": packed.String(),
		"without its last line end": strings.TrimSuffix(head, "\n"), "with a line that is being written": head + line(2, "/d")[:40],
	} {
		if diff := cmp.Diff(whole, of(text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if grown := of(head + line(2, "/d")); len(grown) != 4 || !slices.Equal(grown[:3], whole) {
		t.Errorf("grown: got %q, want %q and one more", grown, whole)
	}
	for name, text := range map[string]string{
		"another path": strings.Replace(head, "/a ", "/x ", 1), "another time": strings.Replace(head, ":00:01", ":00:02", 1),
		"another query": strings.Replace(head, "?c", "?d", 1), "another length of garbage": strings.Replace(head, "garbage", "garb", 1),
	} {
		if other := of(text); other[2] == whole[2] {
			t.Errorf("%s has the same fingerprint", name)
		}
	}
	if n := len(of("")) + len(of("no end")); n != 0 {
		t.Errorf("%d fingerprints of nothing", n)
	}
	if n := len(of(strings.Repeat(line(0, "/a"), 2*FingerprintLines))); n != FingerprintLines {
		t.Errorf("%d fingerprints, want %d", n, FingerprintLines)
	}
	if n := len(of(strings.Repeat("x", 3<<20) + "\n" + line(0, "/a"))); n != 1 {
		t.Errorf("%d fingerprints of a log with a line of 3 MiB, want 1", n)
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
	if _, err := NewReader(bytes.NewReader(whole[:5]), DefaultRules(), Mark{}); err == nil {
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
		for _, s := range []string{e.Address, e.Agent, e.Method, e.Path, e.Query, e.Referrer} {
			if !utf8.ValidString(s) || len(s) > 3*len(text) {
				t.Errorf("Parse(%q) holds %q", text, s)
			}
		}
		if strings.ContainsAny(e.Path, "?#") || e.Address == "" || e.Status < 100 || e.Status > 999 {
			t.Errorf("Parse(%q) = %+v", text, e)
		}
	})
}

// FuzzReader gives a reader lines of any kind, in two pieces.
func FuzzReader(f *testing.F) {
	f.Add([]byte(line(0, "/a")+line(100, "/b")+"x\n\n"+line(3, "/c")), 60)
	f.Add([]byte("\x1f\x8b\x08\x00"), 2)
	f.Add([]byte(line(5, "/a")+"\x00\n"+line(1, "/b")), 1)
	f.Fuzz(func(t *testing.T, text []byte, calls int) {
		if len(text) > 1 && text[0] == 0x1f && text[1] == 0x8b {
			if r, err := NewReader(bytes.NewReader(text), DefaultRules(), Mark{}); err == nil {
				_, _, _ = readAll(r) // it ends, with an error or not
			}
			return
		}
		whole, err := NewReader(bytes.NewReader(text), DefaultRules(), Mark{})
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := readAll(whole)
		if err != nil {
			t.Fatal(err)
		}
		first, err := NewReader(bytes.NewReader(text), DefaultRules(), Mark{})
		if err != nil {
			t.Fatal(err)
		}
		var views []Entry
		for range min(max(calls, 0), 100) {
			if views, _, err = first.Next(views); err != nil {
				break
			}
		}
		second, err := NewReader(bytes.NewReader(text), DefaultRules(), first.Mark())
		if err != nil {
			t.Fatal(err)
		}
		rest, _, err := readAll(second)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range views {
			got = append(got, e.Path)
		}
		if diff := cmp.Diff(want, append(got, rest...)); diff != "" {
			t.Errorf("%q stopped after %d lines (-in one piece +in two):\n%s", text, calls, diff)
		}
		if _, err := Fingerprints(bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	var log bytes.Buffer
	for i := range 10_000 {
		fmt.Fprintf(&log, "203.0.113.%d - - [17/May/2015:%02d:%02d:%02d +0000] \"GET /blog/post-%d?x=%d HTTP/1.1\" 200 12345 \"https://example.org/from/here\" "+
			"\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\"\n", i%256, i/3600, i/60%60, i%60, i%500, i)
	}
	b.SetBytes(int64(log.Len()))
	b.ReportAllocs()
	var views []Entry
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(log.Bytes()), DefaultRules(), Mark{})
		if err != nil {
			b.Fatal(err)
		}
		for {
			if views, _, err = r.Next(views[:0]); err != nil {
				break
			}
		}
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// Servers append fields of their own behind the agent: a line that is cut there is a
// whole one, and what comes of it later is no other.
func TestResumeBehindALineThatGrows(t *testing.T) {
	first := strings.TrimSuffix(line(0, "/a"), "\n")
	for _, tt := range []struct {
		more  string
		paths []string
	}{
		{"\n", nil},
		{" 0.02 \"x\"\n", nil},
		{" 0.02 \"x\"\n" + line(1, "/b"), []string{"/b"}},
		{line(1, "/b"), []string{"/b"}}, // without a line end between them
	} {
		_, _, before, err := read(t, strings.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		reader, err := NewReader(strings.NewReader(first+tt.more), DefaultRules(), before.Mark())
		if err != nil {
			t.Fatal(err)
		}
		paths, skipped, err := readAll(reader)
		if err != nil || !slices.Equal(paths, tt.paths) || len(skipped) > 0 || reader.Lines() != int64(len(tt.paths)) {
			t.Errorf("%q: %d lines, paths %q, left out %v, %v; want paths %q and nothing left out", tt.more, reader.Lines(), paths, skipped, err, tt.paths)
		}
	}
}
