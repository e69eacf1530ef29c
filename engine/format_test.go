package engine

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
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
