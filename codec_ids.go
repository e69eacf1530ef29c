package halcyon

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/value"
)

// findIDs notes which parts of a plan have ids in them, so that checking a value walks no others.
func (c *codec) findIDs() bool {
	ids := c.shape == shapeID
	if c.elem != nil && c.elem.findIDs() {
		ids = true
	}
	for i := range c.fields {
		if f := &c.fields[i]; f.system == notSystem && f.codec.findIDs() {
			ids = true
		}
	}
	for i := range c.variants {
		if c.variants[i].codec.findIDs() {
			ids = true
		}
	}
	if ids { // else it may be a codec that is shared
		c.ids = true
	}
	return ids
}

// checkIDs reports the first id in a Go value that can't be one of the table that its type names. The types say everything else about
// results and documents, but an ID is any text until it is looked at. The id of the document itself is left out: writes ignore it, and
// what was read has it from the store.
func (c *codec) checkIDs(rv reflect.Value, tables tableNames) *ValidationError {
	if !c.ids {
		return nil
	}
	switch c.shape {
	case shapeID:
		return (&decoder{tables: tables}).checkID(c, value.String(rv.String()))
	case shapePointer:
		if !rv.IsNil() {
			return c.elem.checkIDs(rv.Elem(), tables)
		}
	case shapeShared:
		return c.elem.checkIDs(rv.Interface().(sharedValue).content(), tables)
	case shapeNullable:
		if rv.Field(1).Bool() {
			return c.elem.checkIDs(rv.Field(0), tables)
		}
	case shapeArray:
		for i := range rv.Len() {
			if err := c.elem.checkIDs(rv.Index(i), tables); err != nil {
				return err.under(fmt.Sprintf("[%d]", i))
			}
		}
	case shapeRecord:
		keys := rv.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) // the same error each time
		for _, key := range keys {
			if err := c.elem.checkIDs(rv.MapIndex(key), tables); err != nil {
				return err.under("." + key.String())
			}
		}
	case shapeObject:
		for i := range c.fields {
			f := &c.fields[i]
			if !f.codec.ids || f.system != notSystem {
				continue
			}
			fv := rv.FieldByIndex(f.index)
			if f.omit && isZero(fv) {
				continue
			}
			if err := f.codec.checkIDs(fv, tables); err != nil {
				return err.under("." + f.name)
			}
		}
	case shapeUnion:
		for i := range c.variants {
			if fv := rv.Field(c.variants[i].index); !fv.IsNil() {
				if err := c.variants[i].codec.checkIDs(fv.Elem(), tables); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkLoose checks what encodeLoose made of v: it takes a value.Value as it is, and texts for ids.
func (c *codec) checkLoose(v any, encoded value.Value, tables tableNames) *ValidationError {
	if _, raw := v.(value.Value); !raw && !c.ids {
		return nil
	}
	return (&decoder{tables: tables}).decode(c, encoded, reflect.New(c.typ).Elem())
}
