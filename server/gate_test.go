package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// appendFrame appends a masked frame, as a client sends it.
func appendFrame(dst []byte, first byte, payload []byte, mask uint32) []byte {
	dst = append(dst, first)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], mask)
	dst = append(dst, key[:]...)
	for i, b := range payload {
		dst = append(dst, b^key[i%4])
	}
	return dst
}

// received is one message or control frame.
type received struct {
	First   byte // first byte of the first frame, without FIN
	Payload string
}

// parseStream reads frames like the WebSocket library does. It stops at the
// first thing that is not complete.
func parseStream(b []byte) (got []received, frameMax int64) {
	var open *received
	var text []byte
	for {
		f, _, ok := parseFrame(b)
		if !ok || int64(len(b)-f.size) < f.payload {
			return got, frameMax
		}
		frameMax = max(frameMax, f.payload)
		payload := make([]byte, f.payload)
		copy(payload, b[f.size:])
		if b[1]&0x80 != 0 {
			for i := range payload {
				payload[i] ^= b[f.size-4+i%4]
			}
		}
		switch {
		case f.opcode >= 8:
			got = append(got, received{b[0], string(payload)})
		case f.opcode != 0 || open == nil:
			open = &received{First: b[0] &^ 0x80}
			text = append(text[:0], payload...)
		default:
			text = append(text, payload...)
		}
		if f.opcode < 8 && f.final {
			open.Payload = string(text)
			got = append(got, *open)
			open = nil
		}
		b = b[int64(f.size)+f.payload:]
	}
}

// pass sends a stream through a gate: raw gives up to in bytes at a time, and the
// reader asks for up to out.
func pass(g *gate, stream []byte, in, out func() int) ([]byte, error) {
	source := bytes.NewReader(stream)
	raw := func(p []byte) (int, error) { return source.Read(p[:min(len(p), in())]) }
	var passed []byte
	buffer := make([]byte, 1<<16)
	for {
		p := buffer[:out()]
		n, err := g.read(p, raw)
		passed = append(passed, p[:n]...)
		if err != nil {
			return passed, err
		}
	}
}

func TestGateKeepsMessages(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		var stream []byte
		size := func() int {
			switch random.IntN(10) {
			case 0:
				return pieceBytes - 2 + random.IntN(5)
			case 1:
				return 2*pieceBytes + random.IntN(pieceBytes)
			case 2:
				return 65533 + random.IntN(6)
			case 3:
				return 124 + random.IntN(5)
			default:
				return random.IntN(40)
			}
		}
		for range 1 + random.IntN(12) {
			frames := 1 + random.IntN(3)
			for i := range frames {
				first := byte(1)
				if i > 0 {
					first = 0
				}
				if i == 0 && random.IntN(5) == 0 {
					first |= 0x40 // compressed
				}
				if i == frames-1 {
					first |= 0x80
				}
				payload := make([]byte, size())
				for j := range payload {
					payload[j] = byte(random.Uint32())
				}
				stream = appendFrame(stream, first, payload, random.Uint32())
				if random.IntN(4) == 0 {
					stream = appendFrame(stream, 0x89, []byte("ping"), random.Uint32())
				}
			}
		}
		g := &gate{limit: 1 << 30, budget: &budget{max: 1 << 30}}
		chunk := []int{3, 17, 2048, 1 << 20}[random.IntN(4)]
		got, err := pass(g, stream, func() int { return 1 + random.IntN(chunk) }, func() int { return 1 + random.IntN(4096) })
		if !errors.Is(err, io.EOF) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want, _ := parseStream(stream)
		messages, frameMax := parseStream(got)
		// Control frames stay between the same frames; the reference has them
		// before a message that is fragmented around them, and so has the copy.
		if !slices.Equal(want, messages) {
			t.Fatalf("seed %d: messages changed (-want +got):\n%.2000s", seed, cmp.Diff(want, messages))
		}
		if frameMax >= 1<<16 {
			t.Fatalf("seed %d: a frame of %d bytes passed", seed, frameMax)
		}
		g.release()
		if used := g.budget.used.Load(); used != 0 {
			t.Fatalf("seed %d: %d bytes of the budget are still taken", seed, used)
		}
	}
}

func TestGateRefuses(t *testing.T) {
	header := func(first byte, length uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, length), 1, 2, 3, 4)
	}
	text := func(n int) []byte { return appendFrame(nil, 0x81, make([]byte, n), 7) }
	fragments := func(sizes ...int) (b []byte) {
		for i, n := range sizes {
			first := byte(0)
			if i == 0 {
				first = 1
			}
			b = appendFrame(b, first, make([]byte, n), 7)
		}
		return b
	}
	for _, tc := range []struct {
		name   string
		stream []byte
		limit  int64
		shared int64
		want   error
	}{
		{"at the limit", text(1000), 1000, 1 << 20, io.EOF},
		{"over the limit", text(1001), 1000, 1 << 20, errMessageTooLarge},
		{"fragments at the limit", fragments(400, 600), 1000, 1 << 20, io.EOF},
		{"fragments over the limit", fragments(400, 601), 1000, 1 << 20, errMessageTooLarge},
		{"a large frame at the limit", text(200_000), 200_000, 1 << 20, io.EOF},
		{"a large frame over the limit", text(200_000), 199_999, 1 << 20, errMessageTooLarge},
		{"a claim of 16 MiB", header(0x81, 16<<20), 1 << 20, 1 << 20, errMessageTooLarge},
		{"a claim of 2^63", header(0x81, 1<<63), 1 << 20, 1 << 20, errMessageTooLarge},
		{"a claim of 2^64-1", header(0x81, 1<<64-1), 1 << 62, 1 << 20, errMessageTooLarge},
		{"a long control frame", header(0x89, 70_000), 1 << 20, 1 << 20, errControlTooLarge},
		{"the free part needs no budget", text(freeBytes), 1 << 20, 0, io.EOF},
		{"one byte over the free part does", text(freeBytes + 1), 1 << 20, 0, errInboundFull},
		{"at the budget", text(freeBytes + 5000), 1 << 20, 5000, io.EOF},
		{"over the budget", text(freeBytes + 5001), 1 << 20, 5000, errInboundFull},
		{"a short length written long", append(header(0x81, 5), 1, 2, 3, 4, 5), 1000, 0, io.EOF},
		{"nothing written long", header(0x81, 0), 1000, 0, io.EOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := &gate{limit: tc.limit, budget: &budget{max: tc.shared}}
			passed, err := pass(g, tc.stream, func() int { return 1000 }, func() int { return 512 })
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if _, frameMax := parseStream(passed); err != io.EOF && frameMax > pieceBytes {
				t.Errorf("a frame of %d bytes passed", frameMax)
			}
			g.release()
			if used := g.budget.used.Load(); used != 0 {
				t.Errorf("%d bytes of the budget are still taken", used)
			}
		})
	}
}

// What stands in front of a header that is refused still gets through: it may be
// what raises the limit.
func TestGateLetsTheFrontThrough(t *testing.T) {
	stream := appendFrame(nil, 0x81, []byte("Connect"), 1)
	stream = appendFrame(stream, 0x81, make([]byte, 500), 2)
	g := &gate{limit: 100, budget: &budget{}}
	source := bytes.NewReader(stream)
	p := make([]byte, 4096)
	n, err := g.read(p, source.Read)
	if got, _ := parseStream(p[:n]); err != nil || len(got) != 1 || got[0].Payload != "Connect" {
		t.Fatalf("first read: %q, %v", got, err)
	}
	g.limit = 500
	rest, err := pass(g, nil, func() int { return 100 }, func() int { return 100 })
	if got, _ := parseStream(rest); err != io.EOF || len(got) != 1 || len(got[0].Payload) != 500 {
		t.Fatalf("the rest: %d messages, %v", len(got), err)
	}
}

// FuzzGate checks that the gate never panics, never lets a large frame pass, and
// changes no message.
func FuzzGate(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, 0x81, []byte("hello"), 9), 0x89, nil, 1), uint8(3))
	f.Add([]byte{0x01, 0xff, 0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 0x80, 0x82, 1, 2, 3, 4, 5, 6}, uint8(0))
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint8) {
		g := &gate{limit: 100_000, budget: &budget{max: 50_000}}
		passed, err := pass(g, stream, func() int { return 1 + int(chunk)*64 }, func() int { return 1 + int(chunk)*28 })
		got, frameMax := parseStream(passed)
		if frameMax >= 1<<16 {
			t.Fatalf("a frame of %d bytes passed", frameMax)
		}
		if want, _ := parseStream(stream); err == io.EOF && !slices.Equal(want, got) {
			t.Fatalf("messages changed (-want +got):\n%.2000s", cmp.Diff(want, got))
		}
		g.release()
		if used := g.budget.used.Load(); used != 0 {
			t.Fatalf("%d bytes of the budget are still taken", used)
		}
	})
}
