package halcyon

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// FuzzUnions is FuzzArguments for enums and unions.
func FuzzUnions(f *testing.F) {
	for _, seed := range []string{
		`{"status":"open","level":1,"content":{"kind":"text","body":"b"},"scalar":"x","maybe":null}`,
		`{"status":"closed","level":2,"content":{"kind":"image","url":"u","width":3},"scalar":5,"more":[{"kind":"text","body":""}],"only":"me"}`,
		`{"status":"other","content":{"kind":5}}`,
	} {
		f.Add([]byte(seed))
	}
	fuzzArguments[choices](f)
}

// FuzzArguments checks that arguments from clients are taken or refused, never worse, and that what is taken encodes to what was sent,
// save that a null or zero that may be left out is.
func FuzzArguments(f *testing.F) {
	for _, seed := range []string{`{}`, `{"name":"x"}`, `{"name":"x","age":3,"tags":["a"],"home":{"city":"c"},"since":null,"friends":[{"name":"a","rows":[]}]}`, `[]`} {
		f.Add([]byte(seed))
	}
	fuzzArguments[person](f)
}

func fuzzArguments[T any](f *testing.F) {
	c, err := codecFor(reflect.TypeFor[T]())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := value.ParseJSON(data)
		if err != nil {
			return
		}
		var args, again T
		if err := (&decoder{}).decode(c, v, reflect.ValueOf(&args).Elem()); err != nil {
			if len(err.Error()) > 4*displayBytesMax {
				t.Errorf("a message of %d bytes for %d bytes of arguments", len(err.Error()), len(data))
			}
			return
		}
		encoded, err := Encode(args)
		if err != nil {
			t.Fatalf("encode what %s decoded to: %v", data, err)
		}
		if err := (&decoder{}).decode(c, encoded, reflect.ValueOf(&again).Elem()); err != nil {
			t.Fatalf("decode %s, which was encoded from %s: %v", toJSON(encoded), data, err)
		}
		once, _ := Encode(again)
		if !value.Equal(encoded, once) {
			t.Errorf("%s is %s, then %s", data, toJSON(encoded), toJSON(once))
		}
	})
}

// FuzzStored checks that damaged outcomes are refused.
func FuzzStored(f *testing.F) {
	f.Add(encodeOutcome(value.String("x"), []string{"[LOG] 'y'"}))
	f.Add(cronStep{next: time.UnixMilli(2), skipped: 1, missed: 3}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := decodeOutcome(engine.Receipt{Result: b}); err == nil {
			again, err := decodeOutcome(engine.Receipt{Result: encodeOutcome(out.Value, out.Logs)})
			if err != nil || !value.Equal(out.Value, again.Value) || !cmp.Equal(out.Logs, again.Logs) {
				t.Errorf("outcome %x is %v %q, then %v %q, %v", b, out.Value, out.Logs, again.Value, again.Logs, err)
			}
		}
		if s, err := decodeCronStep(b); err == nil {
			if again, err := decodeCronStep(s.append(nil)); err != nil || again.missed != s.missed || again.skipped != s.skipped {
				t.Errorf("cron step %x is %+v, then %+v, %v", b, s, again, err)
			}
		}
	})
}
