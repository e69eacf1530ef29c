package engine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
)

// TestFormatOfLoads keeps what docs/format/keys.md says of the mark, and log.md
// of the effect.
func TestFormatOfLoads(t *testing.T) {
	l := &load{number: 10_001, parts: []*loadedPart{{}, {index: &Index{id: 10_002}}, {agg: &Aggregate{}, id: 10_003}}}
	mark := unhex(t, "01 00002711 00 00002712 01 00002713")
	if got := l.appendMark(nil); !bytes.Equal(got, mark) {
		t.Errorf("the mark is %x, want %x", got, mark)
	}
	got, err := decodeMark(mark)
	want := []keys.Range{
		{Start: unhex(t, "72 00002711"), End: unhex(t, "72 00002712")},
		{Start: unhex(t, "78 00002712"), End: unhex(t, "78 00002713")},
		{Start: unhex(t, "61 00002713 0000000000000001"), End: unhex(t, "61 00002714")},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("the mark says to remove (-want +got):\n%s%v", diff, err)
	}
	for _, c := range []struct {
		name, b string
		want    error
	}{
		{"empty", "", ErrCorrupt},
		{"short", "01 000027", ErrCorrupt},
		{"half a part", "01 00002711 00 0000", ErrCorrupt},
		{"a part of another kind", "01 00002711 02 00002712", ErrCorrupt},
		{"version 0", "00 00002711", ErrCorrupt},
		{"version 2", "02 00002711", ErrNewerFormat},
	} {
		if got, err := decodeMark(unhex(t, c.b)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	key, val := loadedKey(10_001), loadedEffect(3, 1_700_000_000_000_001)
	if want := unhex(t, "6D 6C6F616465642F 00002711"); !bytes.Equal(key, want) {
		t.Errorf("the key of the effect is %x, want %x", key, want)
	}
	if want := unhex(t, "01 0000000000000003 00060A24181E4001"); !bytes.Equal(val, want) {
		t.Errorf("the effect is %x, want %x", val, want)
	}
	if table, n, at, err := decodeLoaded(key, val); table != 10_001 || n != 3 || at != 1_700_000_000_000_001 || err != nil {
		t.Errorf("the effect reads %d, %d, %d, %v", table, n, at, err)
	}
}

// FuzzMark: a mark decodes into ranges that hold what they say, or is an error.
func FuzzMark(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0x27, 0x11, 0, 0, 0, 0x27, 0x12, 1, 0, 0, 0x27, 0x13})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		ranges, err := decodeMark(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		if len(ranges) != len(b)/5 {
			t.Errorf("%x: %d ranges", b, len(ranges))
		}
		for _, r := range ranges {
			if r.Empty() || r.End == nil {
				t.Errorf("%x: range %x to %x", b, r.Start, r.End)
			}
		}
	})
}

// FuzzLoadedEffect: what decodes encodes again to the same bytes.
func FuzzLoadedEffect(f *testing.F) {
	f.Add(loadedKey(10_001), loadedEffect(3, 1_700_000_000_000_001))
	f.Fuzz(func(t *testing.T, key, val []byte) {
		if !isLoaded(key) {
			return
		}
		table, n, _, err := decodeLoaded(key, val)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%x %x: %v", key, val, err)
			}
			return
		}
		if !bytes.Equal(loadedKey(table), key) || !bytes.Equal(loadedEffect(n, rowTimestamp(append([]byte{1}, append(val[9:], make([]byte, 8)...)...))), val) {
			t.Errorf("%x %x reads %d, %d", key, val, table, n)
		}
	})
}
