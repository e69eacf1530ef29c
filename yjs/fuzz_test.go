package yjs

import (
	"bytes"
	"testing"
)

// addUpdates gives a fuzzer updates to start from.
func addUpdates(f *testing.F, v Version, add func([]byte)) {
	for _, g := range goldenUpdates {
		if v == V1 {
			add(unhex(f, g.v1))
		} else {
			add(unhex(f, g.v2))
		}
	}
	for seed := range uint64(6) {
		_, r, err := generate(seed, 2, 25, nil)
		must(f, err)
		updates := append(r.v1, r.docs[0].EncodeState(nil))
		part, err := MergeUpdates(updates[len(updates)/3 : len(updates)/2]...)
		must(f, err)
		for _, u := range [][]byte{part, updates[len(updates)-1], updates[len(updates)/2]} {
			if v == V2 {
				u = convert(f, [][]byte{u})[0]
			}
			add(u)
		}
	}
	for _, h := range hostileUpdates(f) {
		if h.v == v && len(h.update) < 1000 {
			add(h.update)
		}
	}
}

// checkUpdate holds everything that is said about an update against each other.
func checkUpdate(t *testing.T, v Version, update []byte) {
	c := Codec{Version: v}
	m, err := c.Meta(update)
	merged, mergeErr := c.Merge(update)
	converted, convertErr := c.Convert(update, 3-v)
	sv, svErr := c.StateVector(update)
	diff, diffErr := c.Diff(update, nil)
	d := NewDoc(nil)
	applyErr := d.apply(update, v, nil)
	for what, e := range map[string]error{"merge": mergeErr, "convert": convertErr, "state vector": svErr, "diff": diffErr, "apply": applyErr} {
		if (e == nil) != (err == nil) {
			t.Fatalf("meta: %v, %s: %v", err, what, e)
		}
	}
	if err != nil {
		return
	}
	// More structs than the limit for the bytes of the result are possible.
	big := Limits{Structs: 1 << 40}
	again, err := Codec{Version: v, Limits: big}.Merge(merged, update)
	must(t, err)
	once, err := Codec{Version: v, Limits: big}.Merge(merged)
	must(t, err)
	if !bytes.Equal(again, once) {
		t.Fatalf("merging is not idempotent:\n%x\n%x", once, again)
	}
	split, err := Codec{Version: v, Limits: big, KeepSplit: true}.Merge(update)
	must(t, err)
	mm, err := Codec{Version: v, Limits: big}.Meta(merged)
	must(t, err)
	if len(mm.From) > len(m.From) || !mm.Deleted.Equal(m.Deleted) {
		t.Fatalf("merged: %+v, want %+v", mm, m)
	}
	if d.Pending() == nil && !d.State().Covers(sv) {
		t.Fatalf("the document has %v, less than %v", d.State(), sv)
	}
	for name, u := range map[string][]byte{"merged": merged, "split": split, "diff": diff} {
		e := NewDoc(&Options{Limits: big})
		must(t, e.apply(u, v, nil))
		if (e.Pending() == nil) != (d.Pending() == nil) {
			t.Fatalf("%s: pending %+v, want %+v", name, e.Pending(), d.Pending())
		}
		if d.Pending() == nil && !bytes.Equal(joined(t, e), joined(t, d)) {
			t.Fatalf("%s: another document\n%x\n%x", name, joined(t, e), joined(t, d))
		}
	}
	e := NewDoc(&Options{Limits: big})
	must(t, e.apply(converted, 3-v, nil))
	if !bytes.Equal(e.State().Encode(), d.State().Encode()) {
		t.Fatalf("converted: %v, want %v", e.State(), d.State())
	}
	must(t, NewDoc(nil).Apply(d.EncodeState(nil), nil))
	_ = d.AppendJSON(nil)
	_ = d.XMLFragment("x").AppendTree(nil)
	_ = d.XMLFragment("x").String()
	_ = d.Text("t").Delta()
	g := NewDoc(&Options{GC: true, CleanFormats: true, ClientID: 99})
	must(t, g.apply(update, v, nil))
	must(t, g.Text("t").Insert(0, "x", Attributes{"b": true}))
	must(t, g.Text("t").Delete(0, 1))
}

func FuzzUpdateV1(f *testing.F) {
	addUpdates(f, V1, func(u []byte) { f.Add(u) })
	f.Fuzz(func(t *testing.T, u []byte) { checkUpdate(t, V1, u) })
}

func FuzzUpdateV2(f *testing.F) {
	addUpdates(f, V2, func(u []byte) { f.Add(u) })
	f.Fuzz(func(t *testing.T, u []byte) { checkUpdate(t, V2, u) })
}

// FuzzMergeDiff merges two updates and takes them apart again.
func FuzzMergeDiff(f *testing.F) {
	var all [][]byte
	addUpdates(f, V1, func(u []byte) { all = append(all, u) })
	for i := range all {
		f.Add(all[i], all[(i*7+3)%len(all)], []byte{1, 1, 1})
	}
	f.Fuzz(func(t *testing.T, a, b, vector []byte) {
		sv, err := DecodeStateVector(vector)
		if err != nil {
			return
		}
		merged, err := MergeUpdates(a, b)
		if err != nil {
			return
		}
		must(t, Codec{}.Validate(merged))
		m, err := ParseUpdateMeta(merged)
		must(t, err)
		for _, u := range [][]byte{a, b} {
			part, err := ParseUpdateMeta(u)
			must(t, err)
			if !m.Deleted.Covers(part.Deleted) {
				t.Fatal("deletions are gone")
			}
		}
		diff, err := DiffUpdate(merged, sv)
		must(t, err)
		back, err := MergeUpdates(diff, merged)
		must(t, err)
		must(t, Codec{}.Validate(back))
		whole, err := DiffUpdate(merged, nil)
		must(t, err)
		must(t, Codec{}.Validate(whole))
		// Applying both one after the other or merged comes to the same state.
		d, e := NewDoc(nil), NewDoc(nil)
		must(t, d.Apply(a, nil))
		must(t, d.Apply(b, nil))
		must(t, e.Apply(merged, nil))
		if !d.State().Covers(e.State()) && !e.State().Covers(d.State()) {
			t.Fatalf("applied one by one %v, merged %v", d.State(), e.State())
		}
	})
}

// FuzzVectors reads state vectors, snapshots and positions.
func FuzzVectors(f *testing.F) {
	f.Add([]byte{1, 1, 1})
	f.Add([]byte{1, 1, 1, 1, 1, 1, 1, 2})
	f.Add([]byte{0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if sv, err := DecodeStateVector(b); err == nil {
			if back, err := DecodeStateVector(sv.Encode()); err != nil || !back.Covers(sv) || !sv.Covers(back) {
				t.Fatalf("%v is read as %v, %v", sv, back, err)
			}
		}
		for _, v := range []Version{V1, V2} {
			if s, err := DecodeSnapshot(b, v); err == nil {
				if back, err := DecodeSnapshot(s.Encode(v), v); err != nil || !back.Equal(s) {
					t.Fatalf("%+v is read as %+v, %v", s, back, err)
				}
			}
		}
		if p, err := DecodeRelativePosition(b); err == nil {
			back, err := DecodeRelativePosition(p.Encode())
			if err != nil || !bytes.Equal(back.Encode(), p.Encode()) {
				t.Fatalf("%+v is read as %+v, %v", p, back, err)
			}
		}
	})
}
