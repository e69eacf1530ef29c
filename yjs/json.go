package yjs

import (
	"slices"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// AppendJSON appends the roots of the document as a JSON object with sorted
// names. Text is its characters, XML its markup; binary data is base64. A
// subdocument is its name: what is in it is another document.
func (d *Doc) AppendJSON(dst []byte) []byte {
	names := make([]string, 0, len(d.roots))
	for _, b := range d.roots {
		names = append(names, b.name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(lib0.AppendJSONString(dst, name), ':')
		dst = d.findRoot(name).handle().AppendJSON(dst)
	}
	return append(dst, '}')
}

// MarshalJSON implements json.Marshaler.
func (d *Doc) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// AppendValueJSON appends a value as it is read from shared types, the same
// bytes for equal values but for the order of the members of objects.
func AppendValueJSON(dst []byte, v any) []byte { return appendValueJSON(dst, v) }

func appendValueJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case Type:
		return v.AppendJSON(dst)
	case *Doc:
		dst = append(dst, `{"guid":`...)
		return append(lib0.AppendJSONString(dst, v.GUID()), '}')
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValueJSON(dst, e)
		}
		return append(dst, ']')
	}
	return lib0.AppendJSON(dst, v, lib0.BytesAsBase64)
}

// nestedMax is how deep shared types are read out: deeper ones are null. It is
// far beyond what anybody nests and keeps the stack within bounds.
const nestedMax = 5000

func (b *branch) tooDeep() bool {
	n := 0
	for it := b.item; it != nil; it = it.parent.item {
		if n++; n > nestedMax {
			return true
		}
	}
	return false
}

func (b *branch) appendListJSON(dst []byte) []byte {
	dst = append(dst, '[')
	first := true
	for it := b.start; it != nil; it = it.right {
		if !it.visible() {
			continue
		}
		if it.kind == kindString {
			eachUnit(it.text(), func(s string) bool {
				if !first {
					dst = append(dst, ',')
				}
				first = false
				dst = lib0.AppendJSONString(dst, s)
				return true
			})
			continue
		}
		if it.kind == kindAny {
			r := lib0.NewReader(view(it.text()))
			for range it.length {
				if !first {
					dst = append(dst, ',')
				}
				first = false
				dst = r.AppendAnyJSON(dst, lib0.BytesAsBase64)
			}
			continue
		}
		for i := range it.length {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = it.appendUnitJSON(dst, uint64(i))
		}
	}
	return append(dst, ']')
}

func (it *item) appendUnitJSON(dst []byte, at uint64) []byte {
	if it.kind == kindType && it.branch().tooDeep() {
		return append(dst, "null"...)
	}
	if it.kind == kindAny {
		r := lib0.NewReader(view(it.text()))
		skipValues(&r, kindAny, at)
		return r.AppendAnyJSON(dst, lib0.BytesAsBase64)
	}
	return appendValueJSON(dst, it.valueAt(at))
}

// undefinedAt reports whether the value at an offset is undefined.
func (it *item) undefinedAt(at uint64) bool {
	switch it.kind {
	case kindAny:
		r := lib0.NewReader(view(it.text()))
		skipValues(&r, kindAny, at)
		return r.AtUndefined()
	case kindJSON:
		_, is := it.valueAt(at).(Undefined)
		return is
	}
	return false
}

func (b *branch) appendMapJSON(dst []byte) []byte {
	items := make([]*item, 0, len(b.keys.items))
	for _, it := range b.keys.items {
		if !it.deleted() {
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(x, y *item) int {
		if x.sub < y.sub {
			return -1
		}
		return 1
	})
	dst = append(dst, '{')
	first := true
	for _, it := range items {
		last := uint64(it.length) - 1
		if it.undefinedAt(last) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(lib0.AppendJSONString(dst, it.sub), ':')
		dst = it.appendUnitJSON(dst, last)
	}
	return append(dst, '}')
}
