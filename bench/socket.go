package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
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

// viewers measures the time from sending a mutation to its result on each of
// many connections that watch one query, at 20 commits a second. The yardstick
// is the same frame written to as many connections from a loop.
func viewers(s settings) error {
	var p50, p99, best50, best99, perConn figures
	for range s.rounds {
		all, conn, err := viewersOnce(s)
		if err != nil {
			return err
		}
		p50, p99 = append(p50, percentile(all, 0.5)), append(p99, percentile(all, 0.99))
		perConn = append(perConn, conn)
		if all, err = fanOutOnce(s); err != nil {
			return err
		}
		best50, best99 = append(best50, percentile(all, 0.5)), append(best99, percentile(all, 0.99))
	}
	fmt.Printf("%d viewers of one query, 20 commits/s\n", s.viewers)
	line := func(name string, f figures, unit string) {
		fmt.Printf("%-44s %10.1f  (%.1f to %.1f) %s\n", name, f.median(), slices.Min(f), slices.Max(f), unit)
	}
	line("  mutation sent to screen, p50", p50, "ms")
	line("  mutation sent to screen, p99", p99, "ms")
	line("  bare loop over the connections, p50", best50, "ms")
	line("  bare loop over the connections, p99", best99, "ms")
	fmt.Printf("%-44s %10.2f\n", "  ratio of the p99", p99.median()/best99.median())
	line("  resident memory a connection", perConn, "KiB")
	return nil
}

// collector gathers latencies from all connections.
type collector struct {
	sync.Mutex
	all  []time.Duration
	seen atomic.Int64
}

var sentField = []byte(`"sent":`)

func (c *collector) frame(frame []byte) {
	i := bytes.Index(frame, sentField)
	if i < 0 {
		return
	}
	digits := frame[i+len(sentField):]
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	sent, err := strconv.ParseInt(string(digits[:n]), 10, 64)
	if err != nil || sent == 0 {
		c.seen.Add(1) // the first result, before any commit
		return
	}
	d := time.Duration(time.Now().UnixMicro()-sent) * time.Microsecond
	c.Lock()
	c.all = append(c.all, d)
	c.Unlock()
	c.seen.Add(1)
}

func (c *collector) sorted() []time.Duration {
	c.Lock()
	defer c.Unlock()
	slices.Sort(c.all)
	return c.all
}

func viewersOnce(s settings) (all []time.Duration, kib float64, err error) {
	srv, err := startChild(s)
	if err != nil {
		return nil, 0, err
	}
	defer srv.stop()
	before, err := srv.memory("VmRSS")
	if err != nil {
		return nil, 0, err
	}
	var got collector
	for range s.viewers {
		c, err := connect(srv.addr, got.frame)
		if err != nil {
			return nil, 0, err
		}
		defer c.conn.NetConn().Close()
		if err := c.send(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Add","queryId":0,"udfPath":"bench:latest","args":[{"name":"watched"}]}]}`); err != nil {
			return nil, 0, err
		}
	}
	if err := got.await(int64(s.viewers)); err != nil {
		return nil, 0, err
	}
	after, err := srv.memory("VmRSS")
	if err != nil {
		return nil, 0, err
	}
	writer, err := connect(srv.addr, func([]byte) {})
	if err != nil {
		return nil, 0, err
	}
	defer writer.conn.NetConn().Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(s.length); time.Now().Before(end); <-tick.C {
		if err := writer.increment("watched"); err != nil {
			return nil, 0, err
		}
	}
	// The newest result reaches everyone: one more commit, and as many frames.
	n := got.seen.Load()
	if err := writer.increment("watched"); err != nil {
		return nil, 0, err
	}
	if err := got.await(n + int64(s.viewers)); err != nil {
		return nil, 0, err
	}
	return got.sorted(), (after - before) / float64(s.viewers), nil
}

// await returns when n frames with a result have come.
func (c *collector) await(n int64) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c.seen.Load() >= n {
			return nil
		}
	}
	return fmt.Errorf("%d of %d results came within 20 s", c.seen.Load(), n)
}

func fanOutOnce(s settings) ([]time.Duration, error) {
	var mu sync.Mutex
	var conns []*gws.Conn
	addr, stop, err := startEcho(echoServer{}, func(c *gws.Conn) {
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	var got collector
	for range s.viewers {
		c, err := dial(addr, "/", got.frame)
		if err != nil {
			return nil, err
		}
		defer c.conn.NetConn().Close()
	}
	mu.Lock()
	all := slices.Clone(conns)
	mu.Unlock()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	rounds := int64(0)
	for end := time.Now().Add(s.length); time.Now().Before(end); <-tick.C {
		frame := fmt.Appendf(nil, `{"type":"Transition","startVersion":{"querySet":1,"identity":0,"ts":"AAAAAAAAAAA="},"endVersion":{"querySet":1,"identity":0,"ts":"AAAAAAAAAAA="},"modifications":[{"type":"QueryUpdated","queryId":0,"value":{"n":1,"sent":%d},"logLines":[],"journal":null}]}`, time.Now().UnixMicro())
		for _, c := range all {
			if err := c.WriteMessage(gws.OpcodeText, frame); err != nil {
				return nil, err
			}
		}
		rounds++
	}
	if err := got.await(rounds * int64(len(all))); err != nil {
		return nil, err
	}
	return got.sorted(), nil
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
