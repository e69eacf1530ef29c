package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/yjs"
)

// naiveDelta and naiveSequence are the tables of a collection as one writes it first: deltas in the order of a counter, which is a row.
type naiveDelta struct {
	ID       halcyon.ID[naiveDelta] `halcyon:"id"`
	Document string                 `json:"document"`
	Seq      int                    `json:"seq"`
	Bytes    []byte                 `json:"bytes"`
}

type naiveSequence struct {
	ID   halcyon.ID[naiveSequence] `halcyon:"id"`
	Name string                    `json:"name"`
	Seq  int                       `json:"seq"`
}

// naiveAttemptsMax is how often Convex executes a mutation that conflicts before the call fails, and its handler rolls the edit back.
const naiveAttemptsMax = 5

type naive struct {
	deltas    *halcyon.Table[naiveDelta]
	sequences *halcyon.Table[naiveSequence]
	mu        sync.Mutex
	attempts  map[string]int // of the calls under way
	lost      atomic.Int64   // calls that were executed more often than naiveAttemptsMax
	calls     atomic.Int64
}

type naiveArgs struct {
	Call     string `json:"call"` // names it, to count its executions
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"`
}

func (n *naive) module() *halcyon.Module {
	m := halcyon.NewModule("naive", n.deltas, n.sequences)
	m.Mutation("replicate", n.replicate)
	return m
}

func (n *naive) replicate(tx *halcyon.Tx, args naiveArgs) error {
	n.mu.Lock()
	n.attempts[args.Call]++ // what a transaction must not do, but for counting how often it is executed
	n.mu.Unlock()
	row, ok, err := n.sequences.By("by_name").Eq("tasks").First(tx)
	if err != nil {
		return err
	}
	row.Name, row.Seq = "tasks", row.Seq+1
	if ok {
		err = n.sequences.Replace(tx, row.ID, row)
	} else {
		_, err = n.sequences.Insert(tx, row)
	}
	if err != nil {
		return err
	}
	_, err = n.deltas.Insert(tx, naiveDelta{Document: args.Document, Seq: row.Seq, Bytes: args.Bytes})
	return err
}

// documents measures writes of 64 clients with a document each: into a collection, and into one with a counter row. Both are durable, and
// Halcyon fails neither; of the second it says which part of the calls Convex would fail, so that their users' edits are rolled back. Then it
// reports what merging and compaction make of what somebody types.
func documents(s settings) error {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tasks := replicate.New(replicate.Options{Name: "tasks"})
	n := &naive{deltas: halcyon.NewTable[naiveDelta]("deltas").Index("by_seq", "seq").Index("by_document", "document"),
		sequences: halcyon.NewTable[naiveSequence]("sequences").Index("by_name", "name"), attempts: map[string]int{}}
	app, err := halcyon.NewApp(tasks.Module(), n.module())
	if err != nil {
		return err
	}
	if err := app.Open(dir, nil); err != nil {
		return err
	}
	defer app.Close()
	if err := app.Start(context.Background()); err != nil {
		return err
	}
	var ours, theirs figures
	var oursWaits, theirWaits []time.Duration
	var mu sync.Mutex
	for round := range s.rounds {
		for _, c := range []struct {
			rates *figures
			waits *[]time.Duration
			args  func(call, document string, update []byte) (string, value.Value)
			done  func(call string)
		}{
			{&ours, &oursWaits, func(call, document string, update []byte) (string, value.Value) {
				return "tasks:replicate", value.Object(value.Field{Name: "bytes", Value: value.Bytes(update)},
					value.Field{Name: "document", Value: value.String(document)}, value.Field{Name: "type", Value: value.String("update")})
			}, func(string) {}},
			{&theirs, &theirWaits, func(call, document string, update []byte) (string, value.Value) {
				return "naive:replicate", value.Object(value.Field{Name: "bytes", Value: value.Bytes(update)},
					value.Field{Name: "call", Value: value.String(call)}, value.Field{Name: "document", Value: value.String(document)})
			}, n.done},
		} {
			got, err := hammerWith(s.length, func(caller int) func() error {
				doc := yjs.NewDoc(&yjs.Options{ClientID: uint64(round*callers + caller + 1)})
				var update []byte
				doc.OnUpdateV2(func(u yjs.Update) { update = u.Bytes })
				document := fmt.Sprintf("%d-%d", round, caller)
				count := 0
				return func() error {
					count++
					if err := doc.Map("fields").Set("title", fmt.Sprint(count)); err != nil {
						return err
					}
					call := fmt.Sprintf("%s-%d", document, count)
					path, args := c.args(call, document, update)
					start := time.Now()
					out, err := app.Mutation(context.Background(), halcyon.Request{Path: path, Args: args})
					if err == nil && out.Failure != nil {
						err = out.Failure
					}
					took := time.Since(start)
					c.done(call)
					mu.Lock()
					*c.waits = append(*c.waits, took)
					mu.Unlock()
					return err
				}
			})
			if err != nil {
				return err
			}
			*c.rates = append(*c.rates, got)
		}
	}
	rate("documents, 64 writers with one each", ours)
	rate("  the same with a counter row", theirs)
	for _, w := range []struct {
		name  string
		waits []time.Duration
	}{{"  a write waits", oursWaits}, {"  with a counter row", theirWaits}} {
		slices.Sort(w.waits)
		fmt.Printf("%-52s %10.2f ms p50, %.2f ms p99\n", w.name, percentile(w.waits, 0.5), percentile(w.waits, 0.99))
	}
	for _, f := range app.Insights().Functions {
		fmt.Printf("%-52s %10d conflicts in %d calls\n", "  "+f.Function, f.Conflicts, f.Calls)
	}
	fmt.Printf("%-52s %10.1f %% of %d calls\n", "  a counter row, calls that Convex would roll back", 100*float64(n.lost.Load())/float64(max(n.calls.Load(), 1)), n.calls.Load())
	return sizes()
}

// done takes what was counted of a call.
func (n *naive) done(call string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls.Add(1)
	if n.attempts[call] > naiveAttemptsMax {
		n.lost.Add(1)
	}
	delete(n.attempts, call)
}

// sizes reports what merging makes of 500 updates, as many as are compacted at once.
func sizes() error {
	for _, c := range []struct {
		name string
		edit func(d *yjs.Doc, i int) error
	}{
		{"500 characters of a note", func(d *yjs.Doc, i int) error {
			return d.Text("note").Insert(i, string(rune('a'+i%26)), nil)
		}},
		{"500 times a field of a task", func(d *yjs.Doc, i int) error {
			return d.Map("fields").Set("title", fmt.Sprintf("buy milk %d", i))
		}},
	} {
		d := yjs.NewDoc(&yjs.Options{ClientID: 123_456_789})
		var updates [][]byte
		total := 0
		d.OnUpdateV2(func(u yjs.Update) { updates, total = append(updates, u.Bytes), total+len(u.Bytes) })
		for i := range 500 {
			if err := c.edit(d, i); err != nil {
				return err
			}
		}
		npm, err := yjs.Codec{Version: yjs.V2, KeepSplit: true, FirstWins: true}.Merge(updates...)
		if err != nil {
			return err
		}
		ours, err := yjs.MergeUpdatesV2(updates...)
		if err != nil {
			return err
		}
		less := func(n int) float64 { return 100 * (1 - float64(n)/float64(total)) }
		fmt.Printf("%-52s %10d bytes; merged as npm yjs does %d (%.0f %% less), compacted %d (%.0f %% less)\n", "  "+c.name, total, len(npm), less(len(npm)), len(ours), less(len(ours)))
	}
	return nil
}
