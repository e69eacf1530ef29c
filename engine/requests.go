package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// A stored outcome is: version (1 byte), commit timestamp (8, big-endian), the
// function's result. The floor of a client whose outcomes were removed is the
// same with the number of the newest of them (4 bytes, big-endian) for the
// result, under the client's key without a number. docs/format/requests.md
// describes both.
const (
	outcomeVersion = 1
	outcomeHeader  = 1 + txn.StampSize

	// requestsKept is how far back of its newest request a client may repeat one.
	requestsKept = 1024
	// floorRetention is how long the floor of a silent client is remembered, so
	// that its requests are still refused.
	floorRetention = 30 * 24 * time.Hour
)

// outcome is a stored outcome, or a floor.
type outcome struct {
	floor   bool
	request uint32 // its number, or the newest number at or below the floor
	at      Timestamp
	result  []byte // nil for a floor
}

func decodeOutcome(key, val []byte) (outcome, error) {
	if len(val) < outcomeHeader || val[0] != outcomeVersion {
		return outcome{}, fmt.Errorf("%w: stored outcome %x", ErrCorrupt, key)
	}
	o := outcome{at: Timestamp(binary.BigEndian.Uint64(val[txn.StampOffset:])), result: val[outcomeHeader:]}
	if _, request, err := keys.RequestOf(key); err == nil {
		o.request = request
		return o, nil
	}
	if len(key) != clientKeySize || len(o.result) != 4 {
		return outcome{}, fmt.Errorf("%w: key of a stored outcome %x", ErrCorrupt, key)
	}
	o.floor, o.request, o.result = true, binary.BigEndian.Uint32(o.result), nil
	return o, nil
}

// clientKeySize is the length of the key of a floor.
const clientKeySize = 1 + len(ClientID{})

// replay returns the stored outcome of a request, or nil when it is new.
func (tx *Tx) replay(client ClientID, request uint32) (*Receipt, error) {
	if err := tx.enter(); err != nil {
		return nil, err
	}
	defer tx.leave()
	key := keys.AppendRequest(nil, client, request)
	tx.mu.reads.AddPoint(key)
	// In the committer's turn the open group may hold requests that the cache
	// does not know yet. Elsewhere they make this execution fail validation.
	if newest, known := tx.db.clients.get(client); known && !tx.inTurn && int64(request) > newest {
		return nil, nil
	}
	b, ok, err := tx.mu.view.Get(key)
	if err != nil {
		return nil, err
	}
	if ok {
		o, err := decodeOutcome(key, b)
		if err != nil {
			return nil, err
		}
		return &Receipt{At: o.at, Result: o.result, Wrote: true, Replayed: true}, nil
	}
	newest, err := tx.newestRequestLocked(client)
	if err != nil {
		return nil, err
	}
	if !tx.inTurn {
		tx.db.clients.put(client, newest, tx.state.at)
	}
	if int64(request)+requestsKept <= newest {
		return nil, ErrTooOld
	}
	if int64(request) <= newest {
		floor, err := tx.floorLocked(client)
		if err != nil {
			return nil, err
		}
		if int64(request) <= floor {
			return nil, ErrTooOld
		}
	}
	return nil, nil
}

// floorLocked returns the newest number whose outcome may have been removed, -1
// when none was. It is part of the read set.
func (tx *Tx) floorLocked(client ClientID) (int64, error) {
	key := keys.AppendClient(nil, client)
	tx.mu.reads.AddPoint(key)
	b, ok, err := tx.mu.view.Get(key)
	if err != nil || !ok {
		return -1, err
	}
	o, err := decodeOutcome(key, b)
	return int64(o.request), err
}

// newestRequestLocked returns the largest request number stored for a client, or
// its floor where that is all there is, -1 when there is neither. It is not part of the read set: requests of one
// client come one after the other, and a larger number can only make the
// answer stricter.
func (tx *Tx) newestRequestLocked(client ClientID) (newest int64, err error) {
	it, err := tx.mu.view.Iterate(keys.Prefixed(keys.AppendClient(nil, client)), true)
	if err != nil {
		return 0, err
	}
	newest = -1
	if it.Next() {
		var o outcome
		o, err = decodeOutcome(it.Key(), it.Value())
		newest = int64(o.request)
	}
	return newest, errors.Join(err, it.Close())
}

// remember stores the outcome of a request with the transaction's effects. A
// transaction that changed nothing has none: it may run again.
func (tx *Tx) remember(client ClientID, request uint32, result []byte) error {
	if err := tx.enter(); err != nil {
		return err
	}
	defer tx.leave()
	if tx.mu.own.Empty() {
		return nil
	}
	b := append(make([]byte, 0, outcomeHeader+len(result)), outcomeVersion)
	b = binary.BigEndian.AppendUint64(b, 0)
	tx.mu.own.Set(keys.AppendRequest(nil, client, request), txn.Write{Value: append(b, result...), Stamped: true})
	if request >= requestsKept {
		tx.mu.own.Delete(keys.AppendRequest(nil, client, request-requestsKept))
	}
	return nil
}

// sweepEvery is how often old outcomes and change records are removed.
const sweepEvery = 10 * time.Minute

// sweep removes what its retention has passed, now and then. DB.Open starts
// it, DB.Close ends it.
func (db *DB) sweep() {
	due := make(chan struct{}, 1)
	for {
		stop := db.o.Clock.AfterFunc(sweepEvery, func() {
			select {
			case due <- struct{}{}:
			default:
			}
		})
		select {
		case <-due:
			if err := db.sweepOnce(); err != nil && !errors.Is(err, ErrClosed) {
				db.o.Logger.Warn("old outcomes and change records could not be removed", "error", err)
			}
		case <-db.closing:
			stop()
			return
		}
	}
}

func (db *DB) sweepOnce() error {
	now := db.o.Clock.Now()
	return errors.Join(db.sweepRequests(now), db.sweepLog(now))
}

// clientsSwept is how many clients one transaction of a sweep is about.
const clientsSwept = 64

// sweepRequests removes the outcomes that no request can ask for any more:
// those requestsKept behind their client's newest, and all of a client that has
// been silent for RequestRetention, for which a floor takes their place until
// floorRetention has passed, too.
func (db *DB) sweepRequests(now time.Time) error {
	silent := Timestamp(micros(now.Add(-db.o.RequestRetention)))
	forgotten := Timestamp(micros(now.Add(-floorRetention)))
	due, err := db.clientsToSweep(silent, forgotten)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(due, clientsSwept) {
		// A transaction, since the client may be coming back at this moment.
		_, err := db.Mutate(context.Background(), Call{Name: "sweep of outcomes", sweep: true}, func(tx *Tx) ([]byte, error) {
			for _, client := range chunk {
				if err := tx.sweepClient(client, silent, forgotten); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// clientsToSweep returns the clients that sweepClient would do something for.
func (db *DB) clientsToSweep(silent, forgotten Timestamp) (due []ClientID, err error) {
	s := db.states.acquireDurable()
	defer db.states.release(s)
	r := keys.Prefixed([]byte{keys.PrefixRequest})
	it, err := s.snap.Iterate(r.Start, r.End)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Err(), it.Close()) }()
	var client ClientID
	var first, last outcome // of the client at hand
	n := 0                  // of its outcomes
	flush := func() {
		if n > 0 && (last.floor && last.at <= forgotten || !last.floor && last.at <= silent || int64(first.request)+requestsKept <= int64(last.request)) {
			due = append(due, client)
		}
		n = 0
	}
	for ok := it.First(); ok; ok = it.Next() {
		o, err := decodeOutcome(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		if c := ClientID(it.Key()[1:clientKeySize]); c != client {
			flush()
			client = c
		}
		if n == 0 || first.floor {
			first = o
		}
		last = o
		n++
	}
	flush()
	return due, nil
}

// sweepClient removes what is due of one client.
func (tx *Tx) sweepClient(client ClientID, silent, forgotten Timestamp) error {
	if err := tx.enter(); err != nil {
		return err
	}
	defer tx.leave()
	all := keys.Prefixed(keys.AppendClient(nil, client))
	tx.mu.reads.AddRange(all)
	it, err := tx.mu.view.Iterate(all, false)
	if err != nil {
		return err
	}
	var stored []outcome
	for it.Next() {
		o, e := decodeOutcome(it.Key(), it.Value())
		if err = e; err != nil {
			break
		}
		stored = append(stored, o)
	}
	if err = errors.Join(err, it.Close()); err != nil || len(stored) == 0 {
		return err
	}
	newest := stored[len(stored)-1]
	floor := keys.AppendClient(nil, client)
	switch {
	case newest.floor && newest.at <= forgotten:
		tx.mu.own.Delete(floor)
	case !newest.floor && newest.at <= silent:
		for _, o := range stored {
			if !o.floor {
				tx.mu.own.Delete(keys.AppendRequest(nil, client, o.request))
			}
		}
		b := append(make([]byte, 0, outcomeHeader+4), outcomeVersion)
		b = binary.BigEndian.AppendUint64(b, uint64(newest.at))
		tx.mu.own.Set(floor, txn.Write{Value: binary.BigEndian.AppendUint32(b, newest.request)})
	default:
		for _, o := range stored {
			if !o.floor && int64(o.request)+requestsKept <= int64(newest.request) {
				tx.mu.own.Delete(keys.AppendRequest(nil, client, o.request))
			}
		}
	}
	return nil
}

// sweepLog removes change records past LogRetention, and the older half of
// them while they take more than LogBytesMax.
func (db *DB) sweepLog(now time.Time) error {
	s := db.states.acquireDurable()
	defer db.states.release(s)
	cut := micros(now.Add(-db.o.LogRetention))
	all := keys.Prefixed([]byte{keys.PrefixLog})
	size, err := db.store.Size(all.Start, all.End)
	if err != nil {
		return err
	}
	if size > db.o.LogBytesMax {
		it, err := s.snap.Iterate(all.Start, all.End)
		if err != nil {
			return err
		}
		if it.First() {
			first, err := keys.LogTimestamp(it.Key())
			if err != nil {
				return errors.Join(err, it.Close())
			}
			cut = max(cut, first+(uint64(s.at)-first)/2)
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	return db.log.Truncate(db.logCtx, Timestamp(cut))
}
