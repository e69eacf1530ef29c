package stats

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/halcyon-db/halcyon"
)

// A question about many days of many values reads one sum for each value of each
// day from Rollups: of a site with 10,000 pages more than a query has time for, and
// soon more than it may read. So days that are over are added up further, and packed:
//
//   - A Span is the sums of 1, 4, 16 or 64 days of a site, or of what came to it from
//     one country. It begins at a day that its length divides. Any range is made of a
//     few of each length.
//   - A span is made of the rollups of its day, or of the four spans it has in it, and
//     of nothing else: it can be thrown away.
//   - Whatever changes a rollup writes, in the same transaction, a Stale for the day:
//     no span that holds it counts until it is made again, and a query reads what is in
//     it instead. The day that is not over has one all the time.
//   - buildSpans makes spans of what is stale, the short ones first.
//
// Different visitors are counted as they are by day: a view is the first of its
// visitor in a span when the one before it was earlier than the span, and a sum keeps
// how many days earlier. Those that lie before the range of a question are its visitors.

// A Span is a row of the packed sums of some days.
//
// The one with dimension "" has the totals, and says what there is beside them: the
// sum of all views (see appendSum), and for each dimension a text with its name, the
// number of rows that it has, and the sum of its values, or, where that is short, 0
// and a text with all of them. The others have the values of one dimension, those with
// the most views first: a text and a sum for each. Numbers are varints, texts begin
// with their length.
type Span struct {
	ID        halcyon.ID[Span] `halcyon:"id"`
	Site      string           `json:"site"`
	Country   string           `json:"country"` // "": all
	Level     int              `json:"level"`   // 4 to the power of this many days
	Dimension string           `json:"dimension"`
	Day       int              `json:"day"` // the first, in days since 1970
	Part      int              `json:"part"`
	Data      []byte           `json:"data"`
}

// A Stale is a day whose rollups have changed since spans were made of them.
type Stale struct {
	ID      halcyon.ID[Stale] `halcyon:"id"`
	Site    string            `json:"site"`
	Country string            `json:"country"`
	Day     int               `json:"day"`
	Level   int               `json:"level"` // spans that hold the day are to be made again from this one on
}

// The tables of spans.
var (
	Spans = halcyon.NewTable[Span]("spans").
		Unique("by_scope", "site", "country", "level", "dimension", "day", "part")

	Stales = halcyon.NewTable[Stale]("stales").
		Unique("by_scope", "site", "country", "day").
		Index("by_level", "level", "day")
)

const (
	// spanLevels is how many lengths there are.
	spanLevels = 4

	// sectionSlots is the dimension of the quarters of an hour of a single day.
	sectionSlots = "slots"

	// sectionInline is how many bytes the values of a dimension may take to be kept with
	// the totals.
	sectionInline = 256

	// A row of the values of a dimension has at most so many of them, and about so many
	// bytes; and what comes after so many rows, of paths and of others, is valueOther.
	// The four spans that one is made of are read in one transaction.
	partValuesMax = 2000
	partBytesMax  = 48 << 10
	partsMax      = 20
	partsMaxRest  = 4
)

// What Progress.Spans says.
const (
	spansUnknown = iota // they are to be taken away
	spansMarking        // every day that has rollups is made stale
	spansKept           // those of days that are not stale are true
)

func spanDays(level int) int { return 1 << (2 * level) }

// spanAt returns the first day of the span of a level that holds a day.
func spanAt(day, level int) int { return day &^ (spanDays(level) - 1) }

// flatSum is a sum with firsts as they are stored: gap, count, gap, count, ..., by gap.
type flatSum struct {
	views  int
	firsts []int
}

func (s flatSum) empty() bool { return s.views == 0 && len(s.firsts) == 0 }

// plus returns the sum of s and other. It keeps nothing of other.
func (s flatSum) plus(other flatSum) flatSum {
	if len(s.firsts) == 0 || len(other.firsts) == 0 {
		return flatSum{s.views + other.views, append(slices.Clip(s.firsts), other.firsts...)}
	}
	firsts := make([]int, 0, len(s.firsts)+len(other.firsts))
	a, b := s.firsts, other.firsts
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			firsts, a = append(firsts, a[0], a[1]), a[2:]
		case len(a) == 0 || b[0] < a[0]:
			firsts, b = append(firsts, b[0], b[1]), b[2:]
		default:
			if n := a[1] + b[1]; n != 0 {
				firsts = append(firsts, a[0], n)
			}
			a, b = a[2:], b[2:]
		}
	}
	return flatSum{s.views + other.views, firsts}
}

// since returns the sum as it is of a span that begins so many days earlier: who was
// there within them is no first any more.
func (s flatSum) since(earlier int) flatSum {
	if earlier == 0 || len(s.firsts) == 0 {
		return s
	}
	firsts := make([]int, 0, len(s.firsts))
	for i := 0; i+1 < len(s.firsts); i += 2 {
		switch gap := s.firsts[i]; {
		case gap == 0:
			firsts = append(firsts, 0, s.firsts[i+1])
		case gap > earlier:
			firsts = append(firsts, gap-earlier, s.firsts[i+1])
		}
	}
	return flatSum{s.views, firsts}
}

// visitors is that of sum.
func (s flatSum) visitors(at, from int) (n int) {
	for i := 0; i+1 < len(s.firsts); i += 2 {
		if gap := s.firsts[i]; gap == 0 || at-gap < from {
			n += s.firsts[i+1]
		}
	}
	return n
}

func appendText[T ~string | ~[]byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// appendSum appends the views, the number of gaps, and for each how much it is more
// than the one before it, and its count.
func appendSum(b []byte, s flatSum) []byte {
	b = binary.AppendVarint(b, int64(s.views))
	b = binary.AppendUvarint(b, uint64(len(s.firsts)/2))
	gap := 0
	for i := 0; i+1 < len(s.firsts); i += 2 {
		b = binary.AppendUvarint(b, uint64(s.firsts[i]-gap))
		b = binary.AppendVarint(b, int64(s.firsts[i+1]))
		gap = s.firsts[i]
	}
	return b
}

// errSpan says that a row of Spans is not as it was written.
var errSpan = errors.New("a row of the table spans can't be read")

// packed is what is left to read of a row of Spans. bad says that it is not what it
// should be; then everything that is read is empty.
type packed struct {
	rest []byte
	bad  bool
}

func (p *packed) unsigned() int {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.rest, p.bad = nil, true
		return 0
	}
	p.rest = p.rest[n:]
	return int(v)
}

func (p *packed) signed() int {
	v, n := binary.Varint(p.rest)
	if n <= 0 {
		p.rest, p.bad = nil, true
		return 0
	}
	p.rest = p.rest[n:]
	return int(v)
}

func (p *packed) text() []byte {
	n := p.unsigned()
	if n < 0 || n > len(p.rest) {
		p.rest, p.bad = nil, true
		return nil
	}
	text := p.rest[:n]
	p.rest = p.rest[n:]
	return text
}

// sum reads a sum. Its firsts are appended to those given.
func (p *packed) sum(firsts []int) flatSum {
	s := flatSum{views: p.signed(), firsts: firsts}
	n, gap := p.unsigned(), 0
	for range n {
		gap += p.unsigned()
		count := p.signed()
		if p.bad {
			break
		}
		s.firsts = append(s.firsts, gap, count)
	}
	return s
}

// section is what the row with the totals says of a dimension.
type section struct {
	name   string
	parts  int
	sum    flatSum // of all values, when they are in rows of their own
	inline []byte
}

// spanHead is the row with the totals of a span.
type spanHead struct {
	level, day int
	total      flatSum
	sections   []section
}

func readHead(row *Span) (spanHead, error) {
	h := spanHead{level: row.Level, day: row.Day}
	p := packed{rest: row.Data}
	h.total = p.sum(nil)
	for len(p.rest) > 0 {
		s := section{name: string(p.text()), parts: p.unsigned()}
		if s.parts == 0 {
			s.inline = p.text()
		} else {
			s.sum = p.sum(nil)
		}
		h.sections = append(h.sections, s)
	}
	if p.bad {
		return h, errSpan
	}
	return h, nil
}

// section returns that of a dimension; an empty one when there is no value of it.
func (h *spanHead) section(name string) section {
	for _, s := range h.sections {
		if s.name == name {
			return s
		}
	}
	return section{name: name}
}

// eachValue calls visit with every value of a row. Both arguments are valid until it
// returns.
func eachValue(data []byte, visit func(value []byte, s flatSum)) error {
	p := packed{rest: data}
	var firsts []int
	for len(p.rest) > 0 {
		value := p.text()
		s := p.sum(firsts[:0])
		if p.bad {
			return errSpan
		}
		visit(value, s)
		firsts = s.firsts
	}
	return nil
}

// eachSlot does that with the quarters of an hour of a day.
func eachSlot(data []byte, visit func(slot int, s flatSum)) error {
	p := packed{rest: data}
	slot := 0
	var firsts []int
	for len(p.rest) > 0 {
		slot += p.signed()
		s := p.sum(firsts[:0])
		if p.bad {
			return errSpan
		}
		visit(slot, s)
		firsts = s.firsts
	}
	return nil
}

// spanSums is a span that is being made.
type spanSums struct {
	total  flatSum
	slots  map[int]flatSum
	values map[string]map[string]flatSum // by dimension
}

func newSpanSums() *spanSums {
	return &spanSums{slots: make(map[int]flatSum), values: make(map[string]map[string]flatSum)}
}

func (s *spanSums) dimension(name string) map[string]flatSum {
	if s.values[name] == nil {
		s.values[name] = make(map[string]flatSum)
	}
	return s.values[name]
}

// rows returns the rows of the span, none if there is nothing in it.
func (s *spanSums) rows(of Span) (rows []Span) {
	head := appendSum(nil, s.total)
	found := !s.total.empty()
	add := func(name string, parts [][]byte, sum flatSum) {
		if len(parts) == 0 {
			return
		}
		found = true
		head = appendText(head, name)
		if len(parts) == 1 && len(parts[0]) <= sectionInline {
			head = appendText(binary.AppendUvarint(head, 0), parts[0])
			return
		}
		head = appendSum(binary.AppendUvarint(head, uint64(len(parts))), sum)
		for i, part := range parts {
			row := of
			row.Dimension, row.Part, row.Data = name, i, part
			rows = append(rows, row)
		}
	}
	if len(s.slots) > 0 {
		var data []byte
		last := 0
		for _, slot := range slices.Sorted(maps.Keys(s.slots)) {
			data = appendSum(binary.AppendVarint(data, int64(slot-last)), s.slots[slot])
			last = slot
		}
		add(sectionSlots, [][]byte{data}, flatSum{})
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		most := partsMaxRest
		if name == DimensionPath {
			most = partsMax
		}
		parts, sum := packValues(s.values[name], most)
		add(name, parts, sum)
	}
	if !found {
		return nil
	}
	of.Dimension, of.Part, of.Data = "", 0, head
	return append(rows, of)
}

// packValues returns the values of a dimension in rows, about so many at most, and
// their sum.
func packValues(values map[string]flatSum, most int) (parts [][]byte, sum flatSum) {
	type one struct {
		name string
		sum  flatSum
	}
	list := make([]one, 0, len(values))
	for name, s := range values {
		if s.empty() {
			continue
		}
		list = append(list, one{name, s})
		sum = sum.plus(s)
	}
	slices.SortFunc(list, func(x, y one) int {
		return cmp.Or(cmp.Compare(y.sum.views, x.sum.views), cmp.Compare(x.name, y.name))
	})
	var part []byte
	in := 0
	other := flatSum{}
	for _, v := range list {
		if len(parts) == most-1 && in >= partValuesMax-1 || len(parts) >= most || v.name == valueOther {
			other = other.plus(v.sum)
			continue
		}
		part = appendSum(appendText(part, v.name), v.sum)
		if in++; len(part) >= partBytesMax || in == partValuesMax {
			parts, part, in = append(parts, part), nil, 0
		}
	}
	if !other.empty() {
		part = appendSum(appendText(part, valueOther), other)
	}
	if len(part) > 0 {
		parts = append(parts, part)
	}
	return parts, sum
}
