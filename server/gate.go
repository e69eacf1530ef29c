package server

import (
	"encoding/binary"
	"errors"
)

const (
	// pieceBytes is the size of the largest pieces that a large frame is cut into,
	// and firstPieceBytes that of the first one of a message, and of frames that are
	// not cut. A piece is as large as what has come of the message before, within
	// these bounds. They fit a 16-bit length and are multiples of 4, so that the
	// mask of the frame fits each piece.
	pieceBytes      = 60 << 10
	firstPieceBytes = 4000
	// freeBytes is how much of a message may be read without a share of the
	// budget for all clients.
	freeBytes = 64 << 10

	// headerBytesMax is the size of the longest frame header.
	headerBytesMax = 14
)

var (
	errMessageTooLarge = errors.New("message too large")
	errInboundFull     = errors.New("too many bytes of messages are being read")
	errControlTooLarge = errors.New("control frame too large")
)

// gate watches the frame headers in what a client sends, before the WebSocket
// library reads them. The library allocates whatever length a header claims, so
// a hundred clients with 14 bytes each could claim gigabytes. The gate
//
//   - refuses a message that is over the limit as soon as a header says so;
//   - cuts a frame over 4,000 bytes into pieces, the first of that size, so that
//     memory follows the bytes that came and not those that were announced;
//   - takes bytes beyond the first 64 KiB of a message from a budget that all
//     clients share, before it lets them through.
//
// Smaller frames pass without being copied. All of the gate belongs to
// the goroutine that reads the connection.
type gate struct {
	// limit is the size of the largest message.
	limit  int64
	budget *budget

	// message is the size of the message so far, held what it has of the budget.
	message, held int64

	// rest has been read and waits to be passed on, from restAt.
	rest   []byte
	restAt int

	// header is a frame header that did not pass in one piece with others;
	// gathering says that it is not complete.
	header    [headerBytesMax]byte
	headerLen int
	gathering bool

	// front must be passed on before anything else: a header.
	front    []byte
	frontBuf [headerBytesMax]byte
	// body is what is left of the payload of the frame that is passing.
	body int64
	// cut is what is left of a frame being cut, after body.
	cut int64

	// err, once set, is the answer to all reads.
	err error
}

// frame is the parsed header of a frame.
type frame struct {
	size    int // of the header
	opcode  byte
	final   bool
	payload int64
	large   bool // is cut, or has a 64-bit length
}

// parseFrame reads a header at the start of b. It returns how many bytes a
// complete header has, at least as far as b tells, and whether b has them.
func parseFrame(b []byte) (f frame, need int, ok bool) {
	if len(b) < 2 {
		return f, 2, false
	}
	f.opcode = b[0] & 0x0f
	f.final = b[0]&0x80 != 0
	f.size = 2
	code := b[1] & 0x7f
	switch code {
	case 126:
		f.size += 2
	case 127:
		f.size += 8
		f.large = true
	default:
		f.payload = int64(code)
	}
	lengthEnd := f.size
	if b[1]&0x80 != 0 {
		f.size += 4
	}
	if len(b) < f.size {
		return f, f.size, false
	}
	switch code {
	case 126:
		f.payload = int64(binary.BigEndian.Uint16(b[2:lengthEnd]))
		f.large = f.payload > firstPieceBytes && f.opcode < 8 // the library refuses long control frames by their header
	case 127:
		length := binary.BigEndian.Uint64(b[2:lengthEnd])
		if f.payload = int64(length); f.payload < 0 {
			f.payload = 1<<63 - 1
		}
	}
	return f, f.size, true
}

// read fills p with what may pass of what raw reads. It is io.Reader's Read
// over raw.
func (g *gate) read(p []byte, raw func([]byte) (int, error)) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for g.err == nil {
		switch {
		case len(g.front) > 0:
			n := copy(p, g.front)
			g.front = g.front[n:]
			return n, nil
		case g.cut > 0 && g.body == 0:
			if g.err = g.nextPiece(); g.err != nil {
				return 0, g.err
			}
		case g.gathering:
			if err := g.gather(raw); err != nil {
				return 0, err
			}
		case g.cut > 0:
			n, _, err := g.source(p[:min(int64(len(p)), g.body)], raw)
			g.body -= int64(n)
			return n, err
		default:
			n, fromRest, err := g.source(p, raw)
			passed := g.walk(p[:n])
			if passed < n {
				g.putBack(p[passed:n], fromRest)
			}
			if passed > 0 || err != nil {
				return passed, err
			}
		}
	}
	return 0, g.err
}

// source reads from what was put back, or from the connection.
func (g *gate) source(p []byte, raw func([]byte) (int, error)) (n int, fromRest bool, err error) {
	if g.restAt < len(g.rest) {
		n = copy(p, g.rest[g.restAt:])
		g.restAt += n
		return n, true, nil
	}
	g.rest, g.restAt = nil, 0
	n, err = raw(p)
	return n, false, err
}

// putBack returns the end of what source gave.
func (g *gate) putBack(b []byte, fromRest bool) {
	if fromRest {
		g.restAt -= len(b)
		return
	}
	g.rest, g.restAt = append([]byte(nil), b...), 0
}

// walk returns how much of b may pass as it is: everything up to the first
// header that is not complete in b, is of a large frame or is refused. If that
// header is at the start of b, the gate gathers it next.
func (g *gate) walk(b []byte) int {
	for at := 0; ; {
		if skip := min(g.body, int64(len(b)-at)); skip > 0 {
			at += int(skip)
			g.body -= skip
		}
		if at == len(b) {
			return at
		}
		f, _, complete := parseFrame(b[at:])
		if !complete || f.large || at > 0 && !g.fits(f) || g.admit(f, f.payload) != nil {
			// What is in front of the header has to be handled first: a Connect
			// there changes the limit.
			g.gathering = at == 0
			g.headerLen = 0
			return at
		}
		at += f.size
		g.body = f.payload
	}
}

// gather reads one whole header and decides how its frame passes.
func (g *gate) gather(raw func([]byte) (int, error)) error {
	f, need, complete := parseFrame(g.header[:g.headerLen])
	for !complete {
		n, _, err := g.source(g.header[g.headerLen:need], raw)
		g.headerLen += n
		if err != nil {
			return err
		}
		f, need, complete = parseFrame(g.header[:g.headerLen])
	}
	g.gathering = false
	if !f.large {
		if g.err = g.admit(f, f.payload); g.err != nil {
			return g.err
		}
		g.front = append(g.frontBuf[:0], g.header[:g.headerLen]...)
		g.body = f.payload
		return nil
	}
	if f.opcode >= 8 {
		g.err = errControlTooLarge
		return g.err
	}
	if !g.fits(f) {
		g.err = errMessageTooLarge
		return g.err
	}
	if f.opcode != 0 {
		g.message = 0
	}
	g.cut, g.body = f.payload, 0
	if f.payload == 0 {
		return g.nextPiece()
	}
	return nil
}

// nextPiece makes the header of the next piece of the frame being cut.
func (g *gate) nextPiece() error {
	size := min(g.cut, pieceBytes, max(firstPieceBytes, g.message&^3))
	f, _, _ := parseFrame(g.header[:g.headerLen])
	if err := g.admit(frame{}, size); err != nil {
		return err
	}
	first := g.header[0] &^ 0x80
	if f.payload > g.cut { // not the first piece
		first = 0 // continuation
	}
	g.cut -= size
	if g.cut == 0 && f.final {
		first |= 0x80
	}
	masked := g.header[1] & 0x80
	g.front = append(g.frontBuf[:0], first, masked|126)
	g.front = binary.BigEndian.AppendUint16(g.front, uint16(size))
	if masked != 0 {
		g.front = append(g.front, g.header[g.headerLen-4:g.headerLen]...)
	}
	g.body = size
	// The last piece passes like a frame of its own.
	return nil
}

// fits reports whether a message with a frame like f would be within the limit.
func (g *gate) fits(f frame) bool {
	if f.opcode >= 8 {
		return true
	}
	before := g.message
	if f.opcode != 0 {
		before = 0
	}
	return f.payload <= g.limit-before
}

// admit counts n bytes of payload in a frame like f.
func (g *gate) admit(f frame, n int64) error {
	if f.opcode >= 8 {
		return nil // the library refuses those over 125 bytes without reading them
	}
	if f.opcode != 0 {
		g.message = 0
	}
	if n > g.limit-g.message {
		return errMessageTooLarge
	}
	over := g.message + n - freeBytes
	if more := over - g.held; more > 0 {
		if !g.budget.take(more) {
			return errInboundFull
		}
		g.held = over
	}
	g.message += n
	return nil
}

// hand gives what the message that was just read has of the budget to the
// caller, who must put it back.
func (g *gate) hand() int64 {
	n := g.held
	g.held = 0
	return n
}

// release puts back what an unfinished message has of the budget.
func (g *gate) release() { g.budget.put(g.hand()) }
