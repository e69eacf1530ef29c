package aggregate

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

func keys(s ...string) keyList {
	var all [][]byte
	for _, k := range s {
		all = append(all, []byte(k))
	}
	return newKeyList(all)
}

// sampleNodes are the nodes of the golden file.
func sampleNodes() []struct {
	name string
	agg  uint32
	id   uint64
	node *node
} {
	return []struct {
		name string
		agg  uint32
		id   uint64
		node *node
	}{
		{"leaf with one empty key", 1, 1, &node{at: 1, keys: keys("")}},
		{"leaf with shared prefixes", 7, 300, &node{at: 1_763_800_000_000_000, keys: keys("post/a\x00\x01", "post/a\x00\x02", "post/ab", "post/b", "q")}},
		{"leaf with nested keys", 1, 2, &node{at: 2, keys: keys("", "a", "aa", "aab")}},
		{"leaf with a long key", 1, 3, &node{at: 3, keys: keys(strings.Repeat("k", 200), strings.Repeat("k", 200)+"!")}},
		{"branch", 7, 301, &node{at: 1_763_800_000_000_000, level: 1, keys: keys("post/b", "q"), kids: []child{
			{Ref{300, 1_763_800_000_000_000}, 70},
			{Ref{2, 1_763_799_999_999_000}, 198},
			{Ref{1, 5}, 198 + 40},
		}}},
		{"branch high up", math.MaxUint32, math.MaxUint64, &node{at: math.MaxUint64, level: levelMax, keys: keys("m"), kids: []child{
			{Ref{math.MaxUint64, 0}, 1},
			{Ref{1, math.MaxUint64}, math.MaxInt64},
		}}},
		{"weighted leaf", 7, 4, &node{at: 4, keys: keys("a", "b", "c", "d", "e", "f"), weighted: true, weights: []Weight{
			{}, IntWeight(-5), FloatWeight(19.99), FloatWeight(1e6), FloatWeight(math.Copysign(0, -1)), IntWeight(math.MaxInt64)}}},
		{"weighted branch", 7, 5, &node{at: 6, level: 1, keys: keys("m", "t", "x"), kids: []child{
			{Ref{1, 6}, 100}, {Ref{2, 5}, 102}, {Ref{3, 4}, 150}, {Ref{4, 4}, 151},
		}, weighted: true, sums: []summary{
			{}, sumOf(IntWeight(-5), IntWeight(300)), sumOf(FloatWeight(19.99), FloatWeight(1e6), FloatWeight(math.Inf(1))),
			sumOf(FloatWeight(math.NaN())),
		}}},
	}
}

// sumOf returns the summary of entries.
func sumOf(weights ...Weight) summary {
	var t Total
	for _, w := range weights {
		t.Add(w)
	}
	return t.summary()
}

// TestGoldenBlocks pins the format: what an earlier version wrote must be read
// for good, and what is written changes only with the format version.
func TestGoldenBlocks(t *testing.T) {
	const path = "testdata/blocks.txt"
	var got strings.Builder
	for _, s := range sampleNodes() {
		fmt.Fprintf(&got, "# %s: aggregate %d, node %d\n%s", s.name, s.agg, s.id, dump(appendBlock(nil, s.agg, s.id, s.node)))
	}
	for _, tree := range sampleTrees() {
		fmt.Fprintf(&got, "# root record %+v, height %d, %d entries, next %d, weighted %v\n%s",
			tree.Root, tree.Height, tree.Entries, tree.NextNode, tree.Weighted, dump(tree.AppendBinary(nil)))
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("encoding changed (-want +got):\n%s", diff)
	}
}

func sampleTrees() []Tree {
	return []Tree{
		{Agg: 7},
		{Agg: 7, NextNode: 12},
		{Agg: 7, Root: Ref{301, 1_763_800_000_000_000}, Height: 2, NextNode: 302, Entries: 238},
		{Agg: math.MaxUint32, Root: Ref{math.MaxUint64 - 1, math.MaxUint64}, Height: levelMax + 1, NextNode: math.MaxUint64, Entries: math.MaxInt64},
		{Agg: 7, Root: Ref{301, 1_763_800_000_000_000}, Height: 2, NextNode: 302, Entries: 238, Weighted: true},
	}
}

func dump(b []byte) string { return hex.Dump(b) }

func TestBlockRoundTrip(t *testing.T) {
	for _, s := range sampleNodes() {
		t.Run(s.name, func(t *testing.T) {
			block := appendBlock(nil, s.agg, s.id, s.node)
			got, err := decodeBlock(s.agg, s.id, block)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s.node, got, cmp.AllowUnexported(node{}, keyList{}, child{}, summary{}, Weight{}), ignoreNil); diff != "" {
				t.Errorf("decoded node differs (-want +got):\n%s", diff)
			}
			for i := range block {
				for _, bit := range []byte{1, 0x80} {
					bad := bytes.Clone(block)
					bad[i] ^= bit
					if _, err := decodeBlock(s.agg, s.id, bad); !errors.Is(err, ErrCorrupt) {
						t.Fatalf("byte %d ^ %#x: got %v, want ErrCorrupt", i, bit, err)
					}
				}
			}
			for n := range len(block) {
				if _, err := decodeBlock(s.agg, s.id, block[:n]); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("first %d bytes: got %v, want ErrCorrupt", n, err)
				}
			}
			if _, err := decodeBlock(s.agg+1, s.id, block); !errors.Is(err, ErrCorrupt) {
				t.Errorf("as another aggregate's: got %v, want ErrCorrupt", err)
			}
			if _, err := decodeBlock(s.agg, s.id+1, block); !errors.Is(err, ErrCorrupt) {
				t.Errorf("as another node's: got %v, want ErrCorrupt", err)
			}
		})
	}
}

var ignoreNil = cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })

// sign puts the checksum of node 1 of aggregate 1 behind a body.
func sign(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Update(blockSeed(1, 1), castagnoli, body))
}

// TestDecodeBlockRejects gives the decoder blocks whose checksum is right and
// whose content is not.
func TestDecodeBlockRejects(t *testing.T) {
	header := func(level, columns byte) []byte {
		version := byte(formatCounts)
		if columns&columnWeight != 0 {
			version = formatWeighted
		}
		return []byte{version, level, columns, 0, 0, 0, 0, 0, 0, 0, 9}
	}
	weighted := func(rest string) []byte { return append(append(header(0, columnWeight), "\x01\x01a"...), rest...) }
	// sums are of two children with five and six entries.
	sums := func(rest string) []byte {
		return append(append(header(1, columnCount|columnWeight), "\x02\x01m\x01\x00\x02\x09\x05\x06"...), rest...)
	}
	leaf := func(rest string) []byte { return append(header(0, 0), rest...) }
	branch := func(rest string) []byte { return append(header(1, columnCount), rest...) }
	long := strings.Repeat("k", 1<<14) // KeyBytesMax, 0x80 0x80 0x01 as a number
	tests := []struct {
		name string
		body []byte
		want error // nil is a good block
	}{
		{"good leaf", leaf("\x02\x01a\x00\x01b"), nil},
		{"good branch", branch("\x02\x01m\x01\x00\x02\x09\x05\x06"), nil},
		{"longest key", leaf("\x01\x80\x80\x01" + long), nil},
		{"newer version", []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0}, ErrNewerFormat},
		{"version 0", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0}, ErrNewerFormat},
		{"level too high", append(header(levelMax+1, columnCount), "\x02\x01m\x01\x00\x02\x09\x05\x06"...), ErrCorrupt},
		{"unknown column", append(header(0, 2), "\x01\x01a"...), ErrCorrupt},
		{"branch without counts", append(header(1, 0), "\x02\x01m\x01\x00\x02\x09"...), ErrCorrupt},
		{"no items", leaf("\x00"), ErrCorrupt},
		{"no item count", leaf(""), ErrCorrupt},
		{"one child", branch("\x01\x01\x00\x05"), ErrCorrupt},
		{"more items than allowed", leaf("\x81\x01" + strings.Repeat("\x00", 200)), ErrCorrupt},
		{"more items than there are", leaf("\x7f\x01a"), ErrCorrupt},
		{"long form of a number", leaf("\x82\x00\x01a\x00\x01b"), ErrCorrupt},
		{"number without end", leaf("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ErrCorrupt},
		{"key longer than the block", leaf("\x01\x7fa"), ErrCorrupt},
		{"key too long", leaf("\x01\x81\x80\x01" + long + "k"), ErrCorrupt},
		{"key too long by sharing", leaf("\x02\x80\x80\x01" + long + "\x80\x80\x01\x01a"), ErrCorrupt},
		{"shares more than there is", leaf("\x02\x01a\x02\x01b"), ErrCorrupt},
		{"shares less than it could", leaf("\x02\x02ab\x00\x02ac"), ErrCorrupt},
		{"equal keys", leaf("\x02\x01a\x01\x00"), ErrCorrupt},
		{"descending keys", leaf("\x02\x01b\x00\x01a"), ErrCorrupt},
		{"a key and then its prefix", leaf("\x02\x02ab\x01\x00"), ErrCorrupt},
		{"child with id 0", branch("\x02\x01m\x00\x00\x02\x09\x05\x06"), ErrCorrupt},
		{"child newer than its parent", branch("\x02\x01m\x01\x00\x02\x0a\x05\x06"), ErrCorrupt},
		{"child with no entries", branch("\x02\x01m\x01\x00\x02\x09\x05\x00"), ErrCorrupt},
		{"entries overflow", branch("\x02\x01m\x01\x00\x02\x09\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01"), ErrCorrupt},
		{"counts cut off", branch("\x02\x01m\x01\x00\x02\x09\x05"), ErrCorrupt},
		{"leaf of version 2 without weights", []byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 1, 'a'}, ErrCorrupt},
		{"leaf of version 1 with weights", []byte{1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 1, 1, 'a', 0}, ErrCorrupt},
		{"no number", weighted("\x00"), nil},
		{"int64", weighted("\x01\x09"), nil},
		{"float64", weighted("\x02\x3f\xe0\x00\x00\x00\x00\x00\x00"), nil},
		{"whole float64", weighted("\x03\x09"), nil},
		{"whole float64 in the long form", weighted("\x02\x3f\xf0\x00\x00\x00\x00\x00\x00"), ErrCorrupt},
		{"whole float64 beyond 2^53", weighted("\x03\x82\x80\x80\x80\x80\x80\x80\x20"), ErrCorrupt},
		{"float64 cut off", weighted("\x02\x3f\xe0"), ErrCorrupt},
		{"unknown kind of number", weighted("\x04"), ErrCorrupt},
		{"no weight", weighted(""), ErrCorrupt},
		{"two weights of one entry", weighted("\x00\x00"), ErrCorrupt},
		{"summaries", sums("\x00\x01\x00\x02\x86\x01\x04\x01\x02\x01\x02"), nil},
		{"more numbers than entries", sums("\x00\x07\x00\x02\x86\x01\x04\x01\x02\x01\x02"), ErrCorrupt},
		{"sum with a zero byte below", sums("\x00\x01\x00\x04\x85\x01\x00\x04\x01\x02\x01\x02"), ErrCorrupt},
		{"sum with a zero byte above", sums("\x00\x01\x00\x04\x86\x01\x04\x00\x01\x02\x01\x02"), ErrCorrupt},
		{"sum too large", sums("\x00\x01\x00\x02\x8f\x02\x04\x01\x02\x01\x02"), ErrCorrupt},
		{"largest sum", sums("\x00\x01\x00\x02\x8e\x02\x04\x01\x02\x01\x02"), nil},
		{"negative zero as a sum", sums("\x00\x01\x00\x01\x01\x02\x01\x02"), ErrCorrupt},
		{"sum cut off", sums("\x00\x01\x00\x04\x86\x01\x04"), ErrCorrupt},
		{"least above the greatest", sums("\x00\x01\x00\x02\x86\x01\x04\x01\x04\x01\x02"), ErrCorrupt},
		{"no least", sums("\x00\x01\x00\x02\x86\x01\x04\x00\x01\x02"), ErrCorrupt},
		{"float64 among int64s", sums("\x00\x01\x00\x02\x86\x01\x04\x01\x02\x03\x02"), ErrCorrupt},
		{"NaN among int64s", sums("\x00\x01\x02\x02\x86\x01\x04\x01\x02\x01\x02"), ErrCorrupt},
		{"unknown property", sums("\x00\x01\x11\x02\x86\x01\x04\x03\x02\x03\x02"), ErrCorrupt},
		{"no summary of the second child", sums("\x00"), ErrCorrupt},
		{"bytes after the leaf", leaf("\x01\x01ab"), ErrCorrupt},
		{"bytes after the branch", branch("\x02\x01m\x01\x00\x02\x09\x05\x06\x00"), ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := decodeBlock(1, 1, sign(tt.body))
			if !errors.Is(err, tt.want) {
				t.Fatalf("decode %q: got %v, want %v", tt.body, err, tt.want)
			}
			if tt.want == nil {
				if again := appendBlock(nil, 1, 1, n); !bytes.Equal(again, sign(tt.body)) {
					t.Errorf("encodes again as %q, was %q", again, sign(tt.body))
				}
			}
		})
	}
}

func TestDecodeTreeRejects(t *testing.T) {
	for _, tree := range sampleTrees() {
		record := tree.AppendBinary(nil)
		if got, err := DecodeTree(record); err != nil || got != tree {
			t.Errorf("decode %x: got %+v, %v, want %+v", record, got, err, tree)
		}
		if len(record) > 60 {
			t.Errorf("root record of %+v takes %d bytes", tree, len(record))
		}
		for i := range record {
			bad := bytes.Clone(record)
			bad[i] ^= 4
			if _, err := DecodeTree(bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%+v with byte %d changed: got %v, want ErrCorrupt", tree, i, err)
			}
			if _, err := DecodeTree(record[:i]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%+v cut to %d bytes: got %v, want ErrCorrupt", tree, i, err)
			}
		}
	}
	signed := func(body string) []byte {
		return binary.LittleEndian.AppendUint32([]byte(body), rootChecksum([]byte(body)))
	}
	tests := []struct {
		name, body string
		want       error
	}{
		{"good", "\x01\x01\x07\x01\x02\x09\x03\x05", nil},
		{"good with weights", "\x02\x03\x07\x01\x02\x09\x03\x05", nil},
		{"weights in version 1", "\x01\x03\x07\x01\x02\x09\x03\x05", ErrCorrupt},
		{"no weights in version 2", "\x02\x01\x07\x01\x02\x09\x03\x05", ErrCorrupt},
		{"newer version", "\x03\x01\x07\x01\x02\x09\x03\x05", ErrNewerFormat},
		{"unknown column", "\x01\x03\x07\x01\x02\x09\x03\x05", ErrCorrupt},
		{"bytes after it", "\x01\x01\x07\x01\x02\x09\x03\x05\x00", ErrCorrupt},
		{"too few numbers", "\x01\x01\x07\x01\x02\x09\x03", ErrCorrupt},
		{"aggregate id too large", "\x01\x01\xff\xff\xff\xff\x10\x01\x02\x09\x03\x05", ErrCorrupt},
		{"too high", "\x01\x01\x07\x21\x02\x09\x03\x05", ErrCorrupt},
		{"empty with a root", "\x01\x01\x07\x00\x02\x09\x03\x00", ErrCorrupt},
		{"empty with entries", "\x01\x01\x07\x00\x00\x00\x03\x05", ErrCorrupt},
		{"no root", "\x01\x01\x07\x01\x00\x09\x03\x05", ErrCorrupt},
		{"root above the next node", "\x01\x01\x07\x01\x03\x09\x03\x05", ErrCorrupt},
		{"no entries", "\x01\x01\x07\x01\x02\x09\x03\x00", ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := DecodeTree(signed(tt.body)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// FuzzDecodeBlock puts a right checksum behind any body, so that the fuzzer gets
// past it. What is accepted must encode to the same bytes and be a sound node.
func FuzzDecodeBlock(f *testing.F) {
	for _, s := range sampleNodes() {
		block := appendBlock(nil, s.agg, s.id, s.node)
		f.Add(block[:len(block)-checksumBytes])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := decodeBlock(1, 1, body); err == nil {
			body = body[:len(body)-checksumBytes] // it had its checksum
		}
		n, err := decodeBlock(1, 1, sign(body))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("unmarked error: %v", err)
			}
			return
		}
		if again := appendBlock(nil, 1, 1, n); !bytes.Equal(again, sign(body)) {
			t.Fatalf("encodes again as %x, was %x", again, sign(body))
		}
		if n.size() > 4096+(itemsMax+1)*len(body) {
			t.Fatalf("block of %d bytes takes %d in memory", len(body), n.size())
		}
		for i := range n.keys.len() {
			if pos, found := n.search(n.keys.key(i), 0); pos != i || !found {
				t.Fatalf("key %d is found at %d, %v", i, pos, found)
			}
		}
	})
}

func FuzzDecodeTree(f *testing.F) {
	for _, tree := range sampleTrees() {
		record := tree.AppendBinary(nil)
		f.Add(record[:len(record)-checksumBytes])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		record := binary.LittleEndian.AppendUint32(bytes.Clone(body), rootChecksum(body))
		tree, err := DecodeTree(record)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("unmarked error: %v", err)
			}
			return
		}
		if again := tree.AppendBinary(nil); !bytes.Equal(again, record) {
			t.Fatalf("encodes again as %x, was %x", again, record)
		}
	})
}
