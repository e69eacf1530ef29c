package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

const (
	// roomWriters write into one document, each with roomWindow updates that are not acknowledged.
	roomWriters = 50
	roomWindow  = 16
	// roomUpdates is how many each of them has at most.
	roomUpdates = 8_000
	// openDocuments are opened and left alone.
	openDocuments = 1_000
)

// rooms measures acknowledged updates of one document by many writers, and the memory of many open documents, beside a server of Hocuspocus.
// It keeps nothing; here what is acknowledged is on the disk. One load generator, this process, drives both with the same bytes.
func rooms(s settings) error {
	writers, err := typists()
	if err != nil {
		return err
	}
	var ours, theirs, cost, theirCost, sent, theirSent figures
	for range s.rounds {
		c, err := startChild(s)
		if err != nil {
			return err
		}
		got, err := writeRoom(s, c, "/yjs/docs", writers)
		c.stop()
		if err != nil {
			return err
		}
		ours, cost, sent = append(ours, got.rate), append(cost, got.cost), append(sent, got.messages)
		if c, err = startHocuspocus(s); err != nil {
			return err
		}
		got, err = writeRoom(s, c, "/", writers)
		c.stop()
		if err != nil {
			return err
		}
		theirs, theirCost, theirSent = append(theirs, got.rate), append(theirCost, got.cost), append(theirSent, got.messages)
	}
	report(fmt.Sprintf("acknowledged updates, 1 document, %d writers", roomWriters), ours, "  Hocuspocus, which stores nothing", theirs, "/s")
	reachedAtLeast("times Hocuspocus", ours.median()/theirs.median(), 2)
	report("processor of the server for an update", cost, "  Hocuspocus", theirCost, "us")
	reachedAtMost("of Hocuspocus", cost.median()/theirCost.median(), 1.0/3)
	report("messages with changes to each writer", sent, "  Hocuspocus", theirSent, "/s")
	return openRooms(s)
}

// typists returns for each writer what it types, one character an update.
func typists() ([][][]byte, error) {
	writers := make([][][]byte, roomWriters)
	for w := range writers {
		d := yjs.NewDoc(&yjs.Options{ClientID: uint64(1000 + w)})
		d.OnUpdate(func(u yjs.Update) { writers[w] = append(writers[w], append([]byte(nil), u.Bytes...)) })
		for i := range roomUpdates {
			if err := d.Text("t").Insert(i, string(rune('a'+i%26)), nil); err != nil {
				return nil, err
			}
		}
	}
	return writers, nil
}

// roomFigures are those of one run.
type roomFigures struct{ rate, cost, messages float64 }

// writeRoom has all writers write for a while.
func writeRoom(s settings, c *child, path string, writers [][][]byte) (roomFigures, error) {
	var acked, messages atomic.Int64
	var counting atomic.Bool
	var fail atomic.Pointer[error]
	var ready sync.WaitGroup
	stop := make(chan struct{})
	var conns []*client
	defer func() {
		for _, cl := range conns {
			_ = cl.conn.NetConn().Close()
		}
	}()
	start := make(chan struct{})
	for _, updates := range writers {
		ready.Add(1)
		cl, send, err := typist(c.addr, path, "doc", updates, ready.Done, func(kind wire.MessageKind, refused bool) {
			switch {
			case kind == wire.MessageSyncStatus && refused:
				err := errors.New("an update was refused")
				fail.Store(&err)
			case !counting.Load():
			case kind == wire.MessageSyncStatus:
				acked.Add(1)
			default:
				messages.Add(1)
			}
		}, stop)
		if err != nil {
			return roomFigures{}, err
		}
		conns = append(conns, cl)
		go func() {
			<-start
			for range roomWindow {
				send()
			}
		}()
	}
	ready.Wait()
	close(start)
	time.Sleep(time.Second) // until it goes as it will go on
	before, err := c.processor()
	if err != nil {
		return roomFigures{}, err
	}
	counting.Store(true)
	began := time.Now()
	time.Sleep(s.length)
	n, m := acked.Load(), messages.Load()
	elapsed := time.Since(began).Seconds()
	after, err := c.processor()
	close(stop)
	if f := fail.Load(); f != nil {
		err = errors.Join(err, *f)
	}
	if n == 0 {
		err = errors.Join(err, errors.New("nothing was acknowledged"))
	}
	return roomFigures{float64(n) / elapsed, (after - before) * 1e6 / float64(n), float64(m) / elapsed / roomWriters}, err
}

// typist opens a document and returns what sends its next update. Each acknowledgement sends one more.
func typist(addr, path, document string, updates [][]byte, synced func(), told func(kind wire.MessageKind, refused bool), stop <-chan struct{}) (*client, func(), error) {
	at := wire.Address{Document: document}
	head := len(wire.Message{Document: document, Kind: wire.MessageQueryAwareness}.Append(nil)) - 1
	var next atomic.Int64
	var cl *client
	var once sync.Once
	ready := make(chan struct{}) // closed when cl is set
	send := func() {
		select {
		case <-stop:
			return
		default:
		}
		if i := next.Add(1) - 1; i < int64(len(updates)) {
			_ = cl.conn.WriteMessage(2, at.Update(updates[i])) // a lost connection shows in the count
		}
	}
	cl, err := dial(addr, path, func(frame []byte) {
		<-ready
		switch kind := wire.MessageKind(frame[head]); {
		case kind == wire.MessageSyncStatus:
			told(kind, frame[head+1] != 1)
			send()
		case (kind == wire.MessageSync || kind == wire.MessageSyncReply) && frame[head+1] == byte(wire.SyncUpdate):
			told(kind, false)
		case (kind == wire.MessageSync || kind == wire.MessageSyncReply) && frame[head+1] == byte(wire.SyncStep2):
			once.Do(synced)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	close(ready)
	for _, m := range []wire.Message{
		{Document: document, Kind: wire.MessageAuth},
		{Document: document, Kind: wire.MessageSync, Sync: wire.Sync{Kind: wire.SyncStep1, Payload: yjs.StateVector{}.Encode()}},
	} {
		if err := cl.conn.WriteMessage(2, m.Append(nil)); err != nil {
			return nil, nil, err
		}
	}
	return cl, send, nil
}

// startHocuspocus starts a server of Hocuspocus under node.
func startHocuspocus(s settings) (*child, error) {
	script := filepath.Join("testdata", "rooms")
	if _, err := os.Stat(filepath.Join(script, "node_modules", ".package-lock.json")); err != nil {
		npm := exec.Command("npm", "ci", "--ignore-scripts")
		npm.Dir = script
		if out, err := npm.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("install Hocuspocus: %w: %s", err, out)
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command("node", "--expose-gc", "hocuspocus.mjs", fmt.Sprint(port)), addr: fmt.Sprintf("127.0.0.1:%d", port)}
	c.cmd.Dir, c.cmd.Stderr = script, os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.lines = bufio.NewReader(out)
	if c.orders, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := c.lines.ReadBytes('\n'); err != nil {
		return nil, fmt.Errorf("start Hocuspocus: %w", err)
	}
	return c, nil
}

// collectNode has a server of Hocuspocus free what is not used, and returns the bytes in its heap and outside of it.
func (c *child) collectNode() (float64, error) {
	if _, err := c.orders.Write([]byte("\n")); err != nil {
		return 0, err
	}
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return 0, fmt.Errorf("memory of Hocuspocus: %w", err)
	}
	var m struct{ HeapUsed, External float64 }
	err = json.Unmarshal(line, &m)
	return m.HeapUsed + m.External, err
}

// openRooms measures what documents cost that are open and that nobody changes: each on a connection of its own, in both protocols, and all on
// one connection of Hocuspocus.
func openRooms(s settings) error {
	const mib = 1 << 20
	for _, w := range []struct {
		name  string
		peer  bool
		open  func(addr, path string, i int, write bool) (*client, error)
		times int // connections
	}{
		{"on one connection of Hocuspocus", false, openMany, 1},
		{"each on one of y-websocket", false, openPlain, openDocuments},
		{"each on one of Hocuspocus", false, openOne, openDocuments},
		{"on one connection, Hocuspocus' server", true, openMany, 1},
		{"each on one, Hocuspocus' server", true, openOne, openDocuments},
	} {
		var open, closed, heap, heapClosed, stacks figures
		for range s.rounds {
			start, path := startChild, "/yjs/docs"
			if w.peer {
				start, path = startHocuspocus, ""
			}
			c, err := start(s)
			if err != nil {
				return err
			}
			grown, stays, err := memoryOfRooms(s, c, path, w.times, w.open, !w.peer)
			c.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			open, closed = append(open, grown.resident/mib), append(closed, stays.resident/mib)
			heap, stacks, heapClosed = append(heap, grown.heap/mib), append(stacks, grown.stacks/mib), append(heapClosed, stays.heap/mib)
		}
		fmt.Printf("%-52s %s MiB, %s MiB after they were closed\n", fmt.Sprintf("%d open documents, %s", openDocuments, w.name), open.fine(), closed.fine())
		if w.peer {
			fmt.Printf("%-52s %s MiB, %s MiB after they were closed\n", "  in its heap and buffers, after collections", heap.fine(), heapClosed.fine())
		} else {
			fmt.Printf("%-52s %s MiB, %s MiB\n", "  of that in the heap and in stacks, by MemStats", heap.fine(), stacks.fine())
			reachedAtMost("MiB while open", open.median(), 10)
			reachedAtMost("MiB after", closed.median(), 5)
		}
	}
	return nil
}

// footprint is the memory of a process in bytes: resident, and in the heap and the stacks of Go, or in the heap and the buffers of node.
type footprint struct{ resident, heap, stacks float64 }

func (f footprint) minus(g footprint) footprint {
	return footprint{f.resident - g.resident, f.heap - g.heap, f.stacks - g.stacks}
}

// memoryOfRooms returns by how much the memory of a server grows with open documents, and what stays of it when they are closed.
func memoryOfRooms(s settings, c *child, path string, connections int, open func(addr, path string, i int, write bool) (*client, error), ours bool) (grown, stays footprint, err error) {
	measure := func() (f footprint, err error) {
		if ours {
			var m memory
			if m, err = c.collect(); err != nil {
				return f, err
			}
			f.heap, f.stacks = float64(m.Heap), float64(m.Stacks)
		} else if f.heap, err = c.collectNode(); err != nil {
			return f, err
		}
		kib, err := c.memory("VmRSS")
		f.resident = kib * 1024
		return f, err
	}
	// The documents are written in the first round, so that in the second all that is new is that they are open.
	var before footprint
	for round := range 2 {
		var all []*client
		for i := range connections {
			cl, err := open(c.addr, path, i, round == 0)
			if err != nil {
				return grown, stays, err
			}
			all = append(all, cl)
		}
		if grown, err = measure(); err != nil {
			return grown, stays, err
		}
		if round == 1 && ours && s.memory != "" {
			if err := c.heapProfile(s.memory); err != nil {
				return grown, stays, err
			}
		}
		for _, cl := range all {
			_ = cl.conn.NetConn().Close()
		}
		if ours || round == 1 {
			time.Sleep(500 * time.Millisecond)
		} else {
			time.Sleep(3 * time.Second) // a document that was written stays in its memory for 2 s
		}
		if stays, err = measure(); err != nil {
			return grown, stays, err
		}
		if round == 0 {
			before = stays
		}
	}
	return grown.minus(before), stays.minus(before), nil
}

// collect has a server of ours free what is not used.
func (c *child) collect() (m memory, err error) {
	answer, err := http.Post("http://"+c.addr+"/collect", "", nil)
	if err != nil {
		return m, err
	}
	defer answer.Body.Close()
	return m, json.NewDecoder(answer.Body).Decode(&m)
}

// heapProfile writes what of the heap of a server of ours was allocated where.
func (c *child) heapProfile(file string) error {
	answer, err := http.Post("http://"+c.addr+"/collect?profile=heap", "", nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	profile, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, profile, 0o600)
}

// openOne opens document i on a connection of its own.
func openOne(addr, path string, i int, write bool) (*client, error) {
	return openSome(addr, path, i, i+1, write)
}

// openMany opens all documents on one connection.
func openMany(addr, path string, _ int, write bool) (*client, error) {
	return openSome(addr, path, 0, openDocuments, write)
}

// openSome opens documents on one connection of Hocuspocus, and writes small ones into them.
func openSome(addr, path string, from, to int, write bool) (*client, error) {
	done := make(chan error, 10)
	ready := make(chan struct{})
	cl, err := dial(addr, path+"/", func(frame []byte) {
		<-ready
		m, err := wire.ParseMessage(frame)
		switch {
		case err != nil:
			done <- err
		case m.Kind == wire.MessageSyncStatus && !m.Applied:
			done <- errors.New("a document was refused")
		case write && m.Kind == wire.MessageSyncStatus, !write && m.Kind == wire.MessageSync && m.Sync.Kind == wire.SyncStep2:
			done <- nil
		}
	})
	if err != nil {
		return nil, err
	}
	close(ready)
	for i := from; i < to; i++ {
		messages := []wire.Message{
			{Kind: wire.MessageAuth},
			{Kind: wire.MessageSync, Sync: wire.Sync{Kind: wire.SyncStep1, Payload: yjs.StateVector{}.Encode()}},
		}
		if write {
			update, err := smallDocument(i)
			if err != nil {
				return nil, err
			}
			messages = append(messages, wire.Message{Kind: wire.MessageSync, Sync: wire.Sync{Kind: wire.SyncUpdate, Payload: update}})
		}
		for _, m := range messages {
			m.Document = fmt.Sprint("doc-", i)
			if err := cl.conn.WriteMessage(2, m.Append(nil)); err != nil {
				return nil, err
			}
		}
		if err := <-done; err != nil {
			return nil, err
		}
	}
	return cl, nil
}

// openPlain opens document i on a connection of y-websocket, and writes a small one into it. There is no acknowledgement; the answer to the
// second request comes when the update has been read.
func openPlain(addr, path string, i int, write bool) (*client, error) {
	answers := make(chan struct{}, 100)
	cl, err := dial(addr, fmt.Sprintf("%s/doc-%d", path, i), func(frame []byte) {
		if len(frame) > 1 && frame[0] == byte(wire.FrameSync) && frame[1] == byte(wire.SyncStep2) {
			answers <- struct{}{}
		}
	})
	if err != nil {
		return nil, err
	}
	ask := wire.Frame{Kind: wire.FrameSync, Sync: wire.Sync{Kind: wire.SyncStep1, Payload: yjs.StateVector{}.Encode()}}.Append(nil)
	frames := [][]byte{ask}
	if write {
		update, err := smallDocument(i)
		if err != nil {
			return nil, err
		}
		frames = append(frames, wire.Frame{Kind: wire.FrameSync, Sync: wire.Sync{Kind: wire.SyncUpdate, Payload: update}}.Append(nil), ask)
	}
	for _, frame := range frames {
		if err := cl.conn.WriteMessage(2, frame); err != nil {
			return nil, err
		}
		if frame[1] == byte(wire.SyncStep1) {
			<-answers
		}
	}
	return cl, nil
}

// freePort returns a port that is free at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
