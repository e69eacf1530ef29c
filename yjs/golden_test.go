package yjs

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// goldenUpdates are the bytes npm yjs 13.6 writes for small documents of
// client 1.
var goldenUpdates = []struct{ name, v1, v2 string }{
	{"empty", "0000", "00000000000001000000000000"},
	{"text", "010101000401017402686900", "0000010100000104060374686901020101000001010000"},
	{"map", "010101002801016d0161017d0100", "000001010000012805026d61410001010001010101007d0100"},
	{"array", "0101010008010161037d017701787e00", "00000101000001080301610101010001030101007d017701787e00"},
	{"bold", "0105010004010174016184010001628401010163c60100010104626f6c640474727565c60101010204626f6c64046e756c6c00", "0002000202410504000242020203000504008401c6110c74616263626f6c64626f6c644102440001010000010500787e00"},
	{"deletion", "010301000401017401618101000184010101630101010101", "0000024101020002000504008100840603746163410101010001010103000101010100"},
	{"xml", "010401000701017803017028000100016b01770176070001000604000102017a00", "00010002410203010004000707002800070004070478706b7a410203010000020306010101040077017600"},
	{"subdocument", "010101002901016d01730167760000", "000001010000012906036d7367410101010000010100760000"},
	{"binary", "010101000301016102010200", "0000010100000103030161010101000001010002010200"},
	{"split pair", "01030100040101740461efbfbd8101010184010201620101010201", "0000024101020300000504008100840a067461efbfbd6201020101010001010103000101010200"},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConvertGolden(t *testing.T) {
	for _, g := range goldenUpdates {
		t.Run(g.name, func(t *testing.T) {
			v1, v2 := unhex(t, g.v1), unhex(t, g.v2)
			got, err := ConvertV1ToV2(v1)
			if err != nil || !bytes.Equal(got, v2) {
				t.Errorf("V1 to V2\n got %x, %v\nwant %x", got, err, v2)
			}
			got, err = ConvertV2ToV1(v2)
			if err != nil || !bytes.Equal(got, v1) {
				t.Errorf("V2 to V1\n got %x, %v\nwant %x", got, err, v1)
			}
			if err := (Codec{}).Validate(v1); err != nil {
				t.Errorf("V1: %v", err)
			}
			for n := range v1 {
				if (Codec{}).Validate(v1[:n]) == nil {
					t.Errorf("V1 cut to %d bytes is accepted", n)
				}
			}
			if (Codec{}).Validate(append(v1, 0)) == nil {
				t.Errorf("V1 with a byte after it is accepted")
			}
		})
	}
}

func TestMergeGolden(t *testing.T) {
	a := unhex(t, "0101010004010174016100")
	b := unhex(t, "010101018401000162"+"00")
	c := unhex(t, "010101028401010163"+"00")
	gap, err := MergeUpdates(a, c)
	if want := unhex(t, "010301000401017401610a01840101016300"); err != nil || !bytes.Equal(gap, want) {
		t.Errorf("a+c = %x, %v, want %x", gap, err, want)
	}
	sv, err := StateVectorFromUpdate(gap)
	if err != nil || !bytes.Equal(sv.Encode(), []byte{1, 1, 1}) {
		t.Errorf("state vector of a+c = %v, %v", sv, err)
	}
	want := unhex(t, "0103010004010174016184010001628401010163"+"00")
	for _, order := range [][][]byte{{a, b, c}, {c, b, a}, {b, a, c}, {gap, b}, {b, gap, a}} {
		got, err := Codec{KeepSplit: true}.Merge(order...)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("merge = %x, %v, want %x", got, err, want)
		}
		got, err = MergeUpdates(order...)
		if joined := unhex(t, "01010100040101740361626300"); err != nil || !bytes.Equal(got, joined) {
			t.Errorf("merge with joining = %x, %v, want %x", got, err, joined)
		}
	}
	diff, err := DiffUpdate(want, StateVector{1: 1})
	if w := unhex(t, "010201018401000162840101016300"); err != nil || !bytes.Equal(diff, w) {
		t.Errorf("diff = %x, %v, want %x", diff, err, w)
	}
}
