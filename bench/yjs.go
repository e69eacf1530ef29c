package main

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/halcyon-db/halcyon/yjs"
)

// yjsWorkload is one line of the table.
type yjsWorkload struct {
	op   string // of the peers' script
	name string
	// times is how often it runs in one round: a call of less than a millisecond
	// says little by itself.
	times int
	run   func() error
}

// yjsEdit is an edit of a trace: at, how many units are deleted, what is inserted.
type yjsEdit struct {
	at, deleted int
	inserted    string
}

// MarshalJSON writes it as the peers' script wants it.
func (e yjsEdit) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{e.at, e.deleted, e.inserted})
}

// yjsBeside measures the package yjs beside npm yjs and ywasm, one after the
// other in each round, so that what else the machine does falls on all alike.
func yjsBeside(s settings) error {
	in, err := readYjsInputs()
	if err != nil {
		return err
	}
	peers, err := startYjsPeers(in)
	if err != nil {
		return err
	}
	defer peers.stop()
	fmt.Printf("%-36s %28s %28s %28s %9s %9s %14s\n", "milliseconds, median (least to most)", "halcyon/yjs", "npm yjs", "ywasm", "of npm", "of ywasm", "allocations")
	for _, w := range in.workloads() {
		var own, npm, wasm figures
		var allocs uint64
		for range s.rounds {
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			for range w.times {
				if err := w.run(); err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
			}
			own = append(own, float64(time.Since(start).Microseconds())/1000/float64(w.times))
			runtime.ReadMemStats(&after)
			allocs = (after.Mallocs - before.Mallocs) / uint64(w.times)
			for _, p := range []struct {
				who string
				to  *figures
			}{{"yjs", &npm}, {"ywasm", &wasm}} {
				took, ok, err := peers.run(p.who, w.op, w.times)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, p.who, err)
				}
				if ok {
					*p.to = append(*p.to, took)
				}
			}
		}
		fmt.Printf("%-36s %28s %28s %28s %9s %9s %14d\n", w.name, own.fine(), npm.fine(), wasm.fine(), own.over(npm), own.over(wasm), allocs)
	}
	return in.memory()
}

// fine is String with fractions.
func (f figures) fine() string {
	if len(f) == 0 {
		return "-"
	}
	least, most := f[0], f[0]
	for _, x := range f {
		least, most = min(least, x), max(most, x)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", f.median(), least, most)
}

// over is the ratio of the medians.
func (f figures) over(peer figures) string {
	if len(peer) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", f.median()/peer.median())
}

// yjsInputs are what all of them work on.
type yjsInputs struct {
	v1, v2        []byte // the document B4
	sv            yjs.StateVector
	typing, small [][]byte
	edits         []yjsEdit
}

func readYjsInputs() (*yjsInputs, error) {
	in := &yjsInputs{}
	var err error
	if in.v1, err = gunzip("vectors/b4.v1.bin.gz"); err != nil {
		return nil, err
	}
	if in.v2, err = gunzip("vectors/b4.v2.bin.gz"); err != nil {
		return nil, err
	}
	m, err := yjs.ParseUpdateMeta(in.v1)
	if err != nil {
		return nil, err
	}
	in.sv = yjs.StateVector{}
	for client, clock := range m.To {
		in.sv[client] = clock * 9 / 10
	}
	trace, err := gunzip("traces/automerge-paper.json.gz")
	if err != nil {
		return nil, err
	}
	var raw struct {
		Txns []struct{ Patches [][3]any }
	}
	if err := json.Unmarshal(trace, &raw); err != nil {
		return nil, err
	}
	for _, txn := range raw.Txns {
		for _, p := range txn.Patches {
			at, _ := p[0].(float64)
			deleted, _ := p[1].(float64)
			inserted, _ := p[2].(string)
			in.edits = append(in.edits, yjsEdit{int(at), int(deleted), inserted})
		}
	}
	d := yjs.NewDoc(&yjs.Options{ClientID: 123456789})
	d.OnUpdate(func(u yjs.Update) { in.typing = append(in.typing, append([]byte(nil), u.Bytes...)) })
	for i := range 10_000 {
		if err := d.Text("text").Insert(i, string(rune('a'+i%26)), nil); err != nil {
			return nil, err
		}
	}
	for i := range 10_000 {
		u, err := smallDocument(i)
		if err != nil {
			return nil, err
		}
		in.small = append(in.small, u)
	}
	return in, nil
}

// smallDocument returns a task of eight fields, two of them shared types.
func smallDocument(i int) ([]byte, error) {
	d := yjs.NewDoc(nil)
	err := d.Transact(nil, func(*yjs.Transaction) error {
		tags, err := yjs.NewArray("a", "b", "c")
		if err != nil {
			return err
		}
		owner, err := yjs.NewMap(yjs.Member{Key: "name", Value: fmt.Sprint("owner", i%50)}, yjs.Member{Key: "age", Value: i % 90})
		if err != nil {
			return err
		}
		m := d.Map("root")
		for _, f := range []yjs.Member{
			{Key: "id", Value: fmt.Sprint("doc-", i)}, {Key: "title", Value: fmt.Sprint("Document number ", i)},
			{Key: "done", Value: i%2 == 0}, {Key: "count", Value: i}, {Key: "price", Value: float64(i) * 1.5},
			{Key: "created", Value: "2026-01-01T00:00:00Z"}, {Key: "tags", Value: tags}, {Key: "owner", Value: owner},
		} {
			if err := m.Set(f.Key, f.Value); err != nil {
				return err
			}
		}
		return nil
	})
	return d.EncodeState(nil), err
}

func gunzip(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join("..", "yjs", "testdata", name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func (in *yjsInputs) workloads() []yjsWorkload {
	load := func(apply func(d *yjs.Doc) error) func() error {
		return func() error {
			d := yjs.NewDoc(nil)
			if err := apply(d); err != nil {
				return err
			}
			if d.Text("text").String() == "" {
				return errors.New("the document is empty")
			}
			return nil
		}
	}
	return []yjsWorkload{
		{"merge", "merge 10,000 typing updates", 1, func() error { _, err := yjs.MergeUpdates(in.typing...); return err }},
		{"diffV1", "diff of B4, V1", 40, func() error { _, err := yjs.DiffUpdate(in.v1, in.sv); return err }},
		{"diffV2", "diff of B4, V2", 40, func() error { _, err := yjs.DiffUpdateV2(in.v2, in.sv); return err }},
		{"stateVectorV1", "state vector of B4, V1", 40, func() error { _, err := yjs.StateVectorFromUpdate(in.v1); return err }},
		{"stateVectorV2", "state vector of B4, V2", 40, func() error { _, err := yjs.StateVectorFromUpdateV2(in.v2); return err }},
		{"loadV1", "load B4, V1", 5, load(func(d *yjs.Doc) error { return d.Apply(in.v1, nil) })},
		{"loadV2", "load B4, V2", 5, load(func(d *yjs.Doc) error { return d.ApplyV2(in.v2, nil) })},
		{"small", "load 10,000 small documents", 1, func() error {
			for _, u := range in.small {
				if err := yjs.NewDoc(nil).Apply(u, nil); err != nil {
					return err
				}
			}
			return nil
		}},
		{"apply", "apply B4's 259,778 edits", 1, func() error {
			d := yjs.NewDoc(&yjs.Options{GC: true})
			bytes := 0
			d.OnUpdate(func(u yjs.Update) { bytes += len(u.Bytes) })
			t := d.Text("text")
			for _, e := range in.edits {
				if e.deleted > 0 {
					if err := t.Delete(e.at, e.deleted); err != nil {
						return err
					}
				}
				if e.inserted != "" {
					if err := t.Insert(e.at, e.inserted, nil); err != nil {
						return err
					}
				}
			}
			return nil
		}},
	}
}

// memory tells what a small document takes.
func (in *yjsInputs) memory() error {
	docs := make([]*yjs.Doc, len(in.small))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i, u := range in.small {
		docs[i] = yjs.NewDoc(nil)
		if err := docs[i].Apply(u, nil); err != nil {
			return err
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	fmt.Printf("a small document takes %d bytes in memory\n", int64(after.HeapAlloc-before.HeapAlloc)/int64(len(docs)))
	runtime.KeepAlive(docs)
	return nil
}

// yjsPeers is a process of node that runs the peers.
type yjsPeers struct {
	cmd *exec.Cmd
	dir string
	in  io.WriteCloser
	out *bufio.Scanner
}

func startYjsPeers(in *yjsInputs) (_ *yjsPeers, err error) {
	script := filepath.Join("testdata", "yjs")
	if _, err := os.Stat(filepath.Join(script, "node_modules", "ywasm")); err != nil {
		npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		npm.Dir = script
		if out, err := npm.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("install the peers: %w: %s", err, out)
		}
	}
	p := &yjsPeers{}
	if p.dir, err = os.MkdirTemp("", "halcyon-bench-yjs-"); err != nil {
		return nil, err
	}
	edits, err := json.Marshal(in.edits)
	if err != nil {
		return nil, err
	}
	for name, b := range map[string][]byte{
		"b4.v1": in.v1, "b4.v2": in.v2, "sv": in.sv.Encode(), "typing": yjsList(in.typing), "small": yjsList(in.small), "edits.json": edits,
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	p.cmd = exec.Command("node", "peers.mjs", p.dir)
	p.cmd.Dir, p.cmd.Stderr = script, os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	return p, p.cmd.Start()
}

func yjsList(updates [][]byte) (out []byte) {
	for _, u := range updates {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(u))), u...)
	}
	return out
}

// run returns the milliseconds a peer took for one of several calls, and false when it has no such
// function.
func (p *yjsPeers) run(who, op string, times int) (took float64, ok bool, err error) {
	if _, err := fmt.Fprintf(p.in, "{\"who\":%q,\"op\":%q,\"times\":%d}\n", who, op, times); err != nil {
		return 0, false, err
	}
	if !p.out.Scan() {
		return 0, false, errors.Join(p.out.Err(), errors.New("the peers have ended"))
	}
	var ms *float64
	if err := json.Unmarshal(p.out.Bytes(), &ms); err != nil || ms == nil {
		return 0, false, err
	}
	return *ms, true, nil
}

func (p *yjsPeers) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
	_ = os.RemoveAll(p.dir)
}
