package yjs

import "math"

// Limits bounds what an update may claim. Most of an update is backed by its
// own bytes; these are the parts that are not: a few bytes can claim a run of
// deleted units as long as the number range, which would block its client for
// ever, and in format V2 any number of structs. The zero value means the
// defaults, which are safe for updates from the network.
type Limits struct {
	// Clock is the largest clock a struct may end at. The default and maximum
	// is 2^40-1, far beyond any real document.
	Clock uint64
	// Run is the longest struct that carries no content: a collected, deleted
	// or skipped range. The default is 2^31.
	Run uint64
	// Structs is the number of structs of one V2 update. The default is 16 for
	// each byte of the update and at least 4096. Raise it for documents you
	// have compacted and stored yourself; V1 updates need no such limit.
	Structs uint64
	// Subdocs is the number of documents within one update. Each takes about a
	// kilobyte of memory in a Doc. The default is no limit.
	Subdocs uint64
}

const (
	clockMax    = 1<<40 - 1
	runMax      = 1 << 31
	structsMin  = 4096
	structsByte = 16
)

func (l Limits) withDefaults(size int) Limits {
	if l.Clock == 0 || l.Clock > clockMax {
		l.Clock = clockMax
	}
	if l.Run == 0 {
		l.Run = runMax
	}
	if l.Structs == 0 {
		l.Structs = max(structsMin, structsByte*uint64(size))
	}
	if l.Subdocs == 0 {
		l.Subdocs = math.MaxUint64
	}
	return l
}
