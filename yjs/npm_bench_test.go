package yjs

import (
	"testing"
)

// BenchmarkBesideNPM measures npm yjs on the work of the other benchmarks, in
// the same run. Its numbers are in milliseconds, medians of five.
func BenchmarkBesideNPM(b *testing.B) {
	o := startOracle(b)
	b4 := readData(b, "vectors/b4.v1.bin.gz")
	m, err := ParseUpdateMeta(b4)
	must(b, err)
	sv := map[uint64]uint64{}
	for client, clock := range m.To {
		sv[client] = clock * 9 / 10
	}
	var small [][]byte
	for i := range 10000 {
		small = append(small, smallDocument(b, i))
	}
	request := struct {
		Op     string            `json:"op"`
		B4     []byte            `json:"b4"`
		Typing [][]byte          `json:"typing"`
		Small  [][]byte          `json:"small"`
		SV     map[uint64]uint64 `json:"sv"`
	}{"bench", b4, typing(10000), small, sv}
	var got struct{ Merge, Diff, SV, Load, Small float64 }
	for b.Loop() {
		must(b, o.ask(b, request, &got))
	}
	b.ReportMetric(got.Merge, "merge10000-ms")
	b.ReportMetric(got.Diff, "diffB4-ms")
	b.ReportMetric(got.SV, "stateVectorB4-ms")
	b.ReportMetric(got.Load, "loadB4-ms")
	b.ReportMetric(got.Small, "small10000-ms")
}
