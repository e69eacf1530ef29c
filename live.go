package halcyon

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// QuerySet is the live queries of one connection. Equal queries of all sets run once, and their encoded outcome is shared; of those that look
// at the identity of the caller, the ones of one user.
//
// # Whose result it is
//
// Whether a query looks at the identity shows only when it runs, and may change with what it reads. So a query runs for the caller of the
// first set that watches it, and its run says whether it has looked: the result carries a mark. One that has not looked is everybody's. One
// that has looked is its caller's, and any other set that finds it in a round leaves the query for one of its own caller; queries that are
// known to look are watched in that way from the start. A round is held back until the set has left all such queries and has their results
// instead, so that it still is of one moment, and of one caller.
type QuerySet struct {
	run    *runtime
	inner  *engine.QuerySet
	encode func(Outcome) []byte
	space  string // of Go code; "" of clients

	mu struct {
		sync.Mutex
		identity *Identity
		admin    bool
		slots    map[uint32]*slot
		// held is the round that can't be given out yet, while some slots wait for the result of another query than the one they had.
		held    engine.Round
		holding bool
		waiting int
	}
}

// slot is one query of a set.
type slot struct {
	path    string
	args    value.Value
	given   *string  // the client's journal
	pinned  *journal // of the query that is watched
	looked  bool     // the last result is of this set's caller alone
	waiting bool
}

// NewQuerySet returns an empty set, for nobody. encode turns the outcome of a query into the body of its changes; it is given no timestamp,
// since a result that did not change is not sent again, and must do the same in all sets of an App. notify is called, and must not block,
// when Poll may have something newer. The App must be open.
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if args.IsUndefined() {
		args = value.Object()
	}
	q := &slot{path: path, args: args, given: journal}
	if s.mu.slots == nil {
		s.mu.slots = map[uint32]*slot{}
	}
	s.mu.slots[id] = q
	s.inner.Add(id, s.liveLocked(q, false))
}

// Remove ends a subscription.
func (s *QuerySet) Remove(id uint32) {
	if s.inner == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.mu.slots[id]
	if q == nil {
		return
	}
	if q.waiting {
		s.mu.waiting--
	}
	delete(s.mu.slots, id)
	s.mu.held.Changes = without(s.mu.held.Changes, id)
	s.inner.Remove(id)
}

func without(changes []engine.Change, id uint32) []engine.Change {
	return slices.DeleteFunc(changes, func(c engine.Change) bool { return c.ID == id })
}

// SetCaller makes the set one of another caller. No later round has a result of the old one: the queries that it returns, those that may
// answer differently now, are all in the next round.
func (s *QuerySet) SetCaller(identity *Identity, admin bool) (again []uint32) {
	if s.inner == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	user := keyOf(s.mu.identity) != keyOf(identity)
	rights := s.mu.admin != admin
	s.mu.identity, s.mu.admin = identity, admin
	for id, q := range s.mu.slots {
		if !(user && q.looked || rights && s.run.internal(q.path)) {
			continue
		}
		again = append(again, id)
		s.moveLocked(id, q, false)
	}
	return again
}

// Moving reports whether a query whose results were of another caller has none for this one yet. The round that Poll returns next has them
// all; when they are removed before, there may be none.
func (s *QuerySet) Moving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.waiting > 0
}

// internal reports whether a path names an internal function.
func (r *runtime) internal(path string) bool {
	canonical, err := canonicalPath(path)
	f := r.app.functions[canonical]
	return err == nil && f != nil && r.hidden(f)
}

// moveLocked has a slot watch another query than it did, whose result no round given out may lack.
func (s *QuerySet) moveLocked(id uint32, q *slot, own bool) {
	s.mu.held.Changes = without(s.mu.held.Changes, id)
	if q.looked = false; !q.waiting {
		q.waiting = true
		s.mu.waiting++
	}
	s.inner.Add(id, s.liveLocked(q, own))
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
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		round, ok := s.inner.Poll(min)
		if ok {
			round.Changes = s.takeLocked(round.Changes)
			if s.mu.holding {
				round.Changes = s.mergeLocked(round.Changes)
			}
			if s.mu.waiting == 0 {
				s.mu.held, s.mu.holding = engine.Round{}, false
				return round, true
			}
			// The next round has what is missing. Until then nothing of this one may be seen, and nothing of it may be lost.
			s.mu.held, s.mu.holding = round, true
			min = max(min, round.At)
			continue
		}
		if !s.mu.holding || s.mu.waiting > 0 {
			return engine.Round{}, false
		}
		// What was missing has been removed.
		round = s.mu.held
		s.mu.held, s.mu.holding = engine.Round{}, false
		return round, true
	}
}

// mergeLocked returns the changes that are held with later ones.
func (s *QuerySet) mergeLocked(later []engine.Change) []engine.Change {
	merged := s.mu.held.Changes
	for _, c := range later {
		merged = append(without(merged, c.ID), c)
	}
	return merged
}

// takeLocked removes the marks from the bodies of changes, and the changes that are of another caller; their slots move.
func (s *QuerySet) takeLocked(changes []engine.Change) []engine.Change {
	kept := changes[:0]
	for _, c := range changes {
		q := s.mu.slots[c.ID]
		if q == nil {
			continue
		}
		body, of, looked := unmark(c.Body)
		if looked && of != keyOf(s.mu.identity) {
			s.moveLocked(c.ID, q, true)
			continue
		}
		if q.looked = looked; q.waiting {
			q.waiting = false
			s.mu.waiting--
		}
		c.Body = body
		kept = append(kept, c)
	}
	clear(changes[len(kept):])
	return kept
}

// The last byte of a body is its mark: whose it is. Before markLooked stands the key of the caller's identity.
const (
	markShared = 0
	markLooked = 1
)

func markBody(body []byte, looked bool, of *Identity) []byte {
	if !looked {
		return append(body, markShared)
	}
	key := keyOf(of)
	return append(append(body, key[:]...), markLooked)
}

func unmark(body []byte) (rest []byte, of identityKey, looked bool) {
	n := len(body) - 1
	if n < 0 || body[n] == markShared {
		return body[:max(n, 0)], of, false // a run that panicked outside of its own handling has no body
	}
	rest = body[:n-len(of)]
	copy(of[:], body[n-len(of):n])
	return rest, of, true
}

// liveLocked makes the engine's query. Its key is the canonical path and the arguments, for one that reads pages also where they end, and for
// one that is known to look at the identity also whose it is; own says that it is known already.
func (s *QuerySet) liveLocked(q *slot, own bool) engine.LiveQuery {
	canonical, err := canonicalPath(q.path)
	if err != nil {
		canonical = q.path // names no function, and so fails as one that does not exist
	}
	key := string(value.AppendBinary([]byte(s.space+canonical+"\x00"), q.args))
	run, encode, identity := s.run, s.encode, s.mu.identity
	ends, err := parseJournal(q.given)
	if err != nil {
		body := markBody(encode(Outcome{Failure: systemFailure(CodeInvalidCursor, "")}), false, nil)
		return engine.LiveQuery{Key: key + "\x00", Name: canonical, Run: func(*engine.Tx) []byte { return body }}
	}
	if q.pinned != nil {
		ends = q.pinned.get() // the pages after it begin where it ended
	}
	pinned := &journal{ends: ends}
	q.pinned = pinned
	given := journalOf(ends)
	if given != nil {
		key += "\x00" + *given
	}
	f, makeArgs, refused := run.resolve(canonical, KindQuery, q.args, s.mu.admin)
	if refused != nil {
		body := markBody(encode(Outcome{Failure: refused, Journal: given}), false, nil)
		return engine.LiveQuery{Key: key, Name: canonical, Run: func(*engine.Tx) []byte { return body }}
	}
	if run.hidden(f) {
		key += "\x00admin" // others are refused under the key without
	}
	if given == nil && q.args.Get("paginationOpts").Kind() == value.KindObject {
		// Its page ends where the first run puts the end. Who subscribes later is given a page of the size it asks for.
		key = fmt.Sprintf("%s\x00%d", key, run.lists.Add(1))
	}
	shared := key
	lookers, hint := &run.lookers, hintOf(shared)
	if me := keyOf(identity); own || lookers.others(hint, me) {
		key += "\x00as" + string(me[:])
	}
	failures := lastFailure{}
	// A failure has the ends too: the client sends what the last result had when it comes back.
	fail := func(out Outcome, looked bool) []byte {
		out.Journal = journalOf(pinned.get())
		return markBody(encode(out), looked, identity)
	}
	full := func() []byte { return fail(Outcome{Failure: systemFailure(CodeOverloaded, resultsFull)}, false) }
	return engine.LiveQuery{Key: key, Name: canonical, Full: full, Run: func(inner *engine.Tx) []byte {
		for {
			ends := pinned.get()
			tx := &Tx{inner: inner, run: run, fn: f, pages: pages{pinned: ends}, identity: identity}
			began := run.clock.Now()
			v, logs, err := run.executeTx(tx, makeArgs())
			run.insights.ran(canonical, run.clock.Now().Sub(began))
			lookers.told(hint, tx.toldIdentity, keyOf(identity))
			if err != nil {
				return fail(failures.outcome(run, f, shared, err), tx.toldIdentity)
			}
			failures.forget()
			kept := tx.pages.kept()
			if pinned.settle(ends, kept) {
				return markBody(encode(Outcome{Value: v, Logs: logs, Journal: journalOf(kept)}), tx.toldIdentity, identity)
			}
		}
	}}
}

// resultsFull is what a live query fails with for whose result there is no room.
const resultsFull = "The results of live queries take as much memory as they may, those of this connection or of all. This one is tried again every 5 s."

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
		began := r.clock.Now()
		out, refusal := r.failed(f, id, err, 0)
		r.calls.add(LogEntry{Time: began, Function: f.path, Kind: f.kind, RequestID: id, Lines: out.Logs, Failure: failureText(out.Failure)})
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
