package stats

import "time"

const (
	// spanSitesMax is up to how many sites a query reads spans: of each it looks at some
	// thirty places, and it may look at 4,096. With more the days are read one by one.
	spanSitesMax = 40

	// A query reads values up to about so many bytes. Each of its two periods may take
	// the half, and the second what the first left too. A value of a rollup takes
	// about rollupValueBytes and its text.
	valueBytesMax    = 13 << 20
	rollupValueBytes = 44
)

// allowance is what one query may read of values before it goes without the rest.
type allowance struct {
	whole time.Duration // the time at its beginning
	spent int           // bytes
	half  bool          // it is in the first period of two
	left  days          // hold those that were left out
}

// spentUp reports whether the period has no time left, or may read no more.
func (r *reader) spentUp() bool {
	left, most := r.whole/6, valueBytesMax
	if r.half {
		left, most = r.whole/2, valueBytesMax/2
	}
	return r.spent >= most || r.tx.TimeLeft() < left || r.tx.RangesLeft() < 64
}

// spend notes what a row of Rollups takes.
func (r *reader) spend(row *Rollup) {
	for i := range row.Values {
		r.spent += rollupValueBytes + len(row.Values[i].Value) + 9*len(row.Values[i].Firsts)
	}
	for i := range row.Slots {
		r.spent += rollupValueBytes + 9*len(row.Slots[i].Firsts)
	}
}

// leaveOut notes that rollups of some days are not read.
func (r *reader) leaveOut(of days) {
	if r.left.from < r.left.to {
		of = days{min(r.left.from, of.from), max(r.left.to, of.to)}
	}
	r.left = of
}

// addLeftOut adds the views of days that were left out to those that are pending: those
// that are rows, of all sites and pages, or 1 when they were folded.
func (r *reader) addLeftOut() error {
	if r.left.from >= r.left.to {
		return nil
	}
	zone := r.app.TimeZone
	views, err := PageViews.Count("viewsByTime").Gte(dayStart(r.left.from, zone)).Lt(dayStart(r.left.to, zone)).Count(r.tx)
	r.pending += max(1, int(views))
	return err
}

// node is a span that a range is made of.
type node struct {
	site string
	spanHead
}

// cover is what a range of days is made of: spans, and days that have none that is true.
type cover struct {
	nodes []node
	days  map[string][]days // by site
}

// cover returns what a range of days is made of, with spans of at most the level.
func (r *reader) cover(of days, level int) (*cover, error) {
	c := &cover{days: make(map[string][]days)}
	for _, site := range r.sites {
		if !r.spans {
			c.days[site] = []days{of}
			continue
		}
		stale := make(map[int]int)
		for row, err := range Stales.By("by_scope").Eq(site, r.filter.Country).Gte(of.from).Lt(of.to).Each(r.tx) {
			if err != nil {
				return nil, err
			}
			stale[row.Day] = row.Level
		}
		if err := r.fill(c, site, of, level, stale); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// fill adds what a range of days of a site is made of.
func (r *reader) fill(c *cover, site string, of days, level int, stale map[int]int) error {
	if of.from >= of.to {
		return nil
	}
	if level < 0 {
		if list := c.days[site]; len(list) > 0 && list[len(list)-1].to == of.from {
			list[len(list)-1].to = of.to
		} else {
			c.days[site] = append(list, of)
		}
		return nil
	}
	length := spanDays(level)
	pos := of.from
	if first, end := spanAt(of.from+length-1, level), spanAt(of.to, level); first < end {
		rows := Spans.By("by_scope").Eq(site, r.filter.Country, level, "").Gte(first).Lt(end)
		for row, err := range rows.Each(r.tx) {
			if err != nil {
				return err
			}
			if anyStale(stale, row.Day, level) {
				continue
			}
			head, err := readHead(&row)
			if err != nil {
				return err
			}
			r.spent += len(row.Data)
			if err := r.fill(c, site, days{pos, row.Day}, level-1, stale); err != nil {
				return err
			}
			c.nodes = append(c.nodes, node{site, head})
			pos = row.Day + length
		}
	}
	return r.fill(c, site, days{pos, of.to}, level-1, stale)
}

// anyStale reports whether a day of a span is stale at its level or below.
func anyStale(stale map[int]int, day, level int) bool {
	for other, from := range stale {
		if other >= day && other < day+spanDays(level) && from <= level {
			return true
		}
	}
	return false
}

// addSpans adds the values of a dimension in spans. Of those with many values it adds
// the ones with the most views, as many as there is room for, and the rest to
// valueOther.
func (r *reader) addSpans(values map[string]*count, dimension string, nodes []node, of days) error {
	add := func(day int) func([]byte, flatSum) {
		return func(value []byte, s flatSum) {
			c := values[string(value)]
			if c == nil {
				c = new(count)
				values[string(value)] = c
			}
			c.views += s.views
			c.visitors += s.visitors(day, of.from)
		}
	}
	var large []node
	parts := 0
	for _, n := range nodes {
		section := n.section(dimension)
		if section.parts > 0 {
			large = append(large, n)
			parts += section.parts
			continue
		}
		if err := eachValue(section.inline, add(n.day)); err != nil {
			return err
		}
	}
	// The rows of most views of all are read first.
	counted := make([]count, len(large))
	read := make([]int, len(large))
	for part := 0; parts > 0 && part < partsMax+2; part++ {
		for i := range large {
			n := &large[i]
			if read[i] < part || part >= n.section(dimension).parts || r.spentUp() {
				continue
			}
			row, found, err := Spans.By("by_scope").Eq(n.site, r.filter.Country, n.level, dimension, n.day, part).First(r.tx)
			if err != nil {
				return err
			}
			if !found {
				return errSpan
			}
			read[i]++
			r.spent += len(row.Data)
			plus := add(n.day)
			if err := eachValue(row.Data, func(value []byte, s flatSum) {
				counted[i].views += s.views
				counted[i].visitors += s.visitors(n.day, of.from)
				plus(value, s)
			}); err != nil {
				return err
			}
		}
	}
	for i, n := range large {
		section := n.section(dimension)
		if read[i] == section.parts {
			continue
		}
		other := entry(values, valueOther)
		other.views += section.sum.views - counted[i].views
		other.visitors += section.sum.visitors(n.day, of.from) - counted[i].visitors
	}
	return nil
}

// eachSlot calls visit with the quarters of an hour of spans of one day, the newest
// first while there is time.
func (r *reader) eachSlot(nodes []node, of days, visit func(slot int, s flatSum)) error {
	type place struct {
		site string
		day  int
	}
	apart := make(map[place]bool)
	for i := range nodes {
		section := nodes[i].section(sectionSlots)
		if section.parts > 0 {
			apart[place{nodes[i].site, nodes[i].day}] = true
		} else if err := eachSlot(section.inline, visit); err != nil {
			return err
		}
	}
	if len(apart) == 0 {
		return nil
	}
	for _, site := range r.sites {
		rows := Spans.By("by_scope").Eq(site, r.filter.Country, 0, sectionSlots).Gte(of.from).Lt(of.to)
		for row, err := range rows.Desc().Each(r.tx) {
			if err != nil {
				return err
			}
			if !apart[place{site, row.Day}] {
				continue
			}
			if r.spentUp() {
				r.leaveOut(days{of.from, row.Day + 1})
				break
			}
			r.spent += len(row.Data)
			if err := eachSlot(row.Data, visit); err != nil {
				return err
			}
		}
	}
	return nil
}
