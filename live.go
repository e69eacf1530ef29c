package halcyon

import (
	"errors"
	"fmt"
	"sync"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// QuerySet is the live queries of one connection. Equal queries of all sets run once, and their encoded outcome is shared.
type QuerySet struct {
	run    *runtime
	inner  *engine.QuerySet
	encode func(Outcome) []byte
	space  string // of Go code, which may also run internal queries; "" of clients
}

// NewQuerySet returns an empty set. encode turns the outcome of a query into the body of its changes; it is given no timestamp, since a
// result that did not change is not sent again, and must do the same in all sets of an App. notify is called, and must not block, when
// Poll may have something newer. The App must be open.
func (a *App) NewQuerySet(encode func(Outcome) []byte, notify func()) *QuerySet {
	r := a.running.Load()
	if r == nil {
		return &QuerySet{encode: encode}
	}
	return &QuerySet{run: r, inner: r.db.NewQuerySet(notify), encode: encode}
}

// Add subscribes to a query under an id that is new in this set. A query that can't run, for its name or its arguments, fails in the next
// round like one that ran. journal is that of the query's last outcome, for a client that comes back.
func (s *QuerySet) Add(id uint32, path string, args value.Value, journal *string) {
	if s.inner == nil {
		return
	}
	s.inner.Add(id, s.live(path, args, journal))
}

// Remove ends a subscription.
func (s *QuerySet) Remove(id uint32) {
	if s.inner != nil {
		s.inner.Remove(id)
	}
}

// Close ends the set.
func (s *QuerySet) Close() {
	if s.inner != nil {
		s.inner.Close()
	}
}

// Poll returns the changes since the last round, all of one snapshot at or after min, and false when there is nothing new or it is still
// being computed. See [engine.QuerySet.Poll].
func (s *QuerySet) Poll(min engine.Timestamp) (engine.Round, bool) {
	if s.inner == nil {
		return engine.Round{}, false
	}
	return s.inner.Poll(min)
}

// live makes the engine's query. Its key is the canonical path and the arguments, and for one that reads pages also where they end.
func (s *QuerySet) live(path string, args value.Value, given *string) engine.LiveQuery {
	if args.IsUndefined() {
		args = value.Object()
	}
	canonical, err := canonicalPath(path)
	if err != nil {
		canonical = path // names no function, and so fails as one that does not exist
	}
	key := string(value.AppendBinary([]byte(s.space+canonical+"\x00"), args))
	run, encode := s.run, s.encode
	f, makeArgs, refused := run.resolve(canonical, KindQuery, args, s.space == watchSpace)
	if refused != nil {
		body := encode(Outcome{Failure: refused})
		return engine.LiveQuery{Key: key, Name: canonical, Run: func(*engine.Tx) []byte { return body }}
	}
	ends, err := parseJournal(given)
	if err != nil {
		body := encode(Outcome{Failure: systemFailure(CodeInvalidCursor, "")})
		return engine.LiveQuery{Key: key + "\x00", Name: canonical, Run: func(*engine.Tx) []byte { return body }}
	}
	switch {
	case ends != nil:
		key += "\x00" + *given
	case args.Get("paginationOpts").Kind() == value.KindObject:
		// Its page ends where the first run puts the end. Who subscribes later is given a page of the size it asks for.
		key = fmt.Sprintf("%s\x00%d", key, run.lists.Add(1))
	}
	pinned := journal{ends: ends}
	failures := lastFailure{}
	return engine.LiveQuery{Key: key, Name: canonical, Run: func(tx *engine.Tx) []byte {
		v, logs, read, err := run.executePinned(tx, f, makeArgs(), pinned.get())
		if err != nil {
			return encode(failures.outcome(run, f, key, err))
		}
		failures.forget()
		pinned.set(read.ends)
		return encode(Outcome{Value: v, Logs: logs, Journal: read.journal()})
	}}
}

// lastFailure remembers how a live query failed, so that one which keeps failing in the same way is logged once and not at every commit.
type lastFailure struct {
	mu        sync.Mutex
	requestID string
	failure   *Failure
}

func (l *lastFailure) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = nil
}

func (l *lastFailure) outcome(r *runtime, f *function, key string, err error) Outcome {
	id := stableRequestID(key, err)
	l.mu.Lock()
	failure, known := l.failure, l.failure != nil && l.requestID == id
	l.mu.Unlock()
	if !known {
		out, refusal := r.failed(f, id, err, 0)
		if failure = out.Failure; refusal != nil {
			// The store is closing or broken.
			failure = systemFailure(CodeUnavailable, "")
			r.logger.Warn("live query could not be answered", "function", f.path, "error", refusal)
		}
		l.mu.Lock()
		l.requestID, l.failure = id, failure
		l.mu.Unlock()
	}
	call, _ := errors.AsType[*callError](err) // execute returns no other
	return Outcome{Failure: failure, Logs: call.logs}
}
