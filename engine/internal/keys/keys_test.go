package keys_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/value"
)

var (
	document = [16]byte{0x01, 0x9a, 0xab, 0xcd, 0xef, 0x01, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0x4f, 0xb1}
	client   = [16]byte{0: 0xc0, 15: 0x0c}
)

// kinds is one or more keys of every kind, by the name they have in the
// golden file.
var kinds = []struct {
	name string
	key  []byte
}{
	{"row", keys.AppendRow(nil, 10001, document)},
	{"rows-of-a-table", keys.AppendRows(nil, 10001)},
	{"index", keys.AppendIndex(nil, 10002)},
	{"index-entry", indexEntry(keys.AppendIndex(nil, 10002))},
	{"aggregate-entries", keys.AppendEntry(nil, 10003)},
	{"aggregate-entry", indexEntry(keys.AppendEntry(nil, 10003))},
	{"aggregate-root", keys.AppendBlock(nil, 10003, 0)},
	{"aggregate-block", keys.AppendBlock(nil, 10003, 1<<40+2)},
	{"aggregate-blocks", keys.AppendBlocks(nil, 10003)},
	{"log", keys.AppendLog(nil, 1_700_000_000_000_001)},
	{"request", keys.AppendRequest(nil, client, 0x01020304)},
	{"requests-of-a-client", keys.AppendClient(nil, client)},
	{"meta", keys.AppendMeta(nil, "clock")},
	{"largest-ids", keys.AppendRow(nil, 1<<32-1, [16]byte(bytes.Repeat([]byte{0xff}, 16)))},
}

// indexEntry is the key of ("/a\x00", 2.5, missing, true), created at
// 1700000000000.25 ms.
func indexEntry(dst []byte) []byte {
	for _, v := range []value.Value{value.String("/a\x00"), value.Float64(2.5), {}, value.Bool(true), value.Float64(1_700_000_000_000.25)} {
		dst = value.AppendOrdered(dst, v)
	}
	return append(dst, document[:]...)
}

// TestGolden keeps the keys on disk as they are: a change here is a change of
// docs/format/keys.md and makes every existing folder unreadable.
func TestGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/keys.golden")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, hexed, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			want[name] = hexed
		}
	}
	for _, k := range kinds {
		if got := hex.EncodeToString(k.key); got != want[k.name] {
			t.Errorf("%s is\n%s, want\n%s", k.name, got, want[k.name])
		}
		delete(want, k.name)
	}
	for name := range want {
		t.Errorf("the golden file has %s, which no test builds", name)
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	prefix := []byte("before")
	for name, got := range map[string][]byte{
		"row":     keys.AppendRow(slices.Clone(prefix), 7, document),
		"index":   keys.AppendIndex(slices.Clone(prefix), 7),
		"entry":   keys.AppendEntry(slices.Clone(prefix), 7),
		"block":   keys.AppendBlock(slices.Clone(prefix), 7, 7),
		"log":     keys.AppendLog(slices.Clone(prefix), 7),
		"request": keys.AppendRequest(slices.Clone(prefix), client, 7),
		"client":  keys.AppendClient(slices.Clone(prefix), client),
		"meta":    keys.AppendMeta(slices.Clone(prefix), "x"),
	} {
		if !bytes.HasPrefix(got, prefix) || len(got) == len(prefix) {
			t.Errorf("%s: appended to %q gives %q", name, prefix, got)
		}
	}
}

func TestKindsNeverMix(t *testing.T) {
	prefixes := []byte{keys.PrefixAggregate, keys.PrefixRequest, keys.PrefixEntry, keys.PrefixLog, keys.PrefixMeta, keys.PrefixRow, keys.PrefixIndex}
	if !slices.IsSorted(prefixes) {
		t.Errorf("the prefixes %q are not in the order they are documented in", prefixes)
	}
	if n := len(slices.Compact(slices.Clone(prefixes))); n != len(prefixes) {
		t.Errorf("two kinds share a prefix: %q", prefixes)
	}
}

// TestOrder holds every key against the order of what it is made of.
func TestOrder(t *testing.T) {
	type row struct {
		Table uint32
		Doc   [16]byte
	}
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Uint32Range(0, 300), rapid.Uint32())
		draw := func(label string) (r row) {
			r.Table = number.Draw(t, label+" table")
			copy(r.Doc[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label+" document"))
			return r
		}
		a, b := draw("a"), draw("b")
		want := bytes.Compare(a.Doc[:], b.Doc[:])
		if a.Table != b.Table {
			want = -1
			if a.Table > b.Table {
				want = 1
			}
		}
		if got := bytes.Compare(keys.AppendRow(nil, a.Table, a.Doc), keys.AppendRow(nil, b.Table, b.Doc)); got != want {
			t.Fatalf("rows %v and %v compare %d, want %d", a, b, got, want)
		}
		x, y := rapid.Uint64().Draw(t, "x"), rapid.Uint64().Draw(t, "y")
		want = 0
		if x < y {
			want = -1
		} else if x > y {
			want = 1
		}
		if got := bytes.Compare(keys.AppendLog(nil, x), keys.AppendLog(nil, y)); got != want {
			t.Fatalf("log records %d and %d compare %d, want %d", x, y, got, want)
		}
		if at, err := keys.LogTimestamp(keys.AppendLog(nil, x)); err != nil || at != x {
			t.Fatalf("the timestamp of the log record at %d is %d, %v", x, at, err)
		}
		if c, r, err := keys.RequestOf(keys.AppendRequest(nil, a.Doc, a.Table)); err != nil || c != a.Doc || r != a.Table {
			t.Fatalf("request %d of %x came back as %d of %x, %v", a.Table, a.Doc, r, c, err)
		}
		for _, k := range [][]byte{keys.AppendRow(nil, a.Table, a.Doc), append(keys.AppendIndex(nil, b.Table), a.Doc[:]...)} {
			if d, err := keys.Document(k); err != nil || d != a.Doc {
				t.Fatalf("the document of %x is %x, %v, want %x", k, d, err, a.Doc)
			}
		}
	})
}

func TestMalformed(t *testing.T) {
	short := keys.AppendRow(nil, 1, document)[:20]
	if _, err := keys.Document(short); err != keys.ErrMalformed {
		t.Errorf("document of a short key: %v", err)
	}
	for _, k := range [][]byte{nil, keys.AppendLog(nil, 5), keys.AppendRequest(nil, client, 1), append(keys.AppendEntry(nil, 1), document[:]...)} {
		if _, err := keys.Document(k); err != keys.ErrMalformed {
			t.Errorf("document of %q: %v", k, err)
		}
	}
	for _, k := range [][]byte{nil, []byte("l"), keys.AppendLog(nil, 5)[:8], append(keys.AppendLog(nil, 5), 0), keys.AppendMeta(nil, "12345678")} {
		if _, err := keys.LogTimestamp(k); err != keys.ErrMalformed {
			t.Errorf("timestamp of %q: %v", k, err)
		}
	}
	for _, k := range [][]byte{nil, keys.AppendClient(nil, client), append(keys.AppendRequest(nil, client, 1), 0), keys.AppendRow(nil, 1, document)} {
		if _, _, err := keys.RequestOf(k); err != keys.ErrMalformed {
			t.Errorf("request of %q: %v", k, err)
		}
	}
}

// someKey draws short keys of few bytes, so that prefixes, neighbours and runs
// of 0xff are common.
func someKey() *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'r', 0xfe, 0xff}), 0, 4)
}

func TestSuccessorAndNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, other := someKey().Draw(t, "key"), someKey().Draw(t, "other")
		before := slices.Clone(k)

		next := keys.Next(k)
		if bytes.Compare(next, k) <= 0 {
			t.Fatalf("Next(%x) is %x, which is not greater", k, next)
		}
		if bytes.Compare(other, k) > 0 && bytes.Compare(other, next) < 0 {
			t.Fatalf("%x lies between %x and its Next %x", other, k, next)
		}

		end := keys.Successor(k)
		prefixed := bytes.HasPrefix(other, k)
		if end == nil {
			if len(bytes.Trim(k, "\xff")) != 0 {
				t.Fatalf("Successor(%x) is nil", k)
			}
		} else {
			if prefixed && bytes.Compare(other, end) >= 0 {
				t.Fatalf("%x starts with %x and is not below its successor %x", other, k, end)
			}
			if !prefixed && bytes.Compare(other, k) > 0 && bytes.Compare(other, end) < 0 {
				t.Fatalf("%x lies between %x and its successor %x", other, k, end)
			}
		}
		if got := keys.Prefixed(k).Contains(other); got != prefixed {
			t.Fatalf("Prefixed(%x).Contains(%x) is %v", k, other, got)
		}
		if len(next) > 0 {
			next[0]++
		}
		if len(end) > 0 {
			end[0]++
		}
		if !bytes.Equal(k, before) {
			t.Fatalf("Next or Successor of %x share its bytes", before)
		}
	})
}

func TestRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := keys.Range{Start: someKey().Draw(t, "start")}
		if rapid.Bool().Draw(t, "bounded") {
			r.End = someKey().Draw(t, "end")
		}
		k := someKey().Draw(t, "key")
		want := string(k) >= string(r.Start) && (r.End == nil || string(k) < string(r.End))
		if got := r.Contains(k); got != want {
			t.Fatalf("[%x, %x) contains %x: %v, want %v", r.Start, r.End, k, got, want)
		}
		if r.Empty() && want {
			t.Fatalf("[%x, %x) is called empty and has %x", r.Start, r.End, k)
		}
		if !r.Empty() && !r.Contains(r.Start) {
			t.Fatalf("[%x, %x) is not called empty and lacks its start", r.Start, r.End)
		}
	})
}
