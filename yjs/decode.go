package yjs

import (
	"errors"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// Version is one of the two encodings of updates.
type Version uint8

// The encodings. V1 is what every network protocol of Yjs carries; V2 groups
// equal fields in columns and is smaller for large documents.
const (
	V1 Version = 1
	V2 Version = 2
)

// columns are the parts of a V2 update that sit apart from the rest.
type columns struct {
	keyClock   lib0.DiffRunReader
	client     lib0.UintRunReader
	leftClock  lib0.DiffRunReader
	rightClock lib0.DiffRunReader
	info       lib0.ByteRunReader
	strings    lib0.StringReader
	parentInfo lib0.ByteRunReader
	typeRef    lib0.UintRunReader
	length     lib0.UintRunReader
	keys       []string
}

func (c *columns) err() error {
	return errors.Join(c.keyClock.Err(), c.client.Err(), c.leftClock.Err(), c.rightClock.Err(), c.info.Err(),
		c.strings.Err(), c.parentInfo.Err(), c.typeRef.Err(), c.length.Err())
}

func (c *columns) failed() bool {
	return c.keyClock.Err() != nil || c.client.Err() != nil || c.leftClock.Err() != nil || c.rightClock.Err() != nil ||
		c.info.Err() != nil || c.strings.Err() != nil || c.parentInfo.Err() != nil || c.typeRef.Err() != nil || c.length.Err() != nil
}

// decoder walks the structs of an update in the order they are stored and then
// reads its delete set. It checks everything it passes.
type decoder struct {
	rest    lib0.Reader
	cols    *columns // nil for V1
	limits  Limits
	clients uint64 // client blocks left
	structs uint64 // structs left in this block
	budget  uint64 // structs left in all, V2 only
	subdocs uint64 // that were read

	client   uint64
	clock    uint64
	blocks   int  // that are not empty
	unsorted bool // whether clients are not in descending order
	seen     []uint64
	seenSet  map[uint64]struct{}
	err      error

	keepBody bool
}

// init starts reading an update. It reads no struct yet.
func (d *decoder) init(update string, v Version, limits Limits) {
	d.rest = lib0.NewReader(update)
	d.limits = limits.withDefaults(len(update))
	d.budget = d.limits.Structs
	if v == V2 {
		d.initColumns()
	}
	d.clients = d.rest.Uint()
	if d.clients > uint64(d.rest.Len()) {
		d.rest.Fail("more clients than bytes")
	}
	d.keepBody = v == V1
	d.check()
}

func (d *decoder) initColumns() {
	if d.rest.Uint() != 0 {
		d.rest.Fail("unknown feature flag")
	}
	c := &columns{}
	c.keyClock = lib0.NewDiffRunReader(d.rest.Bytes())
	c.client = lib0.NewUintRunReader(d.rest.Bytes())
	c.leftClock = lib0.NewDiffRunReader(d.rest.Bytes())
	c.rightClock = lib0.NewDiffRunReader(d.rest.Bytes())
	c.info = lib0.NewByteRunReader(d.rest.Bytes())
	c.strings = lib0.NewStringReader(d.rest.Bytes())
	c.parentInfo = lib0.NewByteRunReader(d.rest.Bytes())
	c.typeRef = lib0.NewUintRunReader(d.rest.Bytes())
	c.length = lib0.NewUintRunReader(d.rest.Bytes())
	d.cols = c
}

// check turns what the readers recorded into d.err.
func (d *decoder) check() bool {
	if d.err != nil {
		return false
	}
	if err := d.rest.Err(); err != nil {
		d.err = wrapDecode(err)
	} else if d.cols != nil && d.cols.failed() {
		d.err = wrapDecode(d.cols.err())
	}
	return d.err == nil
}

func (d *decoder) fail(format string, args ...any) bool {
	if d.check() {
		d.err = malformed(format, args...)
	}
	return false
}

func (d *decoder) version() Version {
	if d.cols != nil {
		return V2
	}
	return V1
}

// nextClient enters the next client block that is not empty.
func (d *decoder) nextClient() bool {
	for d.structs == 0 {
		if d.clients == 0 || d.err != nil {
			return false
		}
		d.clients--
		n := d.rest.Uint()
		client := d.readClient()
		clock := d.rest.Uint()
		if !d.check() {
			return false
		}
		if d.cols == nil {
			if n > uint64(d.rest.Len()/2) {
				return d.fail("client %d claims %d structs in %d bytes", client, n, d.rest.Len())
			}
		} else {
			if n > d.budget {
				d.err = &LimitError{"Structs", d.limits.Structs - d.budget + n, d.limits.Structs}
				return false
			}
			d.budget -= n
		}
		if n == 0 {
			continue
		}
		if !d.admit(client) {
			return false
		}
		d.structs, d.client, d.clock = n, client, clock
	}
	return true
}

// admit checks that a client has one block only.
func (d *decoder) admit(client uint64) bool {
	if d.blocks > 0 && client >= d.client {
		d.unsorted = true
	}
	if d.unsorted && d.seenSet == nil {
		d.seenSet = make(map[uint64]struct{}, len(d.seen))
		for _, c := range d.seen {
			d.seenSet[c] = struct{}{}
		}
		d.seenSet[d.client] = struct{}{}
	}
	if d.seenSet == nil {
		// One client is the common case, and the last one is at hand anyway.
		if d.blocks > 0 {
			d.seen = append(d.seen, d.client)
		}
		d.blocks++
		return true
	}
	if _, dup := d.seenSet[client]; dup {
		return d.fail("client %d has two blocks", client)
	}
	d.seenSet[client] = struct{}{}
	return true
}

// next reads the next struct into b. It returns false at the end of the structs
// and on failure.
func (d *decoder) next(b *block) bool {
	if d.structs == 0 && !d.nextClient() {
		return false
	}
	d.structs--
	start := d.rest.Pos() + 1
	info := d.readInfo()
	b.client, b.clock = d.client, d.clock
	b.kind = kind(info & infoKind)
	b.info = info &^ infoKind
	b.parentKind = parentInherited
	b.body = ""
	switch {
	case b.kind == kindGC:
		b.length = d.readLen()
	case b.kind == kindSkip:
		b.length = d.rest.Uint()
	case b.kind > kindSkip:
		return d.fail("unknown struct %#x", info)
	default:
		d.readPlace(b)
		d.readContent(b)
	}
	if (b.kind == kindGC || b.kind == kindSkip) && b.info != 0 {
		return d.fail("struct %#x with item bits", info)
	}
	if !d.check() || !d.checkBlock(b) {
		return false
	}
	if d.keepBody {
		b.body = d.rest.Since(start)
	}
	d.clock += b.length
	return true
}

func (d *decoder) readPlace(b *block) {
	if b.info&infoOrigin != 0 {
		b.origin.Client = d.readClient()
		b.origin.Clock = d.readLeftClock()
	}
	if b.info&infoRight != 0 {
		b.right.Client = d.readClient()
		if d.cols == nil {
			b.right.Clock = d.rest.Uint()
		} else {
			b.right.Clock = d.cols.rightClock.Next()
		}
	}
	if b.info&(infoOrigin|infoRight) != 0 {
		b.info &^= infoSub
		return
	}
	if d.readParentInfo() {
		b.parentKind = parentRoot
		b.root = d.readString()
	} else {
		b.parentKind = parentItem
		b.parent.Client = d.readClient()
		b.parent.Clock = d.readLeftClock()
	}
	if b.info&infoSub != 0 {
		b.sub = d.readString()
	}
}

func (d *decoder) readContent(b *block) {
	b.length = 1
	switch b.kind {
	case kindDeleted:
		b.length = d.readLen()
	case kindString:
		if d.cols == nil {
			b.text, b.length = d.rest.Text()
		} else {
			b.text, b.length = d.cols.strings.Next()
		}
	case kindAny:
		b.length = d.readLen()
		b.value = d.values(kindAny, b.length)
	case kindJSON:
		b.length = d.readLen()
		if d.cols == nil {
			b.value = d.values(kindJSON, b.length)
		} else {
			b.value = d.jsonColumn(b.length)
		}
	case kindBinary:
		b.value = d.rest.Bytes()
	case kindEmbed:
		d.readValue(b)
	case kindFormat:
		b.text = d.readKey()
		d.readValue(b)
	case kindType:
		d.readType(b)
	case kindDoc:
		if d.subdocs++; d.subdocs > d.limits.Subdocs {
			d.err = &LimitError{"Subdocs", d.subdocs, d.limits.Subdocs}
			return
		}
		b.text = d.readString()
		start := d.rest.Pos()
		d.rest.SkipAny()
		b.value = d.rest.Since(start)
		if len(b.value) == 0 || b.value[0] != 118 {
			d.rest.Fail("subdocument options are not an object")
		}
	}
}

func (d *decoder) readType(b *block) {
	ref := uint64(0)
	if d.cols == nil {
		ref = d.rest.Uint()
	} else {
		ref = d.cols.typeRef.Next()
	}
	if ref > uint64(KindXMLText) {
		// The payload of an unknown type is unknown too, so it can't be passed.
		d.rest.Fail("unknown shared type")
		return
	}
	b.typeRef = TypeKind(ref)
	b.text = ""
	if b.typeRef.named() {
		b.text = d.readKey()
	}
}

// values passes n values of Any or JSON content and returns their bytes.
func (d *decoder) values(k kind, n uint64) string {
	if n > uint64(d.rest.Len()) {
		d.rest.Fail("more values than bytes")
		return ""
	}
	start := d.rest.Pos()
	for ; n > 0 && d.rest.Err() == nil; n-- {
		if k == kindAny {
			d.rest.SkipAny()
		} else {
			d.checkJSON(d.rest.String())
		}
	}
	return d.rest.Since(start)
}

func (d *decoder) checkJSON(s string) {
	if s == "undefined" {
		return
	}
	if err := lib0.ValidJSON(s); err != nil && d.rest.Err() == nil {
		d.rest.FailWith(err, "JSON content")
	}
}

// jsonColumn reads legacy JSON content from V2 and returns it as V1 has it.
func (d *decoder) jsonColumn(n uint64) string {
	var buf []byte
	for ; n > 0 && d.rest.Err() == nil && d.cols.strings.Err() == nil; n-- {
		s, _ := d.cols.strings.Next()
		d.checkJSON(s)
		buf = lib0.AppendString(buf, s)
	}
	return view(buf)
}

func (d *decoder) readValue(b *block) {
	if d.cols == nil {
		b.json = true
		b.value = d.rest.String()
		switch b.value {
		case "true", "null":
		default:
			if err := lib0.ValidJSON(b.value); err != nil && d.rest.Err() == nil {
				d.rest.FailWith(err, "JSON value")
			}
		}
		return
	}
	// Also what V2 holds has to have a text, or no V1 peer could ever be told.
	b.json = false
	start := d.rest.Pos()
	d.rest.SkipJSON()
	b.value = d.rest.Since(start)
}

func (d *decoder) checkBlock(b *block) bool {
	if b.length == 0 {
		return d.fail("empty struct")
	}
	if b.kind <= kindDeleted || b.kind == kindSkip {
		if b.length > d.limits.Run {
			d.err = &LimitError{"Run", b.length, d.limits.Run}
			return false
		}
	}
	if b.clock > d.limits.Clock || b.length > d.limits.Clock-b.clock {
		d.err = &LimitError{"Clock", b.clock + b.length, d.limits.Clock}
		return false
	}
	if b.kind == kindGC || b.kind == kindSkip {
		return true
	}
	// Whatever an item refers to existed before it.
	if b.info&infoOrigin != 0 && !d.precedes(b.origin, b) || b.info&infoRight != 0 && !d.precedes(b.right, b) ||
		b.parentKind == parentItem && !d.precedes(b.parent, b) {
		return d.fail("item %d:%d refers to a later one", b.client, b.clock)
	}
	return true
}

func (d *decoder) precedes(id ID, b *block) bool {
	return (id.Client != b.client || id.Clock < b.clock) && id.Clock < d.limits.Clock
}

// finish reads the delete set. It is called after next returned false and
// checks that the update ends with it.
func (d *decoder) finish(s *DeleteSet) (raw string, canonical bool, err error) {
	if !d.check() {
		return "", false, d.err
	}
	start := d.rest.Pos()
	canonical = readDeleteSet(&d.rest, d.version(), s)
	raw = d.rest.Since(start)
	if d.rest.Err() == nil && d.rest.Len() > 0 {
		d.rest.Fail("bytes after the update")
	}
	d.check()
	return raw, canonical, d.err
}

// pass is finish for those who only copy the delete set: raw is empty when it
// has to be written anew from s.
func (d *decoder) pass(s *DeleteSet) (raw string, err error) {
	if d.cols == nil && d.check() {
		r := d.rest
		start := r.Pos()
		if passCanonical(&r) && r.Len() == 0 {
			d.rest = r
			return r.Since(start), nil
		}
	}
	raw, canonical, err := d.finish(s)
	if !canonical || d.cols != nil {
		raw = ""
	}
	return raw, err
}

func (d *decoder) readInfo() uint8 {
	if d.cols == nil {
		return d.rest.Byte()
	}
	return d.cols.info.Next()
}

func (d *decoder) readLen() uint64 {
	if d.cols == nil {
		return d.rest.Uint()
	}
	return d.cols.length.Next()
}

func (d *decoder) readClient() uint64 {
	if d.cols == nil {
		return d.rest.Uint()
	}
	return d.cols.client.Next()
}

func (d *decoder) readLeftClock() uint64 {
	if d.cols == nil {
		return d.rest.Uint()
	}
	return d.cols.leftClock.Next()
}

func (d *decoder) readParentInfo() (root bool) {
	if d.cols == nil {
		return d.rest.Uint() == 1
	}
	return d.cols.parentInfo.Next() == 1
}

func (d *decoder) readString() string {
	if d.cols == nil {
		return d.rest.String()
	}
	s, _ := d.cols.strings.Next()
	return s
}

// readKey reads a string the encoder may have deduplicated. Encoders of yjs 13
// write every key anew; the table is there for those that do not.
func (d *decoder) readKey() string {
	if d.cols == nil {
		return d.rest.String()
	}
	c := d.cols
	at := c.keyClock.Next()
	if at < uint64(len(c.keys)) {
		return c.keys[at]
	}
	s, _ := c.strings.Next()
	c.keys = append(c.keys, s)
	return s
}
