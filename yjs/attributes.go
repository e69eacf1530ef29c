package yjs

import (
	"maps"
	"slices"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// Attributes are the formatting of text: names and values. A nil value ends the
// formatting of that name.
type Attributes map[string]any

// attrMap is a JavaScript Map of attributes: it keeps the order in which names
// came in.
type attrMap []attrEntry

type attrEntry struct {
	key   string
	value *attr
}

func (m attrMap) find(key string) int {
	for i := range m {
		if m[i].key == key {
			return i
		}
	}
	return -1
}

// get returns the value of a name; null where there is none.
func (m attrMap) get(key string) *attr {
	if i := m.find(key); i >= 0 {
		return m[i].value
	}
	return nil
}

func (m attrMap) has(key string) bool { return m.find(key) >= 0 }

func (m *attrMap) set(key string, v *attr) {
	if i := m.find(key); i >= 0 {
		(*m)[i].value = v
		return
	}
	*m = append(*m, attrEntry{key, v})
}

func (m *attrMap) remove(key string) {
	if i := m.find(key); i >= 0 {
		*m = slices.Delete(*m, i, i+1)
	}
}

// apply lets a format take effect.
func (m *attrMap) apply(f *format) {
	if f.value == nil {
		m.remove(f.key)
		return
	}
	m.set(f.key, f.value)
}

// public returns the attributes, or nil when there are none.
func (m attrMap) public() Attributes {
	if len(m) == 0 {
		return nil
	}
	out := make(Attributes, len(m))
	for _, e := range m {
		out[e.key] = e.value.get()
	}
	return out
}

// makeAttrs orders attributes as a JavaScript object with sorted keys does.
func makeAttrs(a Attributes) (attrMap, error) {
	if len(a) == 0 {
		return nil, nil
	}
	out := make(attrMap, 0, len(a))
	for _, k := range slices.Sorted(maps.Keys(a)) {
		v, err := makeAttr(a[k])
		if err != nil {
			return nil, err
		}
		out = append(out, attrEntry{clean(k), v})
	}
	return out.canonical(), nil
}

// canonical puts the names in the order in which JavaScript iterates over an
// object.
func (m attrMap) canonical() attrMap {
	o := make(Object, len(m))
	numeric := false
	for i, e := range m {
		numeric = numeric || e.key != "" && e.key[0] <= '9'
		o[i].Key = e.key
	}
	if !numeric {
		return m
	}
	out := make(attrMap, 0, len(m))
	for _, e := range o.Canonical() {
		out = append(out, attrEntry{e.Key, m.get(e.Key)})
	}
	return out
}

func formatContent(key string, v *attr) content {
	return content{kind: kindFormat, data: formatPayload(&format{key, v}), length: 1}
}

// appendJSONAny encodes a value that V1 keeps as JSON: undefined and BigInts have
// none.
func appendJSONAny(v any) ([]byte, error) {
	raw, err := lib0.AppendAny(nil, v)
	if err != nil {
		return nil, err
	}
	r := lib0.NewReader(view(raw))
	r.SkipJSON()
	return raw, r.Err()
}

func embedContent(v any) (content, error) {
	raw, err := appendJSONAny(v)
	if err != nil {
		return content{}, err
	}
	return content{kind: kindEmbed, data: bytesPayload(raw), length: 1}, nil
}
