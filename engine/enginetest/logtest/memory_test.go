package logtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest/logtest"
)

func TestMemory(t *testing.T) {
	logtest.Run(t, func(testing.TB) logtest.Log {
		m := logtest.NewMemory()
		return logtest.Log{Open: func(testing.TB) engine.CommitLog { return m.Handle(nil) }}
	})
}

// eager is a clock whose timers are due at once.
type eager struct{}

func (eager) Now() time.Time { return time.Time{} }

func (eager) AfterFunc(_ time.Duration, f func()) (stop func()) {
	go f()
	return func() {}
}

// TestSettleAppend: on a log with every fault, a leader that settles each append
// has each record in once, in order; when it is deposed, what it was told is in
// is in, and nothing else of it but perhaps the one it was not told about.
func TestSettleAppend(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 7))
	m := logtest.NewMemory()
	var want []engine.LogPosition
	for round := range 30 {
		log := m.Handle(logtest.Seeded(rng.Uint64(), 70))
		term, head, err := log.Lead(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(want); n > 0 && head != want[n-1] {
			t.Fatalf("seed %d: a leader begins at %s, the log was at %s", seed, head, want[n-1])
		}
		deposedAt := rng.IntN(20)
		for i := range 20 {
			if i == deposedAt {
				if _, _, err := m.Handle(nil).Lead(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			r := engine.NewLogRecord(term, head, head.At+1, fmt.Appendf(nil, "%d/%d", round, i))
			err := engine.SettleAppend(context.Background(), log, r, eager{})
			if i >= deposedAt {
				if !errors.Is(err, engine.ErrDeposed) {
					t.Fatalf("seed %d: append %d of a leader that was deposed at %d gives %v", seed, i, deposedAt, err)
				}
				break
			}
			if err != nil {
				t.Fatalf("seed %d: append %d: %v", seed, i, err)
			}
			head = r.Position
			want = append(want, head)
		}
		m.Deliver()
	}
	records, err := m.Handle(nil).Read(context.Background(), 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if i >= len(want) || r.Position != want[i] {
			t.Fatalf("seed %d: record %d is %s, want %d records", seed, i, r.Position, len(want))
		}
	}
	if len(records) != len(want) {
		t.Errorf("seed %d: there are %d records, want %d", seed, len(records), len(want))
	}
}

// TestSettleAppendEndsWithItsContext on a log that never answers.
func TestSettleAppendEndsWithItsContext(t *testing.T) {
	log := logtest.NewMemory().Handle(func() logtest.Fault { return logtest.LoseRequest })
	term, head, err := log.Lead(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	sent := 0
	log = logtest.NewMemory().Handle(func() logtest.Fault {
		if sent++; sent == 5 {
			cancel()
		}
		return logtest.LoseRequest
	})
	err = engine.SettleAppend(ctx, log, engine.NewLogRecord(term, head, 1, nil), eager{})
	if !errors.Is(err, context.Canceled) || sent != 5 {
		t.Errorf("after %d attempts it ends with %v", sent, err)
	}
}
