package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// heap returns the bytes in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // the first only moves what is in pools
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// hostile is a server under attack, with a client that means well.
type hostile struct {
	t     testing.TB
	f     *fixture
	s     *testServer
	clock *fakeClock // nil for the system's
	good  *client
	beats int64
}

// well shows that the client that means well is served: its mutation is answered,
// and the query that it watches shows it.
func (h *hostile) well() {
	h.t.Helper()
	if h.clock != nil {
		h.clock.advance(20 * time.Millisecond) // to another tick
	}
	h.good.mutate("t:increment", `{"channel":"good"}`)
	r := h.good.response()
	if !r.Success {
		h.t.Fatalf("the client that means well: %s", r.Append(nil))
	}
	h.beats++
	want := string(value.AppendJSON(nil, value.Int64(h.beats)))
	h.good.until("it sees its mutation", func() bool { return h.good.version.TS >= r.TS && h.good.results[0] == want })
}

// open makes a connection by hand and sends Connect, and what follows it.
func (h *hostile) open(then ...[]byte) (net.Conn, *bufio.Reader) {
	h.t.Helper()
	c, r := rawDial(h.t, h.s)
	stream := appendFrame(nil, 0x81, (&protocol.Connect{SessionID: randomSession()}).Append(nil), 5)
	h.write(c, append(stream, bytes.Join(then, nil)...))
	return c, r
}

func (h *hostile) write(c net.Conn, b []byte) {
	h.t.Helper()
	if _, err := c.Write(b); err != nil {
		h.t.Fatalf("write: %v", err)
	}
}

// closes checks the close frame that comes.
func (h *hostile) closes(r *bufio.Reader, code uint16, reason string) {
	h.t.Helper()
	if c, why := rawClose(h.t, r); c != code || reason != "" && why != reason {
		h.t.Errorf("closed with %d %q, want %d %q", c, why, code, reason)
	}
}

func randomSession() string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", rand.Uint32(), rand.Uint64()>>16)
}

func textFrame(text string) []byte { return appendFrame(nil, 0x81, []byte(text), 77) }

const kib, mib = 1 << 10, 1 << 20

// What clients do that mean ill, or that a bad network makes look so. Each is told
// by a code what is wrong, or is served within its limits; the server stays, what
// it holds for them is bounded by its options, and others do not notice.
func TestHostileClients(t *testing.T) {
	crowd := 1000
	if underRace {
		crowd = 150
	}
	for _, tc := range []struct {
		name    string
		opts    Options
		fake    bool // a clock that is moved by hand
		heapMax int64
		attack  func(h *hostile)
	}{
		{name: "frames that break the rules", heapMax: 4 * mib, attack: func(h *hostile) {
			ping := appendFrame(nil, 0x09, nil, 1) // not final
			unmasked := []byte{0x81, 2, 'h', 'i'}
			for _, bad := range []struct {
				name  string
				frame []byte
				code  uint16
			}{
				{"unmasked", unmasked, 1002},
				{"reserved bits", appendFrame(nil, 0xf1, []byte("x"), 1), 1002},
				{"an opcode that does not exist", appendFrame(nil, 0x83, []byte("x"), 1), 1002},
				{"a control opcode that does not exist", appendFrame(nil, 0x8b, []byte("x"), 1), 1002},
				{"a ping in pieces", ping, 1002},
				{"a ping of 126 bytes", appendFrame(nil, 0x89, make([]byte, 126), 1), 1002},
				{"a continuation of nothing", appendFrame(nil, 0x80, []byte("x"), 1), 1002},
				{"a message inside of a message", append(appendFrame(nil, 0x01, []byte("x"), 1), appendFrame(nil, 0x81, []byte("y"), 1)...), 1002},
				{"not UTF-8", appendFrame(nil, 0x81, []byte{0xff, 0xfe}, 1), 1007},
				{"a ping of 16 MiB", append([]byte{0x89}, claim16MiB[1:]...), closeTooLarge},
				{"a message of 2^63 bytes", []byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, closeTooLarge},
			} {
				_, r := h.open(bad.frame)
				if code, reason := rawClose(h.t, r); code != bad.code {
					h.t.Errorf("%s: closed with %d %q, want %d", bad.name, code, reason, bad.code)
				}
			}
		}},
		{name: "messages that break the protocol", heapMax: 8 * mib, attack: func(h *hostile) {
			for _, bad := range []string{
				"", "null", "[]", "{", `{"type":"Connect"}`, `{"type":"Nothing"}`, `{"type":5}`,
				`{"type":"ModifyQuerySet","baseVersion":7,"newVersion":8,"modifications":[]}`,
				`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":{}}`,
				`{"type":"Mutation","requestId":-1,"udfPath":"t:increment","args":[{}]}`,
				`{"type":"Mutation","requestId":4294967296,"udfPath":"t:increment","args":[{}]}`,
				`{"type":"Authenticate","baseVersion":9,"tokenType":"None"}`,
				`{"type":"Mutation","requestId":0,"udfPath":"` + strings.Repeat("x", 100_000) + `","args":[{}]}`,
				`{"type":"Event","event":` + strings.Repeat("[", 500_000),
				`{"type":"Event","event":` + strings.Repeat(`{"a":`, 200_000),
			} {
				_, r := h.open(textFrame(bad))
				h.closes(r, closePolicy, reasonProtocol)
			}
			_, r := h.open(appendFrame(nil, 0x82, []byte{1, 2, 3}, 9)) // binary
			h.closes(r, closePolicy, reasonProtocol)
			c, r := rawDial(h.t, h.s)
			h.write(c, textFrame(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[]}`))
			h.closes(r, closePolicy, reasonProtocol)
		}},
		{name: "arguments that fail alone", heapMax: 8 * mib, attack: func(h *hostile) {
			c := dial(h.t, h.s, nil)
			c.session = randomSession()
			c.send(&protocol.Connect{SessionID: c.session})
			for _, args := range []string{
				`{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`,
				`{"a":[` + strings.Repeat("1,", 10_000) + `1]}`,
				`{"a":{"$integer":"x"}}`, `{"$a":1}`, `{"a":1e999}`,
			} {
				c.mutate("t:nothing", args)
				if r := c.response(); r.Success || !strings.HasPrefix(r.ErrorMessage, "BadArguments: ") {
					h.t.Errorf("arguments %.60s: %.300s", args, r.Append(nil))
				}
			}
		}},
		{name: "random bytes", heapMax: 8 * mib, attack: func(h *hostile) {
			random := rand.New(rand.NewPCG(1, 2))
			for i := range 200 {
				garbage := make([]byte, 1+random.IntN(8000))
				for j := range garbage {
					garbage[j] = byte(random.Uint32())
				}
				c, r := rawDial(h.t, h.s)
				if i%2 == 0 { // a frame with such content
					garbage = appendFrame(nil, 0x81, garbage, random.Uint32())
				}
				_, _ = c.Write(garbage) // the server may have closed already
				c.closeWrite()
				_, _ = io.Copy(io.Discard, r) // ends
				plain := dialPlain(h.t, h.s)
				_, _ = plain.Write(garbage)
				plain.closeWrite()
				_, _ = io.Copy(io.Discard, plain)
			}
		}},
		{name: "a thousand claims of 16 MiB", heapMax: int64(crowd) * 48 * kib, attack: func(h *hostile) {
			for range crowd {
				_, r := h.open(textFrame(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[]}`), claim16MiB)
				if b, err := r.ReadByte(); b != 0x81 || err != nil {
					h.t.Fatalf("no Transition: %x, %v", b, err)
				}
			}
		}},
		{name: "messages that do not end", opts: Options{InboundBytesMax: mib}, fake: true, heapMax: 8 * mib, attack: func(h *hostile) {
			refused := 0
			var begun []*bufio.Reader
			for range 20 {
				_, r := h.open(textFrame(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[]}`), claim16MiB, make([]byte, 200*kib))
				begun = append(begun, r)
			}
			eventually(h.t, "the budget is spent", func() bool {
				used := h.s.inbound.used.Load()
				if used > mib {
					h.t.Fatalf("%d bytes of messages are held", used)
				}
				return len(h.s.connections()) < 12
			})
			h.well()
			// The time of a message is counted from when the server has read its beginning.
			eventually(h.t, "the others are being read", func() bool {
				reading := 0
				for _, c := range h.s.connections() {
					if c.messageAt.Load() != 0 {
						reading++
					}
				}
				return reading == len(h.s.connections())-1 // but the one that means well
			})
			h.clock.advance(61 * time.Second)
			for _, r := range begun {
				if code, reason := rawClose(h.t, r); code == closeTryAgain && reason == reasonBusy {
					refused++
				} else if code != closePolicy || reason != reasonSlow {
					h.t.Errorf("closed with %d %q", code, reason)
				}
			}
			if refused < 10 || refused == 20 {
				h.t.Errorf("%d of 20 messages of 200 KiB were refused with a budget of 1 MiB", refused)
			}
		}},
		{name: "a flood of small messages", heapMax: 8 * mib, attack: func(h *hostile) {
			n := 20_000
			if underRace {
				n = 3_000
			}
			var flood []byte
			for i := range n {
				flood = append(flood, textFrame(fmt.Sprintf(`{"type":"ModifyQuerySet","baseVersion":%d,"newVersion":%d,"modifications":[]}`, i, i+1))...)
				flood = appendFrame(flood, 0x89, []byte("are you there"), 3)
				flood = append(flood, textFrame(`{"type":"Event","eventType":"x","event":1}`)...)
				flood = appendFrame(flood, 0x01, nil, 3) // an empty message in pieces: nothing
				flood = appendFrame(flood, 0x00, nil, 3)
				flood = append(flood, appendFrame(nil, 0x80, []byte(`{"type":"Event","eventType":"x","event":1}`), 3)...)
			}
			c, r := h.open()
			done := make(chan error, 1)
			go func() { _, err := c.Write(flood); done <- err }()
			h.well()
			last := fmt.Sprintf(`"endVersion":{"querySet":%d`, n)
			seen := make([]byte, 0, 64*kib)
			for !bytes.Contains(seen, []byte(last)) {
				if len(seen) > 32*kib {
					seen = append(seen[:0], seen[len(seen)-100:]...)
				}
				b, err := r.ReadByte()
				if err != nil {
					h.t.Fatalf("the answer to all %d changes did not come: %v", n, err)
				}
				seen = append(seen, b)
			}
			if err := <-done; err != nil {
				h.t.Error(err)
			}
		}},
		{name: "changes that nobody reads about", opts: Options{QueriesPerConnectionMax: 100}, heapMax: 4 * mib, attack: func(h *hostile) {
			removes := strings.Repeat(`{"type":"Remove","queryId":5},`, 201)
			_, r := h.open(textFrame(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[` + removes[:len(removes)-1] + `]}`))
			h.closes(r, closeTryAgain, reasonBusy)
		}},
		{name: "thousands of subscriptions", heapMax: 4096 * 12 * kib, attack: func(h *hostile) {
			c := dial(h.t, h.s, nil)
			c.session = randomSession()
			c.send(&protocol.Connect{SessionID: c.session})
			mods := make([]protocol.Modification, 4097)
			for i := range mods {
				mods[i] = protocol.Modification{QueryID: uint32(i), Path: "t:echo", Args: json.RawMessage(`[{"n":` + strconv.Itoa(i) + `}]`)}
			}
			c.modify(mods...)
			c.until("all are answered", func() bool { return len(c.results) == len(mods) })
			failed := 0
			for id, result := range c.results {
				switch {
				case strings.HasPrefix(result, "error: TooManyQueries: "):
					failed++
				case result != fmt.Sprintf(`{"n":%d}`, id):
					h.t.Errorf("query %d is %s", id, result)
				}
			}
			if failed != 1 {
				h.t.Errorf("%d queries failed, want 1", failed)
			}
			// Others may have as many.
			h.well()
			used := h.s.watched.used.Load()
			c.remove(7)
			eventually(h.t, "a removed query is not counted", func() bool { return h.s.watched.used.Load() < used })
		}},
		{
			name: "subscriptions with large arguments", heapMax: 12 * mib,
			opts: Options{LiveQueryBytesPerConnectionMax: 2 * mib, LiveQueryBytesMax: 5 * mib},
			attack: func(h *hostile) {
				big := strings.Repeat("x", 250*kib) // counts as 1 MiB and a little
				total := 0
				for n := range 4 {
					c := dial(h.t, h.s, nil)
					c.session = randomSession()
					c.send(&protocol.Connect{SessionID: c.session})
					for i := range uint32(3) {
						c.add(i, "t:parity", fmt.Sprintf(`{"channel":"%d %d %s"}`, n, i, big))
					}
					c.until("all are answered", func() bool { return len(c.results) == 3 })
					served := 0
					for _, result := range c.results {
						if !strings.HasPrefix(result, "error: ") {
							served++
						} else if !strings.HasPrefix(result, "error: TooManyQueries: ") {
							h.t.Errorf("refused with %.200s", result)
						}
					}
					if served > 2 {
						h.t.Errorf("%d queries of 1 MiB each on a connection that may have 2 MiB", served)
					}
					total += served
				}
				if total < 4 || total > 5 {
					h.t.Errorf("%d queries of 1 MiB each, want as many as there is room for in 5 MiB", total)
				}
			},
		},
		{
			name: "clients that read nothing", heapMax: 48 * mib,
			opts: Options{OutboundBytesMax: 8 * mib, WriteTimeout: waitMax},
			attack: func(h *hostile) {
				const stalled = 6
				for range stalled {
					c := dialStalled(h.t, h.s, randomSession(), 4*kib)
					var big []protocol.Modification // 6 MiB of results, of which the system takes a part
					for i := range uint32(24) {
						big = append(big, protocol.Modification{QueryID: i, Path: "t:big", Args: json.RawMessage(`[{"channel":"` + strconv.Itoa(int(i)) + `"}]`)})
					}
					c.modify(big...)
				}
				most := int64(0)
				eventually(h.t, "those that there is no room for are dropped", func() bool {
					most = max(most, h.s.outbound.used.Load())
					return len(h.s.connections()) <= 1+stalled-2
				})
				if most > 8*mib {
					h.t.Errorf("%d bytes were held for clients", most)
				}
				h.well()
			},
		},
		{name: "half-open connections", fake: true, heapMax: 8 * mib, attack: func(h *hostile) {
			var silent []*bufio.Reader
			for range 20 {
				_, r := rawDial(h.t, h.s) // not even Connect
				silent = append(silent, r)
				_, r = h.open()
				silent = append(silent, r)
			}
			eventually(h.t, "all are there, and what they sent", func() bool {
				begun := 0
				for _, c := range h.s.connections() {
					c.mu.Lock()
					if c.mu.set != nil {
						begun++
					}
					c.mu.Unlock()
				}
				return len(h.s.connections()) == 41 && begun == 21
			})
			for range 10 {
				h.clock.advance(14 * time.Second)
				h.well()
			}
			for _, r := range silent {
				h.closes(r, closePolicy, reasonSilent)
			}
		}},
		{name: "requests from long ago", heapMax: 16 * mib, attack: func(h *hostile) {
			c := dial(h.t, h.s, nil)
			c.session = randomSession()
			c.send(&protocol.Connect{SessionID: c.session})
			const kept, n = 1024, 1030
			var results []string
			for range n {
				c.mutate("t:increment", `{"channel":"old"}`)
				results = append(results, string(c.response().Value))
			}
			c = c.again(h.s)
			for _, request := range []int{n - 1, 0, n - kept, 3} {
				c.send(&protocol.Mutation{RequestID: uint32(request), Path: "t:increment", Args: json.RawMessage(`[{"channel":"old"}]`)})
				r := c.response()
				switch old := request < n-kept; {
				case old && (r.Success || !strings.HasPrefix(r.ErrorMessage, "TooOld: ")):
					h.t.Errorf("request %d, forgotten: %s", request, r.Append(nil))
				case !old && (!r.Success || string(r.Value) != results[request]):
					h.t.Errorf("request %d: %s, want %s again", request, r.Append(nil), results[request])
				}
			}
			if got := h.f.count(h.t, "old"); got != n {
				h.t.Errorf("%d mutations were executed, want %d", got, n)
			}
		}},
		{name: "requests whose header does not end", opts: Options{HTTPConnectionsMax: 60}, heapMax: 8 * mib, attack: func(h *hostile) {
			var slow []net.Conn
			for i := range 200 {
				c := dialPlain(h.t, h.s)
				h.write(c, []byte("GET /api/sync HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX-Slow: "))
				slow = append(slow, c)
				if i%50 == 49 {
					h.answered()
				}
			}
			for _, c := range slow[:165] { // there is no room for them
				_, _ = io.Copy(io.Discard, c) // ends, by a reset where unread bytes were left
			}
			h.answered()
		}},
		{name: "bodies that trickle", opts: Options{HTTPConnectionsMax: 60, BodyTimeout: 300 * time.Millisecond}, heapMax: 8 * mib, attack: func(h *hostile) {
			var slow []net.Conn
			for i, path := range slices.Repeat([]string{"/api/query", "/upload"}, 50) {
				c := dialPlain(h.t, h.s)
				h.write(c, []byte("POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n{"))
				slow = append(slow, c)
				if i%25 == 24 {
					h.answered()
				}
			}
			timeouts := 0
			for _, c := range slow {
				text, _ := io.ReadAll(c) // ends
				if strings.HasPrefix(string(text), "HTTP/1.1 408 ") && strings.Contains(string(text), `{"code":"RequestTimeout"`) {
					timeouts++
				}
			}
			if timeouts == 0 {
				h.t.Error("no body was awaited until its time was over")
			}
			h.answered()
		}},
		{name: "messages that inflate to gigabytes", opts: bombLimits, heapMax: 12 * mib, attack: deflatedMessages},
		{name: "bodies that would inflate to gigabytes", heapMax: 4 * mib, attack: deflatedBodies},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &hostile{t: t, f: newFixture(t)}
			if tc.fake {
				h.clock = newFakeClock()
				tc.opts.Clock = h.clock
			}
			h.s = serve(t, h.f.app, tc.opts)
			h.good = connect(t, h.s)
			h.good.add(0, "t:count", `{"channel":"good"}`)
			next[*protocol.Transition](h.good)
			h.well()
			before := heap()
			tc.attack(h)
			h.well()
			if grown := heap() - before; grown > tc.heapMax {
				t.Errorf("the heap has grown by %d KiB, at most %d KiB are meant to be", grown/kib, tc.heapMax/kib)
			} else {
				t.Logf("the heap has grown by %d KiB", grown/kib)
			}
		})
	}
}

// answered shows that an HTTP request and a new connection are served.
func (h *hostile) answered() {
	h.t.Helper()
	resp, body := request(h.t, h.s, "POST", "/api/query", `{"path":"t:echo","args":{"a":1}}`, "Connection", "close") // an idle one may be closed for others
	if resp.StatusCode != 200 || body != `{"status":"success","value":{"a":1}}` {
		h.t.Errorf("a query beside them: %s %s", resp.Status, body)
	}
	c, r := h.open(textFrame(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[]}`))
	if b, err := r.ReadByte(); b != 0x81 || err != nil {
		h.t.Errorf("a new connection beside them: %x, %v", b, err)
	}
	_ = c.Close()
	h.well()
}
