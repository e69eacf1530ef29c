package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/yjs"
)

// taskRow is a row of the collection "tasks" as the published client of Replicate shows it to its user.
type taskRow struct {
	ID    string          `json:"id"`
	Title string          `json:"title"`
	Done  bool            `json:"done"`
	Note  json.RawMessage `json:"note,omitempty"`
}

// taskClient is the published client of Replicate in a process of its own: it knows a collection once in a process.
type taskClient struct{ *npm }

func openTasks(t testing.TB, s *server, stored map[string]string) *taskClient {
	t.Helper()
	c := &taskClient{startNode(t, replicateDir, "steer.mjs", s.url())}
	c.must("open", "", "", map[string]any{"documents": stored})
	return c
}

func (c *taskClient) rows() map[string]taskRow {
	c.t.Helper()
	rows := map[string]taskRow{}
	if err := json.Unmarshal(c.must("rows", "", "", nil), &rows); err != nil {
		c.t.Fatal(err)
	}
	return rows
}

// await waits until the client's user sees these tasks, by id: "title" or "title, done".
func (c *taskClient) await(what string, want map[string]string) {
	c.t.Helper()
	poll(c.t, what, func() (bool, string) {
		got := map[string]string{}
		for id, row := range c.rows() {
			if got[id] = row.Title; row.Done {
				got[id] += ", done"
			}
		}
		return cmp.Equal(want, got), cmp.Diff(want, got)
	})
}

// failed returns what the client's user was told to have failed.
func (c *taskClient) failed() string { return string(c.must("failures", "", "", nil)) }

func TestReplicateClients(t *testing.T) {
	s := serve(t, halcyon)
	a, b := openTasks(t, s, nil), openTasks(t, s, nil)
	a.must("insert", "", "", taskRow{ID: "milk", Title: "buy milk"})
	a.must("insert", "", "", taskRow{ID: "tea", Title: "drink tea", Note: json.RawMessage(`{"type":"doc","content":[{"type":"paragraph","content":[{"type":"text","text":"green"}]}]}`)})
	b.await("what the other inserted", map[string]string{"milk": "buy milk", "tea": "drink tea"})
	b.must("update", "", "", map[string]any{"id": "milk", "done": true})
	a.await("what the other updated", map[string]string{"milk": "buy milk, done", "tea": "drink tea"})

	// The server is killed and comes back; both clients go on.
	s.kill()
	s.launch()
	s.awaitReady()
	b.must("insert", "", "", taskRow{ID: "rain", Title: "wait for rain"})
	a.must("delete", "", "", map[string]any{"id": "milk"})
	want := map[string]string{"tea": "drink tea", "rain": "wait for rain"}
	a.await("the end, by the first", want)
	b.await("the end, by the second", want)

	a.must("type", "", "", map[string]any{"id": "tea", "text": " or black"})
	poll(t, "the note that the other types", func() (bool, string) {
		note := string(b.rows()["tea"].Note)
		return strings.Contains(note, "green or black"), note
	})
	late := openTasks(t, s, nil)
	late.await("the end, by a third who comes late", want)

	var material struct{ Documents []taskRow }
	if err := s.call("query", "tasks:material", map[string]any{}, &material); err != nil {
		t.Fatal(err)
	}
	shown := a.rows()
	for _, row := range material.Documents {
		var server, client any
		if err := errors.Join(json.Unmarshal(encode(row), &server), json.Unmarshal(encode(shown[row.ID]), &client)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(client, server); diff != "" {
			t.Errorf("the material of %s is not what the client shows (-client +server):\n%s", row.ID, diff)
		}
	}
	if len(material.Documents) != 2 {
		t.Errorf("the material has %+v", material.Documents)
	}
	for _, c := range []*taskClient{a, b, late} {
		if failed := c.failed(); failed != "[]" {
			t.Errorf("a client's user was told %s", failed)
		}
	}
}

// taskWrites makes tasks, and further updates of them, each a write of replicateBatch.
func taskWrites(t testing.TB, documents, updates int) (writes []map[string]any, stored map[string]string) {
	t.Helper()
	stored = map[string]string{}
	for d := range documents {
		doc := yjs.NewDoc(&yjs.Options{ClientID: uint64(1000 + d)})
		id := fmt.Sprintf("task-%05d", d)
		stop := doc.OnUpdateV2(func(u yjs.Update) {
			writes = append(writes, map[string]any{"id": fmt.Sprint(len(writes)), "document": id,
				"bytes": map[string]string{"$bytes": base64.StdEncoding.EncodeToString(u.Bytes)}})
		})
		for n := range updates {
			err := doc.Transact(nil, func(*yjs.Transaction) error {
				fields := doc.Map("fields")
				if err := fields.Set("title", fmt.Sprintf("%d of %d", n, d)); err != nil {
					return err
				}
				return fields.Set("done", false)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		stop()
		stored[id] = base64.StdEncoding.EncodeToString(doc.EncodeStateV2(nil))
	}
	return writes, stored
}

// writeTasks sends writes in batches.
func writeTasks(t testing.TB, s *server, writes []map[string]any) {
	t.Helper()
	for len(writes) > 0 {
		n := min(len(writes), 500)
		var results struct {
			Results []struct{ Status, Message string }
		}
		if err := s.call("mutation", "tasks:replicateBatch", map[string]any{"writes": writes[:n]}, &results); err != nil {
			t.Fatal(err)
		}
		for i, r := range results.Results {
			if r.Status != "applied" {
				t.Fatalf("write %v: %+v", writes[i]["id"], r)
			}
		}
		writes = writes[n:]
	}
}

// The published client asks for the first 1,000 changes after its start, and never for others. It is sent what there is all the same.
func TestReplicateClientFarBehind(t *testing.T) {
	const documents, later = 1_100, 3
	s := serve(t, halcyon)
	writes, _ := taskWrites(t, documents, 2)
	writeTasks(t, s, writes)
	c := openTasks(t, s, nil)
	poll(t, "all tasks", func() (bool, string) {
		rows := c.rows()
		return len(rows) == documents && rows["task-01099"].Title == "1 of 1099", fmt.Sprintf("%d tasks, the last is %+v", len(rows), rows["task-01099"])
	})
	other := openTasks(t, s, nil)
	for n := range later { // each has the client apply everything again, and mark each document
		other.must("insert", "", "", taskRow{ID: fmt.Sprintf("later-%d", n), Title: "later"})
	}
	poll(t, "what came after more than 1,000 changes", func() (bool, string) {
		rows := c.rows()
		return len(rows) == documents+later, fmt.Sprintf("%d tasks", len(rows))
	})
}

// The published client asks for each document that it has stored by a query of its own when it starts.
func TestReplicateClientRecoversThousands(t *testing.T) {
	const documents = 3_000
	s := serve(t, halcyon)
	writes, stored := taskWrites(t, documents, 1)
	writeTasks(t, s, writes)
	start := time.Now()
	c := openTasks(t, s, stored)
	t.Logf("%d recovery queries at start took %v", documents, time.Since(start).Round(time.Millisecond))
	if got := len(c.rows()); got != documents {
		t.Errorf("after the start there are %d tasks", got)
	}
	var calls map[string]int
	if err := json.Unmarshal(c.must("calls", "", "", nil), &calls); err != nil || calls["tasks:delta"] != documents {
		t.Errorf("the client made the calls %v, %v", calls, err)
	}
}

// The published client asks who is there without a document, which its own server refuses.
func TestReplicateSessionWithoutDocument(t *testing.T) {
	s := serve(t, halcyon)
	a, b := openTasks(t, s, nil), openTasks(t, s, nil)
	a.must("insert", "", "", taskRow{ID: "milk", Title: "buy milk"})
	b.await("the task", map[string]string{"milk": "buy milk"})
	seen := b.sessions()
	a.must("join", "", "", map[string]any{"id": "milk"})
	type session struct{ Client, Document string }
	awaitUpdate(b.npm, seen, "somebody at the task", func(s []session) bool { return len(s) == 1 && s[0].Document == "milk" && s[0].Client != "" })
}

// sessions subscribes to who is there.
func (c *taskClient) sessions() *npmUpdates {
	c.t.Helper()
	id, answer := c.send(command{Do: "subscribe"})
	if r, ok := receive(c.t, answer); !ok || r.Error != nil {
		c.t.Fatalf("subscribe to sessions: %v", r.Error)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.updates[id]
}

// What the published client forgets to send after it was offline and started anew does not harm others: what builds on it waits.
func TestReplicateClientForgetsAfterRestart(t *testing.T) {
	s := serve(t, halcyon)
	a, b := openTasks(t, s, nil), openTasks(t, s, nil)
	a.must("insert", "", "", taskRow{ID: "milk", Title: "buy milk"})
	b.await("the task", map[string]string{"milk": "buy milk"})
	s.kill()
	a.must("update", "", "", map[string]any{"id": "milk", "title": "buy oat milk"})
	var stored map[string]string
	if err := json.Unmarshal(a.must("stored", "", "", nil), &stored); err != nil {
		t.Fatal(err)
	}
	a.end()
	s.launch()
	s.awaitReady()

	again := openTasks(t, s, stored)
	again.await("its own change", map[string]string{"milk": "buy oat milk"})
	again.must("update", "", "", map[string]any{"id": "milk", "done": true})
	writeTasks(t, s, taskWritesFor(t, "tea", "drink tea"))
	b.await("what the server has in full", map[string]string{"milk": "buy milk", "tea": "drink tea"})

	// It comes back online, which has it send all it has.
	if err := json.Unmarshal(again.must("stored", "", "", nil), &stored); err != nil {
		t.Fatal(err)
	}
	err := s.call("mutation", "tasks:replicate", map[string]any{"document": "milk", "type": "update", "material": map[string]any{},
		"bytes": map[string]string{"$bytes": stored["milk"]}}, new(any))
	if err != nil {
		t.Fatal(err)
	}
	b.await("all of it", map[string]string{"milk": "buy oat milk, done", "tea": "drink tea"})
	if failed := again.failed(); failed != "[]" {
		t.Errorf("the client's user was told %s", failed)
	}
}

func taskWritesFor(t testing.TB, id, title string) []map[string]any {
	t.Helper()
	doc := yjs.NewDoc(nil)
	if err := doc.Map("fields").Set("title", title); err != nil {
		t.Fatal(err)
	}
	return []map[string]any{{"id": "1", "document": id, "bytes": map[string]string{"$bytes": base64.StdEncoding.EncodeToString(doc.EncodeStateV2(nil))}}}
}
