package replicate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/yjs"
)

// noon is when tests begin.
var noon = time.Date(2026, time.March, 14, 12, 0, 0, 0, time.UTC)

// handClock tells the time that a test has set. Its timers run in real time.
type handClock struct {
	micros atomic.Int64
	step   atomic.Int64 // by which each look at it moves it
}

var _ engine.Clock = (*handClock)(nil)

func (c *handClock) Now() time.Time          { return time.UnixMicro(c.micros.Add(c.step.Load())) }
func (c *handClock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

func (c *handClock) AfterFunc(d time.Duration, f func()) func() {
	timer := time.AfterFunc(d, f)
	return func() { timer.Stop() }
}

// tasks are the fields of the collection of most tests.
var tasks = []replicate.Field{
	{Name: "title", Kind: replicate.String}, {Name: "done", Kind: replicate.Boolean}, {Name: "owner", Kind: replicate.String, Optional: true},
	{Name: "note", Kind: replicate.RichText, Optional: true},
}

// world is a collection "tasks" on a database in memory.
type world struct {
	t     testing.TB
	fs    *enginetest.Crashable
	clock *handClock
	tasks *replicate.Collection
	app   *halcyon.App
	more  *halcyon.Module
}

func newWorld(t testing.TB, o replicate.Options) *world {
	t.Helper()
	w := &world{t: t, fs: enginetest.NewCrashable(), clock: new(handClock)}
	w.clock.micros.Store(noon.UnixMicro())
	w.open(o)
	t.Cleanup(func() {
		if err := w.app.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// open opens the app on what the file system holds.
func (w *world) open(o replicate.Options) {
	w.t.Helper()
	o.Name = "tasks"
	if o.Fields == nil {
		o.Fields = tasks
	}
	w.tasks = replicate.New(o)
	w.more = halcyon.NewModule("more")
	w.more.Mutation("edit", func(tx *halcyon.Tx, args struct{ Document, Title string }) error {
		_, err := w.tasks.Edit(tx, args.Document, func(doc *yjs.Doc) error { return doc.Map("fields").Set("title", args.Title) })
		return err
	})
	w.more.Mutation("reopen", func(tx *halcyon.Tx, args struct{ Document string }) error { return w.tasks.Reopen(tx, args.Document) })
	w.more.Query("since", func(tx *halcyon.Tx, args struct {
		Document string
		Seq      replicate.Seq
	}) (stored, error) {
		s, err := w.tasks.Since(tx, args.Document, args.Seq)
		return stored{s.Update, s.Seq, s.Vector.Encode(), string(s.JSON())}, err
	})
	w.more.Query("list", func(tx *halcyon.Tx) ([]listed, error) {
		infos, err := w.tasks.List(tx, "", 1000)
		var out []listed
		for _, i := range infos {
			out = append(out, listed{i.ID, i.Deleted, i.Bytes, i.Aside})
		}
		return out, err
	})
	w.more.Query("rows", func(tx *halcyon.Tx, args struct{ Document string }) (int, error) {
		return w.tasks.Rows(tx, args.Document)
	})
	w.more.Query("asides", func(tx *halcyon.Tx, args struct{ Document string }) ([]string, error) {
		return w.tasks.Asides(tx, args.Document)
	})
	app, err := halcyon.NewApp(w.tasks.Module(), w.more)
	if err != nil {
		w.t.Fatal(err)
	}
	options := &halcyon.Options{ShowErrors: true, Engine: engine.Options{FS: w.fs, Clock: w.clock, Seed: 1, Fatal: func(error) {}, FunctionTimeMax: waitMax}}
	if err := app.Open("data", options); err != nil {
		w.t.Fatal(err)
	}
	w.app = app
}

type stored struct {
	Update []byte
	Seq    replicate.Seq
	Vector []byte
	Fields string
}

type listed struct {
	Document string
	Deleted  bool
	Bytes    int
	Aside    int
}

// as returns a context in which calls are those of a user.
func (w *world) request(user, path string, args any) halcyon.Request {
	w.t.Helper()
	encoded, err := halcyon.Encode(args)
	if err != nil {
		w.t.Fatal(err)
	}
	r := halcyon.Request{Path: path, Args: encoded, Admin: true}
	if user != "" {
		if r.Identity, err = halcyon.IdentityFromClaims(fmt.Appendf(nil, `{"iss":"https://issuer.example","sub":%q}`, user)); err != nil {
			w.t.Fatal(err)
		}
	}
	return r
}

// try calls a function as a user and returns its failure.
func (w *world) try(user, path string, args, result any) *halcyon.Failure {
	w.t.Helper()
	out, err := w.app.Call(context.Background(), w.request(user, path, args))
	if err != nil {
		w.t.Fatalf("%s: %v", path, err)
	}
	if out.Failure != nil {
		return out.Failure
	}
	if result == nil {
		return nil
	}
	if raw, ok := result.(*value.Value); ok {
		*raw = out.Value
		return nil
	}
	if err := halcyon.Decode(out.Value, result); err != nil {
		w.t.Fatalf("%s: %v: %v", path, err, out.Value)
	}
	return nil
}

// call is try for a function that has to succeed.
func (w *world) call(user, path string, args, result any) {
	w.t.Helper()
	if f := w.try(user, path, args, result); f != nil {
		w.t.Fatalf("%s: %v", path, f)
	}
}

type writeArgs struct {
	ID       string `json:"id"`
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"`
}

type writeResult struct {
	ID      string           `json:"id"`
	Status  replicate.Status `json:"status"`
	Code    string           `json:"code,omitzero"`
	Message string           `json:"message,omitzero"`
}

// write writes updates as a user and returns what became of each.
func (w *world) write(user, document string, updates ...[]byte) []writeResult {
	w.t.Helper()
	var args struct {
		Writes []writeArgs `json:"writes"`
	}
	for i, u := range updates {
		args.Writes = append(args.Writes, writeArgs{fmt.Sprint(i), document, u})
	}
	var got struct {
		Results []writeResult `json:"results"`
	}
	w.call(user, "tasks:replicateBatch", args, &got)
	if len(got.Results) != len(updates) {
		w.t.Fatalf("%d results for %d writes", len(got.Results), len(updates))
	}
	return got.Results
}

// must writes updates that have to be applied.
func (w *world) must(user, document string, updates ...[]byte) {
	w.t.Helper()
	for _, r := range w.write(user, document, updates...) {
		if r.Status != replicate.Applied {
			w.t.Fatalf("document %s: %+v, want applied", document, r)
		}
	}
}

// stream returns what a user is sent after a place in the stream, page by page.
func (w *world) stream(user string, after replicate.Seq) (changes []replicate.StreamChange, seq replicate.Seq) {
	w.t.Helper()
	for {
		var page replicate.StreamPage
		w.call(user, "tasks:delta", map[string]any{"seq": float64(after), "limit": 3}, &page)
		changes = append(changes, page.Changes...)
		if page.Seq < after || page.More && page.Seq == after {
			w.t.Fatalf("the page after %d ends at %d", after, page.Seq)
		}
		if after = page.Seq; !page.More {
			return changes, after
		}
	}
}

// material returns the fields of all documents that a user is shown, by document, as JSON.
func (w *world) material(user string) map[string]string {
	w.t.Helper()
	var got struct {
		Documents []map[string]any `json:"documents"`
		Count     int              `json:"count"`
	}
	var raw value.Value
	w.call(user, "tasks:material", struct{}{}, &raw)
	if err := json.Unmarshal(value.AppendJSON(nil, raw), &got); err != nil {
		w.t.Fatal(err)
	}
	shown := map[string]string{}
	for _, d := range got.Documents {
		id := d["id"].(string)
		for _, name := range []string{"id", "_id", "_creationTime", "timestamp"} {
			delete(d, name)
		}
		text, err := json.Marshal(d)
		if err != nil {
			w.t.Fatal(err)
		}
		shown[id] = string(text)
	}
	return shown
}

// peer is a document of a client.
type peer struct {
	t   testing.TB
	doc *yjs.Doc
}

func newPeer(t testing.TB, client uint64) *peer {
	return &peer{t, yjs.NewDoc(&yjs.Options{ClientID: client})}
}

// set sets fields and returns the update.
func (p *peer) set(fields ...any) []byte {
	p.t.Helper()
	return p.edit(func() error {
		for i := 0; i < len(fields); i += 2 {
			if err := p.doc.Map("fields").Set(fields[i].(string), fields[i+1]); err != nil {
				return err
			}
		}
		return nil
	})
}

// edit changes the document and returns the update.
func (p *peer) edit(f func() error) (update []byte) {
	p.t.Helper()
	stop := p.doc.OnUpdateV2(func(u yjs.Update) { update = u.Bytes })
	defer stop()
	if err := p.doc.Transact(nil, func(*yjs.Transaction) error { return f() }); err != nil {
		p.t.Fatal(err)
	}
	return update
}

// remove marks the document as deleted, as the npm client does.
func (p *peer) remove() []byte {
	return p.edit(func() error { return p.doc.Map("_meta").Set("_deleted", true) })
}

func (p *peer) apply(update []byte) {
	p.t.Helper()
	if err := p.doc.ApplyV2(update, nil); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) json() string { return string(p.doc.Map("fields").AppendJSON(nil)) }
