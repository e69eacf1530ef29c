package server

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// clientHeader is where clients other than the npm client say what they are: NAME-VERSION.
const clientHeader = "Convex-Client"

// The headers by which a client learns that it is old. Clients log both.
const (
	deprecationStateHeader   = "X-Convex-Deprecation-State"
	deprecationMessageHeader = "X-Convex-Deprecation-Message"
)

// clientVersion is what a client says it is. The zero value is one that does not say, which is as good as any.
type clientVersion struct {
	name   string // "npm", "rust", "python", ...
	number [3]int
}

// version is the number as a text.
func (v clientVersion) version() string {
	return fmt.Sprintf("%d.%d.%d", v.number[0], v.number[1], v.number[2])
}

func (v clientVersion) compare(w clientVersion) int {
	for i := range v.number {
		if c := cmp.Compare(v.number[i], w.number[i]); c != 0 {
			return c
		}
	}
	return 0
}

// lastTooOld are the newest versions that spoke another protocol.
var lastTooOld = []clientVersion{
	{"npm", [3]int{0, 19, 1}},
	{"python", [3]int{0, 0, 2}},
	{"rust", [3]int{0, 0, 1}},
}

// tooOld reports whether a client speaks a protocol of before this one, and what it needs at least.
func (v clientVersion) tooOld() (least string, old bool) {
	for _, last := range lastTooOld {
		if v.name == last.name && v.compare(last) <= 0 {
			last.number[2]++
			return last.version(), true
		}
	}
	return "", false
}

// takesChunks reports whether a client knows TransitionChunk.
func (v clientVersion) takesChunks() bool {
	return v.name == "npm" && v.compare(clientVersion{number: [3]int{1, 28, 0}}) >= 0
}

// parseClientVersion reads what a client says in the header, or else in the path, where only the npm client says something. A header that
// means nothing to this server is nobody's mistake: there are many programs.
func parseClientVersion(header, path string) (clientVersion, error) {
	if header != "" {
		// The name may have a - in it, and so may a version.
		for i := range len(header) {
			if header[i] != '-' {
				continue
			}
			if number, ok := parseVersion(header[i+1:]); ok {
				return clientVersion{header[:i], number}, nil
			}
		}
		return clientVersion{}, nil
	}
	if path == "" {
		return clientVersion{}, nil
	}
	number, ok := parseVersion(path)
	if !ok {
		return clientVersion{}, fmt.Errorf("%.40q in the path is not a version of a client", path)
	}
	return clientVersion{"npm", number}, nil
}

// parseVersion reads a semantic version. What stands behind the three numbers is not looked at.
func parseVersion(text string) (number [3]int, ok bool) {
	core, _, _ := strings.Cut(text, "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) != len(number) || len(text) > 64 {
		return number, false
	}
	for i, part := range parts {
		if part == "" || strings.Trim(part, "0123456789") != "" {
			return number, false
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return number, false
		}
		number[i] = n
	}
	return number, true
}
