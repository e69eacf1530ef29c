package web

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// readable returns a path as people read it: %C3%BC is ü. What separates the parts of
// an address stays written out, and so does what can't be seen. web/stats/src/model.ts
// has the same.
func readable(path string) string {
	var plain strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			plain.WriteByte(path[i])
			continue
		}
		if i+3 > len(path) {
			return path
		}
		char, err := url.PathUnescape(path[i : i+3])
		if err != nil {
			return path
		}
		if strings.Contains(";/?:@&=+$,#", char) {
			char = path[i : i+3]
		}
		plain.WriteString(char)
		i += 2
	}
	if !utf8.ValidString(plain.String()) {
		return path
	}
	var seen strings.Builder
	for _, r := range plain.String() {
		// The joiners are parts of letters and of emoji.
		if joins := r == '\u200c' || r == '\u200d'; !joins && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Z) {
			seen.WriteString(url.PathEscape(string(r)))
			continue
		}
		seen.WriteRune(r)
	}
	return seen.String()
}
