package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A program of somebody else, in a module of its own, has everything.
func TestGuestbook(t *testing.T) {
	t.Parallel()
	type entry struct{ Name, Text string }
	type latest struct {
		Total   int
		Entries []entry
	}
	s := serve(t, guestbook)
	c := newClient(t, s)
	live := c.subscribe("guestbook:latest", map[string]any{})
	ctx := impatient(t)
	awaitTotal := func(want int) latest {
		t.Helper()
		var got latest
		err := live.await(ctx, func(value json.RawMessage) bool {
			got = latest{}
			if err := json.Unmarshal(value, &got); err != nil {
				t.Errorf("%s: %v", value, err)
			}
			return got.Total == want
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	awaitTotal(0)
	signed, err := c.mutate("guestbook:sign", map[string]any{"name": "Ada", "text": "<b>Hello!</b>"}).await(ctx)
	if err != nil || !signed.Success {
		t.Fatalf("sign: %+v, %v", signed, err)
	}
	if got := awaitTotal(1); got.Entries[0] != (entry{"Ada", "<b>Hello!</b>"}) {
		t.Errorf("after signing: %+v", got)
	}
	if refused, err := c.mutate("guestbook:sign", map[string]any{"name": "Ada", "text": " "}).await(ctx); err != nil || refused.Success {
		t.Errorf("an entry without text: %+v, %v", refused, err)
	}

	// The form of its page signs too, and what was signed before is on it.
	answer, err := http.PostForm(s.url()+"/sign", url.Values{"name": {"Bob"}, "text": {"Me too."}})
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("POST /sign: %s, %v", answer.Status, err)
	}
	_ = answer.Body.Close() // all of it was read
	for _, want := range []string{"2 entries", "<strong>Bob</strong>", "&lt;b&gt;Hello!&lt;/b&gt;"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	awaitTotal(2)

	c.close()
	if status := s.terminate(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	listed := strings.Split(strings.TrimSpace(run(t, guestbook, s.dir, "guestbook", "show")), "\n")
	if len(listed) != 2 || !strings.HasSuffix(listed[0], "  Bob: Me too.") || !strings.HasSuffix(listed[1], "  Ada: <b>Hello!</b>") {
		t.Errorf("guestbook show: %q", listed)
	}
	if got := run(t, guestbook, s.dir, "run", "guestbook:forget", `{"name": "Ada"}`); got != "1\n" {
		t.Errorf("guestbook:forget returned %q, want 1", got)
	}
}
