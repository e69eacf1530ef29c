package stats

import (
	"cmp"
	"slices"

	"github.com/halcyon-db/halcyon"
)

// A spansCursor is how far the days that have rollups are made stale.
type spansCursor struct {
	Site    string `json:"site"`
	Country string `json:"country"`
	Kind    int    `json:"kind"`
	Day     int    `json:"day"` // the next one is after it
}

// beforeDays is before all days.
const beforeDays = -1 << 31

// markStale notes that the rollups of a day change.
func markStale(tx *halcyon.Tx, site, country string, day int) error {
	row, known, err := Stales.By("by_scope").Eq(site, country, day).First(tx)
	switch {
	case err != nil:
		return err
	case !known:
		_, err = Stales.Insert(tx, Stale{Site: site, Country: country, Day: day})
	case row.Level > 0:
		err = Stales.Patch(tx, row.ID, halcyon.Fields{"level": 0})
	}
	return err
}

// markStale notes the days that the sheets are added to.
func (s *sheets) markStale(tx *halcyon.Tx) error {
	marked := make(map[scope]bool)
	var list []scope
	for at := range s.of {
		at.kind = 0
		if at.path == "" && !marked[at] {
			marked[at] = true
			list = append(list, at)
		}
	}
	slices.SortFunc(list, compareScopes)
	for _, at := range list {
		if err := markStale(tx, at.site, at.country, at.day); err != nil {
			return err
		}
	}
	return nil
}

// planSpans schedules buildSpans if there is something to do for it.
func (a *app) planSpans(tx *halcyon.Tx) error {
	done, err := a.progress(tx)
	if err != nil || done.Clearing || done.TimeZone != a.TimeZone.String() {
		return err
	}
	due := done.Spans < spansKept
	if !due {
		if _, due, err = a.nextStale(tx); err != nil {
			return err
		}
	}
	if due {
		_, err = tx.RunAfter(0, "buildSpans", nil)
	}
	return err
}

// buildSpans makes spans of what is stale, as many as there is time for, and schedules
// itself for the rest. It returns how much it did, which is 0 when nothing is left.
func (a *app) buildSpans(tx *halcyon.Tx) (steps int, err error) {
	done, err := a.progress(tx)
	if err != nil || done.Clearing || done.TimeZone != a.TimeZone.String() {
		return 0, err
	}
	step, was := a.buildSpan, done.Spans
	switch done.Spans {
	case spansUnknown:
		step = func(tx *halcyon.Tx) (bool, error) { return dropSpan(tx, &done) }
	case spansMarking:
		step = func(tx *halcyon.Tx) (bool, error) { return markNext(tx, &done) }
	}
	// One takes up to a quarter of what a transaction may read or write.
	late := toBeSaved(tx, 4)
	for more := true; more && (steps == 0 || !late() && !tx.HalfSpent()); {
		if more, err = step(tx); err != nil {
			return steps, err
		}
		if more || done.Spans < spansKept {
			steps++
		}
		if !more && done.Spans < spansKept {
			done.Spans++
		}
	}
	if was != spansKept {
		if err := done.save(tx); err != nil {
			return steps, err
		}
	}
	if steps > 0 {
		_, err = tx.RunAfter(0, "buildSpans", nil)
	}
	return steps, err
}

// dropSpan deletes a row of Spans. After the last one it begins with the marking.
func dropSpan(tx *halcyon.Tx, done *Progress) (bool, error) {
	row, found, err := Spans.All().First(tx)
	if err != nil || !found {
		done.SpansAt = nil
		return false, err
	}
	return true, Spans.Delete(tx, row.ID)
}

// markNext makes the next day stale that has rollups.
func markNext(tx *halcyon.Tx, done *Progress) (bool, error) {
	at := done.SpansAt
	if at == nil {
		first, found, err := Sites.By("by_name").First(tx)
		if err != nil || !found {
			return false, err
		}
		at = &spansCursor{Site: first.Name, Day: beforeDays}
		done.SpansAt = at
	}
	for ; at.Kind < 2*kindsFolded; at.Kind, at.Day = at.Kind+1, beforeDays {
		row, found, err := Rollups.By("by_scope").Eq(at.Site, "", at.Country, at.Kind).Gt(at.Day).First(tx)
		if err != nil {
			return false, err
		}
		if found {
			at.Day = row.Day
			return true, markStale(tx, at.Site, at.Country, at.Day)
		}
	}
	at.Kind, at.Day = 0, beforeDays
	row, found, err := Rollups.By("by_scope").Eq(at.Site, "").Gt(at.Country).First(tx)
	if err != nil {
		return false, err
	}
	if found {
		at.Country = row.Country
		return true, nil
	}
	next, found, err := Sites.By("by_name").Gt(at.Site).First(tx)
	if err != nil || !found {
		done.SpansAt = nil
		return false, err
	}
	at.Site, at.Country = next.Name, ""
	return true, nil
}

// nextStale returns a day of which a span is to be made: one that is over, the shortest
// spans first.
func (a *app) nextStale(tx *halcyon.Tx) (Stale, bool, error) {
	row, found, err := Stales.By("by_level").Eq(0).Lt(dayOf(tx.Now(), a.TimeZone)).First(tx)
	if err != nil || found {
		return row, found, err
	}
	return Stales.By("by_level").Gt(0).First(tx)
}

// buildSpan makes one span, and reports whether there was one to make.
func (a *app) buildSpan(tx *halcyon.Tx) (bool, error) {
	at, found, err := a.nextStale(tx)
	if err != nil || !found {
		return false, err
	}
	var sums *spanSums
	if at.Level == 0 {
		sums, err = sumsOfDay(tx, at)
	} else {
		// Another day in the span that is stale too has it made when it comes to it,
		// and all that are longer.
		var left bool
		if left, err = anotherStale(tx, at); err == nil && left {
			return true, Stales.Delete(tx, at.ID)
		}
		if err == nil {
			sums, err = sumsOfSpans(tx, at)
		}
	}
	if err != nil {
		return false, err
	}
	if err := replaceSpan(tx, at, sums); err != nil {
		return false, err
	}
	if at.Level++; at.Level == spanLevels {
		return true, Stales.Delete(tx, at.ID)
	}
	return true, Stales.Patch(tx, at.ID, halcyon.Fields{"level": at.Level})
}

// anotherStale reports whether another day in the span is stale at its level or below.
func anotherStale(tx *halcyon.Tx, at Stale) (bool, error) {
	from := spanAt(at.Day, at.Level)
	for row, err := range Stales.By("by_scope").Eq(at.Site, at.Country).Gte(from).Lt(from + spanDays(at.Level)).Each(tx) {
		if err != nil {
			return false, err
		}
		if row.Day != at.Day && row.Level <= at.Level {
			return true, nil
		}
	}
	return false, nil
}

// sumsOfDay adds up the rollups of a day.
func sumsOfDay(tx *halcyon.Tx, at Stale) (*spanSums, error) {
	sums := newSpanSums()
	for kind := range 2 * kindsFolded {
		for row, err := range Rollups.By("by_scope").Eq(at.Site, "", at.Country, kind, at.Day).Each(tx) {
			if err != nil {
				return nil, err
			}
			sums.total = sums.total.plus(flatSum{row.Views, row.Firsts})
			for _, slot := range row.Slots {
				sums.slots[slot.Slot] = sums.slots[slot.Slot].plus(flatSum{slot.Views, slot.Firsts})
			}
			for _, v := range row.Values {
				values := sums.dimension(v.Dimension)
				values[v.Value] = values[v.Value].plus(flatSum{v.Views, v.Firsts})
			}
		}
	}
	return sums, nil
}

// sumsOfSpans adds up the four spans that one is made of.
func sumsOfSpans(tx *halcyon.Tx, at Stale) (*spanSums, error) {
	sums := newSpanSums()
	from := spanAt(at.Day, at.Level)
	parts := Spans.By("by_scope").Eq(at.Site, at.Country, at.Level-1)
	for row, err := range parts.Eq("").Gte(from).Lt(from + spanDays(at.Level)).Each(tx) {
		if err != nil {
			return nil, err
		}
		head, err := readHead(&row)
		if err != nil {
			return nil, err
		}
		earlier := row.Day - from
		sums.total = sums.total.plus(head.total.since(earlier))
		for _, section := range head.sections {
			if section.name == sectionSlots {
				continue
			}
			values := sums.dimension(section.name)
			add := func(value []byte, s flatSum) {
				values[string(value)] = values[string(value)].plus(s.since(earlier))
			}
			if section.parts == 0 {
				if err := eachValue(section.inline, add); err != nil {
					return nil, err
				}
				continue
			}
			for part, err := range parts.Eq(section.name, row.Day).Each(tx) {
				if err == nil {
					err = eachValue(part.Data, add)
				}
				if err != nil {
					return nil, err
				}
			}
		}
	}
	return sums, nil
}

// replaceSpan writes a span in the place of the one that was there.
func replaceSpan(tx *halcyon.Tx, at Stale, sums *spanSums) error {
	of := Span{Site: at.Site, Country: at.Country, Level: at.Level, Day: spanAt(at.Day, at.Level)}
	type place struct {
		dimension string
		part      int
	}
	old := make(map[place]halcyon.ID[Span])
	spans := Spans.By("by_scope").Eq(of.Site, of.Country, of.Level)
	head, found, err := spans.Eq("", of.Day).First(tx)
	if err != nil {
		return err
	}
	if found {
		old[place{}] = head.ID
		sections, err := readHead(&head)
		if err != nil {
			return err
		}
		for _, section := range sections.sections {
			if section.parts == 0 {
				continue
			}
			for row, err := range spans.Eq(section.name, of.Day).Each(tx) {
				if err != nil {
					return err
				}
				old[place{row.Dimension, row.Part}] = row.ID
			}
		}
	}
	for _, row := range sums.rows(of) {
		key := place{row.Dimension, row.Part}
		if id, known := old[key]; known {
			err = Spans.Replace(tx, id, row)
			delete(old, key)
		} else {
			_, err = Spans.Insert(tx, row)
		}
		if err != nil {
			return err
		}
	}
	gone := make([]halcyon.ID[Span], 0, len(old))
	for _, id := range old {
		gone = append(gone, id)
	}
	slices.SortFunc(gone, func(x, y halcyon.ID[Span]) int { return cmp.Compare(x, y) })
	return deleteAll(tx, Spans, gone)
}
