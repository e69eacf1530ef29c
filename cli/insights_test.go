package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon/server"
)

// TestLogsAndInsights asks a running server what functions said and how they did, and is told that a stopped one knows nothing.
func TestLogsAndInsights(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, verb := range []string{"logs", "insights"} {
		if got := call(t, "", verb, "--storage.dir", data); got.status != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "running server") {
			t.Errorf("%s without a server: %+v", verb, got)
		}
	}
	s := serve(t, data)
	defer s.stop()
	for _, text := range []string{"one", "", "two"} {
		call(t, "", "run", "--storage.dir", data, "notes:add", `{"text": "`+text+`"}`)
	}
	call(t, "", "run", "--storage.dir", data, "notes:list")
	got := call(t, "", "logs", "--storage.dir", data)
	if got.status != exitOK || strings.Count(got.stdout, "M(notes:add)") != 3 || !strings.Contains(got.stdout, "'adding' 'one'") || !strings.Contains(got.stdout, "failed: ") {
		t.Errorf("logs: %+v", got)
	}
	// The operator finds a failure by what its client was told.
	if told := call(t, "", "run", "--storage.dir", data, "notes:add", `{"text": ""}`).stderr; true {
		id, _, _ := strings.Cut(told[strings.Index(told, "Request ID: ")+len("Request ID: "):], "]")
		if got := call(t, "", "logs", "--storage.dir", data, "--request-id", id); strings.Count(got.stdout, "M(notes:add)") != 1 || !strings.Contains(got.stdout, "Request ID: "+id) {
			t.Errorf("the request %q: %+v", id, got)
		}
	}
	if got := call(t, "", "logs", "--storage.dir", data, "--failed", "--json"); strings.Count(got.stdout, "\n") != 2 || !strings.Contains(got.stdout, "a note needs a text") {
		t.Errorf("failed calls: %+v", got)
	}
	if got := call(t, "", "logs", "--storage.dir", data, "--function", "other:"); got.status != exitOK || got.stdout != "" {
		t.Errorf("logs of another module: %+v", got)
	}
	var in server.ListedInsights
	told := call(t, "", "insights", "--storage.dir", data, "--json")
	if err := json.Unmarshal([]byte(told.stdout), &in); err != nil || len(in.Functions) != 2 {
		t.Fatalf("insights: %+v, %v", told, err)
	}
	add, list := in.Functions[0], in.Functions[1]
	if add.Function != "notes:add" || add.Calls != 4 || add.Failures != 2 || add.Codes[""] != 2 || add.P95 <= 0 || add.Max < add.P50 || list.Function != "notes:list" || list.Calls != 1 || in.Contention != 0 {
		t.Errorf("insights: %+v", in)
	}
	if got := call(t, "", "insights", "--storage.dir", data); got.status != exitOK || !strings.Contains(got.stdout, "because others wrote: 0") || !strings.Contains(got.stdout, "breaks the protocol: 0\n") || !strings.Contains(got.stdout, "notes:add failed 2 times: an error of its own") {
		t.Errorf("insights in words: %+v", got)
	}

	// Following goes on with what comes, and ends with a signal, in order.
	ctx, signal := context.WithCancel(t.Context())
	read, write := io.Pipe()
	status := make(chan int, 1)
	go func() {
		var stderr bytes.Buffer
		status <- run(ctx, []string{"prog", "logs", "--follow", "--storage.dir", data, "--json"}, strings.NewReader(""), write, &stderr, testModule())
		_ = write.Close()
	}()
	lines := json.NewDecoder(read)
	next := func() (l server.ListedLog) {
		if err := lines.Decode(&l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	for range 4 {
		next()
	}
	call(t, "", "run", "--storage.dir", data, "notes:add", `{"text": "three"}`)
	if l := next(); l.Seq != 5 || l.Function != "notes:add" || len(l.Lines) != 1 || !strings.Contains(l.Lines[0], "three") {
		t.Errorf("followed: %+v", l)
	}
	signal()
	if got := <-status; got != exitOK {
		t.Errorf("the status after a signal is %d", got)
	}
}

// A broken rule of the protocol is told with what to do about it.
func TestInsightsTellOfBrokenRules(t *testing.T) {
	var out bytes.Buffer
	if err := tabulateInsights(&out, server.ListedInsights{BrokenRules: 3}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "breaks the protocol: 3\n") || !strings.Contains(got, "please report it") {
		t.Errorf("insights:\n%s", got)
	}
}
