package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ownClient is Halcyon's own client of the collection "tasks" under node, behind a network that fails.
type ownClient struct {
	*npm
	name    string
	network *proxy
}

func openOwn(t testing.TB, s *server, name string) *ownClient {
	t.Helper()
	network := newProxy(t, s)
	c := &ownClient{startNode(t, replicateDir, "own.mjs", network.url()), name, network}
	c.must("open", "", "", nil)
	return c
}

// note is a task as the client shows it and as the server says it is: "title, done: the lines of the note".
func (c *ownClient) rows() map[string]string {
	c.t.Helper()
	var rows []struct {
		ID, Title, Note string
		Done            bool
	}
	if err := json.Unmarshal(c.must("rows", "", "", nil), &rows); err != nil {
		c.t.Fatal(err)
	}
	got := map[string]string{}
	for _, row := range rows {
		got[row.ID] = fmt.Sprintf("%s, %t: %s", row.Title, row.Done, row.Note)
	}
	return got
}

// status is how the client says that it stands with the server, in a word and how many documents wait.
func (c *ownClient) status() string {
	c.t.Helper()
	var status struct {
		Word             string
		CaughtUp         bool
		Pending, Stalled int
		Refused          int
	}
	if err := json.Unmarshal(c.must("status", "", "", nil), &status); err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("%s %t %d %d %d", status.Word, status.CaughtUp, status.Pending, status.Stalled, status.Refused)
}

// storedRows are the same of the server.
func storedRows(s *server) map[string]string {
	s.t.Helper()
	var page struct {
		Page []struct {
			ID, Title string
			Done      bool
			Note      json.RawMessage
		}
	}
	if err := s.call("query", "tasks:material", map[string]any{"numItems": 1000}, &page); err != nil {
		s.t.Fatal(err)
	}
	got := map[string]string{}
	for _, row := range page.Page {
		var note struct {
			Content []struct{ Content []struct{ Text string } }
		}
		if err := json.Unmarshal(row.Note, &note); err != nil {
			s.t.Fatalf("note of %s: %v", row.ID, err)
		}
		var lines []string
		for _, paragraph := range note.Content {
			line := ""
			for _, run := range paragraph.Content {
				line += run.Text
			}
			lines = append(lines, line)
		}
		got[row.ID] = fmt.Sprintf("%s, %t: %s", row.Title, row.Done, strings.Join(lines, "\n"))
	}
	return got
}

// edits is what the users of the clients did.
type edits struct {
	r       *rand.Rand
	n       int
	titles  map[string][]string // that a task was given by somebody
	typed   map[string][]string // into its note
	removed map[string]bool
}

// make has the user of a client do something to a task that they see.
func (e *edits) make(c *ownClient) {
	c.t.Helper()
	e.n++
	word := fmt.Sprintf("%s-%d", c.name, e.n)
	rows := slices.Sorted(maps.Keys(c.rows()))
	roll := e.r.Float64()
	if len(rows) == 0 || roll < 0.3 {
		var id string
		if err := json.Unmarshal(c.must("insert", "", "", map[string]any{"title": word}), &id); err != nil {
			c.t.Fatal(err)
		}
		e.titles[id] = []string{word}
		return
	}
	id := rows[e.r.IntN(len(rows))]
	switch {
	case roll < 0.5:
		c.must("update", "", "", map[string]any{"id": id, "title": word})
		e.titles[id] = append(e.titles[id], word)
	case roll < 0.6:
		c.must("update", "", "", map[string]any{"id": id, "done": e.r.IntN(2) == 0})
	case roll < 0.67:
		c.must("remove", "", "", map[string]any{"id": id})
		e.removed[id] = true
	default:
		c.must("type", "", "", map[string]any{"id": id, "text": word + "."})
		e.typed[id] = append(e.typed[id], word+".")
	}
}

// check finds what was lost, and what is there twice.
func (e *edits) check(t testing.TB, stored map[string]string) {
	t.Helper()
	for id, titles := range e.titles {
		row, ok := stored[id]
		if ok == e.removed[id] {
			t.Errorf("task %s, which was removed: %t, is on the server: %t", id, e.removed[id], ok)
		}
		if !ok {
			continue
		}
		title, _, _ := strings.Cut(row, ",")
		if !slices.Contains(titles, title) {
			t.Errorf("task %s has the title %q, of %q", id, title, titles)
		}
		for _, text := range e.typed[id] {
			if n := strings.Count(row, text); n != 1 {
				t.Errorf("what was typed as %q is %d times in %q", text, n, row)
			}
		}
	}
	if len(stored) > len(e.titles) {
		t.Errorf("the server has %d tasks, %d were made", len(stored), len(e.titles))
	}
}

// Two clients work on while their network and the server fail in every way. In
// the end both and the server have the same, with all of it in it, once.
func TestOwnClientsThroughFaults(t *testing.T) {
	t.Parallel()
	s := serve(t, tasks)
	a, b := openOwn(t, s, "a"), openOwn(t, s, "b")
	e := &edits{r: newRand(t), titles: map[string][]string{}, typed: map[string][]string{}, removed: map[string]bool{}}
	both := func(n int) {
		for range n {
			e.make(a)
			e.make(b)
		}
	}
	const settled = "synced true 0 0 0"
	// lose has the server take something that a client made, and the client not hear of it.
	lose := func(c *ownClient) {
		pollFor(t, 4*patience, c.name+" waits for nothing", func() (bool, string) { status := c.status(); return status == settled, status })
		c.network.silence()
		id := ""
		if err := json.Unmarshal(c.must("insert", "", "", map[string]any{"title": "lost"}), &id); err != nil {
			t.Fatal(err)
		}
		e.titles[id] = []string{"lost"}
		pollFor(t, 4*patience, "the server has what "+c.name+" sent", func() (bool, string) {
			_, ok := storedRows(s)[id]
			return ok, "not there"
		})
	}
	faults := []struct {
		name string
		run  func()
	}{
		{"nothing", func() { both(4) }},
		{"one without a network", func() { a.network.cut(); both(5); a.network.restore() }},
		{"both without one, and reloads", func() {
			a.network.cut()
			b.network.cut()
			both(3)
			a.must("open", "", "", nil)
			both(3)
			b.must("open", "", "", nil)
			both(1)
			b.network.restore()
			a.network.restore()
		}},
		{"answers that are lost", func() {
			lose(a)
			both(3)
			a.network.cut()
			both(1)
			a.network.restore()
		}},
		{"answers that are lost, then a reload", func() {
			lose(b)
			both(3)
			b.network.cut()
			b.must("open", "", "", nil)
			b.network.restore()
		}},
		{"a server that is killed", func() { both(3); s.kill(); both(4); s.launch(); s.awaitReady() }},
		{"a server that hangs and is killed", func() {
			if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			both(3)
			s.kill()
			a.must("open", "", "", nil)
			both(2)
			s.launch()
			s.awaitReady()
		}},
	}
	e.r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for _, f := range faults {
		t.Log(f.name)
		f.run()
	}
	both(2)
	var stored map[string]string
	pollFor(t, 4*patience, "all have the same", func() (bool, string) {
		if sa, sb := a.status(), b.status(); sa != settled || sb != settled {
			return false, fmt.Sprintf("a is %s, b %s, want %s", sa, sb, settled)
		}
		stored = storedRows(s)
		diff := cmp.Diff(stored, a.rows()) + cmp.Diff(stored, b.rows())
		return diff == "", "(-server +client)\n" + diff
	})
	e.check(t, stored)
	t.Logf("%d edits, %d tasks on the server", e.n, len(stored))
}

// What the server refuses stays with the client who wrote it, over a reload, and is seen by nobody else. It
// goes with what is written next.
func TestOwnClientKeepsWhatIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, tasks)
	a, b := openOwn(t, s, "a"), openOwn(t, s, "b")
	id := ""
	if err := json.Unmarshal(a.must("insert", "", "", map[string]any{"title": "short"}), &id); err != nil {
		t.Fatal(err)
	}
	await := func(c *ownClient, status string, rows map[string]string) {
		t.Helper()
		pollFor(t, 4*patience, c.name+" is "+status, func() (bool, string) {
			got := c.status()
			diff := cmp.Diff(rows, c.rows())
			return got == status && diff == "", got + " (-want +got)\n" + diff
		})
	}
	short := map[string]string{id: "short, false: "}
	await(b, "synced true 0 0 0", short)
	long := strings.Repeat("long", 60)
	a.must("update", "", "", map[string]any{"id": id, "title": long})
	kept := map[string]string{id: long + ", false: "}
	await(a, "refused true 0 0 1", kept)
	if got, want := string(a.must("refusals", "", "", nil)), fmt.Sprintf(`[{"document":%q,"code":"HOOK_FAILED"}]`, id); got != want {
		t.Errorf("refusals %s, want %s", got, want)
	}
	s.kill()
	a.must("open", "", "", nil)
	s.launch()
	s.awaitReady()
	await(a, "refused true 0 0 1", kept)
	await(b, "synced true 0 0 0", short)
	if diff := cmp.Diff(short, storedRows(s)); diff != "" {
		t.Errorf("the server (-want +got):\n%s", diff)
	}
	a.must("update", "", "", map[string]any{"id": id, "title": "better", "done": true})
	better := map[string]string{id: "better, true: "}
	await(a, "synced true 0 0 0", better)
	await(b, "synced true 0 0 0", better)
}
