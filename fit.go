package halcyon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// fitTable is the App's own: one document for each table, with the schema that all of its documents fit, or how far they are known to.
var fitTable = engine.TableDef{
	Name:    engineName("_system", "fits"),
	Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}},
}

const (
	fitBatch     = 500     // documents in one look
	fitBytes     = 4 << 20 // of documents in one look
	fitKeepEvery = 40      // looks
	progressTime = 5 * time.Second
)

// SchemaError says that documents of a table do not fit its struct, as it was changed.
type SchemaError struct {
	Table     string // module/table
	Type      string // of the struct
	Documents int64  // that were looked at: all there are
	Misfits   []Misfit
}

// Misfit is one way in which documents do not fit.
type Misfit struct {
	Path    string // of the field, such as "user.names[]"; "[]" stands for any element
	Problem string // in Convex's words, of the first document
	Count   int64  // of documents
	Example string // the id of one
}

// Error names the fields and the ways out.
func (e *SchemaError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s holds documents that do not fit %s:", e.Table, e.Type)
	for _, m := range e.Misfits {
		fmt.Fprintf(&b, "\n  field %s: %d of %d documents, such as %s: %s", m.Path, m.Count, e.Documents, m.Example, strings.ReplaceAll(m.Problem, "\n", " "))
	}
	b.WriteString("\nWays out: make the field optional (a pointer, or omitzero), change its type back, or bring the documents up with halcyon.Migrate.")
	return b.String()
}

// signature names a schema: two with the same signature accept the same documents.
func (d *decoder) signature(c *codec) string {
	var b strings.Builder
	d.appendValidator(&b, c)
	appendRanges(&b, c)
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:16])
}

// appendRanges adds what a validator does not say: which numbers are integers of which range, and which are times.
func appendRanges(b *strings.Builder, c *codec) {
	fmt.Fprintf(b, "(%d %g %g", c.shape, c.lo, c.hi)
	if c.elem != nil {
		appendRanges(b, c.elem)
	}
	for i := range c.fields {
		appendRanges(b, c.fields[i].codec)
	}
	for _, v := range c.variants {
		if v.codec != nil {
			appendRanges(b, v.codec)
		}
	}
	b.WriteString(")")
}

// checkFit finds out whether all documents fit the structs of their tables. What is known from before, it does not look at again.
func (r *runtime) checkFit(ctx context.Context) error {
	known, err := r.readFits(ctx)
	if err != nil {
		return fmt.Errorf("read which documents fit: %w", err)
	}
	for _, t := range r.app.tables {
		b := r.mounts[t]
		name, signature := engineName(t.module, t.def.name), (&decoder{tables: b.tables}).signature(b.codec)
		f := known[name]
		if f.signature == signature && f.done {
			continue
		}
		if f.signature != signature {
			f = fit{id: f.id, signature: signature}
		}
		if err := r.checkTable(ctx, name, b, f); err != nil {
			return err
		}
	}
	return nil
}

// fit is a document of fitTable.
type fit struct {
	id        value.ID // zero: there is none yet
	signature string
	cursor    string // how far the documents fit
	seen      int64  // documents up to there
	done      bool
}

func (r *runtime) readFits(ctx context.Context) (out map[string]fit, err error) {
	_, err = r.db.Query(ctx, "_system:fits", func(tx *engine.Tx) error {
		out = map[string]fit{}
		for d, err := range tx.Scan(r.db.Table(fitTable.Name).Index("by_name"), engine.Range{}, false) {
			if err != nil {
				return err
			}
			f := fit{id: d.ID}
			name, _ := d.Fields.Get("name").AsString()
			f.signature, _ = d.Fields.Get("signature").AsString()
			f.cursor, _ = d.Fields.Get("cursor").AsString()
			seen, _ := d.Fields.Get("seen").AsInt64()
			f.seen = seen
			f.done, _ = d.Fields.Get("done").AsBool()
			out[name] = f
		}
		return nil
	})
	return out, err
}

func (r *runtime) writeFit(ctx context.Context, name string, f *fit) error {
	_, err := r.db.Mutate(ctx, engine.Call{Name: "_system:fits"}, func(tx *engine.Tx) ([]byte, error) {
		id, err := put(tx, r.db.Table(fitTable.Name), f.id, value.Object(
			value.Field{Name: "name", Value: value.String(name)}, value.Field{Name: "signature", Value: value.String(f.signature)},
			value.Field{Name: "cursor", Value: value.String(f.cursor)}, value.Field{Name: "seen", Value: value.Int64(f.seen)},
			value.Field{Name: "done", Value: value.Bool(f.done)},
		))
		return []byte(id.String()), err
	})
	return err
}

// put replaces a document, or inserts it where id is zero.
func put(tx *engine.Tx, t *engine.Table, id value.ID, fields value.Value) (value.ID, error) {
	if !id.IsZero() {
		return id, tx.Replace(t, id, fields)
	}
	return tx.Insert(t, fields)
}

// elements are the positions in a path, which differ between documents with the same mistake.
var elements = regexp.MustCompile(`\[\d+\]`)

// checkTable looks at the documents of a table that are not known to fit.
func (r *runtime) checkTable(ctx context.Context, name string, b *boundTable, f fit) error {
	var misfits []Misfit
	told, batch := r.clock.Now(), fitBatch
	for looks := 1; !f.done; looks++ {
		page, err := r.page(ctx, b, f.cursor, batch)
		if batch > 1 && errors.Is(err, engine.ErrTimeout) {
			batch /= 2 // the machine is too slow for as many
			continue
		}
		if err != nil {
			return fmt.Errorf("look whether the documents of table %s fit: %w", name, err)
		}
		for _, stored := range page.Documents {
			bad := (&decoder{tables: b.tables, stored: true}).decode(b.codec, stored.Fields, reflect.New(b.def.typ).Elem())
			if bad == nil {
				continue
			}
			path := bad.Path
			if bad.absent != "" {
				path += "." + bad.absent
			}
			path = strings.TrimPrefix(elements.ReplaceAllString(path, "[]"), ".")
			i := slices.IndexFunc(misfits, func(m Misfit) bool { return m.Path == path })
			if i < 0 {
				i = len(misfits)
				misfits = append(misfits, Misfit{Path: path, Problem: bad.problem + strings.TrimSpace(bad.detail), Example: stored.ID.String()})
			}
			misfits[i].Count++
		}
		f.seen += int64(len(page.Documents))
		f.cursor, f.done = page.Next, page.Done
		if now := r.clock.Now(); now.Sub(told) >= progressTime {
			r.logger.Info("looking whether stored documents fit", "table", name, "documents", f.seen)
			told = now
		}
		if len(misfits) == 0 && !f.done && looks%fitKeepEvery == 0 {
			if err := r.writeFit(ctx, name, &f); err != nil {
				return fmt.Errorf("keep which documents of table %s fit: %w", name, err)
			}
			// Its id is needed for the next time.
			known, err := r.readFits(ctx)
			if err != nil {
				return err
			}
			f.id = known[name].id
		}
	}
	if len(misfits) > 0 {
		return &SchemaError{Table: name, Type: b.def.typ.String(), Documents: f.seen, Misfits: misfits}
	}
	f.cursor = ""
	if err := r.writeFit(ctx, name, &f); err != nil {
		return fmt.Errorf("keep that the documents of table %s fit: %w", name, err)
	}
	return nil
}

// page reads some documents of a table in the order of their ids.
func (r *runtime) page(ctx context.Context, b *boundTable, cursor string, limit int) (page engine.Page, err error) {
	_, err = r.db.Query(ctx, "_system:fits", func(tx *engine.Tx) (err error) {
		page, err = tx.Page(b.indexes[engine.IndexByID], engine.Range{}, false, engine.PageRequest{Cursor: cursor, Limit: limit, BytesMax: fitBytes})
		return err
	})
	return page, err
}
