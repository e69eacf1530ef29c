package protocol

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// FuzzDecodeClient checks that whatever DecodeClient accepts is JSON, and comes
// back the same after it was written and read again.
func FuzzDecodeClient(f *testing.F) {
	transcriptLines(f, func(_, side, text string) {
		if side == "client" {
			f.Add([]byte(text))
		}
	})
	f.Add([]byte(`{"type":"Authenticate","baseVersion":0,"tokenType":"Admin","value":"k","acting_as":{"a":[1e5,-0.5,"\ud83d\ude00"]}}`))
	f.Add([]byte(`{"type":"Event","eventType":"ClientConnect","event":{}}`))
	f.Add([]byte(`{"type":"Event","eventType":"ClientConnect"}`))
	f.Add([]byte(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Add","queryId":1,"udfPath":"a","args":[],"componentPath":"c"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeClient(data)
		if err != nil {
			if !errors.Is(err, ErrSyntax) || !utf8.ValidString(err.Error()) {
				t.Fatalf("DecodeClient(%q) = %q, want UTF-8 text that wraps ErrSyntax", data, err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("DecodeClient accepts %q, which is not JSON", data)
		}
		again := m.Append(nil)
		m2, err := DecodeClient(again)
		if err != nil {
			t.Fatalf("DecodeClient(%q) wrote %q, which it refuses: %v", data, again, err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Fatalf("%q changed on the way (-first +second):\n%s", data, diff)
		}
	})
}

// FuzzDecodeServer is FuzzDecodeClient for the other direction.
func FuzzDecodeServer(f *testing.F) {
	transcriptLines(f, func(_, side, text string) {
		if side == "server" {
			f.Add([]byte(text))
		}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeServer(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("DecodeServer accepts %q, which is not JSON", data)
		}
		again := m.Append(nil)
		m2, err := DecodeServer(again)
		if err != nil {
			t.Fatalf("DecodeServer(%q) wrote %q, which it refuses: %v", data, again, err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Fatalf("%q changed on the way (-first +second):\n%s", data, diff)
		}
	})
}

// FuzzScanner compares the scanner's idea of JSON with the standard library's.
func FuzzScanner(f *testing.F) {
	for _, text := range []string{`{}`, `[1,-2.5e+3,"\u00e9",true,false,null]`, `{"a":{"b":[]}}`, `01`, `[1,]`, `"\ud800"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &scanner{data: data}
		err := s.skip()
		if err == nil {
			err = s.end()
		}
		if want := json.Valid(data); want != (err == nil) && s.depth <= nestingMax {
			t.Fatalf("scanner says %v about %q, json.Valid says %v", err, data, want)
		}
	})
}

// A ModifyQuerySet with too many modifications is refused before there is memory for them: what it takes is bounded by ModificationsMax and
// not by the size of the message.
func TestManyModificationsTakeLittle(t *testing.T) {
	for _, mod := range []string{`{"type":"Add","queryId":1,"udfPath":"a","args":0}`, `{"type":"Remove","queryId":1}`} {
		text := `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[` + strings.Repeat(mod+",", 10<<20/len(mod)) + mod + `]}`
		data := []byte(text)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := DecodeClient(data)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), "more than 16384 modifications") || m != nil {
			t.Errorf("%s: %v, %v", mod, m, err)
		}
		// A slice that grows takes a few times its size on the way, and each has its texts.
		if took := after.TotalAlloc - before.TotalAlloc; took > 10*ModificationsMax*uint64(unsafe.Sizeof(Modification{})) {
			t.Errorf("%s: 10 MiB of them took %d KiB", mod, took>>10)
		}
		at := `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[` + strings.Repeat(mod+",", ModificationsMax-1) + mod + `]}`
		if m, err := DecodeClient([]byte(at)); err != nil || len(m.(*ModifyQuerySet).Modifications) != ModificationsMax {
			t.Errorf("%s: %d of them: %v", mod, ModificationsMax, err)
		}
	}
}
