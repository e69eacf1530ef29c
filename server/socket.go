package server

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// writePieceBytes is how much a slow client must take within the write timeout.
const writePieceBytes = 64 << 10

// errFinished ends the reading of a connection that the server has closed.
var errFinished = errors.New("connection closed by the server")

// errOutboundFull drops a connection whose client does not take what it is sent
// while many others do not either.
var errOutboundFull = errors.New("too many bytes wait for clients to take them")

// socket is the network connection under a WebSocket. It adds two things to it:
// a gate for what comes in, see gate, and writes that never wait.
//
// # Writes that never wait
//
// A frame goes to the operating system at once, as far as that takes it. If a
// rest is left the client is slow: the rest is copied, and a goroutine that
// lives until it is gone writes it with a deadline for each piece. Meanwhile
// backlogged is true, and nothing new is composed for this connection. So a
// worker that serves many connections is never held up by one of them, an idle
// connection costs no goroutine for writing, and a stalled one holds at most one
// message and one goroutine until the deadline drops it. What all of them hold
// together comes out of a budget; a connection for which there is nothing left is
// dropped at once.
//
// Where the connection has no descriptor, as under TLS, everything takes the
// slow way.
type socket struct {
	net.Conn

	owner        *conn       // of the sync protocol
	module       *moduleConn // of a module; one of the two is set
	gate         gate
	budget       *budget         // for what the client has yet to take
	descriptor   syscall.RawConn // nil if there is none
	writeTimeout time.Duration
	closeTimeout time.Duration
	// seen is called with every read that brought something and tells whether
	// it is part of a large message, drained when backlogged becomes false, and
	// refused, once, with what the gate does not let through; all without locks
	// held.
	seen    func(large bool)
	drained func()
	refused func(error)
	// start runs a goroutine that the server waits for.
	start func(func())

	closing atomic.Bool // Close has been called
	ended   bool        // the client has closed or is gone; of the reading goroutine

	out struct {
		sync.Mutex
		try     func(fd uintptr) bool // see tryWrite; made once to save its allocation
		text    []byte
		written int
		err     error
		// backlog is what the flushing goroutine has not taken yet, and waiting the bytes that the operating system has not.
		backlog  []byte
		waiting  int
		held     int64 // of the budget
		flushing bool
		closing  bool
	}
}

func newSocket(c net.Conn) *socket {
	s := &socket{Conn: c}
	if c, ok := c.(syscall.Conn); ok && canTryWrite {
		if raw, err := c.SyscallConn(); err == nil {
			s.descriptor = raw
		}
	}
	s.out.try = func(fd uintptr) bool {
		s.out.written, s.out.err = tryWrite(fd, s.out.text)
		return true // never wait for the descriptor to become ready
	}
	return s
}

// Read reads what the client sent, through the gate.
func (s *socket) Read(p []byte) (int, error) {
	if s.closing.Load() {
		return 0, errFinished
	}
	n, err := s.gate.read(p, s.readRaw)
	if s.gate.err != nil {
		s.refused(s.gate.err)
	}
	if s.closing.Load() {
		return 0, errFinished
	}
	return n, err
}

func (s *socket) readRaw(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.seen(s.gate.held > 0)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.ended = true
	}
	return n, err
}

// Write takes one whole frame and never waits. It fails once an earlier frame
// could not be delivered.
func (s *socket) Write(frame []byte) (int, error) {
	size := len(frame)
	frame = closeFrame(frame)
	s.out.Lock()
	defer s.out.Unlock()
	switch {
	case s.out.err != nil:
		return 0, s.out.err
	case s.out.closing:
		return 0, net.ErrClosed
	case s.out.flushing:
		if !s.keepLocked(len(frame)) {
			return 0, s.out.err
		}
		s.out.backlog = append(s.out.backlog, frame...)
		return size, nil
	}
	n := 0
	if s.descriptor != nil {
		// The lock is held over a system call that does not wait: it keeps the
		// frames whole and in order.
		s.out.text, s.out.written = frame, 0
		err := s.descriptor.Write(s.out.try)
		s.out.text = nil
		if n = s.out.written; err != nil && s.out.err == nil {
			s.out.err = err
		}
		if s.out.err != nil {
			return n, s.out.err
		}
	}
	if n < len(frame) {
		if !s.keepLocked(len(frame) - n) {
			return n, s.out.err
		}
		s.out.backlog = append([]byte(nil), frame[n:]...)
		s.out.flushing = true
		s.start(s.flush)
	}
	return size, nil
}

// keepLocked takes what n more bytes of backlog need of the budget, beyond the
// part that is free, or drops the connection.
func (s *socket) keepLocked(n int) bool {
	more := int64(s.out.waiting+n) - freeBytes - s.out.held
	if more > 0 {
		if !s.budget.take(more) {
			s.out.err = errOutboundFull
			s.drop() // closes the descriptor, which waits for nothing
			return false
		}
		s.out.held += more
	}
	s.out.waiting += n
	return true
}

// wroteLocked gives back what n bytes less of backlog need no more.
func (s *socket) wroteLocked(n int) {
	s.out.waiting -= n
	if less := s.out.held - max(0, int64(s.out.waiting)-freeBytes); less > 0 {
		s.out.held -= less
		s.budget.put(less)
	}
}

// backlogged reports whether the client has yet to take what it was sent.
func (s *socket) backlogged() bool {
	s.out.Lock()
	defer s.out.Unlock()
	return s.out.flushing
}

// waiting returns how many bytes the client has yet to take, as far as the operating system does not hold them.
func (s *socket) waiting() int {
	s.out.Lock()
	defer s.out.Unlock()
	return s.out.waiting
}

// flush writes the backlog until there is none, or until the client does not
// take it; then the connection is dropped.
func (s *socket) flush() {
	for {
		s.out.Lock()
		rest := s.out.backlog
		s.out.backlog = nil
		if len(rest) == 0 {
			s.out.flushing = false
			closing := s.out.closing
			s.out.Unlock()
			if closing {
				s.endWriting()
			} else {
				_ = s.Conn.SetWriteDeadline(time.Time{}) // a broken connection shows at the next write
				s.drained()
			}
			return
		}
		s.out.Unlock()
		for len(rest) > 0 {
			piece := rest[:min(len(rest), writePieceBytes)]
			err := s.Conn.SetWriteDeadline(time.Now().Add(s.writeTimeout))
			if err == nil {
				_, err = s.Conn.Write(piece)
			}
			if err != nil {
				s.out.Lock()
				s.out.err = err
				s.out.backlog = nil
				s.wroteLocked(s.out.waiting)
				s.out.flushing = false
				s.out.Unlock()
				s.drop()
				return
			}
			rest = rest[len(piece):]
			s.out.Lock()
			s.wroteLocked(len(piece))
			s.out.Unlock()
		}
	}
}

// Close ends the connection in peace: what has been written still goes out, and
// the client has the close timeout to end its side. Closing at once instead, with
// bytes of the client still unread, would make the operating system discard
// what the client has not read yet, the reason for the close included. The
// reading goroutine must call finish.
func (s *socket) Close() error {
	if s.closing.Swap(true) {
		return nil
	}
	s.out.Lock()
	s.out.closing = true
	flushing := s.out.flushing
	s.out.Unlock()
	if !flushing {
		s.endWriting()
	}
	return nil
}

// endWriting tells the client that nothing more comes, and bounds the wait of
// the reading goroutine for it.
func (s *socket) endWriting() {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // the client may be gone, and then reading ends too
	}
	_ = s.Conn.SetReadDeadline(time.Now().Add(s.closeTimeout))
}

// finish reads and discards until the client has closed or the close timeout is
// over, then frees the connection. The reading goroutine calls it last.
func (s *socket) finish() {
	if s.closing.Load() && !s.ended {
		_, _ = io.Copy(io.Discard, s.Conn)
	}
	s.gate.release()
	_ = s.Conn.Close()
}

// drop ends the connection at once.
func (s *socket) drop() {
	s.closing.Store(true)
	cutOff(s.Conn)
}
