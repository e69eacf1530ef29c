package stats

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// progressEvery is how often the progress line is rewritten.
const progressEvery = 200 * time.Millisecond

// progressWidth is how many characters the bar has.
const progressWidth = 24

// progress is a line on a terminal that says how far an import is.
type progress struct {
	out   io.Writer
	live  bool // whether it is a terminal
	clock func() time.Time

	total   int64 // bytes of all logs; 0 when that is not known
	bytes   int64 // read so far
	began   time.Time
	shown   time.Time // when it was last written
	columns int       // that it took then
}

// show writes the line, unless it was written a moment ago.
func (p *progress) show(lines, counted int, doing string) {
	if !p.live {
		return
	}
	now := p.clock()
	if p.began.IsZero() {
		p.began = now
	}
	if now.Sub(p.shown) < progressEvery {
		return
	}
	p.shown = now
	p.write(p.line(now, lines, counted, doing))
}

// line returns the line.
func (p *progress) line(now time.Time, lines, counted int, doing string) string {
	var b strings.Builder
	elapsed := now.Sub(p.began).Seconds()
	if p.total > 0 {
		share := min(float64(p.bytes)/float64(p.total), 1)
		full := int(share * progressWidth)
		fmt.Fprintf(&b, "[%s%s] %3.0f %%  ", strings.Repeat("=", full), strings.Repeat(" ", progressWidth-full), share*100)
	}
	fmt.Fprintf(&b, "%d lines, %d views", lines, counted)
	if elapsed > 1 {
		fmt.Fprintf(&b, ", %.0f lines/s", float64(lines)/elapsed)
		if p.total > 0 && p.bytes > 0 && p.bytes < p.total && doing == "" {
			left := time.Duration(elapsed * float64(p.total-p.bytes) / float64(p.bytes) * float64(time.Second))
			fmt.Fprintf(&b, ", %v left", left.Round(time.Second))
		}
	}
	if doing != "" {
		b.WriteString(", " + doing)
	}
	return b.String()
}

func (p *progress) write(text string) {
	fmt.Fprintf(p.out, "\r%s%s", text, strings.Repeat(" ", max(0, p.columns-len(text))))
	p.columns = len(text)
}

// clear takes the line away.
func (p *progress) clear() {
	if p.columns > 0 {
		p.write("")
		fmt.Fprint(p.out, "\r")
		p.columns = 0
	}
}

// counting counts the bytes that are read of a log.
type counting struct {
	io.Reader
	progress *progress
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.progress.bytes += int64(n)
	return n, err
}

// isTerminal reports whether w is a terminal, where a line can be rewritten.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
