package yjs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// canonicalJSON makes two JSON texts comparable.
func canonicalJSON(t testing.TB, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %.200s", err, data)
	}
	return v
}

// TestCompatibilityDocuments loads documents written by yjs 13.2.
func TestCompatibilityDocuments(t *testing.T) {
	var cases []struct {
		Name, Root, Format, UpdateBase64 string
		Expected                         json.RawMessage
	}
	if err := json.Unmarshal(readData(t, "vectors/compatibility.json"), &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			update, err := base64.StdEncoding.DecodeString(c.UpdateBase64)
			must(t, err)
			d := NewDoc(nil)
			must(t, d.Apply(update, nil))
			var got []byte
			switch c.Root {
			case "array":
				got = d.Array(c.Root).AppendJSON(nil)
			case "map":
				got = d.Map(c.Root).AppendJSON(nil)
			default:
				got = d.Text(c.Root).Delta().AppendJSON(nil)
			}
			if diff := cmp.Diff(canonicalJSON(t, c.Expected), canonicalJSON(t, got)); diff != "" {
				t.Error(diff)
			}
			if d.Pending() != nil {
				t.Errorf("pending: %+v", d.Pending())
			}
			checkRoundTrip(t, d)
		})
	}
}

// checkRoundTrip encodes a document in both versions and loads it again.
func checkRoundTrip(t *testing.T, d *Doc) {
	t.Helper()
	v1, v2 := d.EncodeState(nil), d.EncodeStateV2(nil)
	e := NewDoc(nil)
	must(t, e.Apply(v1, nil))
	if got := e.EncodeState(nil); !bytes.Equal(got, v1) {
		t.Errorf("V1 differs after loading it")
	}
	e = NewDoc(nil)
	must(t, e.ApplyV2(v2, nil))
	if got := e.EncodeStateV2(nil); !bytes.Equal(got, v2) {
		t.Errorf("V2 differs after loading it")
	}
	if got := e.EncodeState(nil); !bytes.Equal(got, v1) {
		t.Errorf("V1 differs after loading V2")
	}
	got, err := ConvertV1ToV2(v1)
	must(t, err)
	// Converting drops a redundant bit, as npm yjs does; loading brings it back.
	e = NewDoc(nil)
	must(t, e.ApplyV2(got, nil))
	if got := e.EncodeStateV2(nil); !bytes.Equal(got, v2) {
		t.Errorf("V1 converted to V2 differs from V2")
	}
}

// TestYrsDataset applies the update sequences of the Rust implementation's
// test suite, in order and merged.
func TestYrsDataset(t *testing.T) {
	data := readData(t, "vectors/yrs-small-test-dataset.bin.gz")
	r := lib0.NewReader(string(data))
	n := r.Uint()
	for i := range n {
		d := NewDoc(nil)
		var updates [][]byte
		for range r.Uint() {
			u := []byte(r.Bytes())
			updates = append(updates, u)
			if err := d.Apply(u, nil); err != nil {
				t.Fatalf("test %d: %v", i, err)
			}
		}
		merged, err := MergeUpdates(updates...)
		if err != nil {
			t.Fatalf("test %d: %v", i, err)
		}
		e := NewDoc(nil)
		if err := e.Apply(merged, nil); err != nil {
			t.Fatalf("test %d: %v", i, err)
		}
		text := r.String()
		wantMap, wantArray := r.ReadAny(), r.ReadAny()
		for _, d := range []*Doc{d, e} {
			if got := d.Text("text").String(); got != text {
				t.Fatalf("test %d: text is %q, want %q", i, got, text)
			}
			for _, c := range []struct {
				got  []byte
				want any
			}{{d.Map("map").AppendJSON(nil), wantMap}, {d.Array("array").AppendJSON(nil), wantArray}} {
				want := lib0.AppendJSON(nil, c.want, lib0.BytesAsBase64)
				if diff := cmp.Diff(canonicalJSON(t, want), canonicalJSON(t, c.got)); diff != "" {
					t.Fatalf("test %d: %s", i, diff)
				}
			}
		}
	}
	if r.Err() != nil || r.Len() > 0 || n == 0 {
		t.Fatalf("%d tests, %v, %d bytes left", n, r.Err(), r.Len())
	}
}

// TestB4 loads the large document of the yjs benchmarks and writes it again.
func TestB4(t *testing.T) {
	v1 := readData(t, "vectors/b4.v1.bin.gz")
	v2 := readData(t, "vectors/b4.v2.bin.gz")
	d := NewDoc(&Options{GC: true})
	must(t, d.Apply(v1, nil))
	if got := d.EncodeState(nil); !bytes.Equal(got, v1) {
		t.Errorf("V1 differs: %d bytes, want %d", len(got), len(v1))
	}
	if got := d.EncodeStateV2(nil); !bytes.Equal(got, v2) {
		t.Errorf("V2 differs: %d bytes, want %d", len(got), len(v2))
	}
	tr := readTrace(t, "automerge-paper")
	if d.Text("text").String() != tr.end {
		t.Error("text differs")
	}
	got, err := ConvertV1ToV2(v1)
	must(t, err)
	if !bytes.Equal(got, v2) {
		t.Error("V1 converted to V2 differs")
	}
	if got, err = ConvertV2ToV1(v2); err != nil || !bytes.Equal(got, v1) {
		t.Errorf("V2 converted to V1 differs: %v", err)
	}
	if got, err = (Codec{KeepSplit: true}).Merge(v1, v1); err != nil || !bytes.Equal(got, v1) {
		t.Errorf("merged with itself it differs: %v", err)
	}
	// Joined it is smaller, since deletions no longer split what was typed, and
	// loads as the same.
	if got, err = MergeUpdates(v1); err != nil || len(got) >= len(v1) {
		t.Errorf("joined it has %d bytes, %v", len(got), err)
	}
	d = NewDoc(&Options{GC: true})
	must(t, d.Apply(got, nil))
	if !bytes.Equal(d.EncodeState(nil), v1) {
		t.Error("joined it is another document")
	}
	e := NewDoc(&Options{GC: true})
	must(t, e.Apply(readData(t, "vectors/yrs-b4-update.bin.gz"), nil))
	if e.Text("text").String() != tr.end && e.Text("").String() != tr.end {
		t.Error("text of the document written by yrs differs")
	}
}

// TestTraces types recorded sessions into a document.
func TestTraces(t *testing.T) {
	for _, name := range []string{"automerge-paper", "seph-blog1", "rustcode", "sveltecomponent", "friendsforever_flat",
		"clownschool_flat", "json-crdt-patch", "json-crdt-blog-post"} {
		t.Run(name, func(t *testing.T) {
			tr := readTrace(t, name)
			d := NewDoc(&Options{ClientID: 1, GC: true})
			txt := d.Text("text")
			must(t, txt.Insert(0, tr.start, nil))
			for _, e := range tr.edits {
				must(t, txt.Delete(e.pos, e.del))
				must(t, txt.Insert(e.pos, e.ins, nil))
			}
			if txt.String() != tr.end {
				t.Error("text differs")
			}
			checkRoundTrip(t, d)
		})
	}
}

// TestConcurrentTraces replays sessions of several people typing at the same
// time. Everybody must end with the same text, in whatever way the changes
// arrive.
func TestConcurrentTraces(t *testing.T) {
	for _, name := range []string{"friendsforever", "clownschool"} {
		t.Run(name, func(t *testing.T) {
			var tr struct {
				EndContent string
				NumAgents  int
				Txns       []struct {
					Parents []int
					Agent   int
					Patches [][]any
				}
			}
			must(t, json.Unmarshal(readData(t, "traces/"+name+".concurrent.json.gz"), &tr))
			docs := make([]*Doc, tr.NumAgents)
			have := make([]map[int]bool, tr.NumAgents)
			for i := range docs {
				docs[i], have[i] = NewDoc(&Options{ClientID: uint64(i) + 1}), map[int]bool{}
			}
			updates := make([][]byte, len(tr.Txns))
			var bring func(agent, txn int)
			bring = func(agent, txn int) {
				if have[agent][txn] {
					return
				}
				have[agent][txn] = true
				for _, p := range tr.Txns[txn].Parents {
					bring(agent, p)
				}
				must(t, docs[agent].Apply(updates[txn], nil))
			}
			for i, txn := range tr.Txns {
				d := docs[txn.Agent]
				for _, p := range txn.Parents {
					bring(txn.Agent, p)
				}
				have[txn.Agent][i] = true
				cancel := d.OnUpdate(func(u Update) { updates[i] = u.Bytes })
				must(t, d.Transact(nil, func(*Transaction) error {
					for _, p := range txn.Patches {
						pos, del := int(p[0].(float64)), int(p[1].(float64))
						must(t, d.Text("text").Delete(pos, del))
						must(t, d.Text("text").Insert(pos, p[2].(string), nil))
					}
					return nil
				}))
				cancel()
			}
			merged, err := MergeUpdates(updates...)
			must(t, err)
			all := load(t, V1, merged)
			for agent, d := range docs {
				for i := range tr.Txns {
					bring(agent, i)
				}
				if d.Text("text").String() != all.Text("text").String() || d.Pending() != nil {
					t.Errorf("agent %d has another text", agent)
				}
			}
			// The recorded end was ordered by another algorithm where several
			// people typed at the same place, so only the characters agree.
			if diff := cmp.Diff(characters(tr.EndContent), characters(all.Text("text").String())); diff != "" {
				t.Error(diff)
			}
			checkRoundTrip(t, all)
		})
	}
}

// characters counts what a text is made of.
func characters(s string) map[string]int {
	n := map[string]int{}
	for _, r := range s {
		n[string(r)]++
	}
	return n
}
