package enginetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// model is a database that executes one transaction after the other: plain maps
// and sorting, nothing shared with the engine but the order of values.
type model struct {
	parts map[string]map[string]part // of a table
	docs  map[string]map[value.ID]engine.Document
	saved []saved // at the begin of each nested transaction
	// stamps are the fields that get the time of the commit.
	stamps map[stamp]bool
	// refused is why an operation does not let the transaction commit.
	refused error
}

// saved is what a nested transaction may go back to.
type saved struct {
	docs    map[string]map[value.ID]engine.Document
	stamps  map[stamp]bool
	refused error
}

// stamp is one field of a document.
type stamp struct {
	table string
	id    value.ID
	field string
}

// part is an index or an aggregate.
type part struct {
	fields []string
	groups int
	sum    string
	byID   bool // ordered by nothing but the id
}

func newModel(s engine.Schema) *model {
	m := &model{parts: map[string]map[string]part{}, docs: map[string]map[value.ID]engine.Document{}}
	for _, t := range s.Tables {
		m.docs[t.Name] = map[value.ID]engine.Document{}
		m.parts[t.Name] = map[string]part{engine.IndexByCreationTime: {}, engine.IndexByID: {byID: true}}
		for _, ix := range t.Indexes {
			m.parts[t.Name][ix.Name] = part{fields: ix.Fields}
		}
		for _, a := range t.Aggregates {
			m.parts[t.Name][a.Name] = part{fields: slices.Concat(a.GroupBy, a.OrderBy), groups: len(a.GroupBy), sum: a.Sum}
		}
	}
	return m
}

// cursor is a scan in progress.
type cursor struct {
	op
	last *engine.Document
}

// replay executes a transaction and compares what it got. Its writes stay only
// if they count.
func (m *model) replay(t transaction) error {
	if !t.wrote {
		before := m.copy()
		defer func() { m.docs = before }()
	}
	m.saved, m.stamps, m.refused = nil, map[stamp]bool{}, nil
	cursors := map[int]*cursor{}
	for i, o := range t.ops {
		if o.kind == opWake && t.live && t.at >= o.until {
			return fmt.Errorf("step %d: it is shown at a time at which its answer has changed, %d", i+1, o.until)
		}
		if err := m.step(o, cursors); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	switch {
	case t.wrote && m.refused != nil:
		return fmt.Errorf("it has committed; serially %w", m.refused)
	case t.refused && m.refused == nil:
		return errors.New("an operation has failed; serially it does not")
	}
	for s := range m.stamps {
		if d, ok := m.docs[s.table][s.id]; ok {
			d.Fields = patched(d.Fields, value.Object(value.Field{Name: s.field, Value: value.Float64(float64(t.at) / 1000)}), nil)
			m.docs[s.table][s.id] = d
		}
	}
	return nil
}

func (m *model) copy() map[string]map[value.ID]engine.Document {
	out := map[string]map[value.ID]engine.Document{}
	for name, docs := range m.docs {
		out[name] = maps.Clone(docs)
	}
	return out
}

func (m *model) step(o op, cursors map[int]*cursor) error {
	docs := m.docs[o.table]
	have, present := docs[o.id]
	switch o.kind {
	case opGet:
		if present != o.ok || present && !sameDocument(have, o.doc) {
			return fmt.Errorf("get %s %s gave %s, %v; serially %s, %v", o.table, o.id, show(o.doc), o.ok, show(have), present)
		}
	case opScanStart:
		cursors[o.scan] = &cursor{op: o}
	case opScanNext, opScanEnd:
		c := cursors[o.scan]
		want, ok := m.next(c)
		if ok != (o.kind == opScanNext) || ok && !sameDocument(want, o.doc) {
			return fmt.Errorf("scan of %s by %s %s, desc %v, after %s gave %s, %v; serially %s, %v",
				c.table, c.part, showRange(c.rg), c.desc, showLast(c.last), show(o.doc), o.kind == opScanNext, show(want), ok)
		}
		c.last = &want
	case opCount:
		if n := int64(len(m.in(o.table, o.part, o.rg, false))); n != o.n {
			return fmt.Errorf("count of %s by %s %s gave %d; serially %d", o.table, o.part, showRange(o.rg), o.n, n)
		}
	case opTotal:
		if want := m.total(o.table, o.part, o.rg); want.String() != showTotal(o.total) {
			return fmt.Errorf("total of %s by %s %s gave %s; serially %s", o.table, o.part, showRange(o.rg), showTotal(o.total), want)
		}
	case opRank:
		rank := slices.IndexFunc(m.in(o.table, o.part, o.rg, o.desc), func(d engine.Document) bool { return d.ID == o.id })
		if o.ok != (rank >= 0) || o.ok && o.n != int64(rank) {
			return fmt.Errorf("rank of %s in %s by %s %s, desc %v, gave %d, %v; serially %d", o.id, o.table, o.part, showRange(o.rg), o.desc, o.n, o.ok, rank)
		}
	case opAt:
		in := m.in(o.table, o.part, o.rg, o.desc)
		if o.ok != (o.arg < len(in)) || o.ok && !sameDocument(o.doc, in[o.arg]) {
			return fmt.Errorf("number %d of %s by %s %s, desc %v, gave %s, %v; serially there are %d", o.arg, o.table, o.part, showRange(o.rg), o.desc, show(o.doc), o.ok, len(in))
		}
	case opTop:
		want := m.groups(o.table, o.part)
		slices.SortStableFunc(want, func(a, b engine.GroupCount) int { return cmp.Compare(b.Count, a.Count) })
		if want = want[:min(len(want), o.arg)]; !slices.EqualFunc(o.groups, want, sameGroup) {
			return fmt.Errorf("top %d of %s by %s gave %s; serially %s", o.arg, o.table, o.part, showGroups(o.groups), showGroups(want))
		}
	case opCountGroups:
		if n := int64(len(m.groups(o.table, o.part))); n != o.n {
			return fmt.Errorf("number of groups of %s by %s is %d; serially %d", o.table, o.part, o.n, n)
		}
	case opGroups:
		if want := m.groups(o.table, o.part); !slices.EqualFunc(o.groups, want, sameGroup) {
			return fmt.Errorf("groups of %s by %s gave %s; serially %s", o.table, o.part, showGroups(o.groups), showGroups(want))
		}
	case opNest:
		m.saved = append(m.saved, saved{m.copy(), maps.Clone(m.stamps), m.refused})
	case opUnnest:
		last := len(m.saved) - 1
		if !o.ok {
			back := m.saved[last]
			m.docs, m.stamps, m.refused = back.docs, back.stamps, back.refused
		}
		m.saved = m.saved[:last]
	case opInsert:
		if present || !o.ok || !value.Equal(o.doc.Fields, o.fields) || o.doc.ID != o.id {
			return fmt.Errorf("insert of %s into %s gave %s; there before: %v", showValue(o.fields), o.table, show(o.doc), present)
		}
		docs[o.id] = o.doc
	case opReplace, opPatch, opDelete:
		if present != o.ok {
			return fmt.Errorf("write to %s in %s found it: %v; serially %v", o.id, o.table, o.ok, present)
		}
		switch {
		case !present:
			return nil
		case o.kind == opDelete:
			delete(docs, o.id)
		case o.kind == opReplace:
			have.Fields = o.fields
			docs[o.id] = have
		default:
			have.Fields = patched(have.Fields, o.fields, o.unset)
			docs[o.id] = have
		}
		maps.DeleteFunc(m.stamps, func(s stamp, _ bool) bool {
			return s.table == o.table && s.id == o.id &&
				(o.kind != opPatch || !o.fields.Get(s.field).IsUndefined() || slices.Contains(o.unset, s.field))
		})
	case opApply:
		if !present {
			m.refused = cmp.Or(m.refused, engine.ErrNoDocument)
			return nil
		}
		for _, x := range o.ops {
			m.apply(&have, o.table, x)
		}
		docs[o.id] = have
	}
	return nil
}

// apply does an operation on a document.
func (m *model) apply(d *engine.Document, table string, x engine.Op) {
	old := d.Fields.Get(x.Field)
	fresh, unset := x.Value, []string(nil)
	keep := false
	switch x.Kind {
	case engine.OpCommitTime:
		m.stamps[stamp{table, d.ID, x.Field}] = true
		fresh, unset = value.Value{}, []string{x.Field}
	case engine.OpMax:
		keep = !old.IsUndefined() && value.Compare(old, fresh) > 0
	case engine.OpMin:
		keep = !old.IsUndefined() && value.Compare(old, fresh) < 0
	case engine.OpSetIfAbsent:
		keep = !old.IsUndefined()
	case engine.OpSetInsert:
		if !old.IsUndefined() && old.Kind() != value.KindArray {
			m.refused = fmt.Errorf("field %s is no array", x.Field)
			return
		}
		elems := []value.Value{fresh}
		for i := range old.Len() {
			if e := old.Index(i); value.Compare(e, fresh) != 0 {
				elems = append(elems, e)
			}
		}
		slices.SortFunc(elems, value.Compare)
		fresh = value.Array(elems...)
	case engine.OpAdd:
		switch {
		case !old.IsUndefined() && old.Kind() != fresh.Kind():
			m.refused = fmt.Errorf("field %s is no number to add to", x.Field)
			return
		case fresh.Kind() == value.KindInt64:
			a, _ := old.AsInt64()
			b, _ := fresh.AsInt64()
			fresh = value.Int64(a + b)
		default:
			a, _ := old.AsFloat64()
			b, _ := fresh.AsFloat64()
			fresh = value.Float64(a + b)
		}
		if !x.Lower.IsUndefined() && value.Compare(fresh, x.Lower) < 0 || !x.Upper.IsUndefined() && value.Compare(fresh, x.Upper) > 0 {
			m.refused = fmt.Errorf("field %s would be past a bound", x.Field)
			return
		}
	}
	if !keep {
		d.Fields = patched(d.Fields, value.Object(value.Field{Name: x.Field, Value: fresh}), unset)
	}
}

func patched(old, patch value.Value, unset []string) value.Value {
	fields := map[string]value.Value{}
	for _, from := range []value.Value{old, patch} {
		for _, f := range from.Fields() {
			fields[f.Name] = f.Value
		}
	}
	for _, name := range unset {
		delete(fields, name)
	}
	var out []value.Field
	for name, v := range fields {
		out = append(out, value.Field{Name: name, Value: v})
	}
	return value.Object(out...)
}

// next returns what a scan comes to now.
func (m *model) next(c *cursor) (found engine.Document, ok bool) {
	p := m.parts[c.table][c.part]
	before := func(a, b engine.Document) bool {
		if c.desc {
			a, b = b, a
		}
		return p.compare(a, b) < 0
	}
	for _, d := range m.docs[c.table] {
		if p.contains(d, c.rg) && (c.last == nil || before(*c.last, d)) && (!ok || before(d, found)) {
			found, ok = d, true
		}
	}
	return found, ok
}

// key returns the values a document is ordered by, before its id.
func (p part) key(d engine.Document) []value.Value {
	if p.byID {
		return []value.Value{value.String(d.ID.String())}
	}
	out := make([]value.Value, 0, len(p.fields)+1)
	for _, f := range p.fields {
		out = append(out, d.Fields.Path(f))
	}
	return append(out, value.Float64(d.CreationTime))
}

func (p part) compare(a, b engine.Document) int {
	if p.byID {
		return bytes.Compare(a.ID.Key[:], b.ID.Key[:])
	}
	if c := slices.CompareFunc(p.key(a), p.key(b), value.Compare); c != 0 {
		return c
	}
	return bytes.Compare(a.ID.Key[:], b.ID.Key[:])
}

func (p part) contains(d engine.Document, r engine.Range) bool {
	key := p.key(d)
	for i, v := range r.Eq {
		if value.Compare(key[i], v) != 0 {
			return false
		}
	}
	if r.Lower == nil && r.Upper == nil {
		return true
	}
	v := key[len(r.Eq)]
	if b := r.Lower; b != nil {
		if c := value.Compare(v, b.Value); c < 0 || c == 0 && !b.Inclusive {
			return false
		}
	}
	if b := r.Upper; b != nil {
		if c := value.Compare(v, b.Value); c > 0 || c == 0 && !b.Inclusive {
			return false
		}
	}
	return true
}

// in returns the documents of a range in order.
func (m *model) in(table, name string, r engine.Range, desc bool) (out []engine.Document) {
	p := m.parts[table][name]
	for _, d := range m.docs[table] {
		if p.contains(d, r) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, p.compare)
	if desc {
		slices.Reverse(out)
	}
	return out
}

// total is what engine.Total should say. Sums of float64s are added in any
// order, so a history should have such as add up exactly.
type total struct {
	count, numbers int64
	ints           int64
	floats         float64
	float          bool
	min, max       value.Value
}

func (m *model) total(table, name string, r engine.Range) (t total) {
	sum := m.parts[table][name].sum
	for _, d := range m.in(table, name, r, false) {
		t.count++
		v := d.Fields.Path(sum)
		i, isInt := v.AsInt64()
		f, isFloat := v.AsFloat64()
		if !isInt && !isFloat {
			continue
		}
		t.ints, t.floats, t.float = t.ints+i, t.floats+f, t.float || isFloat
		if t.numbers == 0 || value.Compare(v, t.min) < 0 {
			t.min = v
		}
		if t.numbers == 0 || value.Compare(v, t.max) > 0 {
			t.max = v
		}
		t.numbers++
	}
	return t
}

func (t total) String() string {
	sum := value.Int64(t.ints)
	if t.float || t.numbers == 0 {
		sum = value.Float64(float64(t.ints) + t.floats)
	}
	return fmt.Sprintf("%d documents, %d numbers from %s to %s, sum %s", t.count, t.numbers, showValue(t.min), showValue(t.max), showValue(sum))
}

func showTotal(t engine.Total) string {
	sum, err := t.Sum()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d documents, %d numbers from %s to %s, sum %s", t.Count, t.Numbers, showValue(t.Min), showValue(t.Max), showValue(sum))
}

func (m *model) groups(table, aggregate string) (out []engine.GroupCount) {
	p := m.parts[table][aggregate]
	for _, d := range m.docs[table] {
		g := engine.GroupCount{Group: p.key(d)[:p.groups], Count: 1}
		i, found := slices.BinarySearchFunc(out, g, func(a, b engine.GroupCount) int {
			return slices.CompareFunc(a.Group, b.Group, value.Compare)
		})
		if found {
			out[i].Count++
		} else {
			out = slices.Insert(out, i, g)
		}
	}
	return out
}

func sameDocument(a, b engine.Document) bool {
	return a.ID == b.ID && a.CreationTime == b.CreationTime && value.Equal(a.Fields, b.Fields)
}

func sameGroup(a, b engine.GroupCount) bool {
	return a.Count == b.Count && slices.EqualFunc(a.Group, b.Group, value.Equal)
}

func showValue(v value.Value) string { return string(value.AppendJSON(nil, v)) }

func show(d engine.Document) string {
	if d.ID.IsZero() {
		return "nothing"
	}
	return d.ID.String() + " " + showValue(d.Fields)
}

func showLast(d *engine.Document) string {
	if d == nil {
		return "the start"
	}
	return show(*d)
}

func showRange(r engine.Range) string {
	out := showValue(value.Array(slices.Clone(r.Eq)...))
	if r.Lower != nil {
		out += fmt.Sprintf(" from %s (inclusive %v)", showValue(r.Lower.Value), r.Lower.Inclusive)
	}
	if r.Upper != nil {
		out += fmt.Sprintf(" to %s (inclusive %v)", showValue(r.Upper.Value), r.Upper.Inclusive)
	}
	return out
}

func showGroups(gs []engine.GroupCount) string {
	var out []string
	for _, g := range gs {
		out = append(out, fmt.Sprintf("%s=%d", showValue(value.Array(slices.Clone(g.Group)...)), g.Count))
	}
	return fmt.Sprint(out)
}
