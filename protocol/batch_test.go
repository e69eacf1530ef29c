package protocol

import (
	"errors"
	"strings"
	"testing"
)

func TestDecodeHTTPQueryAt(t *testing.T) {
	c, ts, err := DecodeHTTPQueryAt([]byte(`{"ts":"BQAAAAAAAAA=","path":"a:b","args":{},"format":"convex_encoded_json","more":[1]}`))
	if err != nil || c.Path != "a:b" || string(c.Args) != "{}" || c.Format != FormatEncoded || ts != 5 {
		t.Errorf("%+v at %d, %v", c, ts, err)
	}
	for text, want := range map[string]string{
		`{"path":"a:b","args":{}}`:                      `missing field "ts"`,
		`{"path":"a:b","ts":"BQAAAAAAAAA="}`:            `missing field "args"`,
		`{"args":{},"ts":"BQAAAAAAAAA="}`:               `missing field "path"`,
		`{"path":"a:b","args":{},"ts":"BQAAAAAAAAA"}`:   "is not 12 characters",
		`{"path":"a:b","args":{},"ts":5}`:               "",
		`{"path":"a:b","args":{},"ts":"BQAAAAAAAAA="}]`: "",
	} {
		if _, _, err := DecodeHTTPQueryAt([]byte(text)); !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestDecodeHTTPBatch(t *testing.T) {
	calls, err := DecodeHTTPBatch([]byte(`{"queries":[{"path":"a:b","args":{}},{"path":"c","args":[]}]}`), 2)
	if err != nil || len(calls) != 2 || calls[1].Path != "c" || string(calls[1].Args) != "[]" {
		t.Errorf("%+v, %v", calls, err)
	}
	for text, want := range map[string]string{
		`{}`:                         `missing field "queries"`,
		`{"queries":{}}`:             "",
		`{"queries":[{"path":"a"}]}`: "query 0",
		`{"queries":[{"path":"a","args":{}},{"path":"a","args":{}},{"path":"a","args":{}}]}`: "may have 2 queries",
	} {
		if _, err := DecodeHTTPBatch([]byte(text), 2); !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c, err := DecodeHTTPRun([]byte(`{"args":{},"path":"ignored"}`))
	if err != nil || c.Path != "" || string(c.Args) != "{}" {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzDecodeHTTP(f *testing.F) {
	f.Add([]byte(`{"path":"a:b","args":{},"ts":"BQAAAAAAAAA=","format":"json"}`))
	f.Add([]byte(`{"queries":[{"path":"a:b","args":{}}],"queries":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, atErr := DecodeHTTPQueryAt(data)
		_, callErr := DecodeHTTPCall(data)
		_, runErr := DecodeHTTPRun(data)
		calls, batchErr := DecodeHTTPBatch(data, 10)
		for _, err := range []error{atErr, callErr, runErr, batchErr} {
			if err != nil && !errors.Is(err, ErrSyntax) {
				t.Errorf("%v is no ErrSyntax", err)
			}
		}
		if atErr == nil && callErr != nil || callErr == nil && runErr != nil {
			t.Errorf("%q: at %v, call %v, run %v", data, atErr, callErr, runErr)
		}
		if len(calls) > 10 {
			t.Errorf("%d calls in a batch of 10", len(calls))
		}
	})
}
