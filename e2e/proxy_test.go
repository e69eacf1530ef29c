package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is the network of one client: connections to its address go on to the
// server until it is cut.
type proxy struct {
	t       testing.TB
	address string
	target  func() string

	mu struct {
		sync.Mutex
		listener net.Listener
		conns    map[net.Conn]bool
		silent   bool
	}
	running sync.WaitGroup
}

// newProxy returns the network of a client of the server.
func newProxy(t testing.TB, s *server) *proxy {
	t.Helper()
	p := &proxy{t: t, address: net.JoinHostPort("127.0.0.1", freePort(t)), target: func() string { return s.address }}
	p.mu.conns = map[net.Conn]bool{}
	p.restore()
	t.Cleanup(func() {
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) url() string { return "http://" + p.address }

// restore lets connections through again.
func (p *proxy) restore() {
	p.t.Helper()
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.mu.listener, p.mu.silent = listener, false
	p.mu.Unlock()
	p.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // cut
			}
			p.running.Go(func() { p.carry(client) })
		}
	})
}

// cut ends all connections and takes no new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.listener != nil {
		_ = p.mu.listener.Close() // once
		p.mu.listener = nil
	}
	for conn := range p.mu.conns {
		_ = conn.Close() // it may have ended
	}
}

// silence loses what the server says from now on, until the connections are cut: it hears its clients still.
func (p *proxy) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.silent = true
}

// Write takes what the server says to a client, and keeps it from the client after silence.
func (a answers) Write(b []byte) (int, error) {
	a.p.mu.Lock()
	silent := a.p.mu.silent
	a.p.mu.Unlock()
	if silent {
		return len(b), nil
	}
	return a.Conn.Write(b)
}

// answers is a client's connection as the server writes to it.
type answers struct {
	net.Conn
	p *proxy
}

// carry copies between a client and the server until one of them ends.
func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target())
	if err != nil {
		return // it is down
	}
	defer server.Close()
	if !p.keep(client, server) {
		return
	}
	defer p.drop(client, server)
	done := make(chan struct{}, 2)
	for _, way := range []struct {
		to   io.Writer
		from net.Conn
	}{{server, client}, {answers{client, p}, server}} {
		p.running.Go(func() {
			_, _ = io.Copy(struct{ io.Writer }{way.to}, way.from) // ends with either connection
			done <- struct{}{}
		})
	}
	<-done
}

// keep notes connections to be ended by cut, and reports whether there is a network.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.mu.conns[conn] = true
	}
	return p.mu.listener != nil
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.mu.conns, conn)
	}
}
