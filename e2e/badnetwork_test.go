package e2e

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// badNetwork is the network between the clients of one script and the server. Some of its first connections break, each in a way of its own;
// later ones are slow only.
type badNetwork struct {
	t        testing.TB
	target   string
	listener net.Listener
	running  sync.WaitGroup
	ended    chan struct{}

	mu struct {
		sync.Mutex
		random *rand.Rand
		faults int // that are still to come
		made   int
		conns  map[net.Conn]bool
	}
}

// breakage is a way in which a connection breaks.
type breakage int

const (
	_ breakage = iota // it is only slow
	// cutUp and cutDown end the connection when the client, or the server, has sent so much; what comes after is lost.
	cutUp
	cutDown
	// closeUp tells the server that the client sends no more; closeDown the other way around. The other direction goes on for a while.
	closeUp
	closeDown
	// stall carries nothing more, and breaks a while later.
	stall
	// repeat cuts the connection, and all that the client sent on it arrives again, as a connection of its own.
	repeat
	// refuse ends a connection before anything is sent.
	refuse
	breakages
)

func newBadNetwork(t testing.TB, s *server, random *rand.Rand) *badNetwork {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &badNetwork{t: t, target: s.address, listener: listener, ended: make(chan struct{})}
	n.mu.random, n.mu.faults, n.mu.conns = random, 2+random.IntN(8), map[net.Conn]bool{}
	n.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // end
			}
			n.running.Go(func() { n.carry(client) })
		}
	})
	t.Cleanup(func() { n.end() })
	return n
}

func (n *badNetwork) url() string { return "http://" + n.listener.Addr().String() }

// end ends all connections and returns how many were broken before.
func (n *badNetwork) end() int {
	n.mu.Lock()
	made := n.mu.made
	select {
	case <-n.ended:
		n.mu.Unlock()
		return made
	default:
	}
	close(n.ended)
	_ = n.listener.Close()
	for conn := range n.mu.conns {
		_ = conn.Close() // it may have ended
	}
	n.mu.Unlock()
	n.running.Wait()
	return made
}

// keep notes connections to be ended, and reports false when all are.
func (n *badNetwork) keep(conns ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range conns {
		n.mu.conns[conn] = true
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

func (n *badNetwork) drop(conns ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close() // it may have ended
		delete(n.mu.conns, conn)
	}
}

// plan is how one connection is carried.
type plan struct {
	kind   breakage
	after  int           // bytes
	lasts  time.Duration // from there on, where something goes on
	random [2]*rand.Rand // of each direction
}

func (n *badNetwork) plan() plan {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.mu.random
	p := plan{after: 250 + r.IntN(3000), lasts: time.Duration(r.IntN(150)) * time.Millisecond}
	for i := range p.random {
		p.random[i] = rand.New(rand.NewPCG(r.Uint64(), 0))
	}
	if n.mu.faults > 0 {
		n.mu.faults--
		n.mu.made++
		p.kind = 1 + breakage(r.IntN(int(breakages)-1))
	}
	return p
}

// errFault ends one direction of a connection as planned.
var errFault = errors.New("fault")

func (n *badNetwork) carry(client net.Conn) {
	p := n.plan()
	if !n.keep(client) || p.kind == refuse {
		n.drop(client)
		return
	}
	server, err := net.Dial("tcp", n.target)
	if err != nil {
		n.drop(client)
		return
	}
	defer n.drop(client, server)
	if !n.keep(server) {
		return
	}
	var sent []byte // by the client
	up, down := make(chan error, 1), make(chan error, 1)
	limit := func(kinds ...breakage) int {
		for _, kind := range kinds {
			if p.kind == kind {
				return p.after
			}
		}
		return -1
	}
	n.running.Go(func() {
		up <- n.pass(server, client, limit(cutUp, closeUp, stall, repeat), p.random[0], func(b []byte) { sent = append(sent, b...) })
	})
	n.running.Go(func() { down <- n.pass(client, server, limit(cutDown, closeDown), p.random[1], func([]byte) {}) })
	var first error
	var other chan error
	closed := server // for writing, when the client has closed its side
	select {
	case first = <-up:
		other = down
	case first = <-down:
		other, closed = up, client
	}
	switch {
	case first == errFault && (p.kind == cutUp || p.kind == cutDown || p.kind == repeat):
	case first == errFault && p.kind == stall:
		n.wait(p.lasts)
	default: // half closed, by plan or by one of the two
		_ = closed.(*net.TCPConn).CloseWrite()
		select {
		case <-other:
		case <-time.After(p.lasts):
		case <-n.ended:
		}
	}
	n.drop(client, server)
	if p.kind == repeat && first == errFault {
		n.wait(p.lasts)
		n.repeat(sent)
	}
}

// pass carries bytes in pieces and with delays of its own, and ends with errFault after so many; -1: never.
func (n *badNetwork) pass(to, from net.Conn, limit int, random *rand.Rand, saw func([]byte)) error {
	buffer := make([]byte, 2048)
	for {
		size, err := from.Read(buffer)
		rest := buffer[:size]
		for len(rest) > 0 {
			if random.IntN(4) == 0 {
				n.wait(time.Duration(random.IntN(12)) * time.Millisecond)
			}
			piece := rest[:1+random.IntN(len(rest))]
			rest = rest[len(piece):]
			if limit >= 0 && len(piece) >= limit {
				piece = piece[:limit]
			}
			saw(piece)
			if _, err := to.Write(piece); err != nil {
				return err
			}
			if limit >= 0 {
				if limit -= len(piece); limit == 0 {
					return errFault
				}
			}
		}
		if err != nil {
			return err
		}
	}
}

// repeat has what a client sent arrive a second time.
func (n *badNetwork) repeat(sent []byte) {
	server, err := net.Dial("tcp", n.target)
	if err != nil {
		return // it is down
	}
	defer n.drop(server)
	if !n.keep(server) {
		return
	}
	_, _ = server.Write(sent) // the server may end it at any byte
	_ = server.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	_, _ = io.Copy(io.Discard, server) // the same
}

// wait waits, at most until the network ends.
func (n *badNetwork) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-n.ended:
	}
}
