package replicate_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

var (
	histories   = flag.Int("replicate.histories", 60, "seeded histories of several clients to run")
	historySeed = flag.Uint64("replicate.seed", 0, "the first seed; 0 takes another in each run")
)

// client is a model of a client that keeps documents: what it has shown its user is in docs, what of that survives a crash in kept.
type client struct {
	name    string
	random  *rand.Rand
	nextID  func() uint64
	docs    map[string]*yjs.Doc
	kept    map[string][]byte // V2
	cursor  replicate.Seq
	keptSeq replicate.Seq
	queue   []writeArgs // not acknowledged, in order
	online  bool
}

func (c *client) doc(id string) *yjs.Doc {
	d := c.docs[id]
	if d == nil {
		d = yjs.NewDoc(&yjs.Options{ClientID: c.nextID()})
		if kept := c.kept[id]; kept != nil {
			if err := d.ApplyV2(kept, nil); err != nil {
				panic(err)
			}
		}
		c.docs[id] = d
	}
	return d
}

func (c *client) keep(id string) { c.kept[id] = c.doc(id).EncodeStateV2(nil) }

// edit changes a document as a user does, keeps it, and queues the update. A crash may come before it is kept.
func (c *client) edit(id string, crash bool) {
	d := c.doc(id)
	var update []byte
	stop := d.OnUpdateV2(func(u yjs.Update) { update = u.Bytes })
	err := d.Transact(nil, func(*yjs.Transaction) error {
		fields := d.Map("fields")
		switch c.random.IntN(5) {
		case 0:
			return fields.Set("title", fmt.Sprint(c.name, c.random.IntN(1000)))
		case 1:
			return fields.Set("done", c.random.IntN(2) == 0)
		case 2:
			return fields.Delete("title")
		default:
			text := d.Text("body")
			if n := text.Len(); n > 3 && c.random.IntN(3) == 0 {
				return text.Delete(c.random.IntN(n-2), 2)
			}
			return text.Insert(c.random.IntN(text.Len()+1), string(rune('a'+c.random.IntN(26)))+"é", nil)
		}
	})
	stop()
	if err != nil {
		panic(err)
	}
	if crash {
		c.reload()
		return
	}
	c.keep(id)
	if update != nil {
		c.queue = append(c.queue, writeArgs{"", id, update})
	}
}

// reload forgets what is only in memory; documents come back as they were kept, under new client ids.
func (c *client) reload() {
	c.docs, c.queue, c.cursor = map[string]*yjs.Doc{}, nil, c.keptSeq
}

// history is one run: clients, a server, and the shadow, which has all that was ever acknowledged and is never compacted.
type history struct {
	*world
	options replicate.Options
	random  *rand.Rand
	clients []*client
	names   []string // of documents
	shadow  map[string]*yjs.Doc
	members map[string]bool // who has access; the rule looks here
}

func (h *history) acked(id string, update []byte) {
	d := h.shadow[id]
	if d == nil {
		d = yjs.NewDoc(nil)
		h.shadow[id] = d
	}
	if err := d.ApplyV2(update, nil); err != nil {
		h.t.Fatal(err)
	}
}

// push sends what a client has queued. The answer may get lost, and a request may come twice.
func (h *history) push(c *client, trouble bool) {
	if len(c.queue) == 0 {
		return
	}
	n := min(len(c.queue), 1+h.random.IntN(8))
	if !trouble {
		n = len(c.queue)
	}
	batch := c.queue[:n]
	times := 1
	if trouble && h.random.IntN(4) == 0 {
		times = 2
	}
	var got struct {
		Results []writeResult `json:"results"`
	}
	for range times {
		h.call(c.name, "tasks:replicateBatch", map[string]any{"writes": batch}, &got)
	}
	lost := trouble && h.random.IntN(4) == 0
	var again []writeArgs
	var gapped []string
	for i, r := range got.Results {
		switch r.Status {
		case replicate.Applied, replicate.Known:
			// It is durable, whether or not the client learns of it.
			h.acked(batch[i].Document, batch[i].Bytes)
		case replicate.Gapped:
			gapped = append(gapped, batch[i].Document)
		case replicate.Refused:
			if r.Code != replicate.CodeDenied {
				h.t.Fatalf("client %s: %+v", c.name, r)
			}
			again = append(again, batch[i])
		}
	}
	if lost {
		return
	}
	c.queue = append(again, c.queue[n:]...)
	for _, id := range gapped {
		h.recover(c, id)
	}
}

// recover brings a document of a client and the server together, both ways.
func (h *history) recover(c *client, id string) {
	got := h.recoverAs(c.name, id, c.doc(id).State().Encode())
	if got.Access == "none" {
		return
	}
	if err := c.doc(id).ApplyV2(got.Bytes, nil); err != nil {
		h.t.Fatal(err)
	}
	c.keep(id)
	vector, err := yjs.DecodeStateVector(got.Vector)
	if err != nil {
		h.t.Fatal(err)
	}
	c.queue = append(c.queue, writeArgs{"", id, c.doc(id).EncodeStateV2(vector)})
}

// pull follows the stream for up to some pages.
func (h *history) pull(c *client, pages int) {
	for range pages {
		var page replicate.StreamPage
		h.call(c.name, "tasks:delta", map[string]any{"seq": float64(c.cursor), "limit": 1 + h.random.IntN(3)}, &page)
		for _, change := range page.Changes {
			if !change.Exists {
				continue
			}
			if err := c.doc(change.Document).ApplyV2(change.Bytes, nil); err != nil {
				h.t.Fatal(err)
			}
			if pending := c.doc(change.Document).Pending(); pending != nil {
				h.t.Fatalf("client %s was sent an update of %s with a gap: %+v", c.name, change.Document, pending)
			}
			c.keep(change.Document)
		}
		c.cursor = page.Seq
		if h.random.IntN(2) == 0 {
			c.keptSeq = c.cursor
		}
		if !page.More {
			return
		}
	}
}

func (h *history) compact(id string) {
	h.clock.advance(1e6)
	h.call("", "tasks:compact", map[string]any{"document": id}, nil)
}

// crash ends the server as a loss of power does, and starts it on what is on the disk.
func (h *history) crash() {
	h.fs = h.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: h.random.IntN(101), RNG: h.random})
	old := h.app
	h.open(h.options)
	if err := old.Close(); err != nil {
		h.t.Log(err) // it lost its disk
	}
}

func runHistory(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	h := &history{random: random, shadow: map[string]*yjs.Doc{}, members: map[string]bool{}, names: []string{"a", "b", "c"}}
	h.options = replicate.Options{CompactAfter: 5, CacheBytes: []int{1, 1 << 20}[random.IntN(2)],
		Access: func(tx *halcyon.Tx, _ replicate.Document) (replicate.Level, error) {
			if who, _ := tx.Identity(); who.Subject != "" && h.members[who.Subject] {
				return replicate.Write, nil
			}
			return replicate.None, nil
		}}
	h.world = newWorld(t, h.options)
	id := uint64(1)
	next := func() uint64 { id++; return id }
	for _, name := range []string{"ann", "bob", "eve"} {
		h.members[name] = true
		h.clients = append(h.clients, &client{name: name, random: random, nextID: next, docs: map[string]*yjs.Doc{}, kept: map[string][]byte{}, online: true})
	}
	for range 40 + random.IntN(40) {
		h.clock.advance(1e6)
		c := h.clients[random.IntN(len(h.clients))]
		doc := h.names[random.IntN(len(h.names))]
		switch n := random.IntN(100); {
		case n < 40:
			c.edit(doc, random.IntN(20) == 0)
		case n < 60 && c.online:
			h.push(c, true)
		case n < 75 && c.online:
			h.pull(c, 1+random.IntN(3))
		case n < 80:
			c.online = !c.online
		case n < 84:
			c.reload()
		case n < 92:
			h.compact(doc)
		case n < 95:
			h.crash()
		case n < 98:
			h.members[c.name] = !h.members[c.name]
			for _, doc := range h.names {
				h.call("", "more:reopen", map[string]any{"document": doc}, nil)
			}
		default:
			h.call("", "more:edit", map[string]any{"document": doc, "title": fmt.Sprint("server ", random.IntN(100))}, nil)
			var s stored
			h.members["admin"] = true
			h.call("admin", "more:since", map[string]any{"document": doc, "seq": 0.0}, &s)
			h.acked(doc, s.Update)
		}
	}
	h.settle()
}

// settle lets everybody in and online until nothing moves, and compares all there is.
func (h *history) settle() {
	for _, c := range h.clients {
		h.members[c.name], c.online = true, true
	}
	for _, doc := range h.names {
		h.call("", "more:reopen", map[string]any{"document": doc}, nil)
	}
	for range 4 {
		for _, c := range h.clients {
			for _, doc := range h.names {
				h.recover(c, doc)
			}
			h.push(c, false)
			h.pull(c, 1000)
		}
		h.compact(h.names[h.random.IntN(len(h.names))])
	}
	for _, doc := range h.names {
		shadow := h.shadow[doc]
		if shadow == nil {
			shadow = yjs.NewDoc(nil)
		}
		for _, c := range h.clients {
			h.same("client "+c.name, doc, c.doc(doc), shadow)
		}
		late := yjs.NewDoc(nil)
		if err := late.ApplyV2(h.recoverAs("ann", doc, nil).Bytes, nil); err != nil {
			h.t.Fatal(err)
		}
		h.same("who comes late", doc, late, shadow)
	}
	changes, _ := h.stream("ann", 0)
	streamed := map[string]*yjs.Doc{}
	for _, change := range changes {
		if streamed[change.Document] == nil {
			streamed[change.Document] = yjs.NewDoc(nil)
		}
		if err := streamed[change.Document].ApplyV2(change.Bytes, nil); err != nil {
			h.t.Fatal(err)
		}
	}
	for doc, d := range streamed {
		if shadow := h.shadow[doc]; shadow != nil {
			h.same("the stream from its begin", doc, d, shadow)
		}
	}
}

func (h *history) same(who, doc string, got, want *yjs.Doc) {
	h.t.Helper()
	if got.Pending() != nil || want.Pending() != nil || !got.Snapshot().Equal(want.Snapshot()) || shown(got) != shown(want) {
		h.t.Errorf("document %s of %s is %s with %v, the shadow %s with %v; pending %v, %v",
			doc, who, shown(got), got.State(), shown(want), want.State(), got.Pending(), want.Pending())
	}
}

// TestHistories runs clients that are offline, reload, crash, lose answers and send twice, while the server crashes, compacts and changes who
// has access. All come together, nothing that was acknowledged is lost, and nothing is there twice.
func TestHistories(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for i := range *histories {
		if !t.Run(fmt.Sprint("seed ", seed+uint64(i)), func(t *testing.T) { runHistory(t, seed+uint64(i)) }) {
			t.Fatalf("repeat with -run TestHistories -replicate.histories 1 -replicate.seed %d", seed+uint64(i))
		}
	}
}

func shown(d *yjs.Doc) string {
	return string(d.Map("fields").AppendJSON(nil)) + d.Text("body").String()
}
