package replicate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

// FuzzImport imports any bytes, as lines and as the state of a document. What is handed on has names and states that can be, and everything else
// is told.
func FuzzImport(f *testing.F) {
	p := newPeer(f, 1)
	p.set("title", "t")
	state := p.doc.EncodeState(nil)
	f.Add([]byte(exportLine(f, "a", state)+"\n"+exportLine(f, "b", state)), false, false)
	f.Add([]byte(exportLine(f, "a", state)+"{\n{\"document\":\"b\"}\n{\"update\":\"AAA=\",\"document\":\"\"}"), false, false)
	f.Add(state, true, false)
	f.Add(p.doc.EncodeStateV2(nil), true, true)
	var importing func(context.Context, *halcyon.CommandEnv, []string) error
	app, err := halcyon.NewApp(replicate.Docs(replicate.New(replicate.Options{Name: "tasks"})))
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range app.Commands() {
		if c.Name == "import" {
			importing = c.Run
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, whole, v2 bool) {
		taken := 0
		call := func(_ context.Context, _ string, args, result any) error {
			var asked struct {
				Writes []struct {
					Document string
					Update   []byte
				}
			}
			encoded, err := halcyon.Encode(args)
			if err != nil {
				return err
			}
			if err := halcyon.Decode(encoded, &asked); err != nil {
				return err
			}
			var results []map[string]any
			for _, one := range asked.Writes {
				if n := len(one.Document); n == 0 || n > replicate.DocumentIDBytesMax || !utf8.ValidString(one.Document) {
					t.Errorf("the name %q is handed on", one.Document)
				}
				if err := (yjs.Codec{Version: yjs.V2}).Validate(one.Update); err != nil {
					t.Errorf("a state is handed on that can't be read: %v", err)
				}
				results = append(results, map[string]any{"status": "applied"})
			}
			taken += len(results)
			if encoded, err = halcyon.Encode(results); err != nil {
				return err
			}
			return halcyon.Decode(encoded, result)
		}
		args := []string{"--json", "tasks"}
		if whole {
			args = append(args, "--document", "whole")
		}
		if v2 {
			args = append(args, "--v2")
		}
		var out, talk bytes.Buffer
		err := importing(t.Context(), &halcyon.CommandEnv{Call: call, Stdin: bytes.NewReader(in), Stdout: &out, Stderr: &talk, Logger: slog.New(slog.DiscardHandler)}, args)
		lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
		var got summary
		if err := json.Unmarshal(lines[len(lines)-1], &got); err != nil {
			t.Fatalf("%v: %s", err, &out)
		}
		if !got.Done || got.Written != taken || got.Refused != len(lines)-1 || (err == nil) != (got.Refused == 0) {
			t.Errorf("it told %s and ended with %v; %d were taken", &out, err, taken)
		}
	})
}
