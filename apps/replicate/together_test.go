package replicate_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/yjs"
)

// TestCompactionBesideWriters has many write one document while it is compacted all the time, and one who follows the stream meanwhile.
func TestCompactionBesideWriters(t *testing.T) {
	const writers, writes = 6, 60
	tasks := replicate.New(replicate.Options{Name: "tasks", CompactAfter: 7})
	app, err := halcyon.NewApp(tasks.Module())
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open(engine.InMemory, &halcyon.Options{Engine: engine.Options{FunctionTimeMax: waitMax}}); err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	follower, cursor := yjs.NewDoc(nil), replicate.Seq(0)
	follow := func() {
		var page replicate.StreamPage
		if err := app.Run(t.Context(), "tasks:delta", map[string]any{"seq": float64(cursor), "limit": 1.0}, &page); err != nil {
			t.Error(err)
			return
		}
		cursor = page.Seq
		for _, c := range page.Changes {
			if err := follower.ApplyV2(c.Bytes, nil); err != nil || follower.Pending() != nil {
				t.Errorf("the follower was sent a gap, %v", err)
			}
		}
	}
	var wg sync.WaitGroup
	docs := make([]*yjs.Doc, writers)
	for i := range writers {
		docs[i] = yjs.NewDoc(&yjs.Options{ClientID: uint64(i + 1)})
		wg.Go(func() {
			var update []byte
			docs[i].OnUpdateV2(func(u yjs.Update) { update = u.Bytes })
			for n := range writes {
				if err := docs[i].Text("body").Insert(n, string(rune('a'+i)), nil); err != nil {
					t.Error(err)
				}
				var results struct{ Results []writeResult }
				args := map[string]any{"writes": []writeArgs{{"", "a", update}}}
				if err := app.Run(context.Background(), "tasks:replicateBatch", args, &results); err != nil || results.Results[0].Status != replicate.Applied {
					t.Errorf("writer %d: %+v, %v", i, results, err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
			follow()
		}
	}
	for before := replicate.Seq(1); before != cursor; {
		before = cursor
		follow()
	}
	all := yjs.NewDoc(nil)
	for _, d := range docs {
		if err := all.ApplyV2(d.EncodeStateV2(nil), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := follower.Text("body").String(), all.Text("body").String(); got != want || !follower.Snapshot().Equal(all.Snapshot()) {
		t.Errorf("the follower has %d characters, the writers %d", len(got), len(want))
	}
	waitFor(t, "a compaction", func() bool {
		for _, f := range app.Insights().Functions {
			if f.Function == "tasks:compact" && f.Calls > 0 {
				if f.Failures > 0 {
					t.Errorf("of %d compactions %d failed", f.Calls, f.Failures)
				}
				return true
			}
		}
		return false
	})
}

// TestManyEditsOfTheServer has the server edit one document from many mutations at once: no two use one place of its client id.
func TestManyEditsOfTheServer(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				if f := w.try("", "more:edit", map[string]any{"document": "a", "title": fmt.Sprint(i, " ", n)}, nil); f != nil {
					t.Error(f)
				}
			}
		})
	}
	wg.Wait()
	got := newPeer(t, 1)
	got.apply(w.recoverAs("", "a", nil).Bytes)
	units := uint64(0)
	for _, clock := range got.doc.State() {
		units += clock
	}
	if len(got.doc.State()) != 1 || units != 160 || got.doc.Pending() != nil {
		t.Errorf("after 160 edits the state is %v", got.doc.State())
	}
}
