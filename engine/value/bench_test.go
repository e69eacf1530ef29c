package value_test

import (
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine/value"
)

// benchDocuments are a presence row, a page view and a long post.
func benchDocuments(b *testing.B) map[string]value.Value {
	b.Helper()
	return map[string]value.Value{
		"small": mustParse(b, `{"lastSeen":1795321970961,"path":"/about","visitor":"8f14e45f"}`),
		"row": mustParse(b, `{"browser":"Firefox","city":"Utrecht","country":"NL","device":"desktop","duration":12.75,
			"location":{"latitude":52.0907,"longitude":5.1214},"path":"/blog/a-title-of-some-length","referrer":null,
			"sessionId":"j57cq69zzk3v4s9ktbn6g3dskx7m7aj5","tags":["a","b","c"],"timestamp":1795321970961,"unique":true}`),
		"post": mustParse(b, `{"author":"j57cq69zzk3v4s9ktbn6g3dskx7m7aj5","body":"`+strings.Repeat(`Lorem ipsum dolor sit amet.\n`, 400)+`","title":"A post"}`),
	}
}

func eachDocument(b *testing.B, run func(b *testing.B, v value.Value)) {
	for name, v := range benchDocuments(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, v)
		})
	}
}

func BenchmarkAppendOrdered(b *testing.B) {
	for name, v := range map[string]value.Value{
		"float": value.Float64(1795321970961), "string": value.String("/blog/a-title-of-some-length"),
		"object": benchDocuments(b)["row"],
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst = value.AppendOrdered(dst[:0], v)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

func BenchmarkDecodeOrdered(b *testing.B) {
	for name, v := range map[string]value.Value{
		"float": value.Float64(1795321970961), "string": value.String("/blog/a-title-of-some-length"),
		"object": benchDocuments(b)["row"],
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			encoded := value.AppendOrdered(nil, v)
			b.SetBytes(int64(len(encoded)))
			for b.Loop() {
				if _, _, err := value.DecodeOrdered(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendBinary(b *testing.B) {
	eachDocument(b, func(b *testing.B, v value.Value) {
		var dst []byte
		for b.Loop() {
			dst = value.AppendBinary(dst[:0], v)
		}
		b.SetBytes(int64(len(dst)))
	})
}

func BenchmarkDecodeBinary(b *testing.B) {
	eachDocument(b, func(b *testing.B, v value.Value) {
		encoded := value.AppendBinary(nil, v)
		b.SetBytes(int64(len(encoded)))
		for b.Loop() {
			if _, err := value.DecodeBinary(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendTuple(b *testing.B) {
	eachDocument(b, func(b *testing.B, v value.Value) {
		var dst []byte
		names := new(value.Names)
		for b.Loop() {
			dst = value.AppendTuple(dst[:0], v, names)
		}
		b.SetBytes(int64(len(dst)))
	})
}

// BenchmarkDecodeTuple measures what a row costs that comes from the store: checking it, and then nothing.
func BenchmarkDecodeTuple(b *testing.B) {
	eachDocument(b, func(b *testing.B, v value.Value) {
		names := new(value.Names)
		encoded := value.AppendTuple(nil, v, names)
		b.SetBytes(int64(len(encoded)))
		for b.Loop() {
			if _, err := value.DecodeTuple(encoded, names); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkTupleGet(b *testing.B) {
	names := new(value.Names)
	tuple := value.TrustTuple(value.AppendTuple(nil, benchDocuments(b)["row"], names), names)
	for _, name := range []string{"browser", "timestamp", "sessionId", "missing"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = tuple.Get(name)
			}
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	eachDocument(b, func(b *testing.B, v value.Value) {
		var dst []byte
		for b.Loop() {
			dst = value.AppendJSON(dst[:0], v)
		}
		b.SetBytes(int64(len(dst)))
	})
}

func BenchmarkParseJSON(b *testing.B) {
	eachDocument(b, func(b *testing.B, v value.Value) {
		encoded := value.AppendJSON(nil, v)
		b.SetBytes(int64(len(encoded)))
		for b.Loop() {
			if _, err := value.ParseJSON(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCheckDocument(b *testing.B) {
	eachDocument(b, func(b *testing.B, v value.Value) {
		for b.Loop() {
			if err := value.CheckDocument(v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	v := benchDocuments(b)["row"]
	b.ReportAllocs()
	for b.Loop() {
		if v.Get("timestamp").IsUndefined() {
			b.Fatal("no timestamp")
		}
	}
}

func BenchmarkID(b *testing.B) {
	id := value.NewID(10001, time.UnixMilli(1795321970961), 1)
	text := id.String()
	b.Run("String", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = id.String()
		}
	})
	b.Run("ParseID", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := value.ParseID(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
