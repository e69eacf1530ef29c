package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// unhex reads bytes as the pages of docs/format write them.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFormatOfOutcomes keeps what docs/format/requests.md says.
func TestFormatOfOutcomes(t *testing.T) {
	client := ClientID{0: 0xc0, 15: 0x0c}
	tx := &Tx{db: &DB{o: (*Options)(nil).withDefaults()}, write: true}
	tx.deadline = tx.db.o.Clock.Now().Add(tx.db.o.FunctionTimeMax)
	tx.mu.own = new(txn.Overlay)
	tx.mu.own.Set([]byte("r"), txn.Write{})
	if err := tx.remember(client, 7, []byte("ok")); err != nil {
		t.Fatal(err)
	}
	key := keys.AppendRequest(nil, client, 7)
	if want := unhex(t, "64 C0000000 00000000 00000000 0000000C 00000007"); !cmp.Equal(key, want) {
		t.Errorf("the key is %x, want %x", key, want)
	}
	w, _ := tx.mu.own.Get(key)
	if !w.Stamped {
		t.Error("the outcome is not stamped")
	}
	binary.BigEndian.PutUint64(w.Value[txn.StampOffset:], 1_700_000_000_000_001)
	if want := unhex(t, "01 00060A24181E4001 6F6B"); !cmp.Equal(w.Value, want) {
		t.Errorf("the outcome is %x, want %x", w.Value, want)
	}
	for _, c := range []struct {
		name, key, val string
		want           outcome
	}{
		{"outcome", "64 C0000000 00000000 00000000 0000000C 00000007", "01 00060A24181E4001 6F6B", outcome{request: 7, at: 1_700_000_000_000_001, result: []byte("ok")}},
		{"empty result", "64 C0000000 00000000 00000000 0000000C 00000007", "01 00060A24181E4001", outcome{request: 7, at: 1_700_000_000_000_001, result: []byte{}}},
		{"floor", "64 C0000000 00000000 00000000 0000000C", "01 00060A24181E4001 00000007", outcome{floor: true, request: 7, at: 1_700_000_000_000_001}},
	} {
		got, err := decodeOutcome(unhex(t, c.key), unhex(t, c.val))
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(outcome{})); err != nil || diff != "" {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
	for name, kv := range map[string][2]string{
		"no version":    {"64 C0000000 00000000 00000000 0000000C 00000007", ""},
		"other version": {"64 C0000000 00000000 00000000 0000000C 00000007", "02 00060A24181E4001 6F6B"},
		"short":         {"64 C0000000 00000000 00000000 0000000C 00000007", "01 00060A24181E40"},
		"long floor":    {"64 C0000000 00000000 00000000 0000000C", "01 00060A24181E4001 0000000700"},
		"short floor":   {"64 C0000000 00000000 00000000 0000000C", "01 00060A24181E4001 000007"},
		"long key":      {"64 C0000000 00000000 00000000 0000000C 00000007 00", "01 00060A24181E4001 6F6B"},
	} {
		if o, err := decodeOutcome(unhex(t, kv[0]), unhex(t, kv[1])); err == nil {
			t.Errorf("%s decodes to %+v", name, o)
		}
	}
}

// TestFormatOfRows keeps what docs/format/rows.md says.
func TestFormatOfRows(t *testing.T) {
	id := value.ID{Table: 10_001, Key: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}
	d := Document{ID: id, CreationTime: 1_700_000_000_000.25, Fields: value.Object(
		value.Field{Name: "name", Value: value.String("a")}, value.Field{Name: "n", Value: value.Float64(1.5)})}
	want := unhex(t, "02 00060A24181E4001 4278BCFE56800400 01 05 000000000000F83F 02 07 01 61")
	names := new(value.Names)
	row := appendRow(nil, names, d)
	binary.BigEndian.PutUint64(row[txn.StampOffset:], 1_700_000_000_000_001)
	if !cmp.Equal(row, want) {
		t.Errorf("the row is\n%x, want\n%x", row, want)
	}
	if rowTimestamp(want) != 1_700_000_000_000_001 {
		t.Errorf("it was committed at %d", rowTimestamp(want))
	}
	got, err := decodeRow(names, id, want)
	if err != nil || got.ID != id || got.CreationTime != d.CreationTime || !value.Equal(got.Fields, d.Fields) {
		t.Errorf("it decodes to %+v, %v", got, err)
	}
	whole := map[int]bool{rowHeader: true, rowHeader + 10: true} // up to a field's end
	for n := range want {
		if d, err := decodeRow(names, id, want[:n]); errors.Is(err, ErrCorrupt) == whole[n] {
			t.Errorf("its first %d bytes decode to %+v, %v", n, d, err)
		}
	}
	if _, err := decodeRow(new(value.Names), id, want); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a row whose names are unknown gives %v", err)
	}
	for version, class := range map[byte]error{0: ErrCorrupt, 1: ErrOlderFormat, 3: ErrNewerFormat} {
		want[0] = version
		if _, err := decodeRow(names, id, want); !errors.Is(err, class) {
			t.Errorf("a row of version %d gives %v", version, err)
		}
	}
	if !value.Equal(got.Fields, d.Fields) {
		t.Errorf("what was decoded has changed with the row: %+v", got)
	}
}

// TestFormatOfChangeRecords keeps what docs/format/log.md says.
func TestFormatOfChangeRecords(t *testing.T) {
	outcome := unhex(t, "64 C0000000 00000000 00000000 0000000C 00000007")
	removed := unhex(t, "72 00002711 01020304 05060708 090A0B0C 0D0E0F10")
	want := unhex(t, "02 0000000000000003 00060A24181E4002 0000000000000002 00060A24181E4000 0A0B0C0D 48F687B6"+
		"06 6D 636C6F636B 09 00060A24183CC480"+
		"0F 6D 6669656C642F 00002711 00000001 05 6E616D65"+
		"15 64 C0000000 00000000 00000000 0000000C 00000007 0C 01 00060A24181E4001 6F6B"+
		"15 72 00002711 01020304 05060708 090A0B0C 0D0E0F10 00")
	before := LogPosition{Term: 2, At: 1_700_000_000_000_000, Sum: 0x0a0b0c0d}
	w := newRecord(&commit.Group{})
	w.set(metaKey(metaClock), unhex(t, "00060A24183CC480"))
	w.set(fieldKey(10_001, 1), []byte("name"))
	w.add(outcome, txn.Write{Value: unhex(t, "01 00060A24181E4001 6F6B")})
	w.add(removed, txn.Write{Deleted: true})
	w.add(keys.AppendIndex(nil, 7), txn.Write{}) // left out
	made := w.finish(3, before, 1_700_000_000_000_002)
	if !cmp.Equal(made.Bytes(), want) {
		t.Errorf("the record is\n%x, want\n%x", made.Bytes(), want)
	}
	r, err := DecodeLogRecord(want)
	if err != nil || r.Position != made.Position || r.Previous != before || r.Position.Term != 3 || r.Position.At != 1_700_000_000_000_002 {
		t.Fatalf("it decodes to %s after %s, %v", r.Position, r.Previous, err)
	}
	var got [][2]string
	err = r.effects(func(key, val []byte) error {
		if (val == nil) != (key[0] == keys.PrefixRow) {
			t.Errorf("effect on %x has value %x", key, val)
		}
		got = append(got, [2]string{string(key), string(val)})
		return nil
	})
	effects := [][2]string{
		{"mclock", string(unhex(t, "00060A24183CC480"))}, {string(fieldKey(10_001, 1)), "name"},
		{string(outcome), string(unhex(t, "01 00060A24181E4001 6F6B"))}, {string(removed), ""},
	}
	if diff := cmp.Diff(effects, got); err != nil || diff != "" {
		t.Errorf("its effects are read with %v %s", err, diff)
	}
	for n := range want {
		if r, err := DecodeLogRecord(want[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("its first %d bytes decode to %s, %v", n, r.Position, err)
		}
		// Of effects cut short, with a sum that fits.
		if n < recordHeader {
			continue
		}
		whole := n == recordHeader || n == recordHeader+16 || n == recordHeader+16+21 || n == recordHeader+16+21+34
		short := NewLogRecord(3, before, 1_700_000_000_000_002, want[recordHeader:n])
		if err := short.effects(func(_, _ []byte) error { return nil }); errors.Is(err, ErrCorrupt) == whole {
			t.Errorf("its effects cut to %d bytes are read with %v", n-recordHeader, err)
		}
	}
	for i := range want {
		other := bytes.Clone(want)
		other[i] ^= 0x04
		if _, err := DecodeLogRecord(other); err == nil {
			t.Errorf("with byte %d changed it decodes", i)
		}
	}
	want[0] = recordVersion - 1
	if _, err := DecodeLogRecord(want); !errors.Is(err, ErrOlderFormat) {
		t.Errorf("a record of an older version gives %v", err)
	}
	want[0] = recordVersion + 1
	if _, err := DecodeLogRecord(want); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("a record of a newer version gives %v", err)
	}
}

// FuzzDecodeLogRecord puts a right sum on any record, so that the fuzzer gets
// to what is behind it.
func FuzzDecodeLogRecord(f *testing.F) {
	r := NewLogRecord(1, LogPosition{}, 7, []byte("\x01r\x02v\x01d\x00"))
	f.Add(r.Bytes())
	f.Add(append(r.Bytes(), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= recordHeader {
			b = bytes.Clone(b)
			b[0] = recordVersion
			binary.BigEndian.PutUint32(b[recordSumOffset:], recordSum(b))
		}
		r, err := DecodeLogRecord(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("a decoder's error is %v", err)
			}
			return
		}
		var w record
		w.b = make([]byte, recordHeader)
		err = r.effects(func(key, val []byte) error {
			if val == nil {
				w.remove(key)
			} else {
				w.set(key, val)
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("its effects are read with %v", err)
		}
		again := w.finish(r.Position.Term, r.Previous, r.Position.At)
		// Lengths may have been written longer than they need be.
		if err == nil && len(again.b) == len(b) && !bytes.Equal(again.b, b) {
			t.Errorf("%x is written again as %x", b, again.b)
		}
	})
}

// TestFormatOfTheCatalog keeps what docs/format/keys.md says about metadata.
func TestFormatOfTheCatalog(t *testing.T) {
	fs := vfs.NewMem()
	schema := Schema{Tables: []TableDef{{
		Name: "t", Indexes: []IndexDef{{Name: "i", Fields: []string{"f", "g.h"}}},
		Aggregates: []AggregateDef{{Name: "a", GroupBy: []string{"f"}, OrderBy: []string{"g"}, Sum: "s", Ranked: true}},
	}}}
	db, err := Open("db", schema, &Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	last := db.Durable()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open("db", store.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	snap := s.NewSnapshot()
	defer snap.Release()
	got := map[string]string{}
	it, err := snap.Iterate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		got[string(it.Key())] = hex.EncodeToString(it.Value())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	clock, err := hex.DecodeString(got["mclock"])
	if err != nil || len(clock) != 8 || Timestamp(binary.BigEndian.Uint64(clock)) < last {
		t.Errorf("the clock is %x, %d was handed out", clock, last)
	}
	delete(got, "mclock")
	if n := hex.DecodedLen(len(got["mcursors"])); n != cursorKeySize {
		t.Errorf("the key of cursors has %d bytes, want %d", n, cursorKeySize)
	}
	delete(got, "mcursors") // random
	for k := range got {    // of the groups that moved the lease
		if k[0] == keys.PrefixLog {
			delete(got, k)
		}
	}
	want := map[string]string{
		"mformat":                      "00000001",
		"mlog":                         "01" + "0000000000000001" + strings.Repeat("00", 20),
		"mnext":                        "00002716",
		"mtable/t":                     "0000271101",
		"mindex/t\x00by_creation_time": "0000271201" + "0901020400",
		"mindex/t\x00i":                "0000271301" + "09030a0400" + "070166" + "0703672e68",
		"maggregate/t\x00a":            "0000271401" + "09050c0402" + "070166" + "070167" + "01" + "070173",
		"maggregate/t\x00a\x00ranking": "0000271501" + "0902050402" + "070166",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
