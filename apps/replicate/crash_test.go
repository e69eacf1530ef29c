package replicate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/yjs"
)

// crashRun is a server that loses its power again and again while many write, and one follows slowly. What somebody is told counts only while the
// server that told it is the one whose disk is kept.
type crashRun struct {
	t       *testing.T
	options replicate.Options
	random  *rand.Rand // of the crashes

	mu struct {
		sync.RWMutex // for reading while something that was told is noted; for writing while the power is lost
		fs           *enginetest.Crashable
		app          *halcyon.App
		power        int // how often it was lost
	}

	noted struct {
		sync.Mutex
		acked map[string]map[uint64]uint64 // by document and client, how much of what it wrote
		n     int                          // acknowledged writes
		more  chan struct{}                // closed when there are more
	}
	compactions uint64 // of servers that are gone
}

// start starts a server on a disk.
func (r *crashRun) start(fs *enginetest.Crashable) (*halcyon.App, error) {
	app, err := halcyon.NewApp(replicate.New(r.options).Module())
	if err != nil {
		return nil, err
	}
	options := &halcyon.Options{ShowErrors: true, Engine: engine.Options{FS: fs, Fatal: func(error) {}, FunctionTimeMax: waitMax}}
	if err := app.Open("data", options); err != nil {
		return nil, err
	}
	return app, app.Start(context.Background())
}

// call calls a function. note, which may be nil, is called with the power on, unless it was lost since the call began: then lost is true, and nobody
// knows whether the call took effect.
func (r *crashRun) call(path string, args, result any, note func()) (lost bool, err error) {
	r.mu.RLock()
	app, power := r.mu.app, r.mu.power
	r.mu.RUnlock()
	err = app.Run(context.Background(), path, args, result)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.mu.power != power {
		return true, nil
	}
	if err == nil && note != nil {
		note()
	}
	return false, err
}

// crash takes what is on the disk at this moment and goes on with that. Everything that was acknowledged by then has to be there.
func (r *crashRun) crash() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noted.Lock()
	want := map[string]map[uint64]uint64{}
	for document, clients := range r.noted.acked {
		want[document] = map[uint64]uint64{}
		for client, clock := range clients {
			want[document][client] = clock
		}
	}
	r.noted.Unlock()
	old := r.mu.app
	r.mu.fs = r.mu.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.random.IntN(101), RNG: r.random})
	r.mu.power++
	r.compactions += compactions(old)
	if err := old.Close(); err != nil {
		r.t.Log(err) // it lost its disk
	}
	app, err := r.start(r.mu.fs)
	if err != nil {
		return fmt.Errorf("start after crash %d: %w", r.mu.power, err)
	}
	r.mu.app = app
	for document, clients := range want {
		state, err := loadAll(app, document)
		if err != nil {
			return fmt.Errorf("document %s after crash %d: %w", document, r.mu.power, err)
		}
		for client, clock := range clients {
			if state.State()[client] < clock {
				return fmt.Errorf("document %s after crash %d has %d changes of client %d, and %d were acknowledged", document, r.mu.power, state.State()[client], client, clock)
			}
		}
	}
	return nil
}

// loadAll returns a document as the server has it.
func loadAll(app *halcyon.App, document string) (*yjs.Doc, error) {
	var got struct {
		Mode         string
		Diff, Vector []byte
	}
	if err := app.Run(context.Background(), "tasks:delta", map[string]any{"document": document, "vector": []byte{0}}, &got); err != nil {
		return nil, err
	}
	d := yjs.NewDoc(nil)
	if err := d.ApplyV2(got.Diff, nil); err != nil {
		return nil, err
	}
	if d.Pending() != nil {
		return nil, fmt.Errorf("it has a gap: %+v", d.Pending())
	}
	return d, nil
}

func compactions(app *halcyon.App) (calls uint64) {
	for _, f := range app.Insights().Functions {
		if f.Function == "tasks:compact" {
			calls += uint64(f.Calls)
		}
	}
	return calls
}

// write has a client write a document to its end: each write has one or two updates, and one whose answer was lost is sent again.
func (r *crashRun) write(client uint64, document string, writes int, random *rand.Rand) (*yjs.Doc, error) {
	d := yjs.NewDoc(&yjs.Options{ClientID: client})
	var updates [][]byte
	d.OnUpdateV2(func(u yjs.Update) { updates = append(updates, u.Bytes) })
	var clocks []uint64
	for n := range writes {
		text := d.Text("body")
		err := text.Insert(text.Len(), fmt.Sprintf("%d.%d ", client, n), nil)
		if err == nil && n%7 == 6 {
			err = text.Delete(0, 2)
			clocks = append(clocks, d.State()[client])
		}
		if err != nil {
			return nil, err
		}
		clocks = append(clocks, d.State()[client])
	}
	for sent := 0; sent < len(updates); {
		n := min(1+random.IntN(2), len(updates)-sent)
		var args struct {
			Writes []writeArgs `json:"writes"`
		}
		for i, u := range updates[sent : sent+n] {
			args.Writes = append(args.Writes, writeArgs{fmt.Sprint(i), document, u})
		}
		var got struct {
			Results []writeResult `json:"results"`
		}
		acked := 0
		lost, err := r.call("tasks:replicateBatch", args, &got, func() {
			for acked < len(got.Results) && (got.Results[acked].Status == replicate.Applied || got.Results[acked].Status == replicate.Known) {
				acked++
			}
			if acked > 0 {
				r.acked(document, client, clocks[sent+acked-1], acked)
			}
		})
		switch {
		case err != nil:
			return nil, err
		case !lost && acked < len(got.Results):
			return nil, fmt.Errorf("client %d: write %d of document %s is %+v", client, sent+acked, document, got.Results[acked])
		}
		sent += acked
	}
	return d, nil
}

// acked notes an acknowledgement.
func (r *crashRun) acked(document string, client, clock uint64, n int) {
	r.noted.Lock()
	defer r.noted.Unlock()
	if r.noted.acked[document] == nil {
		r.noted.acked[document] = map[uint64]uint64{}
	}
	r.noted.acked[document][client] = clock
	r.noted.n += n
	close(r.noted.more)
	r.noted.more = make(chan struct{})
}

// await waits until n writes are acknowledged, or done is closed.
func (r *crashRun) await(n int, done <-chan struct{}) {
	for {
		r.noted.Lock()
		more, enough := r.noted.more, r.noted.n >= n
		r.noted.Unlock()
		if enough {
			return
		}
		select {
		case <-more:
		case <-done:
			return
		}
	}
}

// follow is who follows the stream with small pages.
type follow struct {
	docs   map[string]*yjs.Doc
	cursor replicate.Seq
}

// page takes one page, and reports whether there is more.
func (r *crashRun) page(f *follow) (more bool, err error) {
	var page replicate.StreamPage
	lost, err := r.call("tasks:delta", map[string]any{"seq": float64(f.cursor), "limit": 1.0}, &page, nil)
	if lost || err != nil {
		return true, err
	}
	for _, c := range page.Changes {
		d := f.docs[c.Document]
		if d == nil {
			d = yjs.NewDoc(nil)
			f.docs[c.Document] = d
		}
		if err := d.ApplyV2(c.Bytes, nil); err != nil {
			return false, err
		}
		if d.Pending() != nil {
			return false, fmt.Errorf("after %d the follower was sent document %s with a gap: %+v", f.cursor, c.Document, d.Pending())
		}
	}
	if page.Seq < f.cursor || page.More && page.Seq == f.cursor {
		return false, fmt.Errorf("the page after %d ends at %d", f.cursor, page.Seq)
	}
	f.cursor = page.Seq
	return page.More, nil
}

// TestCrashesBesideWriters loses the power while many write and their documents are compacted. What was acknowledged is there after each crash, and
// who follows, from before a crash or from the begin, misses nothing in the end.
func TestCrashesBesideWriters(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for i, tt := range []struct {
		name                     string
		writers, writes, crashes int
		documents                []string
		compactAfter             int
		lag                      int // writes for each page of the follower
	}{
		{"one document, all write it", 6, 30, 3, []string{"a"}, 5, 10},
		{"some documents, compacted at each write", 5, 30, 3, []string{"a", "b"}, 1, 4},
		{"a follower that begins when all is over", 4, 40, 2, []string{"a", "b", "c"}, 7, 1_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seed := seed + uint64(i)
			t.Logf("seed %d; repeat with -replicate.seed %d", seed, seed-uint64(i))
			r := &crashRun{t: t, options: replicate.Options{Name: "tasks", CompactAfter: tt.compactAfter}, random: rand.New(rand.NewPCG(seed, 2))}
			r.noted.acked, r.noted.more = map[string]map[uint64]uint64{}, make(chan struct{})
			r.mu.fs = enginetest.NewCrashable()
			var err error
			if r.mu.app, err = r.start(r.mu.fs); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.mu.app.Close(); err != nil {
					t.Error(err)
				}
			}()

			all := map[string]*yjs.Doc{}
			for _, document := range tt.documents {
				all[document] = yjs.NewDoc(nil)
			}
			var writers, others sync.WaitGroup
			done := make(chan struct{})
			errs := make(chan error, tt.writers+2)
			var mu sync.Mutex // of all
			for n := range tt.writers {
				random := rand.New(rand.NewPCG(seed, uint64(10+n)))
				writers.Go(func() {
					document := tt.documents[n%len(tt.documents)]
					d, err := r.write(uint64(n+1), document, tt.writes, random)
					if err != nil {
						errs <- err
						return
					}
					mu.Lock()
					defer mu.Unlock()
					errs <- all[document].ApplyV2(d.EncodeStateV2(nil), nil)
				})
			}
			others.Go(func() {
				for n := range tt.crashes {
					r.await((n+1)*tt.writers*tt.writes/(tt.crashes+1), done)
					if err := r.crash(); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			})
			slow := &follow{docs: map[string]*yjs.Doc{}}
			others.Go(func() {
				var err error
				for n := tt.lag; err == nil && n < tt.writers*tt.writes; n += tt.lag {
					r.await(n, done)
					_, err = r.page(slow)
				}
				errs <- err
			})
			writers.Wait()
			close(done)
			others.Wait()
			close(errs)
			for err := range errs {
				if err != nil {
					t.Error(err)
				}
			}
			if t.Failed() {
				return
			}
			fresh := &follow{docs: map[string]*yjs.Doc{}}
			for name, f := range map[string]*follow{"the slow follower": slow, "who follows from the begin": fresh} {
				for more := true; more; {
					var err error
					if more, err = r.page(f); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
				for document, want := range all {
					if got := f.docs[document]; got == nil || !got.Snapshot().Equal(want.Snapshot()) || shown(got) != shown(want) {
						t.Errorf("document %s of %s differs from what the writers have", document, name)
					}
				}
			}
			for document, want := range all {
				got, err := loadAll(r.mu.app, document)
				if err != nil || !got.Snapshot().Equal(want.Snapshot()) || shown(got) != shown(want) {
					t.Errorf("document %s as it is loaded differs from what the writers have, %v", document, err)
				}
			}
			waitFor(t, "a compaction", func() bool { return r.compactions+compactions(r.mu.app) > 0 })
		})
	}
}
