package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

const callers = 64

// mutate measures durable mutations in process: on one document that everyone
// increments, and on 10,000 in turn. The yardstick is Pebble alone, writing
// about the same bytes (row, two index entries, change record) with a sync,
// from as many goroutines.
func mutate(s settings) error {
	results := map[string]figures{}
	for range s.rounds {
		for _, documents := range []int{1, 10_000} {
			rate, err := mutateOnce(s, documents)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("in process, %d documents", documents)
			results[name] = append(results[name], rate)
		}
		rate, err := rawOnce(s)
		if err != nil {
			return err
		}
		results["raw"] = append(results["raw"], rate)
	}
	for _, name := range []string{"in process, 1 documents", "in process, 10000 documents"} {
		report(name, results[name], "  Pebble alone, the same bytes", results["raw"], "commits/s")
	}
	return nil
}

func mutateOnce(s settings, documents int) (float64, error) {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	app, err := newApp()
	if err != nil {
		return 0, err
	}
	if err := app.Open(dir, nil); err != nil {
		return 0, err
	}
	defer app.Close()
	var next atomic.Int64
	return hammer(s.length, func() error {
		args := value.Object(
			value.Field{Name: "name", Value: value.String(fmt.Sprint(next.Add(1) % int64(documents)))},
			value.Field{Name: "sent", Value: value.Float64(1)})
		out, err := app.Mutation(context.Background(), halcyon.Request{Path: "bench:increment", Args: args})
		if err == nil && out.Failure != nil {
			err = out.Failure
		}
		return err
	})
}

func rawOnce(s settings) (float64, error) {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var next atomic.Uint64
	row, record := make([]byte, 60), make([]byte, 90)
	return hammer(s.length, func() error {
		n := next.Add(1)
		b := db.NewBatch()
		key := binary.BigEndian.AppendUint64([]byte("r0123012345678"), n%10_000)
		index := binary.BigEndian.AppendUint64([]byte("x012301234567890123456789"), n%10_000)
		for _, err := range []error{
			b.Set(key, row, nil), b.Set(index, nil, nil),
			b.Set(binary.BigEndian.AppendUint64([]byte("l"), n), record, nil),
		} {
			if err != nil {
				return err
			}
		}
		return b.Commit(pebble.Sync)
	})
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// hammer calls f from 64 goroutines for a while and returns calls a second.
func hammer(length time.Duration, f func() error) (float64, error) {
	return hammerWith(length, func(int) func() error { return f })
}

// hammerWith is hammer with a function for each goroutine.
func hammerWith(length time.Duration, begin func(caller int) func() error) (float64, error) {
	var (
		wg    sync.WaitGroup
		calls atomic.Int64
		fail  atomic.Pointer[error]
		stop  atomic.Bool
	)
	start := time.Now()
	for caller := range callers {
		f := begin(caller)
		wg.Go(func() {
			for !stop.Load() {
				if err := f(); err != nil {
					fail.Store(&err)
					return
				}
				calls.Add(1)
			}
		})
	}
	time.Sleep(length)
	stop.Store(true)
	wg.Wait()
	if err := fail.Load(); err != nil {
		return 0, *err
	}
	return float64(calls.Load()) / time.Since(start).Seconds(), nil
}
