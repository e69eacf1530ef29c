package accesslog

import (
	"errors"
	"net/netip"
	"strings"
	"time"
)

// ErrFormat is returned by Parse for a line that is in neither the common nor
// the combined log format.
var ErrFormat = errors.New("accesslog: not a line of the common or combined log format")

// An Entry is one request as the log tells it.
type Entry struct {
	Address  string    // the client's address, as written
	Agent    string    // the User-Agent header, "" in the common format, "-" when there was none
	Referrer string    // the Referer header, likewise
	Method   string    // "GET", "POST", ...
	Path     string    // the request's path without host, query and fragment
	Query    string    // what stands between ? and #
	Status   int       // the answer's status code
	Time     time.Time // when the request came, in UTC
	Host     string    // the virtual host, in the format that has it, with the port as written
}

// Parse reads one line, without its line end:
//
//	ADDRESS IDENT USER [02/Jan/2006:15:04:05 -0700] "METHOD TARGET PROTOCOL" STATUS BYTES
//
// with HOST:PORT before it in Apache's vhost_combined, and
// followed, in the combined format, by the quoted referrer and the quoted
// agent. Inside quotes \" \\ and \xHH are undone, as Apache and nginx write
// them. What follows the agent is ignored, since servers are often configured
// to append fields of their own. The strings of the Entry are valid UTF-8, and
// may be parts of line.
func Parse(line string) (Entry, error) {
	var e Entry
	address, rest, ok := strings.Cut(line, " ")
	if !ok || address == "" {
		return Entry{}, ErrFormat
	}
	// An address where IDENT stands is the client's: what comes before it is the host.
	if next, _, ok := strings.Cut(rest, " "); ok && next != "-" {
		if _, err := netip.ParseAddr(next); err == nil {
			e.Host, address, rest = clean(address), next, rest[len(next)+1:]
		}
	}
	// IDENT and USER come from the client and may hold spaces: the time's
	// opening bracket is the first thing that can be relied on.
	_, rest, ok = strings.Cut(rest, " [")
	if !ok || len(rest) < timeSize || !strings.HasPrefix(rest[timeSize:], "] ") {
		return Entry{}, ErrFormat
	}
	if e.Time, ok = parseTime(rest[:timeSize]); !ok {
		return Entry{}, ErrFormat
	}
	request, rest, ok := quoted(rest[timeSize+2:])
	if !ok {
		return Entry{}, ErrFormat
	}
	if e.Status, rest, ok = number(rest); !ok || e.Status < 100 || e.Status > 999 {
		return Entry{}, ErrFormat
	}
	rest, ok = size(rest)
	if !ok {
		return Entry{}, ErrFormat
	}
	if rest != "" {
		if e.Referrer, rest, ok = quoted(rest[1:]); !ok || rest == "" || rest[0] != ' ' {
			return Entry{}, ErrFormat
		}
		if e.Agent, _, ok = quoted(rest[1:]); !ok {
			return Entry{}, ErrFormat
		}
	}
	e.Address = clean(address)
	e.Method, e.Path, e.Query = splitRequest(request)
	return e, nil
}

// timeSize is the length of %t without its brackets: 02/Jan/2006:15:04:05 -0700.
const timeSize = len("02/Jan/2006:15:04:05 -0700")

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// parseTime is time.Parse for the one form that logs have, in a tenth of its time:
// reading times is half of reading a log.
func parseTime(s string) (time.Time, bool) {
	if s[2] != '/' || s[6] != '/' || s[11] != ':' || s[14] != ':' || s[17] != ':' || s[20] != ' ' || s[21] != '+' && s[21] != '-' {
		return time.Time{}, false
	}
	ok := true
	two := func(i int) int {
		a, b := s[i]-'0', s[i+1]-'0'
		ok = ok && a <= 9 && b <= 9
		return int(a)*10 + int(b)
	}
	day, year := two(0), two(7)*100+two(9)
	hour, minute, second := two(12), two(15), two(18)
	zoneHours, zoneMinutes := two(22), two(24)
	month := strings.Index(months, s[3:6])
	if !ok || month < 0 || month%3 != 0 || day < 1 || hour > 23 || minute > 59 || second > 59 || zoneHours > 24 || zoneMinutes > 59 {
		return time.Time{}, false
	}
	at := time.Date(year, time.Month(month/3+1), day, hour, minute, second, 0, time.UTC)
	if at.Day() != day {
		return time.Time{}, false // February 30
	}
	offset := time.Duration(zoneHours)*time.Hour + time.Duration(zoneMinutes)*time.Minute
	if s[21] == '-' {
		offset = -offset
	}
	return at.Add(-offset), true
}

// quoted takes a quoted string off the front of s and undoes its escapes.
func quoted(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	s = s[1:]
	end := strings.IndexByte(s, '"')
	if end < 0 {
		return "", "", false
	}
	if strings.IndexByte(s[:end], '\\') < 0 { // the common case: nothing to undo
		return clean(s[:end]), s[end+1:], true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return clean(b.String()), s[i+1:], true
		case c != '\\' || i+1 == len(s):
			b.WriteByte(c)
		case s[i+1] == 'x' && i+3 < len(s) && isHex(s[i+2]) && isHex(s[i+3]):
			b.WriteByte(unhex(s[i+2])<<4 | unhex(s[i+3]))
			i += 3
		case s[i+1] == '"' || s[i+1] == '\\':
			b.WriteByte(s[i+1])
			i++
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// number takes " 123" off the front of s.
func number(s string) (n int, rest string, ok bool) {
	if s == "" || s[0] != ' ' {
		return 0, "", false
	}
	i := 1
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9' && i < 10; i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n, s[i:], i > 1
}

// size takes " 5678" or " -" off the front of s. What remains is empty or
// begins with a space.
func size(s string) (rest string, ok bool) {
	if s == "" || s[0] != ' ' {
		return "", false
	}
	field, _, _ := strings.Cut(s[1:], " ")
	if field == "" || field != "-" && strings.Trim(field, "0123456789") != "" {
		return "", false
	}
	return s[1+len(field):], true
}

// splitRequest takes "METHOD TARGET PROTOCOL" apart. The target may hold
// spaces, since logs show what clients sent. A request that is no request,
// such as "-", has no path.
func splitRequest(request string) (method, path, query string) {
	method, target, ok := strings.Cut(request, " ")
	if !ok {
		return method, "", ""
	}
	if i := strings.LastIndexByte(target, ' '); i >= 0 && strings.HasPrefix(target[i+1:], "HTTP/") {
		target = target[:i]
	}
	// Proxies log the absolute form.
	if scheme, after, ok := strings.Cut(target, "://"); ok && (scheme == "http" || scheme == "https") {
		if i := strings.IndexAny(after, "/?#"); i >= 0 {
			target = after[i:]
		} else {
			target = "/"
		}
	}
	target, _, _ = strings.Cut(target, "#")
	path, query, asked := strings.Cut(target, "?")
	if path == "" && (asked || ok) {
		path = "/"
	}
	return method, path, query
}

func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
