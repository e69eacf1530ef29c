package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// viewers is the row of the design for ten thousand viewers of one query at 20
// commits a second. It counts, for every commit and every viewer, how long it was
// until the viewer had a result at least as new, those that were shown a later one
// instead included. Then all viewers lose their connections at once and come back.
func viewers(s settings) error {
	c, err := startChild(s)
	if err != nil {
		return err
	}
	defer c.stop()
	const commitsPerSecond = 20
	rssBefore, heapBefore, err := c.settled()
	if err != nil {
		return err
	}
	crowd := &viewerCrowd{addr: c.addr, sent: make([]atomic.Int64, 1+int((s.length+5*time.Second).Seconds()*commitsPerSecond)+100)}
	began := time.Now()
	if err := crowd.join(s.viewers); err != nil {
		return err
	}
	defer crowd.leave()
	fmt.Printf("%-52s %10.2f s\n", fmt.Sprintf("%d viewers of one query connect", s.viewers), time.Since(began).Seconds())
	rss, heap, err := c.settled()
	if err != nil {
		return err
	}
	n := float64(s.viewers)
	writer, err := connect(c.addr, func([]byte) {})
	if err != nil {
		return err
	}
	defer writer.conn.NetConn().Close()

	before, err := c.processor()
	if err != nil {
		return err
	}
	own := processorTime()
	frames := crowd.frames.Load()
	start := time.Now()
	tick := time.NewTicker(time.Second / commitsPerSecond)
	defer tick.Stop()
	commits := 0
	for time.Since(start) < s.length {
		commits++
		crowd.sent[commits].Store(time.Now().UnixNano())
		if err := writer.increment("watched"); err != nil {
			return err
		}
		<-tick.C
	}
	length := time.Since(start).Seconds()
	rounds := float64(crowd.frames.Load()-frames) / n / length
	if err := crowd.await(commits); err != nil {
		return err
	}
	after, err := c.processor()
	if err != nil {
		return err
	}
	busy, err := c.memory("VmRSS")
	if err != nil {
		return err
	}
	own = processorTime() - own
	fmt.Printf("%-52s %10.1f ms p50, %.1f ms p99\n", fmt.Sprintf("  %d commits/s, until the newest result is there", commitsPerSecond), crowd.quantile(0.5), crowd.quantile(0.99))
	fmt.Printf("%-52s %10.1f a second\n", "  rounds, of each viewer", rounds)
	fmt.Printf("%-52s %10.1f KiB by heap and stacks, %.1f by resident memory, %.1f while busy\n", "  memory a connection", (heap-heapBefore)/1024/n, (rss-rssBefore)/n, (busy-rssBefore)/n)
	fmt.Printf("%-52s %10.2f of one; %.2f more for the load\n", "  processors of the server", (after-before)/length, own/length)
	reachedAtMost("newest result p99, ms", crowd.quantile(0.99), 500)
	reachedAtLeast("rounds a second", rounds, 4)
	reachedAtMost("KiB a connection, resident", (rss-rssBefore)/n, 15)

	// All come back at once.
	crowd.leave()
	began = time.Now()
	if err := crowd.join(s.viewers); err != nil {
		return err
	}
	took := time.Since(began)
	peak, err := c.memory("VmHWM")
	if err != nil {
		return err
	}
	rss, _, err = c.settled()
	if err != nil {
		return err
	}
	fmt.Printf("%-52s %10.2f s until the last has its result; resident at most %.0f MiB, %.0f after\n", "  all come back at once", took.Seconds(), peak/1024, rss/1024)
	return nil
}

// settled returns the resident memory in KiB and the bytes of heap and stacks of
// the server after a collection.
func (c *child) settled() (rss, inUse float64, err error) {
	m, err := c.collect()
	if err != nil {
		return 0, 0, err
	}
	rss, err = c.memory("VmRSS")
	return rss, float64(m.Heap + m.Stacks), err
}

// viewerCrowd is connections that watch the counter "watched". They read frames by
// themselves: on a machine that the server shares, a library's work for each of
// them would be taken from the server.
type viewerCrowd struct {
	addr    string
	sent    []atomic.Int64 // when each commit was sent, in nanoseconds, by the counter's value
	frames  atomic.Int64
	waits   [20_000]atomic.Int64 // by milliseconds
	joined  atomic.Int64
	conns   []net.Conn
	reading sync.WaitGroup
	shown   []*atomic.Int64
	err     atomic.Pointer[error]
}

// join opens connections, 64 at a time, and waits until each has a result.
func (v *viewerCrowd) join(n int) error {
	v.joined.Store(0)
	v.conns, v.shown = make([]net.Conn, n), make([]*atomic.Int64, n)
	var opening sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range n {
		slots <- struct{}{}
		v.shown[i] = new(atomic.Int64)
		opening.Go(func() {
			defer func() { <-slots }()
			if err := v.open(i); err != nil {
				v.err.Store(&err)
			}
		})
	}
	opening.Wait()
	for end := time.Now().Add(60 * time.Second); v.joined.Load() < int64(n); time.Sleep(time.Millisecond) {
		if err := v.err.Load(); err != nil {
			return *err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d viewers have a result after a minute", v.joined.Load(), n)
		}
	}
	return nil
}

func (v *viewerCrowd) leave() {
	for _, c := range v.conns {
		if c != nil {
			_ = c.Close()
		}
	}
	v.reading.Wait()
	v.conns = nil
}

func (v *viewerCrowd) open(i int) error {
	conn, err := net.Dial("tcp", v.addr)
	if err != nil {
		return err
	}
	v.conns[i] = conn
	hello := fmt.Appendf(nil, "GET /api/1.48.0/sync HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	hello = appendText(hello, fmt.Sprintf(`{"type":"Connect","sessionId":"00000000-0000-4000-8000-%012x","connectionCount":0,"lastCloseReason":"InitialConnect","clientTs":0}`, sessions.Add(1)))
	hello = appendText(hello, `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Add","queryId":0,"udfPath":"bench:latest","args":[{"name":"watched"}]}]}`)
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	r := bufio.NewReaderSize(conn, 1024)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	v.reading.Go(func() {
		if err := v.read(r, v.shown[i]); err != nil && !errors.Is(err, net.ErrClosed) {
			v.err.Store(&err)
		}
	})
	return nil
}

// appendText appends a short text message, with a mask of zeros.
func appendText(dst []byte, text string) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, 0x81, 0x80|126), uint16(len(text)))
	return append(append(dst, 0, 0, 0, 0), text...)
}

var countField = []byte(`"value":{"n":`)

// read takes frames until the connection ends.
func (v *viewerCrowd) read(r *bufio.Reader, shown *atomic.Int64) error {
	first := true
	for {
		head, err := r.Peek(4)
		if err != nil {
			return err
		}
		size, length := 2, int(head[1])
		if length == 126 {
			size, length = 4, int(binary.BigEndian.Uint16(head[2:4]))
		}
		if length >= 127 && size == 2 || size+length > 1024 {
			return fmt.Errorf("a frame of %d bytes", length)
		}
		frame, err := r.Peek(size + length)
		if err != nil {
			return err
		}
		if frame[0] == 0x88 {
			return io.ErrUnexpectedEOF
		}
		if i := bytes.Index(frame, countField); i >= 0 {
			digits := frame[i+len(countField):]
			n, err := strconv.Atoi(string(digits[:max(0, bytes.IndexAny(digits, ",}"))]))
			if err != nil {
				return fmt.Errorf("frame %q: %w", frame, err)
			}
			v.show(shown, n, first)
			first = false
		}
		if _, err := r.Discard(size + length); err != nil {
			return err
		}
	}
}

// show notes that a viewer sees the nth commit. All up to it are shown.
func (v *viewerCrowd) show(shown *atomic.Int64, n int, first bool) {
	if first {
		shown.Store(int64(n))
		v.joined.Add(1)
		return
	}
	v.frames.Add(1)
	now := time.Now().UnixNano()
	for i := int(shown.Load()) + 1; i <= n; i++ {
		ms := max(0, (now-v.sent[i].Load())/int64(time.Millisecond))
		v.waits[min(int(ms), len(v.waits)-1)].Add(1)
	}
	shown.Store(int64(n))
}

// await waits until every viewer sees the nth commit.
func (v *viewerCrowd) await(n int) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := v.err.Load(); err != nil {
			return *err
		}
		if !slices.ContainsFunc(v.shown, func(s *atomic.Int64) bool { return s.Load() < int64(n) }) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not every viewer has seen commit %d after 30 s", n)
		}
	}
}

// quantile returns a quantile of the waits, in milliseconds.
func (v *viewerCrowd) quantile(q float64) float64 {
	var all int64
	for i := range v.waits {
		all += v.waits[i].Load()
	}
	left := int64(q * float64(all))
	for i := range v.waits {
		if left -= v.waits[i].Load(); left < 0 {
			return float64(i)
		}
	}
	return float64(len(v.waits))
}
