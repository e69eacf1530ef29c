package halcyon

import (
	"errors"
	"fmt"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

func TestClassify(t *testing.T) {
	tests := []struct {
		name    string
		err     error
		failure Code // an outcome
		refusal Code // an error of the request
		retry   bool
		status  int
	}{
		{"function's own", errors.New("x"), "", "", false, 0},
		{"timeout", engine.ErrTimeout, CodeTimeout, "", true, 503},
		{"too old", engine.ErrTooOld, CodeTooOld, "", false, 409},
		{"index building", &engine.BuildingError{Table: "t", Index: "i"}, CodeIndexBuilding, "", true, 503},
		{"index failed", fmt.Errorf("index i of t: %w", engine.ErrBuildFailed), CodeIndexFailed, "", false, 500},
		{"no table", fmt.Errorf("t: %w", engine.ErrNoTable), CodeNoTable, "", false, 500},
		{"no index", fmt.Errorf("i: %w", engine.ErrNoIndex), CodeNoIndex, "", false, 500},
		{"not unique", &engine.UniqueError{Table: "t", Index: "i"}, CodeNotUnique, "", false, 409},
		{"disk full", fmt.Errorf("%w: 3 MiB", engine.ErrDiskFull), CodeDiskFull, "", true, 507},
		{"stuck", engine.ErrFunctionStuck, CodeFunctionStuck, "", false, 503},
		{"engine's limit", &engine.LimitError{Limit: "documents read", Max: 3}, CodeLimitExceeded, "", false, 400},
		{"value's limit", &value.LimitError{Limit: "nesting"}, CodeLimitExceeded, "", false, 400},
		{"overloaded", engine.ErrOverloaded, "", CodeOverloaded, true, 503},
		{"closed", engine.ErrClosed, "", CodeUnavailable, true, 503},
		{"storage failed", engine.ErrFailed, "", CodeUnavailable, true, 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			failure, refusal := classify(fmt.Errorf("while reading: %w", &callError{cause: tt.err}))
			var gotFailure, gotRefusal Code
			status := 0
			if failure != nil {
				gotFailure = failure.Code
				status = codeInfo[failure.Code].status
				if code, _ := failure.Data.Get("code").AsString(); code != string(tt.failure) {
					t.Errorf("the client is told code %q, want %q", code, tt.failure)
				}
				if retry, _ := failure.Data.Get("retry").AsBool(); retry != tt.retry {
					t.Errorf("the client is told retry %v, want %v", retry, tt.retry)
				}
			}
			if e, ok := errors.AsType[*RequestError](refusal); ok {
				gotRefusal, status = e.Code, e.Status
				if !errors.Is(refusal, tt.err) {
					t.Errorf("%v does not wrap %v", refusal, tt.err)
				}
			}
			if gotFailure != tt.failure || gotRefusal != tt.refusal || status != tt.status {
				t.Errorf("classify(%v) = failure %q, refusal %q, status %d; want %q, %q, %d", tt.err, gotFailure, gotRefusal, status, tt.failure, tt.refusal, tt.status)
			}
			if code := gotFailure + gotRefusal; code.Retry() != tt.retry {
				t.Errorf("retry of %q is %v", code, code.Retry())
			}
		})
	}
}

func TestEveryCodeIsDescribed(t *testing.T) {
	codes := []Code{
		CodeTimeout, CodeActionTimeout, CodeLimitExceeded, CodeTooOld, CodeFunctionStuck, CodeIndexBuilding, CodeInvalidCursor, CodeIndexFailed, CodeNoTable, CodeNoIndex, CodeNotUnique, CodeDiskFull, CodeOverloaded, CodeUnavailable, CodeBadFunction, CodeBadArgs, CodeInternal, CodeBadAdminKey, CodeNeedsAdmin, CodeOutOfRetention,
	}
	if len(codes) != len(codeInfo) {
		t.Errorf("%d codes, %d described", len(codes), len(codeInfo))
	}
	for _, code := range codes {
		if info := codeInfo[code]; info.status < 400 || info.message == "" {
			t.Errorf("code %s: status %d, message %q", code, info.status, info.message)
		}
	}
}
