package halcyon

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon/engine/value"
)

const (
	logCutMarker = " (truncated due to length)"
	logOverflow  = "[ERROR] Log overflow (maximum 256). Remaining log lines omitted."
)

// logLines collects the lines of one call.
type logLines []string

// add appends one line. What comes after the last line but one is replaced by a notice, so the limit is never a silent loss.
func (l *logLines) add(level string, args []any) {
	switch {
	case len(*l) >= logLinesMax:
		return
	case len(*l) == logLinesMax-1:
		*l = append(*l, logOverflow)
		return
	}
	var b strings.Builder
	b.WriteString("[" + level + "]")
	for _, arg := range args {
		b.WriteString(" ")
		appendLogged(&b, arg)
	}
	if len(args) == 0 {
		b.WriteString(" ")
	}
	*l = append(*l, cut(b.String(), logLineBytesMax, logCutMarker))
}

// appendLogged writes one argument of Log as JavaScript's console shows it.
func appendLogged(b *strings.Builder, arg any) {
	switch arg := arg.(type) {
	case error:
		b.WriteString("Error: " + arg.Error())
	case time.Time:
		b.WriteString(arg.UTC().Format("2006-01-02T15:04:05.000Z"))
	case time.Duration:
		b.WriteString(arg.String())
	default:
		v, err := encodeAny(arg)
		if err != nil {
			b.WriteString(fmt.Sprintf("%+v", arg))
			return
		}
		appendInspected(b, v)
	}
}

// appendInspected writes a value as console.log in JavaScript does: { name: 'Ann', tags: [ 'a' ] }.
func appendInspected(b *strings.Builder, v value.Value) {
	if b.Len() > logLineBytesMax {
		return // the rest would be cut
	}
	switch v.Kind() {
	case value.KindUndefined:
		b.WriteString("undefined")
	case value.KindNull:
		b.WriteString("null")
	case value.KindInt64:
		i, _ := v.AsInt64()
		b.WriteString(strconv.FormatInt(i, 10) + "n")
	case value.KindFloat64:
		b.WriteString(inspectFloat(v))
	case value.KindBytes:
		raw, _ := v.AsBytes()
		fmt.Fprintf(b, "ArrayBuffer { byteLength: %d }", len(raw))
	case value.KindString:
		s, _ := v.AsString()
		b.WriteString(singleQuoted(s))
	case value.KindArray:
		if v.Len() == 0 {
			b.WriteString("[]")
			return
		}
		for i := range v.Len() {
			b.WriteString(separator(i, "[ "))
			appendInspected(b, v.Index(i))
		}
		b.WriteString(" ]")
	case value.KindObject:
		if len(v.Fields()) == 0 {
			b.WriteString("{}")
			return
		}
		for i, f := range v.Fields() {
			b.WriteString(separator(i, "{ "))
			if identifier.MatchString(f.Name) {
				b.WriteString(f.Name + ": ")
			} else {
				b.WriteString(singleQuoted(f.Name) + ": ")
			}
			appendInspected(b, f.Value)
		}
		b.WriteString(" }")
	default:
		b.Write(value.AppendJSON(nil, v))
	}
}

var identifier = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

func separator(i int, first string) string {
	if i == 0 {
		return first
	}
	return ", "
}

func inspectFloat(v value.Value) string {
	f, _ := v.AsFloat64()
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0 && math.Signbit(f):
		return "-0"
	}
	return string(value.AppendJSON(nil, v))
}

// singleQuoted quotes a string as JavaScript's inspect does, on one line.
func singleQuoted(s string) string {
	quoted := strconv.Quote(s)
	quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	return "'" + strings.ReplaceAll(quoted, "'", `\'`) + "'"
}
