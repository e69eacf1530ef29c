package accesslog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

const (
	// Window is how far out of order a log may be and still be read in the
	// order of its times. Servers write a line when a request ends and stamp it
	// with its begin, so neighbours are often out of order by some seconds.
	Window = time.Minute

	// LineMax is the longest line that is read, in bytes. Longer ones are
	// reported as TooLong. Servers cap request lines and headers near 8 KiB.
	LineMax = 64 << 10

	// WindowMax is the most page views held back for ordering. A busier log is
	// ordered over less than Window rather than held in memory.
	WindowMax = 1 << 16
)

// A Reader yields the page views of one log. Its fields other than Lines are set
// by NewReader.
type Reader struct {
	// Lines counts the lines read so far, also those that are not page views.
	Lines int64

	in   *bufio.Reader
	held held
	seen time.Time // the newest time so far
}

// NewReader returns a Reader of r. Whether the log is gzipped is told from its
// first bytes, so that a pipe works as well as a file.
func NewReader(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, LineMax)
	if magic, err := in.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("read gzip header: %w", err)
		}
		in = bufio.NewReaderSize(unzipped, LineMax)
	}
	return &Reader{in: in}, nil
}

// PageViews yields every page view of the log once, ordered by time; those of
// the same second keep the order of the log. One that comes more than Window
// late is yielded when it is read. The reason of every other line goes to
// skipped as the line is read. When reading fails, the page views read so far
// are yielded, then the error.
func (r *Reader) PageViews(skipped func(Reason)) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for {
			line, err := r.readLine()
			if err != nil && !errors.Is(err, errLineTooLong) {
				for len(r.held) > 0 {
					if !yield(heap.Pop(&r.held).(heldEntry).Entry, nil) {
						return
					}
				}
				if !errors.Is(err, io.EOF) {
					yield(Entry{}, fmt.Errorf("read line %d: %w", r.Lines+1, err))
				}
				return
			}
			r.Lines++
			switch {
			case err != nil:
				skipped(TooLong)
				continue
			case len(bytes.TrimSpace(line)) == 0:
				skipped(Blank)
				continue
			}
			entry, err := Parse(string(line))
			if err != nil {
				skipped(BadLine)
				continue
			}
			if entry.Time.After(r.seen) {
				r.seen = entry.Time
			}
			if reason := entry.Excluded(); reason != "" {
				skipped(reason)
				continue
			}
			heap.Push(&r.held, heldEntry{entry, r.Lines})
			for len(r.held) > 0 && (r.held[0].Time.Before(r.seen.Add(-Window)) || len(r.held) > WindowMax) {
				if !yield(heap.Pop(&r.held).(heldEntry).Entry, nil) {
					return
				}
			}
		}
	}
}

var errLineTooLong = errors.New("accesslog: line too long")

// readLine returns the next line without its end. The slice is valid until the
// next call.
func (r *Reader) readLine() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errLineTooLong
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil // the last line has no end
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), err
}

// held is a heap of entries by time, then by their place in the log.
type held []heldEntry

type heldEntry struct {
	Entry
	line int64
}

func (h held) Len() int      { return len(h) }
func (h held) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *held) Push(x any)   { *h = append(*h, x.(heldEntry)) }

func (h held) Less(i, j int) bool {
	if !h[i].Time.Equal(h[j].Time) {
		return h[i].Time.Before(h[j].Time)
	}
	return h[i].line < h[j].line
}

func (h *held) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = heldEntry{}
	*h = old[:len(old)-1]
	return last
}
