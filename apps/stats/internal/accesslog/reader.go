package accesslog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// Window is how far out of order a log may be and still be read in the
	// order of its times. Servers write a line when a request ends and stamp it
	// with its begin, so neighbours are often out of order by some seconds.
	Window = time.Minute

	// LineMax is the longest line that is read, in bytes with its end. Longer
	// ones are reported as TooLong. Servers cap request lines and headers near 8
	// KiB.
	LineMax = 64 << 10

	// WindowMax and windowBytesMax bound the page views held back for ordering.
	// A busier log is ordered over less than Window rather than held in memory.
	WindowMax      = 1 << 16
	windowBytesMax = 64 << 20
)

// The longest parts of an entry that is held back, in bytes. What is longer than
// that is cut, and told apart by its hash where that matters.
const (
	addressMax  = 256
	agentMax    = 1024
	pathMax     = 4096
	referrerMax = 1024 // and of a query
)

// A Mark is a place in a log between two lines from which reading can go on, also
// in another process, as if it had never stopped: no page view is missing and none
// comes twice.
type Mark struct {
	// Position is where the next line begins, in bytes of the unpacked log.
	Position int64
	// From is where the first line begins whose page view is held back; Position
	// when there is none.
	From int64
	// Low is the time before which page views are not held back: of what stands
	// between From and Position, that is what was yielded.
	Low time.Time
	// Open says that what stands before Position has no line end yet.
	Open bool
	// Common says that the line before Position is one of the common format.
	Common bool
}

// A Reader yields the page views of one log. Use NewReader.
type Reader struct {
	rules  Rules
	lines  *lines
	resume Mark
	read   int64 // lines after resume.Position
	held   held
	bytes  int // that held holds
	seen   time.Time
	low    time.Time
	open   bool
	common bool // the last line was one of the common format
}

// NewReader returns a Reader that goes on at a mark; the zero Mark is the
// beginning. Whether the log is gzipped is told from its first bytes, so that a
// pipe works as well as a file. The error is io.ErrUnexpectedEOF when the log ends
// before the mark.
func NewReader(r io.Reader, rules Rules, resume Mark) (*Reader, error) {
	unpacked, err := Unpacked(r)
	if err != nil {
		return nil, err
	}
	lines := newLines(unpacked)
	if err := lines.skip(resume.From); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("find the place where an earlier run has stopped: %w", err)
	}
	reader := &Reader{rules: rules, lines: lines, resume: resume, low: resume.Low, open: resume.Open, common: resume.Common}
	if !resume.Low.IsZero() {
		reader.seen = resume.Low.Add(Window)
	}
	return reader, nil
}

// magic is how a gzipped stream begins.
var magic = []byte{0x1f, 0x8b}

// IsPacked reports whether a file is gzipped.
func IsPacked(file io.ReaderAt) bool {
	head := make([]byte, len(magic))
	_, err := file.ReadAt(head, 0)
	return err == nil && bytes.Equal(head, magic)
}

// Unpacked returns what a stream holds when it is gzipped, and otherwise the
// stream.
func Unpacked(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	if head, err := in.Peek(len(magic)); err == nil && bytes.Equal(head, magic) {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("read gzip header: %w", err)
		}
		return unzipped, nil
	}
	return in, nil
}

// Lines returns how many lines were read, those before the mark not counted.
func (r *Reader) Lines() int64 { return r.read }

// Mark returns the place that Next has come to.
func (r *Reader) Mark() Mark {
	m := Mark{Position: max(r.lines.at, r.resume.Position), From: r.lines.at, Low: r.low, Open: r.open, Common: r.common}
	for i := range r.held {
		m.From = min(m.From, r.held[i].offset)
	}
	return m
}

// Next reads one line and appends the page views that are in order from then on,
// ordered by time; those of the same second keep the order of the log. One that
// comes more than Window late is appended when it is read. When the line is none,
// its reason is returned. At the end of the log the error is io.EOF; a file that
// has grown is read on by calling Next again.
func (r *Reader) Next(views []Entry) ([]Entry, Reason, error) {
	offset := r.lines.at
	line, ok, err := r.lines.next()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = fmt.Errorf("read line %d: %w", r.read+1, err)
		}
		return views, "", err
	}
	if r.open && offset == r.resume.Position {
		r.open = false
		// This ends the last line of the run before, maybe with fields behind the
		// agent, unless a server that began anew has written a line there.
		if _, err := Parse(string(line)); err != nil {
			return views, "", nil
		}
	}
	if offset >= r.resume.Position {
		r.open = false
	}
	return r.line(views, offset, line, ok)
}

// Finish reads a last line without an end and appends all page views that are held
// back. The log may grow and be read on; a last line that is not whole is left to
// that, with the reason Unfinished.
func (r *Reader) Finish(views []Entry) ([]Entry, Reason) {
	offset := r.lines.at
	line, ok := r.lines.rest()
	reason := Reason("")
	if len(line) > 0 || !ok {
		// A line of the combined format that is cut behind its size reads as one of
		// the common format.
		if e, err := Parse(string(line)); err == nil && ok && (e.Agent != "" || r.common) {
			r.lines.take(r.lines.end)
			views, reason, _ = r.line(views, offset, line, ok)
			r.open = true
			// Where reading goes on, a line end belongs to this line.
			r.resume.Position = max(r.resume.Position, r.lines.at)
		} else {
			reason = Unfinished
		}
	}
	for i := range r.held {
		if after := r.held[i].Time.Add(time.Second); after.After(r.low) {
			r.low = after
		}
	}
	return r.yield(views), reason
}

// line takes one line.
func (r *Reader) line(views []Entry, offset int64, line []byte, ok bool) ([]Entry, Reason, error) {
	again := offset < r.resume.Position // the run before has read it
	if !again {
		r.read++
	}
	e, reason := r.entry(line, ok)
	if reason != "" {
		if again {
			reason = ""
		}
	} else if !again || !e.Time.Before(r.resume.Low) {
		e.bound()
		r.bytes += e.size()
		r.held.push(heldEntry{e, offset})
	}
	if !e.Time.IsZero() && e.Time.After(r.seen) {
		r.seen = e.Time
	}
	if before := r.seen.Add(-Window); !r.seen.IsZero() && before.After(r.low) {
		r.low = before
	}
	for len(r.held) > WindowMax || r.bytes > windowBytesMax {
		// Lines have whole seconds.
		r.low = r.held[0].Time.Add(time.Second)
		views = r.yield(views)
	}
	return r.yield(views), reason, nil
}

// entry reads one line. The time is set unless the line is none.
func (r *Reader) entry(line []byte, ok bool) (Entry, Reason) {
	switch {
	case !ok:
		return Entry{}, TooLong
	case len(bytes.TrimSpace(line)) == 0:
		return Entry{}, Blank
	}
	e, err := Parse(string(line))
	if err != nil {
		return Entry{}, BadLine
	}
	r.common = e.Agent == ""
	return e, r.rules.Excluded(&e)
}

// yield appends what is before low.
func (r *Reader) yield(views []Entry) []Entry {
	for len(r.held) > 0 && r.held[0].Time.Before(r.low) {
		e := r.held.pop().Entry
		r.bytes -= e.size()
		views = append(views, e)
	}
	return views
}

// bound cuts the parts of an entry that are too long, and copies all of them: they
// are parts of the line.
func (e *Entry) bound() {
	cut := func(s string, most int) string {
		if len(s) <= most {
			return strings.Clone(s)
		}
		sum := sha256.Sum256([]byte(s))
		return strings.ToValidUTF8(s[:most-2*sha256.Size], "") + hex.EncodeToString(sum[:])
	}
	e.Address, e.Agent, e.Path, e.Referrer = cut(e.Address, addressMax), cut(e.Agent, agentMax), cut(e.Path, pathMax), cut(e.Referrer, referrerMax)
	e.Method, e.Query, e.Host = "GET", cut(e.Query, referrerMax), cut(e.Host, addressMax)
}

// size is about how many bytes an entry takes that is held back.
func (e *Entry) size() int {
	return 176 + len(e.Address) + len(e.Agent) + len(e.Path) + len(e.Referrer) + len(e.Host)
}

// held is a heap of entries by time, then by their place in the log. It is
// container/heap without its interfaces.
type held []heldEntry

type heldEntry struct {
	Entry
	offset int64
}

func (h held) less(i, j int) bool {
	if !h[i].Time.Equal(h[j].Time) {
		return h[i].Time.Before(h[j].Time)
	}
	return h[i].offset < h[j].offset
}

func (h *held) push(e heldEntry) {
	*h = append(*h, e)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s.less(i, parent) {
			return
		}
		s[i], s[parent] = s[parent], s[i]
		i = parent
	}
}

// REQUIRES: h is not empty.
func (h *held) pop() heldEntry {
	s := *h
	first, last := s[0], len(s)-1
	s[0], s[last] = s[last], heldEntry{}
	s = s[:last]
	*h = s
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(s); child++ {
			if s.less(child, least) {
				least = child
			}
		}
		if least == i {
			return first
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}
