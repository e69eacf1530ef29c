package yjs

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// readData returns a file of testdata, unpacked when its name ends in .gz. The
// README files there say where the files come from.
func readData(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if filepath.Ext(name) == ".gz" {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// edit replaces del code points at pos by ins.
type edit struct {
	pos, del int
	ins      string
}

type trace struct {
	name  string
	start string
	end   string
	edits []edit
}

// readTrace returns a recorded sequential editing session. None of them holds
// code points outside of the basic plane, so positions are UTF-16 offsets too.
func readTrace(t testing.TB, name string) trace {
	t.Helper()
	var raw struct {
		StartContent, EndContent string
		Txns                     []struct{ Patches [][]any }
	}
	if err := json.Unmarshal(readData(t, "traces/"+name+".json.gz"), &raw); err != nil {
		t.Fatal(err)
	}
	tr := trace{name: name, start: raw.StartContent, end: raw.EndContent}
	for _, txn := range raw.Txns {
		for _, p := range txn.Patches {
			tr.edits = append(tr.edits, edit{int(p[0].(float64)), int(p[1].(float64)), p[2].(string)})
		}
	}
	return tr
}
