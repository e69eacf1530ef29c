package server

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/halcyon-db/halcyon/protocol"
)

// BenchmarkFanout measures from a commit until all viewers of one query have its
// result. The viewers are in this process and read as little as they can.
func BenchmarkFanout(b *testing.B) {
	for _, viewers := range []int{100, 1000} {
		b.Run(fmt.Sprintf("viewers=%d", viewers), func(b *testing.B) {
			f := newFixture(b)
			s := serve(b, f.app, Options{})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var got atomic.Int64
			all := make(chan struct{}, 1)
			var readers sync.WaitGroup
			for i := range viewers {
				c, r := rawDial(b, s)
				var stream []byte
				stream = appendFrame(stream, 0x81, (&protocol.Connect{SessionID: fmt.Sprintf("220faa75-0ee8-4ccb-ae77-%012x", i)}).Append(nil), 5)
				stream = appendFrame(stream, 0x81, (&protocol.ModifyQuerySet{New: 1, Modifications: []protocol.Modification{{Path: "t:count", Args: []byte(`[{"channel":"a"}]`)}}}).Append(nil), 5)
				if _, err := c.Write(stream); err != nil {
					b.Fatal(err)
				}
				if err := skipFrame(r); err != nil {
					b.Fatal(err)
				}
				readers.Go(func() {
					for skipFrame(r) == nil {
						if got.Add(1)%int64(viewers) == 0 {
							all <- struct{}{}
						}
					}
				})
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ResetTimer()
			for b.Loop() {
				f.call(b, "t:increment", map[string]any{"channel": "a"}, nil)
				<-all
			}
			b.StopTimer()
			b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/float64(viewers), "B/viewer")
			s.stop()
			readers.Wait()
		})
	}
}

// skipFrame reads one frame of the server.
func skipFrame(r *bufio.Reader) error {
	head, err := r.Peek(4)
	if err != nil {
		return err
	}
	size, n := 2, int(head[1])
	if n == 126 {
		size, n = 4, int(binary.BigEndian.Uint16(head[2:]))
	}
	if head[0] == 0x88 {
		return io.EOF
	}
	_, err = r.Discard(size + n)
	return err
}
