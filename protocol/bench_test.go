package protocol

import "testing"

func BenchmarkDecodeMutation(b *testing.B) {
	text := []byte(`{"type":"Mutation","requestId":17,"udfPath":"stats:heartbeat","args":[{"path":"/guide/start","visitorId":"0d9d5b2a-46a4-4be0-a1f5-0b6f62b6e9b0"}]}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeClient(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTransition(b *testing.B) {
	body := AppendQueryUpdated(nil, []byte(`{"pageViews":120394,"visitors":12}`), nil, nil)
	start, end := Version{QuerySet: 1, TS: 1795321970961000}, Version{QuerySet: 1, TS: 1795321970971000}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendTransitionStart(dst[:0], start, end)
		dst = AppendModificationStart(dst, 3)
		dst = append(dst, body...)
		dst = AppendTransitionEnd(dst, nil, nil)
	}
}
