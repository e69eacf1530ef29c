package accesslog

import (
	"bytes"
	"io"
)

// lines takes a stream apart. Unlike bufio.Reader it keeps a line whose end has
// not come yet, so that reading can go on when a file has grown.
type lines struct {
	src        io.Reader
	buf        []byte // LineMax bytes
	start, end int    // of what was read and not taken
	scanned    int    // up to here there is no line end
	at         int64  // offset in the stream of buf[start]
	long       bool   // in a line that is too long
}

func newLines(src io.Reader) *lines { return &lines{src: src, buf: make([]byte, LineMax)} }

// next returns a line without its end, valid until the next call. ok is false for
// one that is too long. At an error, also io.EOF, what has no end stays.
func (l *lines) next() (line []byte, ok bool, err error) {
	for {
		if i := bytes.IndexByte(l.buf[l.scanned:l.end], '\n'); i >= 0 {
			i += l.scanned
			line, ok = bytes.TrimSuffix(l.buf[l.start:i], []byte("\r")), !l.long
			l.take(i + 1)
			l.long = false
			return line, ok, nil
		}
		l.scanned = l.end
		switch {
		case l.end < len(l.buf):
		case l.start > 0:
			l.end = copy(l.buf, l.buf[l.start:l.end])
			l.start, l.scanned = 0, l.end
		default:
			l.long = true
			l.take(l.end)
		}
		if l.start == l.end {
			l.start, l.end, l.scanned = 0, 0, 0
		}
		n, err := l.src.Read(l.buf[l.end:])
		l.end += n
		if n == 0 && err != nil {
			return nil, false, err
		}
	}
}

// take lets go of what stands before buf[to].
func (l *lines) take(to int) {
	l.at += int64(to - l.start)
	l.start, l.scanned = to, to
}

// rest returns what stands behind the last line end; ok is false when it is too
// long for a line.
func (l *lines) rest() (line []byte, ok bool) { return l.buf[l.start:l.end], !l.long }

// skip lets n bytes of the stream pass. When there are not that many the error is
// io.EOF, and what there was is gone.
func (l *lines) skip(n int64) error {
	skipped, err := io.CopyN(io.Discard, l.src, n)
	l.at += skipped
	return err
}
