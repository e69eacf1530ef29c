package main

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// naiveDelta, naiveSequence and naiveTask are the tables of a collection as one writes it first, and as npm @trestleinc/replicate does: deltas in
// the order of a counter, which is a row, and a row of each document with the fields that its client says it has.
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

type naiveTask struct {
	ID        halcyon.ID[naiveTask] `halcyon:"id"`
	Document  string                `json:"document"`
	Title     string                `json:"title"`
	Timestamp float64               `json:"timestamp"`
}

// How Convex executes a mutation that meets another: up to naiveAttemptsMax times, with a pause between that doubles up to naivePauseMax. Then the
// call fails, and its handler rolls the edit back.
const (
	naiveAttemptsMax = 5
	naivePause       = 100 * time.Millisecond
	naivePauseMax    = 2 * time.Second
)

// naive is that collection, with its handlers.
type naive struct {
	deltas    *halcyon.Table[naiveDelta]
	sequences *halcyon.Table[naiveSequence]
	tasks     *halcyon.Table[naiveTask]

	edits, again, rolledBack atomic.Int64 // of the optimistic handlers
}

func newNaive() *naive {
	return &naive{
		deltas:    halcyon.NewTable[naiveDelta]("deltas").Index("by_seq", "seq").Index("by_document", "document"),
		sequences: halcyon.NewTable[naiveSequence]("sequences").Index("by_name", "name"),
		tasks:     halcyon.NewTable[naiveTask]("tasks").Index("by_document", "document").Index("by_timestamp", "timestamp"),
	}
}

type naiveArgs struct {
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"`
	Title    string `json:"title"`    // the material, which is believed
	Expected *int   `json:"expected"` // the counter as the optimistic execution has read it
}

func (n *naive) module() *halcyon.Module {
	m := halcyon.NewModule("naive", n.deltas, n.sequences, n.tasks)
	m.Mutation("replicate", n.replicate)
	m.Query("sequence", n.sequence)
	return m
}

func (n *naive) sequence(tx *halcyon.Tx) (int, error) {
	row, _, err := n.sequences.By("by_name").Eq("tasks").First(tx)
	return row.Seq, err
}

// replicate stores an update, unless the counter is not what was expected: then somebody else has committed since, and false is returned.
func (n *naive) replicate(tx *halcyon.Tx, args naiveArgs) (bool, error) {
	row, ok, err := n.sequences.By("by_name").Eq("tasks").First(tx)
	if err != nil || args.Expected != nil && row.Seq != *args.Expected {
		return false, err
	}
	row.Name, row.Seq = "tasks", row.Seq+1
	if ok {
		err = n.sequences.Replace(tx, row.ID, row)
	} else {
		_, err = n.sequences.Insert(tx, row)
	}
	if err != nil {
		return false, err
	}
	if _, err := n.deltas.Insert(tx, naiveDelta{Document: args.Document, Seq: row.Seq, Bytes: args.Bytes}); err != nil {
		return false, err
	}
	task, ok, err := n.tasks.By("by_document").Eq(args.Document).First(tx)
	if err != nil {
		return false, err
	}
	task.Document, task.Title, task.Timestamp = args.Document, args.Title, float64(tx.Now().UnixMilli())
	if ok {
		err = n.tasks.Replace(tx, task.ID, task)
	} else {
		_, err = n.tasks.Insert(tx, task)
	}
	return true, err
}

// documentEdit is what one writer has done to its document.
type documentEdit struct {
	document, title string
	update          []byte
}

// call runs a function of the app and returns its result.
func call(run func(context.Context, halcyon.Request) (halcyon.Outcome, error), path string, fields ...value.Field) (value.Value, error) {
	out, err := run(context.Background(), halcyon.Request{Path: path, Args: value.Object(fields...)})
	if err == nil && out.Failure != nil {
		err = out.Failure
	}
	return out.Value, err
}

func (e documentEdit) fields() []value.Field {
	return []value.Field{
		{Name: "bytes", Value: value.Bytes(e.update)}, {Name: "document", Value: value.String(e.document)}, {Name: "title", Value: value.String(e.title)},
	}
}

// handle is the handler of an optimistic client: it waits until its edit is stored, as Convex stores it, and reports false when the edit is to be
// undone.
func (n *naive) handle(app *halcyon.App, e documentEdit, random *rand.Rand) (bool, error) {
	n.edits.Add(1)
	pause := naivePause
	for attempt := range naiveAttemptsMax {
		if attempt > 0 {
			n.again.Add(1)
			time.Sleep(time.Duration(random.Int64N(int64(pause))))
			pause = min(2*pause, naivePauseMax)
		}
		seq, err := call(app.Query, "naive:sequence")
		if err != nil {
			return false, err
		}
		stored, err := call(app.Mutation, "naive:replicate", append(e.fields(), value.Field{Name: "expected", Value: seq})...)
		if err != nil {
			return false, err
		}
		if done, _ := stored.AsBool(); done {
			return true, nil
		}
	}
	n.rolledBack.Add(1)
	return false, nil
}

// documents measures writes of 64 clients with a document each: into a collection, into the naive one, and into the naive one by handlers that roll
// back what Convex would fail. All are durable. Then it reports what merging and compaction make of what somebody types.
func documents(s settings) error {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tasks, n := replicate.New(replicate.Options{Name: "tasks"}), newNaive()
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
	designs := []*documentDesign{
		{name: "documents, 64 writers with one each", store: func(e documentEdit, _ *rand.Rand) (bool, error) {
			_, err := call(app.Mutation, "tasks:replicate", value.Field{Name: "bytes", Value: value.Bytes(e.update)},
				value.Field{Name: "document", Value: value.String(e.document)}, value.Field{Name: "type", Value: value.String("update")})
			return true, err
		}},
		{name: "  with a counter row and believed fields", store: func(e documentEdit, _ *rand.Rand) (bool, error) {
			_, err := call(app.Mutation, "naive:replicate", e.fields()...)
			return true, err
		}},
		{name: "  the same, tried 5 times and rolled back", store: func(e documentEdit, random *rand.Rand) (bool, error) { return n.handle(app, e, random) }},
	}
	for round := range s.rounds {
		for _, d := range designs {
			if err := d.run(s, round); err != nil {
				return err
			}
		}
	}
	for _, d := range designs {
		slices.Sort(d.waits)
		rate(d.name, d.rates)
		fmt.Printf("%-52s %10.2f ms p50, %.2f ms p99; %.0f us of processor time\n", "    a write waits", percentile(d.waits, 0.5), percentile(d.waits, 0.99), d.cost.median())
		fmt.Printf("%-52s %10d of %d\n", "    edits that vanished from the screen", d.vanished.Load(), len(d.waits))
	}
	for _, f := range app.Insights().Functions {
		if f.Calls > 100 {
			fmt.Printf("%-52s %10d conflicts in %d calls, none of which failed\n", "  "+f.Function, f.Conflicts, f.Calls)
		}
	}
	fmt.Printf("%-52s %10d of %d edits\n", "  optimistic executions that were repeated", n.again.Load(), n.edits.Load())
	reachedAtLeast("collection, of the counter row without roll-backs", designs[0].rates.median()/designs[1].rates.median(), 1)
	if err := batches(s, app); err != nil {
		return err
	}
	return sizes()
}

// batches measures what a client waits that brings 100 updates in one call, as ours does: of as many documents that are new, of the same again, and
// of one.
func batches(s settings, app *halcyon.App) error {
	const updates = 100
	made := 0
	for _, c := range []struct {
		name      string
		documents int
		again     bool
	}{{"new documents", updates, false}, {"documents", updates, true}, {"one document", 1, true}} {
		var docs [updates]*yjs.Doc
		var latest []byte
		var took []time.Duration
		for i := range 10 * s.rounds {
			var writes []value.Value
			for k := range updates {
				d := k % c.documents
				if docs[d] == nil || !c.again && k < c.documents {
					made++
					docs[d] = yjs.NewDoc(&yjs.Options{ClientID: uint64(1_000_000 + made)})
					docs[d].OnUpdateV2(func(u yjs.Update) { latest = u.Bytes })
				}
				if err := docs[d].Map("fields").Set("title", fmt.Sprintf("%d of %d", k, i)); err != nil {
					return err
				}
				writes = append(writes, value.Object(value.Field{Name: "bytes", Value: value.Bytes(latest)},
					value.Field{Name: "document", Value: value.String(fmt.Sprint("batch-", docs[d].ClientID()))}, value.Field{Name: "id", Value: value.String(fmt.Sprint(k))}))
			}
			start := time.Now()
			result, err := call(app.Mutation, "tasks:replicateBatch", value.Field{Name: "writes", Value: value.Array(writes...)})
			took = append(took, time.Since(start))
			if err != nil {
				return err
			}
			if n := result.Get("results").Len(); n != updates {
				return fmt.Errorf("%d of %d writes of a batch were taken", n, updates)
			}
		}
		slices.Sort(took)
		fmt.Printf("%-52s %10.2f ms p50, %.2f ms at most\n", fmt.Sprintf("%d updates of %s in one call, durable", updates, c.name), percentile(took, 0.5), percentile(took, 1))
		reachedAtMost("ms p50", percentile(took, 0.5), 100)
	}
	return nil
}

// documentDesign is a way to store edits, and how it did.
type documentDesign struct {
	name string
	// store returns when the edit is stored, or is to be undone.
	store func(e documentEdit, random *rand.Rand) (bool, error)

	rates, cost figures
	vanished    atomic.Int64
	mu          sync.Mutex
	waits       []time.Duration
}

// run has 64 writers write for a while.
func (d *documentDesign) run(s settings, round int) error {
	before, edits := processorTime(), len(d.waits)
	got, err := hammerWith(s.length, func(caller int) func() error {
		doc := yjs.NewDoc(&yjs.Options{ClientID: uint64(round*callers + caller + 1)})
		e := documentEdit{document: fmt.Sprintf("%d-%d", round, caller)}
		doc.OnUpdateV2(func(u yjs.Update) { e.update = u.Bytes })
		random := rand.New(rand.NewPCG(uint64(round), uint64(caller)))
		count := 0
		return func() error {
			count++
			shown := e.title
			e.title = fmt.Sprint(count)
			if err := doc.Map("fields").Set("title", e.title); err != nil {
				return err
			}
			start := time.Now()
			stored, err := d.store(e, random)
			took := time.Since(start)
			d.mu.Lock()
			d.waits = append(d.waits, took)
			d.mu.Unlock()
			if err != nil || stored {
				return err
			}
			d.vanished.Add(1)
			e.title = shown
			return doc.Map("fields").Set("title", shown)
		}
	})
	if err != nil {
		return err
	}
	d.rates = append(d.rates, got)
	d.cost = append(d.cost, 1e6*(processorTime()-before)/float64(len(d.waits)-edits))
	return nil
}

// sizes reports what merging makes of 500 updates, as many as are compacted at once. Merging and compacting were to save 61 and 70 %.
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
