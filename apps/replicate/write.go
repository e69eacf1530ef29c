package replicate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// The codes of updates that were not applied.
const (
	CodeDocument  = "DocumentInvalid" // the name can't be one
	CodeMalformed = "UpdateMalformed" // the bytes are no update that every Yjs peer can read
	CodeTooLarge  = "UpdateTooLarge"  // the update or the document it would make is over a limit
	CodeField     = "FieldInvalid"    // a field would not be what the collection says it is
	CodeDenied    = "AccessDenied"    // the caller may not write the document, or not make this of it
	CodeHook      = "HOOK_FAILED"     // the app refuses the change
	CodeGapped    = "UpdateGapped"    // what it builds on has not arrived; it waits for that
)

// Status is what became of an update.
type Status string

// The statuses.
const (
	Applied Status = "applied"
	Known   Status = "known"   // it brings nothing that was not there
	Gapped  Status = "gapped"  // what it builds on is missing: send what the server's state vector lacks
	Refused Status = "refused" // it will never be applied as it is
)

var _ halcyon.Enum[Status] = Status("")

// Values returns the statuses.
func (Status) Values() []Status { return []Status{Applied, Known, Gapped, Refused} }

// Result is what became of an update.
type Result struct {
	Status  Status
	Code    string // of one that was not applied
	Message string // for people
	Kept    bool   // it was set aside; a gapped one is applied when what it builds on comes
	Update  []byte // what was new, in V2
	After   Document
}

// Write applies an update to a document as the caller's, in the format of npm yjs that version says. What is wrong with the update is in the
// Result, and then nothing of it has happened; an error is one of the transaction.
func (c *Collection) Write(tx *halcyon.Tx, document string, update []byte, version yjs.Version) (Result, error) {
	if f := checkDocument(document); f != nil {
		return Result{Status: Refused, Code: f.code, Message: f.message}, nil
	}
	w := &write{c: c, tx: tx, document: document, rule: true}
	result, err := w.run(update, version)
	if err != nil || result.Status != Applied || w.head.Aside == 0 {
		return result, err
	}
	return result, c.retryAside(tx, document, caller(tx))
}

// Edit changes a document for the server itself, with no regard to access: edit is given the document and changes it. The result is Known
// when it did not. A mistake of edit undoes all of it.
func (c *Collection) Edit(tx *halcyon.Tx, document string, edit func(doc *yjs.Doc) error) (Result, error) {
	if f := checkDocument(document); f != nil {
		return Result{}, f
	}
	w := &write{c: c, tx: tx, document: document}
	if err := w.open(); err != nil {
		return Result{}, err
	}
	w.doc.SetClientID(c.editor)
	stop := w.record()
	err := w.doc.Transact(nil, func(*yjs.Transaction) error { return edit(w.doc) })
	stop()
	if err != nil {
		return Result{}, err // the document, which is spoilt, is forgotten
	}
	result, err := w.finish()
	if err == nil && result.Status == Refused {
		err = &halcyon.Error{Code: result.Code, Message: result.Message}
	}
	return result, err
}

// write is one update on its way into one document.
type write struct {
	c        *Collection
	tx       *halcyon.Tx
	document string
	rule     bool // ask Access; false for the server itself and its operator
	whole    bool // the update may be a whole document, and be as large

	head   head
	exists bool
	doc    *yjs.Doc
	fresh  [][]byte // what has changed since record
}

// run does what Write says, but for updates that were set aside.
func (w *write) run(update []byte, version yjs.Version) (Result, error) {
	result, err := w.try(update, version)
	var f *fault
	switch {
	case errors.As(err, &f):
		result = Result{Status: Refused, Code: f.code, Message: f.message}
		if f.code == CodeGapped {
			result.Status = Gapped
		}
	case err != nil:
		return Result{}, err
	}
	if result.Status == Gapped || result.Status == Refused && result.Code != CodeDenied {
		kept, err := w.setAside(update, version, result)
		if err != nil {
			return Result{}, err
		}
		if result.Kept = kept; result.Status == Gapped && !kept {
			result.Message += "; it was not kept"
		}
	}
	return result, nil
}

func (w *write) try(update []byte, version yjs.Version) (Result, error) {
	c := w.c
	bytesMost, structsMost := c.options.UpdateBytesMax, uint64(UpdateStructsMax)
	if w.whole {
		bytesMost, structsMost = c.options.DocumentBytesMax, DocumentStructsMax
	}
	if len(update) > bytesMost {
		return Result{}, &fault{CodeTooLarge, fmt.Sprintf("the update has %d bytes, at most %d are allowed", len(update), bytesMost)}
	}
	if err := w.find(); err != nil {
		return Result{}, err
	}
	if w.exists {
		if err := w.mayWrite(w.head.document()); err != nil {
			return Result{}, err
		}
	}
	meta, err := metaOf(update, version, structsMost)
	if err != nil {
		return Result{}, err
	}
	if err := w.load(); err != nil {
		return Result{}, err
	}
	if missing := gapOf(w.doc.State(), meta); missing != "" {
		w.keep()
		return Result{}, &fault{CodeGapped, missing}
	}
	stop := w.record()
	if version == yjs.V1 {
		err = w.doc.Apply(update, nil)
	} else {
		err = w.doc.ApplyV2(update, nil)
	}
	stop()
	if err != nil {
		return Result{}, &fault{CodeMalformed, err.Error()}
	}
	if w.doc.Pending() != nil {
		return Result{}, &fault{CodeGapped, "it builds on changes of others that have not arrived"}
	}
	return w.finish()
}

// metaOf reads what an update says of itself. It is refused when there are more structs in it than there may be, before one of them takes memory.
func metaOf(update []byte, version yjs.Version, structsMost uint64) (yjs.Meta, error) {
	codec := yjs.Codec{Version: version, Limits: yjs.Limits{Subdocs: SubdocsMax}}
	if structsMost > UpdateStructsMax || uint64(len(update)) > structsMost/structsPerByte { // a smaller one may have fewer
		codec.Limits.Structs = structsMost
	}
	meta, err := codec.Meta(update)
	over, ok := errors.AsType[*yjs.LimitError](err)
	switch {
	case ok && over.Limit == "Structs":
		return meta, &fault{CodeTooLarge, fmt.Sprintf("the update has %d structs, at most %d are allowed for its size", over.Got, over.Max)}
	case ok && over.Limit == "Subdocs":
		return meta, &fault{CodeTooLarge, fmt.Sprintf("the update has more than %d documents within", over.Max)}
	case err != nil:
		return meta, &fault{CodeMalformed, err.Error()}
	case uint64(meta.Structs) > structsMost:
		return meta, &fault{CodeTooLarge, fmt.Sprintf("the update has %d structs, at most %d are allowed", meta.Structs, structsMost)}
	}
	return meta, nil
}

// structsPerByte is how many structs an update of format V2 may have for each of its bytes, by the default of the codec.
const structsPerByte = 16

// gapOf says what an update builds on that is missing by the state vector, or nothing.
func gapOf(state yjs.StateVector, meta yjs.Meta) string {
	if meta.Gaps > 0 {
		return "it has gaps"
	}
	for client, from := range meta.From {
		if have := state[client]; from > have {
			return fmt.Sprintf("it begins at change %d of client %d, and %d have arrived", from, client, have)
		}
	}
	for client, ranges := range meta.Deleted.All() {
		if have := max(state[client], meta.To[client]); len(ranges) > 0 && ranges[len(ranges)-1].End() > have {
			return fmt.Sprintf("it deletes changes of client %d that have not arrived", client)
		}
	}
	return ""
}

// find reads the head.
func (w *write) find() (err error) {
	w.head, w.exists, err = w.c.find(w.tx, w.document)
	return err
}

// load makes the document of what is stored, or takes it from the cache.
func (w *write) load() error {
	w.doc = nil
	if w.exists {
		w.doc = w.c.loaded.take(w.head.Version)
	}
	if w.doc != nil {
		return nil
	}
	w.doc = yjs.NewDoc(&yjs.Options{Limits: w.c.stored.Limits})
	if !w.exists {
		return nil
	}
	stored, err := w.c.content(w.tx, w.document)
	if err != nil {
		return err
	}
	if err := w.doc.ApplyV2(stored.bytes, nil); err != nil {
		return fmt.Errorf("stored document %q: %w", w.document, err)
	}
	return nil
}

func (w *write) open() error {
	if err := w.find(); err != nil {
		return err
	}
	return w.load()
}

// keep gives the document back to the cache, unchanged.
func (w *write) keep() {
	if w.exists {
		w.c.loaded.put(w.head.Version, w.doc, w.head.Bytes)
	}
	w.doc = nil
}

// record notes what changes in the document until stop.
func (w *write) record() (stop func()) {
	w.fresh = nil
	return w.doc.OnUpdateV2(func(u yjs.Update) { w.fresh = append(w.fresh, u.Bytes) })
}

// mayWrite asks the rule.
func (w *write) mayWrite(d Document) error {
	if !w.rule {
		return nil
	}
	level, err := w.c.ask(w.tx, d)
	if err != nil {
		return denied(err)
	}
	if level < Write {
		return &fault{CodeDenied, "you may not write this document"}
	}
	return nil
}

// passFault returns the errors that are no faults.
func passFault(err error) error {
	if _, ok := errors.AsType[*fault](err); ok {
		return nil
	}
	return err
}

// denied makes a fault of the error of a rule. Only what was meant for the caller is told.
func denied(err error) error {
	if told, ok := errors.AsType[*halcyon.Error](err); ok {
		return &fault{CodeDenied, told.Message}
	}
	return err
}

// finish stores what has changed in the document. Unless it succeeds the document, which is spoilt, is forgotten.
func (w *write) finish() (Result, error) {
	if len(w.fresh) == 0 {
		var after Document
		if w.exists {
			after = w.head.document()
		}
		w.keep()
		return Result{Status: Known, After: after}, nil
	}
	c := w.c
	fresh, err := c.merge(w.document, w.fresh)
	if err != nil {
		return Result{}, err
	}
	after, err := c.view(w.document, w.doc)
	if err != nil {
		return Result{}, err
	}
	if err := w.mayWrite(after); err != nil {
		return Result{}, err
	}
	before := Document{ID: w.document}
	if w.exists {
		before = w.head.document()
	}
	// A document that is as large as it may be can still be deleted.
	if !after.Deleted || before.Deleted {
		if err := w.tooLarge(len(fresh)); err != nil {
			return Result{}, err
		}
	}
	h := w.head
	h.Document, h.Deleted, h.Fields, h.Vector = w.document, after.Deleted, after.fields, w.doc.State().Encode()
	sum := sha256.New()
	sum.Write([]byte(w.document))
	sum.Write(h.Version)
	sum.Write(fresh)
	h.Version = sum.Sum(nil)[:16]
	h.Since++
	h.SinceBytes += len(fresh)
	h.Bytes += len(fresh)
	opened := w.exists && c.opens(before, after)
	if c.options.OnChange == nil {
		err = w.store(&h, fresh, opened)
	} else {
		err = w.tx.Nested(func() error {
			if err := w.store(&h, fresh, opened); err != nil {
				return err
			}
			return hookFault(c.options.OnChange(w.tx, Change{Before: before, After: after, Update: fresh}))
		})
	}
	if err != nil {
		return Result{}, err
	}
	c.loaded.put(h.Version, w.doc, h.Bytes)
	w.doc, w.head, w.exists = nil, h, true
	return Result{Status: Applied, Update: fresh, After: after}, nil
}

// tooLarge refuses a document that has become too large by something fresh.
func (w *write) tooLarge(fresh int) error {
	if n := w.doc.Structs(); n > DocumentStructsMax {
		return &fault{CodeTooLarge, fmt.Sprintf("the document would have %d structs, at most %d are allowed", n, DocumentStructsMax)}
	}
	if n := w.doc.SubdocStructs(); n > SubdocsMax {
		return &fault{CodeTooLarge, fmt.Sprintf("the document would have %d documents within, removed ones included, at most %d are allowed", n, SubdocsMax)}
	}
	most := w.c.options.DocumentBytesMax
	if w.head.Bytes+fresh <= most {
		return nil // as it is appended, and less when it is merged
	}
	if n := len(w.doc.EncodeStateV2(nil)); n > most {
		return &fault{CodeTooLarge, fmt.Sprintf("the document would have %d bytes, at most %d are allowed", n, most)}
	}
	return nil
}

// hookFault makes a fault of the error of a hook.
func hookFault(err error) error {
	if told, ok := errors.AsType[*halcyon.Error](err); ok {
		return &fault{CodeHook, told.Message}
	}
	return err
}

// opens reports whether the rule may answer differently than before.
func (c *Collection) opens(before, after Document) bool {
	if c.options.Access == nil {
		return false
	}
	return before.Deleted != after.Deleted || slices.ContainsFunc(c.options.AccessFields, func(field string) bool {
		return string(before.raw(field)) != string(after.raw(field))
	})
}

// store writes the rows of a write.
func (w *write) store(h *head, fresh []byte, opened bool) (err error) {
	c := w.c
	if err := c.append(w.tx, w.document, fresh, h.Deleted, nil); err != nil {
		return err
	}
	h.Updated = w.tx.Now()
	if err := c.compactWhenDue(w.tx, h); err != nil {
		return err
	}
	if w.exists {
		err = c.heads.Replace(w.tx, h.ID, *h)
	} else {
		if h.Aside, err = w.waiting(); err == nil {
			h.ID, err = c.heads.Insert(w.tx, *h)
		}
	}
	if err != nil || !opened {
		return err
	}
	return c.heads.Apply(w.tx, h.ID, halcyon.CommitTime("opened"))
}

// waiting counts the gapped updates that came before the document did.
func (w *write) waiting() (int, error) {
	rows, err := w.c.asides.By("by_document").Eq(w.document).Collect(w.tx)
	n := 0
	for _, row := range rows {
		if row.Code == CodeGapped {
			n++
		}
	}
	return n, err
}

// setAside keeps an update that was not applied, with its reason, and reports whether it did. The same one is kept once.
func (w *write) setAside(update []byte, version yjs.Version, result Result) (bool, error) {
	c := w.c
	if len(update) > asideBytesMax {
		return false, nil
	}
	if !w.exists {
		// Nobody may fill the store with what they may not even begin.
		if err := w.mayWrite(Document{ID: w.document}); err != nil {
			return false, passFault(err)
		}
	}
	if version == yjs.V1 {
		if converted, err := yjs.ConvertV1ToV2(update); err == nil {
			update = converted
		}
	}
	hash := sha256.Sum256(update)
	_, known, err := c.asides.By("by_document").Eq(w.document, hash[:]).First(w.tx)
	if err != nil || known {
		return known, err
	}
	there, err := c.asides.By("by_document").Eq(w.document).Take(w.tx, asideMax)
	if err != nil || len(there) == asideMax {
		return false, err
	}
	row := aside{Document: w.document, Hash: hash[:], Code: result.Code, Message: result.Message, Time: w.tx.Now(), Bytes: update, Client: w.by()}
	if _, err := c.asides.Insert(w.tx, row); err != nil {
		return false, err
	}
	if result.Status == Gapped && w.exists {
		return true, c.heads.Patch(w.tx, w.head.ID, halcyon.Fields{"aside": w.head.Aside + 1})
	}
	return true, nil
}

// operator stands for a caller whom no rule is asked about. It is no token identifier: these have a "|".
const operator = "operator"

// by returns for whom the update is written.
func (w *write) by() string {
	if !w.rule {
		return operator
	}
	return caller(w.tx)
}

// caller returns who makes the call, "" for nobody.
func caller(tx *halcyon.Tx) string {
	who, _ := tx.Identity()
	return who.TokenIdentifier
}

// retryAside tries updates that were set aside for a document which has changed, until none fits any more, or time is short: what is left
// is tried at the next change. Where there is a rule only those of the operator and of who wrote now are tried: the rule can't be asked for others, and
// what somebody was not allowed must not come in by another's write.
func (c *Collection) retryAside(tx *halcyon.Tx, document, by string) error {
	for {
		h, ok, err := c.find(tx, document)
		if err != nil || !ok || h.Aside == 0 {
			return err
		}
		rows, err := c.asides.By("by_document").Eq(document).Collect(tx)
		if err != nil {
			return err
		}
		waiting, moved := 0, false
		for _, row := range rows {
			if row.Code != CodeGapped {
				continue
			}
			asked := row.Client != operator
			if c.options.Access != nil && asked && row.Client != by || tx.HalfSpent() {
				waiting++
				continue
			}
			w := &write{c: c, tx: tx, document: document, rule: asked, whole: !asked}
			result, err := w.try(row.Bytes, yjs.V2)
			var f *fault
			switch {
			case errors.As(err, &f) && f.code == CodeGapped:
				waiting++
				continue
			case errors.As(err, &f):
				if err := c.asides.Patch(tx, row.ID, halcyon.Fields{"code": f.code, "message": f.message}); err != nil {
					return err
				}
				continue
			case err != nil:
				return err
			}
			moved = moved || result.Status == Applied
			if err := c.asides.Delete(tx, row.ID); err != nil {
				return err
			}
		}
		if h, _, err = c.find(tx, document); err != nil {
			return err
		}
		if err := c.heads.Patch(tx, h.ID, halcyon.Fields{"aside": waiting}); err != nil || !moved || waiting == 0 {
			return err
		}
	}
}
