package halcyon

import (
	"hash/maphash"
	"sync"
)

// lookersMax is how many queries are remembered to look at the identity. Past it they are forgotten, and the next set of each that is
// watched by others than its caller runs it once in vain.
const lookersMax = 100_000

// lookers remembers which live queries have looked at the identity of their caller in their last run. It is for speed alone: each result
// says for itself whose it is.
type lookers struct {
	mu sync.Mutex
	// callers has, for a query that looked, the caller of whom the query without an own key is.
	callers map[lookerHint]identityKey
}

// lookerHint stands for the key of a query, which may be long. Two that share one share a guess.
type lookerHint uint64

var lookerSeed = maphash.MakeSeed()

func hintOf(key string) lookerHint { return lookerHint(maphash.String(lookerSeed, key)) }

// others reports whether a query is known to look, and to be watched for another caller.
func (l *lookers) others(h lookerHint, me identityKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	caller, known := l.callers[h]
	return known && caller != me
}

// told notes what a run for a caller did.
func (l *lookers) told(h lookerHint, looked bool, caller identityKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.callers[h]
	switch {
	case known && !looked:
		delete(l.callers, h)
	case looked && !known:
		if len(l.callers) >= lookersMax || l.callers == nil {
			l.callers = map[lookerHint]identityKey{}
		}
		l.callers[h] = caller
	}
}
