package gcfloor

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Default is the room that a server leaves, in bytes: small beside what the machines have that it runs on, and a busy server's garbage of
// half a second.
const Default = 24 << 20

// normal is what GOGC is when nobody says otherwise.
const normal = 100

// Keep has at least room bytes allocated between two collections, from now until stop is called. It does nothing when the variable GOGC is
// set: whoever did that wants it so. A memory limit (GOMEMLIMIT) counts as it always does. One Keep may be in force at a time.
func Keep(room uint64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	k := &keeper{room: room, percent: normal}
	k.adjust()
	k.watch()
	return k.stop
}

// keeper sets the percentage anew after each collection.
type keeper struct {
	room uint64

	mu      sync.Mutex
	percent int
	stopped bool
}

// cycle is an object that nobody refers to: the next collection finds it.
type cycle struct{ _ [16]byte }

// watch has the percentage adjusted after the next collection, and every one that follows.
func (k *keeper) watch() {
	runtime.AddCleanup(new(cycle), func(k *keeper) {
		if k.adjust() {
			k.watch()
		}
	}, k)
}

// adjust sets the percentage of what is live now. It reports false after stop.
func (k *keeper) adjust() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return false
	}
	// Setting it stops the program for a moment, so small changes wait.
	if want := percent(k.room, base()); want < k.percent*7/8 || want > k.percent*9/8 {
		k.percent = want
		debug.SetGCPercent(want)
	}
	return true
}

func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	debug.SetGCPercent(normal)
}

// heapMin is what a heap grows to before its first collection when GOGC is 100. With another percentage it is as many hundredths of it.
const heapMin = 4 << 20

// percent returns the GOGC with which a heap grows by room, and never less than usual.
func percent(room, base uint64) int {
	return int(max(normal, room*100/max(base, heapMin)))
}

// base returns what the percentage is taken of: live objects, stacks and globals, in bytes, as the last collection found them.
func base() (n uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			n += s.Value.Uint64()
		}
	}
	return n
}
