package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
)

// client is one connection that speaks as much of the wire as it needs.
type client struct {
	gws.BuiltinEventHandler
	conn    *gws.Conn
	request int
	on      func(frame []byte)
}

func (c *client) OnMessage(_ *gws.Conn, m *gws.Message) {
	c.on(m.Bytes())
	_ = m.Close()
}

var sessions atomic.Uint64

func dial(addr, path string, on func(frame []byte)) (*client, error) {
	c := &client{on: on}
	conn, _, err := gws.NewClient(c, &gws.ClientOption{Addr: "ws://" + addr + path})
	if err != nil {
		return nil, err
	}
	c.conn = conn
	go conn.ReadLoop()
	return c, nil
}

// connect opens a connection to the server under test.
func connect(addr string, on func(frame []byte)) (*client, error) {
	c, err := dial(addr, "/api/1.48.0/sync", on)
	if err != nil {
		return nil, err
	}
	return c, c.send(fmt.Sprintf(`{"type":"Connect","sessionId":"00000000-0000-4000-8000-%012x","connectionCount":0,"lastCloseReason":"InitialConnect","clientTs":0}`, sessions.Add(1)))
}

func (c *client) send(text string) error { return c.conn.WriteString(text) }

func (c *client) increment(name string) error {
	c.request++
	return c.send(fmt.Sprintf(`{"type":"Mutation","requestId":%d,"udfPath":"bench:increment","args":[{"name":%q,"sent":%d}]}`,
		c.request-1, name, time.Now().UnixMicro()))
}

// webSocket measures durable mutations over 64 connections, each with one in
// flight. The yardstick is a server that echoes frames of the same size.
func webSocket(s settings) error {
	var got, echo figures
	for range s.rounds {
		c, err := startChild(s)
		if err != nil {
			return err
		}
		rate, err := pingPong(s, func(i int, answered func()) (func() error, func(), error) {
			name := strconv.Itoa(i)
			cl, err := connect(c.addr, func(frame []byte) {
				switch {
				case bytes.Contains(frame, []byte(`"success":false`)):
					panic("a mutation failed: " + string(frame))
				case bytes.Contains(frame, []byte(`"MutationResponse"`)):
					answered()
				}
			})
			if err != nil {
				return nil, nil, err
			}
			return func() error { return cl.increment(name) }, func() { cl.conn.NetConn().Close() }, nil
		})
		c.stop()
		if err != nil {
			return err
		}
		got = append(got, rate)
		if rate, err = echoOnce(s); err != nil {
			return err
		}
		echo = append(echo, rate)
	}
	report("over 64 WebSockets, a document each", got, "  echoes of such a frame, no database", echo, "/s")
	return nil
}

// pingPong keeps one request in flight on each of 64 connections and returns
// answers a second.
func pingPong(s settings, open func(i int, answered func()) (send func() error, stop func(), err error)) (float64, error) {
	var wg sync.WaitGroup
	var answers atomic.Int64
	var fail atomic.Pointer[error]
	end := make(chan struct{})
	for i := range callers {
		ready := make(chan struct{}, 1)
		send, stop, err := open(i, func() { ready <- struct{}{} })
		if err != nil {
			return 0, err
		}
		defer stop()
		wg.Go(func() {
			for {
				if err := send(); err != nil {
					fail.Store(&err)
					return
				}
				select {
				case <-ready:
					answers.Add(1)
				case <-end:
					return
				}
			}
		})
	}
	start := time.Now()
	time.Sleep(s.length)
	n := answers.Load()
	elapsed := time.Since(start)
	close(end)
	wg.Wait()
	if err := fail.Load(); err != nil {
		return 0, *err
	}
	return float64(n) / elapsed.Seconds(), nil
}

// echoServer answers every frame with itself, in this process.
type echoServer struct{ gws.BuiltinEventHandler }

func (echoServer) OnMessage(c *gws.Conn, m *gws.Message) {
	_ = c.WriteMessage(gws.OpcodeText, m.Bytes())
	_ = m.Close()
}

func startEcho(handler gws.Event, opened func(*gws.Conn)) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	up := gws.NewUpgrader(handler, nil)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r)
		if err != nil {
			return
		}
		if opened != nil {
			opened(c)
		}
		go c.ReadLoop()
	})}
	go func() { _ = srv.Serve(l) }()
	return l.Addr().String(), func() { _ = srv.Close() }, nil
}

func echoOnce(s settings) (float64, error) {
	addr, stop, err := startEcho(echoServer{}, nil)
	if err != nil {
		return 0, err
	}
	defer stop()
	return pingPong(s, func(_ int, answered func()) (func() error, func(), error) {
		cl, err := dial(addr, "/", func([]byte) { answered() })
		if err != nil {
			return nil, nil, err
		}
		return func() error { return cl.increment("0") }, func() { cl.conn.NetConn().Close() }, nil
	})
}

// idle measures the resident memory and the processor time of a server with an
// empty store that nobody talks to.
func idle(s settings) error {
	c, err := startChild(s)
	if err != nil {
		return err
	}
	defer c.stop()
	before, err := c.processor()
	if err != nil {
		return err
	}
	time.Sleep(s.wait)
	rss, err := c.memory("VmRSS")
	if err != nil {
		return err
	}
	peak, err := c.memory("VmHWM")
	if err != nil {
		return err
	}
	after, err := c.processor()
	if err != nil {
		return err
	}
	fmt.Printf("%-44s %10.1f MiB (peak %.1f; to reach: 40)\n", fmt.Sprintf("resident, empty store, after %s", s.wait), rss/1024, peak/1024)
	fmt.Printf("%-44s %10.2f %% of one processor\n", "  processor meanwhile", 100*(after-before)/s.wait.Seconds())
	return nil
}
