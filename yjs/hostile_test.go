package yjs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// v1 puts together an update of one client from encoded structs.
func v1(client, clock uint64, structs ...string) []byte {
	b := []byte{1}
	b = lib0.AppendUint(b, uint64(len(structs)))
	b = lib0.AppendUint(b, client)
	b = lib0.AppendUint(b, clock)
	for _, s := range structs {
		b = append(b, s...)
	}
	return append(b, 0)
}

func uintBytes(v uint64) string { return string(lib0.AppendUint(nil, v)) }

// hostile are updates that must be refused, by everything that reads one.
func hostileUpdates(t testing.TB) map[string]struct {
	v      Version
	update []byte
} {
	type c = struct {
		v      Version
		update []byte
	}
	text := "\x04\x01\x01t\x01a"
	return map[string]c{
		"empty input":             {V1, nil},
		"2^32 structs":            {V1, []byte{1, 255, 255, 255, 255, 15, 1, 0, 0, 1}},
		"2^31 structs":            {V1, []byte{1, 255, 255, 255, 127, 1, 0, 0, 1}},
		"2^40 clients":            {V1, []byte{255, 255, 255, 255, 255, 31, 0}},
		"any nested 200k deep":    {V1, v1(1, 0, "\x08\x01\x01a\x01"+strings.Repeat("\x75\x01", 200_000)+"\x7e")},
		"2^40 values":             {V1, v1(1, 0, "\x08\x01\x01a"+uintBytes(1<<40)+"\x7e")},
		"collected run of 2^53-1": {V1, v1(1, 0, "\x00"+uintBytes(lib0.MaxUint))},
		"deleted run of 2^40":     {V1, v1(1, 0, "\x01\x01\x01a"+uintBytes(1<<40))},
		"gap of 2^40":             {V1, v1(1, 0, text, "\x0a"+uintBytes(1<<40), text)},
		"clock of 2^52":           {V1, v1(1, 1<<52, text)},
		"empty run":               {V1, v1(1, 0, "\x00\x00")},
		"empty gap":               {V1, v1(1, 0, "\x0a\x00", text)},
		"empty text":              {V1, v1(1, 0, "\x04\x01\x01t\x00")},
		"no values":               {V1, v1(1, 0, "\x08\x01\x01t\x00")},
		"gap with item bits":      {V1, v1(1, 0, "\x8a\x01")},
		"run with item bits":      {V1, v1(1, 0, "\x40\x01")},
		"unknown struct":          {V1, v1(1, 0, "\x0b\x01\x01t\x01a")},
		"unknown type":            {V1, v1(1, 0, "\x07\x01\x01t\x09")},
		"text not UTF-8":          {V1, v1(1, 0, "\x04\x01\x01t\x01\xff")},
		"root not UTF-8":          {V1, v1(1, 0, "\x04\x01\x01\xff\x01a")},
		"surrogate in UTF-8":      {V1, v1(1, 0, "\x04\x01\x01t\x03\xed\xa0\x80")},
		"format not JSON":         {V1, v1(1, 0, "\x06\x01\x01t\x01b\x01{")},
		"embed not JSON":          {V1, v1(1, 0, "\x05\x01\x01t\x031 2")},
		"old JSON not JSON":       {V1, v1(1, 0, "\x02\x01\x01t\x01\x01{")},
		"options no object":       {V1, v1(1, 0, "\x09\x01\x01t\x01g\x7e")},
		"own origin later":        {V1, v1(1, 0, "\x84\x01\x00\x01a")},
		"own right origin later":  {V1, v1(1, 3, "\x44\x01\x07\x01a")},
		"parent is itself":        {V1, v1(1, 0, "\x04\x00\x01\x00\x01a")},
		"client twice":            {V1, []byte("\x02\x01\x01\x00" + text + "\x01\x01\x05" + text + "\x00")},
		"trailing bytes":          {V1, append(v1(1, 0, text), 0)},
		"no delete set":           {V1, []byte("\x01\x01\x01\x00" + text)},
		"empty deleted range":     {V1, []byte{0, 1, 1, 1, 0, 0}},
		"endless deleted range":   {V1, append([]byte{0, 1, 1, 1, 5}, uintBytes(lib0.MaxUint)...)},
		"2^40 deleted ranges":     {V1, append([]byte{0, 1, 1}, uintBytes(1<<40)...)},
		"run-length bomb":         {V2, unhex(t, "00010000000001000100010200001602000001fdffffffff7f0000")},
		"unknown feature flag":    {V2, append([]byte{1}, unhex(t, "000000000001000000000000")...)},
		"column beyond the input": {V2, []byte{0, 100, 0}},
	}
}

// everything calls all that reads an update and reports an error when one of
// them accepts it.
func everything(t testing.TB, v Version, update []byte) {
	t.Helper()
	c := Codec{Version: v}
	check := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s accepts it", what)
		} else if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v is neither ErrMalformed nor ErrLimit", what, err)
		}
	}
	check("Validate", c.Validate(update))
	_, err := c.Merge(update)
	check("Merge", err)
	other, _ := NewDoc(nil).encode(v)
	_, err = c.Merge(other, update)
	check("Merge of two", err)
	split := c
	split.KeepSplit = true
	_, err = split.Merge(update)
	check("Merge without joining", err)
	_, err = c.Diff(update, nil)
	check("Diff", err)
	_, err = c.StateVector(update)
	check("StateVector", err)
	_, err = c.Convert(update, 3-v)
	check("Convert", err)
	_, err = (&Snapshot{Deleted: &DeleteSet{}}).Contains(update, v)
	check("Contains", err)
	d := NewDoc(nil)
	check("Apply", d.apply(update, v, nil))
	if len(d.State()) > 0 || d.Pending() != nil || len(d.roots) > 0 || !d.Deleted().Empty() {
		t.Error("a refused update left something behind")
	}
}

func (d *Doc) encode(v Version) ([]byte, error) { return d.encodeState(v, nil), nil }

func TestHostileUpdates(t *testing.T) {
	for name, c := range hostileUpdates(t) {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			everything(t, c.v, c.update)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			// Nine readers, each with a small multiple of the input.
			if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(9*100*len(c.update)+1<<20); got > limit {
				t.Errorf("%d bytes allocated for %d, limit %d", got, len(c.update), limit)
			}
			if took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestHostileVectors reads what is not an update.
func TestHostileVectors(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":            {},
		"2^40 clients":     {255, 255, 255, 255, 255, 31},
		"truncated":        {1, 1},
		"trailing":         {0, 0, 0},
		"clock of 2^60":    {1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 15},
		"endless integer":  bytes.Repeat([]byte{255}, 50),
		"position of none": {9},
	} {
		if sv, err := DecodeStateVector(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: state vector %v, %v", name, sv, err)
		}
		if s, err := DecodeSnapshot(b, V1); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: snapshot %v, %v", name, s, err)
		}
		if name == "trailing" {
			continue // 0, 0, 0 is a position
		}
		if p, err := DecodeRelativePosition(b); !errors.Is(err, ErrMalformed) && name != "truncated" {
			t.Errorf("%s: position %v, %v", name, p, err)
		}
	}
}

// TestDeepNesting applies a legitimate but absurd document: types nested
// 100,000 deep. Nothing may run out of stack.
func TestDeepNesting(t *testing.T) {
	const n = 100_000
	structs := []string{"\x07\x01\x01a\x00"}
	for i := uint64(1); i < n; i++ {
		structs = append(structs, "\x07\x00\x01"+uintBytes(i-1)+"\x00")
	}
	d := NewDoc(&Options{GC: true})
	must(t, d.Apply(v1(1, 0, structs...), nil))
	if got := d.Array("a").AppendJSON(nil); bytes.Count(got, []byte("[")) != nestedMax+1 {
		t.Errorf("JSON is nested %d deep", bytes.Count(got, []byte("[")))
	}
	must(t, d.Array("a").Delete(0, 1))
	if got := d.Array("a").Len(); got != 0 {
		t.Errorf("%d elements left", got)
	}
	x := NewDoc(nil)
	structs[0] = "\x07\x01\x01x\x03\x01p"
	for i := uint64(1); i < n; i++ {
		structs[i] = "\x07\x00\x01" + uintBytes(i-1) + "\x03\x01p"
	}
	must(t, x.Apply(v1(1, 0, structs...), nil))
	_ = x.XMLFragment("x").String()
	_ = x.XMLFragment("x").AppendTree(nil)
	count := 0
	for range x.XMLFragment("x").Walk() {
		count++
	}
	if count != n {
		t.Errorf("walked %d nodes", count)
	}
}

// TestPrototypeKeys checks that names JavaScript has a meaning for are names.
func TestPrototypeKeys(t *testing.T) {
	d := NewDoc(nil)
	must(t, d.Map("m").Set("__proto__", map[string]any{"a": 1}))
	if got := string(d.AppendJSON(nil)); got != `{"m":{"__proto__":{"a":1}}}` {
		t.Error(got)
	}
}

// TestLimits checks that limits can be set.
func TestLimits(t *testing.T) {
	long := v1(1, 0, "\x00"+uintBytes(1<<20))
	c := Codec{Limits: Limits{Run: 1000}}
	var limit *LimitError
	if err := c.Validate(long); !errors.As(err, &limit) || limit.Limit != "Run" || limit.Max != 1000 {
		t.Errorf("a run beyond the limit: %v", err)
	}
	if err := (Codec{}).Validate(long); err != nil {
		t.Error(err)
	}
	// A V2 update may hold many structs in few bytes when asked to.
	d := NewDoc(&Options{ClientID: 1, GC: true})
	must(t, d.Transact(nil, func(*Transaction) error {
		for i := range 20_000 {
			must(t, d.Map("m").Set([]string{"a", "b"}[i%2], 1))
		}
		return nil
	}))
	update := d.EncodeStateV2(nil)
	if err := (Codec{Version: V2}).Validate(update); !errors.As(err, &limit) || limit.Limit != "Structs" {
		t.Errorf("%d bytes: %v", len(update), err)
	}
	if err := (Codec{Version: V2, Limits: Limits{Structs: 1 << 20}}).Validate(update); err != nil {
		t.Error(err)
	}
	p := NewDoc(&Options{PendingMax: 100})
	if err := p.Apply(v1(1, 5, "\x04\x01\x01t\x7f"+strings.Repeat("a", 127)), nil); !errors.Is(err, ErrLimit) {
		t.Errorf("pending beyond the limit: %v", err)
	}
}

// TestManyRanges deletes every other character of a long text in front of a
// long sequence, in one update. Each deletion splits the text.
func TestManyRanges(t *testing.T) {
	const n = 60_000
	text := strings.Repeat("ab", n)
	structs := []string{"\x04\x01\x01t" + uintBytes(uint64(len(text))) + text, "\x03\x01\x01a\x01x"}
	clock := uint64(len(text))
	for i := range uint64(n - 1) {
		// Neighbours that can't be joined.
		structs = append(structs, "\x83\x01"+uintBytes(clock+i)+"\x01x")
	}
	update := v1(1, 0, structs...)
	update = append(update[:len(update)-1], 1, 1)
	update = lib0.AppendUint(update, n)
	for i := range uint64(n) {
		update = lib0.AppendUint(update, 2*i+1)
		update = append(update, 1)
	}
	d := NewDoc(&Options{GC: true})
	must(t, d.Apply(update, nil))
	if got := d.Text("t").Len(); got != n || d.State()[1] != clock+n {
		t.Errorf("%d characters, state %v", got, d.State())
	}
	must(t, d.Text("t").Delete(0, n))
	if got := len(d.store.clients[0].items); got > n+2 {
		t.Errorf("%d items left", got)
	}
	checkRoundTrip(t, d)
}

// TestDamageBesideNPM has what differential tests of damaged updates found: what
// npm yjs can't write again is refused, and what it reads means the same.
func TestDamageBesideNPM(t *testing.T) {
	for _, c := range []struct {
		name   string
		v      Version
		update string
		want   string // the document as JSON, or why it is refused
	}{
		{"a format that is undefined", V2, "000300030106fff7cfd7080b060a1803001602030c010307c400c601c400c61e17e6bca2e5ad976263697568656c6c6f20776f722c6469750441000b410000000001060e770178787e7f00", "undefined is no JSON"},
		{"an embed with a BigInt", V2, "0003000303024f140d000300420844084a12460e040008000400030001001c1b0600840186004500c6018601c4000700040044008400c4010300c4291f7469e6bca2e5ad976962756275225c7862636263c3a9780a61e6bca2e5ad97410702014200410202050101000001010600011200760101637d017e760201657600016e75037e7a444b1ae4d6e2ef507704f09f9880760101637d01787e7e02b902010f0200030105", "a BigInt is no JSON"},
		{"a document whose name is empty", V2, "000006dfa7a5c30a000100000308008908056173756231010001010001010102007c50000000760000", `{"a":[8589934592,{"guid":""}]}`},
		{"a format as the value of a key", V1, hex.EncodeToString(v1(1, 0, "\x26\x01\x01m\x01k\x01b\x04null")), `{"a":[],"m":{}}`},
	} {
		u, err := hex.DecodeString(c.update)
		must(t, err)
		d := NewDoc(nil)
		d.Array("a")
		d.Map("m")
		err = d.apply(u, c.v, nil)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", c.name, err, c.want)
			}
			continue
		}
		if got := string(d.AppendJSON(nil)); !strings.Contains(got, strings.Trim(c.want, "{}")) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestNoJSON: what V1 could not hold does not get into a text in the first place.
func TestNoJSON(t *testing.T) {
	d := NewDoc(nil)
	text := d.Text("t")
	must(t, text.Insert(0, "ab", nil))
	for name, err := range map[string]error{
		"a format":       text.Format(0, 1, Attributes{"a": Undefined{}}),
		"an attribute":   text.Insert(0, "x", Attributes{"a": []any{BigInt(1)}}),
		"an embed":       text.InsertEmbed(0, map[string]any{"n": BigInt(1)}, nil),
		"an embed's own": text.InsertEmbed(0, Undefined{}, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "is no JSON") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := string(text.Delta().AppendJSON(nil)); got != `[{"insert":"ab"}]` {
		t.Errorf("the text is %s", got)
	}
	must(t, d.Map("m").Set("k", []any{BigInt(1), Undefined{}}))
	must(t, NewDoc(nil).ApplyV2(d.EncodeStateV2(nil), nil))
}
