package yjs

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// A script is a history of several documents: steps that both this package and
// npm yjs can run.
type script struct {
	Op      string   `json:"op"`
	Clients []uint64 `json:"clients"`
	GC      bool     `json:"gc"`
	Events  bool     `json:"events,omitempty"`
	Steps   [][]any  `json:"steps"`
}

// outcome is what running a script gives.
type outcome struct {
	Out    [][][2]string `json:"out"` // by step: version and base64 of the updates sent
	Events []any         `json:"events"`
	Docs   []docState    `json:"docs"`
}

type docState struct {
	Roots   any    `json:"roots"`
	V1      []byte `json:"v1"`
	V2      []byte `json:"v2"`
	SV      []byte `json:"sv"`
	Snap    []byte `json:"snap"`
	Snap2   []byte `json:"snap2"`
	Pending bool   `json:"pending"`
}

// runner runs a script on documents of this package.
type runner struct {
	docs   []*Doc
	undo   []*UndoManager
	sent   [][2]string
	out    [][][2]string
	v1, v2 [][]byte // all updates sent
	events []any
}

func newRunner(s *script) *runner {
	r := &runner{}
	for k, client := range s.Clients {
		d := NewDoc(&Options{ClientID: client, GC: s.GC, CleanFormats: true, GUID: fmt.Sprint("doc", client)})
		types := []Type{d.Text("t"), d.Array("a"), d.Map("m"), d.XMLFragment("x")}
		d.OnUpdate(func(u Update) {
			if u.Origin != "remote" {
				r.sent = append(r.sent, [2]string{"1", base64.StdEncoding.EncodeToString(u.Bytes)})
				r.v1 = append(r.v1, u.Bytes)
			}
		})
		d.OnUpdateV2(func(u Update) {
			if u.Origin != "remote" {
				r.sent = append(r.sent, [2]string{"2", base64.StdEncoding.EncodeToString(u.Bytes)})
				r.v2 = append(r.v2, u.Bytes)
			}
		})
		r.docs = append(r.docs, d)
		r.undo = append(r.undo, NewUndoManager(d, &UndoOptions{CaptureTimeout: time.Duration(math.MaxInt64), Origins: []any{nil, "user"}}, types...))
		if s.Events {
			for i, name := range []string{"t", "a", "m", "x"} {
				types[i].ObserveDeep(func(es []*Event) { r.record(k, name, es) })
			}
		}
	}
	return r
}

func (r *runner) record(doc int, root string, es []*Event) {
	for _, e := range es {
		keys := map[string]any{}
		for k, c := range e.Keys() {
			old := c.Old
			if _, ok := old.(Undefined); ok {
				old = nil // which JavaScript can't tell from no old value
			}
			keys[k] = map[string]any{"action": string(c.Action), "old": plainValue(old)}
		}
		path := []any{}
		for _, p := range e.Path() {
			if i, ok := p.(int); ok {
				p = float64(i)
			}
			path = append(path, p)
		}
		r.events = append(r.events, map[string]any{"doc": float64(doc), "root": root, "path": path, "delta": plainDelta(e.Delta()), "keys": keys})
	}
}

// runAll runs a script and returns what it gives.
func runAll(s *script) (*outcome, *runner, error) {
	r := newRunner(s)
	for i, step := range s.Steps {
		if err := r.step(step); err != nil {
			return nil, r, fmt.Errorf("step %d %v: %w", i, step, err)
		}
	}
	return r.outcome(), r, nil
}

func (r *runner) outcome() *outcome {
	o := &outcome{Out: r.out, Events: r.events}
	for _, d := range r.docs {
		o.Docs = append(o.Docs, stateOf(d))
	}
	return o
}

func stateOf(d *Doc) docState {
	return docState{
		Roots: map[string]any{
			"t": plainDelta(d.Text("t").Delta()), "a": plainValue(d.Array("a")), "m": plainValue(d.Map("m")), "x": d.XMLFragment("x").String(),
		},
		V1: d.EncodeState(nil), V2: d.EncodeStateV2(nil), SV: d.State().Encode(),
		Snap: d.Snapshot().Encode(V1), Snap2: d.Snapshot().Encode(V2), Pending: d.Pending() != nil,
	}
}

func (r *runner) step(step []any) error {
	r.sent = nil
	err := r.run(step)
	r.out = append(r.out, r.sent)
	return err
}

func num(v any) int {
	if i, ok := v.(int); ok {
		return i
	}
	return int(v.(float64))
}

func attrsOf(v any) Attributes {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	out := Attributes{}
	for k, x := range m {
		out[k] = scriptValue(x)
	}
	return out
}

func valuesOf(v any) []any {
	var out []any
	for _, x := range v.([]any) {
		out = append(out, scriptValue(x))
	}
	return out
}

func (r *runner) run(step []any) error {
	name, at, args := step[0].(string), num(step[1]), step[2:]
	d := r.docs[at]
	t, a, m, x := d.Text("t"), d.Array("a"), d.Map("m"), d.XMLFragment("x")
	switch name {
	case "sync":
		from := r.docs[num(args[0])]
		return d.Apply(from.EncodeState(d.State()), "remote")
	case "sync2":
		from := r.docs[num(args[0])]
		return d.ApplyV2(from.EncodeStateV2(d.State()), "remote")
	case "group":
		v, from := Version(num(args[0])), r.v1
		if v == V2 {
			from = r.v2
		}
		var group [][]byte
		for _, i := range args[1].([]any) {
			group = append(group, from[num(i)])
		}
		u, err := Codec{Version: v}.Merge(group...)
		if err != nil {
			return err
		}
		return d.apply(u, v, "remote")
	case "deliver":
		return d.Apply(r.v1[num(args[0])], "remote")
	case "undo":
		r.undo[at].Undo()
	case "redo":
		r.undo[at].Redo()
	case "stop":
		r.undo[at].StopCapturing()
	case "transact":
		return d.Transact("user", func(*Transaction) error {
			for _, s := range args[0].([]any) {
				if err := r.run(s.([]any)); err != nil {
					return err
				}
			}
			return nil
		})
	case "insert":
		return t.Insert(num(args[0]), args[1].(string), attrsOf(args[2]))
	case "embed":
		return t.InsertEmbed(num(args[0]), scriptValue(args[1]), attrsOf(args[2]))
	case "remove":
		return t.Delete(num(args[0]), num(args[1]))
	case "format":
		return t.Format(num(args[0]), num(args[1]), attrsOf(args[2]))
	case "delta":
		var delta Delta
		for _, o := range args[0].([]any) {
			o := o.(map[string]any)
			op := Op{Attributes: attrsOf(o["attributes"])}
			if v, ok := o["insert"]; ok {
				op.Insert = scriptValue(v)
			}
			if v, ok := o["retain"]; ok {
				op.Retain = num(v)
			}
			if v, ok := o["delete"]; ok {
				op.Delete = num(v)
			}
			delta = append(delta, op)
		}
		return t.Apply(delta)
	case "textattr":
		return t.SetAttribute(args[0].(string), scriptValue(args[1]))
	case "list":
		return a.Insert(num(args[0]), valuesOf(args[1])...)
	case "push":
		return a.Push(valuesOf(args[0])...)
	case "listdel":
		return a.Delete(num(args[0]), num(args[1]))
	case "get":
		a.Get(num(args[0]))
	case "set":
		return m.Set(args[0].(string), scriptValue(args[1]))
	case "unset":
		return m.Delete(args[0].(string))
	case "clear":
		return m.Clear()
	case "nested":
		v, _ := m.Get(args[0].(string))
		switch n := v.(type) {
		case Map:
			return n.Set(args[1].(string), scriptValue(args[2]))
		case Array:
			return n.Insert(min(num(args[3]), n.Len()), scriptValue(args[2]))
		case Text:
			return n.Insert(min(num(args[3]), n.Len()), args[1].(string), nil)
		}
	case "xml":
		return x.Insert(num(args[0]), scriptValue(args[1]).(Type))
	case "xmldel":
		return x.Delete(num(args[0]), num(args[1]))
	case "xmlattr":
		e := x.Get(num(args[0])).(XMLElement)
		if args[2] == nil {
			return e.RemoveAttribute(args[1].(string))
		}
		return e.SetAttribute(args[1].(string), args[2])
	case "xmlchild":
		return x.Get(num(args[0])).(XMLElement).Insert(num(args[1]), scriptValue(args[2]).(Type))
	case "xmltext":
		return x.Get(num(args[0])).(XMLText).Insert(num(args[1]), args[2].(string), attrsOf(args[3]))
	default:
		return fmt.Errorf("unknown step %q", name)
	}
	return nil
}

// scriptValue makes the value a script describes.
func scriptValue(v any) any {
	switch v := v.(type) {
	case []any:
		return valuesOf(v)
	case map[string]any:
		if _, ok := v["$undefined"]; ok {
			return Undefined{}
		}
		if b, ok := v["$bytes"]; ok {
			raw, _ := base64.StdEncoding.DecodeString(b.(string))
			return raw
		}
		if _, ok := v["$negzero"]; ok {
			return math.Copysign(0, -1)
		}
		if m, ok := v["$map"]; ok {
			n, _ := NewMap()
			o := m.(map[string]any)
			for _, k := range sortedKeys(o) {
				_ = n.Set(k, scriptValue(o[k]))
			}
			return n
		}
		if a, ok := v["$array"]; ok {
			n, _ := NewArray(valuesOf(a)...)
			return n
		}
		if s, ok := v["$text"]; ok {
			return NewText(s.(string))
		}
		if s, ok := v["$xmltext"]; ok {
			return NewXMLText(s.(string))
		}
		if s, ok := v["$doc"]; ok {
			return NewDoc(&Options{GUID: s.(string)})
		}
		if s, ok := v["$element"]; ok {
			e, _ := NewXMLElement(s.(string))
			if attrs, ok := v["attrs"].(map[string]any); ok {
				for _, k := range sortedKeys(attrs) {
					_ = e.SetAttribute(k, scriptValue(attrs[k]))
				}
			}
			if children, ok := v["children"].([]any); ok {
				for _, c := range children {
					_ = e.Push(scriptValue(c).(Type))
				}
			}
			return e
		}
		o := map[string]any{}
		for k, x := range v {
			o[k] = scriptValue(x)
		}
		return o
	}
	return v
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// plainValue turns what this package returns into what the oracle prints.
func plainValue(v any) any {
	switch v := v.(type) {
	case Undefined:
		return map[string]any{"$undefined": true}
	case BigInt:
		return fmt.Sprint(int64(v))
	case []byte:
		return map[string]any{"$bytes": base64.StdEncoding.EncodeToString(v)}
	case *Doc:
		return map[string]any{"guid": v.GUID()}
	case Text:
		return map[string]any{"text": plainDelta(v.Delta())}
	case Map:
		o := map[string]any{}
		for k, x := range v.All() {
			o[k] = plainValue(x)
		}
		return o
	case Array:
		return plainValue(v.Values())
	case fmt.Stringer:
		return v.String()
	case []any:
		out := []any{}
		for _, x := range v {
			out = append(out, plainValue(x))
		}
		return out
	case Object:
		o := map[string]any{}
		for _, m := range v {
			o[m.Key] = plainValue(m.Value)
		}
		return o
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return v + 0
	}
	return v
}

func plainDelta(d Delta) any {
	out := []any{}
	for _, op := range d {
		o := map[string]any{}
		switch {
		case op.Insert != nil:
			o["insert"] = plainValue(op.Insert)
		case op.Delete > 0:
			o["delete"] = float64(op.Delete)
		default:
			o["retain"] = float64(op.Retain)
		}
		if op.Attributes != nil {
			attrs := map[string]any{}
			for k, v := range op.Attributes {
				attrs[k] = plainValue(v)
			}
			o["attributes"] = attrs
		}
		out = append(out, o)
	}
	return out
}

// generator makes random scripts by running them.
type generator struct {
	rand    *rand.Rand
	r       *runner
	s       *script
	formats bool
	undo    bool
	deliver bool
	// whole keeps edits from cutting surrogate pairs in two, which peers that
	// do and peers that do not see it happen disagree about.
	whole bool
}

// cutsPair reports whether an index is in the middle of a surrogate pair.
func cutsPair(b *branch, index int) bool {
	for it := b.start; it != nil && index > 0; it = it.right {
		if !it.visible() {
			continue
		}
		if index < int(it.length) {
			if it.kind != kindString {
				return false
			}
			_, pair := lib0.Offset(it.text(), uint64(it.length), uint64(index))
			return pair
		}
		index -= int(it.length)
	}
	return false
}

// span picks a range of a text of at most n units.
func (g *generator) span(t Text, n int) (index, length int) {
	for {
		index = g.n(t.Len())
		length = 1 + g.n(min(t.Len()-index, n))
		if !g.whole || !cutsPair(t.b, index) && !cutsPair(t.b, index+length) {
			return index, length
		}
	}
}

// place picks a place in a text.
func (g *generator) place(t Text) int {
	for {
		if i := g.n(t.Len() + 1); !g.whole || !cutsPair(t.b, i) {
			return i
		}
	}
}

func (g *generator) n(n int) int { return g.rand.IntN(n) }

func pick[T any](g *generator, from ...T) T { return from[g.n(len(from))] }

// generate returns a script of n random steps that ends with all documents in
// sync.
func generate(seed uint64, clients, n int, opts func(*generator)) (*script, *runner, error) {
	g := &generator{rand: rand.New(rand.NewPCG(seed, 1)), formats: true, undo: true, s: &script{Op: "script"}}
	ids := map[uint64]bool{}
	for len(ids) < clients {
		id := uint64(g.n(1<<31)) + 1
		if g.n(3) == 0 {
			id = uint64(g.n(20)) + 1
		}
		if !ids[id] {
			ids[id] = true
			g.s.Clients = append(g.s.Clients, id)
		}
	}
	if opts != nil {
		opts(g)
	}
	g.r = newRunner(g.s)
	do := func(step []any) error {
		// Through JSON, so that the oracle and a saved fixture see the same.
		raw, err := json.Marshal(step)
		if err != nil {
			return err
		}
		var plain []any
		if err := json.Unmarshal(raw, &plain); err != nil {
			return err
		}
		g.s.Steps = append(g.s.Steps, plain)
		if err := g.r.step(plain); err != nil {
			return fmt.Errorf("seed %d, step %d %s: %w", seed, len(g.s.Steps)-1, raw, err)
		}
		return nil
	}
	for range n {
		if err := do(g.next()); err != nil {
			return nil, nil, err
		}
	}
	for round := range 2 {
		for to := range g.r.docs {
			for from := range g.r.docs {
				if from == to {
					continue
				}
				_ = round
				if err := do([]any{"sync", to, from}); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	return g.s, g.r, nil
}

func (g *generator) next() []any {
	at := g.n(len(g.r.docs))
	switch k := g.n(20); {
	case k == 0 && len(g.r.docs) > 1, k == 1 && len(g.r.docs) > 1:
		from := g.n(len(g.r.docs) - 1)
		if from >= at {
			from++
		}
		if g.deliver && len(g.r.v1) > 0 && g.n(3) > 0 {
			if g.n(2) == 0 {
				return []any{"deliver", at, g.n(len(g.r.v1))}
			}
			group := []int{g.n(len(g.r.v1)), g.n(len(g.r.v1))}
			for range g.n(4) {
				group = append(group, g.n(len(g.r.v1)))
			}
			return []any{"group", at, 1 + g.n(2), group}
		}
		return []any{pick(g, "sync", "sync2"), at, from}
	case k == 2 && g.undo:
		return []any{pick(g, "undo", "redo", "stop", "undo"), at}
	case k == 3:
		var steps []any
		for range 1 + g.n(3) {
			// Only edits whose places do not depend on the ones before.
			steps = append(steps, []any{"set", at, pick(g, "k0", "k1"), g.n(10)})
			steps = append(steps, []any{"list", at, 0, []any{g.n(10)}})
			steps = append(steps, []any{"insert", at, 0, "ab", nil})
		}
		return []any{"transact", at, steps}
	}
	return g.edit(at)
}

func (g *generator) attrs() any {
	if !g.formats || g.n(3) > 0 {
		return nil
	}
	if g.n(6) == 0 {
		return map[string]any{}
	}
	a := map[string]any{pick(g, "b", "i"): pick[any](g, true, nil, 7, map[string]any{"c": 1}, "x", map[string]any{"c": map[string]any{"d": 1}})}
	if g.n(4) == 0 {
		a["u"] = true
	}
	return a
}

func (g *generator) text() string {
	return pick(g, "a", "bc", "é", "😀", "x\n", "hello world", "漢字", "a😀b😀c", `"\`)
}

func (g *generator) value() any {
	return pick[any](g, g.n(100), "s", nil, true, false, map[string]any{"k": []any{1.5, true}, "z": nil}, -1, 0.1, 1<<33, map[string]any{"$negzero": 1}, []any{}, "😀", 1e100)
}

func (g *generator) shared(depth int) any {
	switch g.n(4) {
	case 0:
		m := map[string]any{"z": g.value()}
		if depth > 0 {
			m["n"] = g.shared(depth - 1)
		}
		return map[string]any{"$map": m}
	case 1:
		a := []any{g.value(), g.value()}
		if depth > 0 {
			a = append(a, g.shared(depth-1), 5)
		}
		return map[string]any{"$array": a}
	case 2:
		return map[string]any{"$doc": fmt.Sprint("sub", g.n(5))}
	}
	return map[string]any{"$text": g.text()}
}

// embed is what stands in a text between its characters.
func (g *generator) embed() any {
	if g.n(3) == 0 {
		if v := g.shared(1).(map[string]any); v["$doc"] == nil {
			return v // npm yjs stores a document in a text as an empty object
		}
	}
	return pick[any](g, map[string]any{"img": g.n(9)}, map[string]any{"n": []any{nil, 1e21, "😀"}, "e": map[string]any{}})
}

func (g *generator) anything() any {
	switch g.n(8) {
	case 0:
		return map[string]any{"$bytes": base64.StdEncoding.EncodeToString([]byte{byte(g.n(256)), 2})}
	case 1, 2:
		return g.shared(2)
	}
	return g.value()
}

func (g *generator) element(depth int) any {
	if g.n(3) == 0 {
		return map[string]any{"$xmltext": g.text()}
	}
	e := map[string]any{"$element": pick(g, "p", "DIV", "b")}
	if g.n(2) == 0 {
		e["attrs"] = map[string]any{"c": fmt.Sprint(g.n(5))}
	}
	if depth > 0 && g.n(2) == 0 {
		e["children"] = []any{g.element(depth - 1), g.element(depth - 1)}
	}
	return e
}

func (g *generator) edit(at int) []any {
	d := g.r.docs[at]
	t, a, x := d.Text("t"), d.Array("a"), d.XMLFragment("x")
	switch k := g.n(22); {
	case k < 6:
		return []any{"insert", at, g.place(t), g.text(), g.attrs()}
	case k < 8 && t.Len() > 0:
		i, n := g.span(t, 5)
		return []any{"remove", at, i, n}
	case k < 10 && t.Len() > 0 && g.formats:
		i, n := g.span(t, 8)
		attrs := g.attrs()
		if attrs == nil {
			attrs = map[string]any{"b": true}
		}
		return []any{"format", at, i, n, attrs}
	case k == 10:
		return []any{"embed", at, g.place(t), g.embed(), g.attrs()}
	case k == 11 && g.formats:
		var ops []any
		left := t.Len()
		for range 1 + g.n(3) {
			if left > 0 && g.n(2) == 0 {
				n := 1 + g.n(left)
				if g.whole && cutsPair(t.b, t.Len()-left+n) {
					n++
				}
				left -= n
				o := map[string]any{pick(g, "retain", "delete"): n}
				if _, ok := o["retain"]; ok {
					if attrs := g.attrs(); attrs != nil {
						o["attributes"] = attrs
					}
				}
				ops = append(ops, o)
			}
			o := map[string]any{"insert": g.text()}
			if attrs := g.attrs(); attrs != nil {
				o["attributes"] = attrs
			}
			ops = append(ops, o)
		}
		return []any{"delta", at, ops}
	case k < 14:
		vs := []any{g.anything()}
		for range g.n(3) {
			vs = append(vs, g.anything())
		}
		if g.n(4) == 0 {
			return []any{"push", at, vs}
		}
		return []any{"list", at, g.n(a.Len() + 1), vs}
	case k == 14 && a.Len() > 0:
		i := g.n(a.Len())
		return []any{"listdel", at, i, 1 + g.n(min(a.Len()-i, 3))}
	case k == 15 && a.Len() > 0:
		return []any{"get", at, g.n(a.Len())}
	case k < 18:
		v := g.anything()
		if g.n(10) == 0 {
			v = map[string]any{"$undefined": true}
		}
		return []any{"set", at, fmt.Sprint("k", g.n(4)), v}
	case k == 18:
		if g.n(5) == 0 {
			return []any{"clear", at}
		}
		return []any{"unset", at, fmt.Sprint("k", g.n(4))}
	case k == 19:
		i := g.n(5)
		if g.whole {
			i = 0
		}
		return []any{"nested", at, fmt.Sprint("k", g.n(4)), pick(g, "z", "y"), g.value(), i}
	}
	return g.xmlEdit(at, x)
}

func (g *generator) xmlEdit(at int, x XMLFragment) []any {
	if x.Len() == 0 || g.n(3) == 0 {
		return []any{"xml", at, g.n(x.Len() + 1), g.element(2)}
	}
	i := g.n(x.Len())
	if g.n(4) == 0 {
		return []any{"xmldel", at, i, 1}
	}
	switch n := x.Get(i).(type) {
	case XMLElement:
		if g.n(2) == 0 {
			return []any{"xmlattr", at, i, pick(g, "c", "d"), pick[any](g, "1", "2", nil)}
		}
		return []any{"xmlchild", at, i, g.n(n.Len() + 1), g.element(1)}
	case XMLText:
		return []any{"xmltext", at, i, g.place(n.Text), g.text(), g.attrs()}
	}
	return []any{"xmldel", at, i, 1}
}
