package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Term numbers the leaders of a commit log: each one's is greater than those
// of all before. The first is 1.
type Term uint64

// LogPosition is a place in a commit log: right after one record. The zero
// LogPosition is the beginning. No two different records have an equal one: a
// leader has its term alone, gives each record a greater timestamp than the
// last, and Sum covers the record and, through the previous one's, everything
// before it.
type LogPosition struct {
	Term Term      // of the leader that appended the record
	At   Timestamp // of the record
	Sum  uint32    // CRC-32C of the record, which includes the Sum before it
}

// String returns the position as people tell it.
func (p LogPosition) String() string { return fmt.Sprintf("%d/%d/%08x", p.Term, p.At, p.Sum) }

// Errors of a CommitLog.
var (
	// ErrDeposed says that another process leads the log by now. Nothing that
	// this one appends will ever be in it.
	ErrDeposed = errors.New("another process has taken the commit log over")
	// ErrNotHead says that a record does not continue the log: the position
	// before it is not the newest one. Nothing was appended.
	ErrNotHead = errors.New("the record does not continue the commit log")
	// ErrUnknownOutcome says that the log did not answer: the record may be in it
	// now, may come into it later, or not at all. SettleAppend finds out.
	ErrUnknownOutcome = errors.New("the commit log did not answer; the record may be in it")
	// ErrOutOfRetention says that what was asked for has been removed from the
	// log. Start from a checkpoint or from the documents themselves.
	ErrOutOfRetention = errors.New("that far back change records are no longer kept")
)

// CommitLog is the one order of commits: a chain of records, each of which
// names the position before it. There is the one inside of the store, which is
// the default, and there may be others that processes share. Package
// engine/enginetest/logtest has the tests that each of them must pass.
//
// All methods are safe for concurrent use, and return when their context ends.
// A record that was handed over and
// one that was returned share no memory with the log's own.
type CommitLog interface {
	// Lead makes the caller the leader and returns its term and the newest
	// position. When it returns, appends of earlier leaders fail, those that are
	// under way included: what they got in is at or before that position.
	Lead(ctx context.Context) (Term, LogPosition, error)

	// Append adds a record after r.Previous, which must be the newest position.
	// It may return before the record is durable; LogAppend.Wait says when it is.
	// The caller may append the next record before, where the log allows it.
	//
	// To append the newest record again, the same in every byte, succeeds and
	// changes nothing, so that it can be sent again when its outcome is unknown.
	//
	// Errors, of Append or of Wait: ErrDeposed, ErrNotHead, ErrUnknownOutcome.
	// After one of them, every later append of the caller that builds on this
	// record fails, too.
	//
	// local is the group's batch for the store of this process, nil in tests of a
	// log alone. A log that lives in that store adds the record to the batch and
	// applies it, so that one sync makes both durable. Any other leaves it alone,
	// and the engine applies it when the record is durable.
	Append(ctx context.Context, r LogRecord, local LocalBatch) (LogAppend, error)

	// Head returns the newest durable position, as of a moment during the call.
	Head(ctx context.Context) (LogPosition, error)

	// Read returns durable records after a timestamp in their order, as many as
	// bytesMax allows and at least one when there is one. It does not wait for
	// more. Error: ErrOutOfRetention.
	Read(ctx context.Context, after Timestamp, bytesMax int) ([]LogRecord, error)

	// Hold keeps the records after a timestamp from being removed until release
	// is called. It holds as long as this process runs and no longer.
	// Error: ErrOutOfRetention.
	Hold(ctx context.Context, after Timestamp) (release func(), err error)

	// Truncate removes the records at or before a timestamp, except what is held.
	// The newest position stays what it is, even when all records are gone.
	Truncate(ctx context.Context, upTo Timestamp) error
}

// LogAppend is a record on its way into a commit log.
type LogAppend interface {
	// Wait returns when the record is durable, or with the errors of Append. It
	// is called once.
	Wait(ctx context.Context) error
}

// LocalBatch is what a group of commits writes into the store of this process.
type LocalBatch interface {
	// Set adds a key; key and value are copied.
	Set(key, val []byte) error
	// Apply makes the batch visible to this process and starts to write it to
	// disk. It is called once, and its result is waited for.
	Apply() (LogAppend, error)
}

// The least and the greatest pause before a log that did not answer is asked
// again.
const (
	settlePauseMin = 10 * time.Millisecond
	settlePauseMax = time.Second
)

// SettleAppend appends a record and does not give up before it knows the
// outcome: when the log does not answer, it looks at the newest position. If
// that is the record's own, it is in. If it is the one before, the identical
// record is sent again, which is safe also while the first is still under way.
// If it is any other, somebody else leads.
//
// Errors: ErrDeposed and ErrNotHead, after which the record is not in the log
// and never will be; whatever else the log fails with; the context's, after
// which the outcome is unknown. clock nil means the system's.
func SettleAppend(ctx context.Context, log CommitLog, r LogRecord, clock Clock) error {
	if clock == nil {
		clock = newSystemClock()
	}
	pause := settlePauseMin
	for {
		p, err := log.Append(ctx, r, nil)
		if err == nil {
			err = p.Wait(ctx)
		}
		if !errors.Is(err, ErrUnknownOutcome) {
			return err
		}
		for {
			head, err := log.Head(ctx)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err == nil && head == r.Position:
				return nil
			case err == nil && head != r.Previous:
				return fmt.Errorf("%w: its newest position is %s, ours was %s", ErrDeposed, head, r.Previous)
			}
			if e := sleep(ctx, clock, pause); e != nil {
				return e
			}
			pause = min(2*pause, settlePauseMax)
			if err == nil {
				break // the predecessor: send it again
			}
		}
	}
}

// sleep waits for d of a clock.
func sleep(ctx context.Context, clock Clock, d time.Duration) error {
	over := make(chan struct{})
	stop := clock.AfterFunc(d, func() { close(over) })
	defer stop()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
