package halcyon

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestLogLine(t *testing.T) {
	tests := []struct {
		name string
		args []any
		want string
	}{
		{"string", []any{"hello"}, "[LOG] 'hello'"},
		{"nothing", nil, "[LOG] "},
		{"several", []any{"n", 1, 1.5, true, nil}, "[LOG] 'n' 1 1.5 true null"},
		{"quotes", []any{`it's "so"`}, `[LOG] 'it\'s "so"'`},
		{"one line", []any{"a\nb\tc\\"}, `[LOG] 'a\nb\tc\\'`},
		{"object", []any{map[string]any{"b": []int{1, 2}, "a-b": "x"}}, "[LOG] { 'a-b': 'x', b: [ 1, 2 ] }"},
		{"struct", []any{inner{"n"}}, "[LOG] { name: 'n' }"},
		{"empty", []any{[]int{}, map[string]int{}}, "[LOG] [] {}"},
		{"int64", []any{int64(5)}, "[LOG] 5n"},
		{"bytes", []any{[]byte{1, 2}}, "[LOG] ArrayBuffer { byteLength: 2 }"},
		{"floats", []any{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e21}, "[LOG] NaN Infinity -Infinity -0 1e+21"},
		{"error", []any{errors.New("boom")}, "[LOG] Error: boom"},
		{"time", []any{time.UnixMilli(1795353255123)}, "[LOG] 2026-11-22T13:14:15.123Z"},
		{"duration", []any{2 * time.Second}, "[LOG] 2s"},
		{"nil pointer", []any{(*inner)(nil)}, "[LOG] undefined"},
		{"no Convex value", []any{complex(1, 2)}, "[LOG] (1+2i)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l logLines
			l.add("LOG", tt.args)
			if l[0] != tt.want {
				t.Errorf("log %#v\n got %s\nwant %s", tt.args, l[0], tt.want)
			}
		})
	}
}

func TestLogLimits(t *testing.T) {
	var l logLines
	for range logLinesMax - 1 {
		l.add("INFO", []any{1})
	}
	if got := l[len(l)-1]; len(l) != logLinesMax-1 || got != "[INFO] 1" {
		t.Fatalf("%d lines, last %q", len(l), got)
	}
	l.add("INFO", []any{1})
	l.add("INFO", []any{1})
	if got := l[len(l)-1]; len(l) != logLinesMax || got != "[ERROR] Log overflow (maximum 256). Remaining log lines omitted." {
		t.Errorf("past the limit: %d lines, last %q", len(l), got)
	}

	fits := strings.Repeat("x", logLineBytesMax-len("[LOG] ''"))
	for name, text := range map[string]string{"one past": fits + "x", "far past": strings.Repeat("é", 1<<20)} {
		var l logLines
		l.add("LOG", []any{text})
		if len(l[0]) > logLineBytesMax || !strings.HasSuffix(l[0], " (truncated due to length)") || !utf8.ValidString(l[0]) {
			t.Errorf("%s: %d bytes, end %q", name, len(l[0]), l[0][len(l[0])-30:])
		}
	}
	l = nil
	l.add("LOG", []any{fits})
	if l[0] != "[LOG] '"+fits+"'" {
		t.Errorf("a line at the limit was changed: %d bytes", len(l[0]))
	}
}
