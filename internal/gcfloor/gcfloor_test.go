package gcfloor

import (
	"runtime"
	"testing"
)

var sink []byte

// collections returns how often garbage is collected while so many bytes of it are made.
func collections(bytes int) uint32 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range bytes >> 12 {
		sink = make([]byte, 1<<12)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

func TestKeep(t *testing.T) {
	t.Setenv("GOGC", "") // it is taken for not set
	const garbage, room = 512 << 20, 32 << 20
	usual := collections(garbage)
	stop := Keep(room)
	runtime.GC() // the room is known after a collection
	runtime.GC()
	kept := collections(garbage)
	stop()
	again := collections(garbage)
	t.Logf("collections: %d without, %d with room, %d after", usual, kept, again)
	if most := uint32(garbage/room) * 3 / 2; kept > most {
		t.Errorf("%d collections in %d MB of garbage, want at most %d", kept, garbage>>20, most)
	}
	if again < 2*kept {
		t.Errorf("%d collections after stop, %d before", again, kept)
	}
}

func TestKeepLeavesGOGC(t *testing.T) {
	t.Setenv("GOGC", "100")
	defer Keep(1 << 30)()
	if n := collections(256 << 20); n < 8 {
		t.Errorf("%d collections although GOGC is set", n)
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		name       string
		room, base uint64
		want       int
	}{
		{"nothing live yet", 24 << 20, 0, 600},
		{"small", 24 << 20, 6 << 20, 400},
		{"as large as the room", 24 << 20, 24 << 20, 100},
		{"large", 24 << 20, 4 << 30, 100},
	} {
		if got := percent(test.room, test.base); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}
