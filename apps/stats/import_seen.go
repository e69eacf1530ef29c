package stats

import "time"

// pairsMax bounds the memory of seenVisitors: different visitors and paths on two
// days.
const pairsMax = 2 << 20

// seenVisitors knows the counted views of a log's visitors, so that the database
// need not be asked for them: their ids are those of this run, and nobody else has
// them. It knows those who come in the order of time, on a day and the one before.
// The zero value knows nobody.
type seenVisitors struct {
	visitors map[string]*seenVisitor // of the days from first on
	first    string
	pairs    int
}

// seenVisitor is a visitor of one day, and the last counted view of each path.
type seenVisitor struct {
	day   string
	last  time.Time
	paths map[string]time.Time
	lost  bool // something of it is only in the database
}

// fate is what becomes of a view.
type fate int

const (
	fateUnknown  fate = iota // only the database knows
	fateRepeated             // it is not counted
	fateCounted              // it is, and Before and BeforeHere are set
)

// look finds out what becomes of a view. What is unknown once stays so for its
// visitor.
func (s *seenVisitors) look(view *PageView, window time.Duration) fate {
	day := view.Timestamp.UTC().Format(time.DateOnly)
	if day < s.first {
		return fateUnknown
	}
	v := s.visitors[view.SessionID]
	if v == nil {
		if s.visitors == nil {
			s.visitors = make(map[string]*seenVisitor)
		}
		v = &seenVisitor{day: day, paths: make(map[string]time.Time, 1)}
		s.visitors[view.SessionID] = v
	}
	here, again := v.paths[view.Path]
	if v.lost || view.Timestamp.Before(v.last) || !again && s.pairs >= pairsMax {
		s.pairs -= len(v.paths)
		v.lost, v.paths = true, nil
		return fateUnknown
	}
	if again && view.Timestamp.Sub(here) < window {
		return fateRepeated
	}
	if !again {
		s.pairs++
	}
	view.Before, view.BeforeHere = v.last, here
	v.last, v.paths[view.Path] = view.Timestamp, view.Timestamp
	return fateCounted
}

// forget gives up what is known of days that are past: visitors are of one day.
func (s *seenVisitors) forget(low time.Time) {
	if low.IsZero() {
		return
	}
	first := low.AddDate(0, 0, -1).Format(time.DateOnly)
	if first <= s.first {
		return
	}
	s.first = first
	for id, v := range s.visitors {
		if v.day < first {
			s.pairs -= len(v.paths)
			delete(s.visitors, id)
		}
	}
}
