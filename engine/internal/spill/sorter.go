package spill

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrDamaged says that a run does not read as it was written.
var ErrDamaged = errors.New("a file of a sort is damaged")

const (
	bytesMaxDefault = 64 << 20
	// itemOverhead is what an item takes in memory beside its bytes.
	itemOverhead = 24
	// bufferMax and bufferMin bound the memory for reading one run.
	bufferMax = 256 << 10
	bufferMin = 16 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sorter sorts keys. Its zero value is not usable; see New. It is not safe for
// concurrent use. It sorts and writes in a goroutine of its own, one at a time,
// which Each and Close wait for.
type Sorter struct {
	fs       vfs.FS
	path     string // of its files, without a number
	bytesMax int    // of one part; there may be two in memory

	part    *part
	spare   *part // nil while it is being written
	writing chan written
	runs    []run
}

// written is what became of a part.
type written struct {
	part *part
	sum  uint32
	err  error
}

// part is the keys in memory.
type part struct {
	bytes  []byte
	items  []item
	sorted bool
}

// item is a key and its value, which follow each other in the bytes of a part.
type item struct {
	head           uint64 // the first bytes of the key, which decide most comparisons
	at             uint64
	keyLen, valLen uint32
}

func (p *part) key(i item) []byte { return p.bytes[i.at : i.at+uint64(i.keyLen)] }

func (p *part) val(i item) []byte {
	return p.bytes[i.at+uint64(i.keyLen) : i.at+uint64(i.keyLen)+uint64(i.valLen)]
}

func (p *part) compare(a, b item) int {
	if c := cmp.Compare(a.head, b.head); c != 0 {
		return c
	}
	return bytes.Compare(p.key(a), p.key(b))
}

func (p *part) size() int { return len(p.bytes) + itemOverhead*len(p.items) }

func (p *part) reset() {
	p.bytes, p.items, p.sorted = p.bytes[:0], p.items[:0], true
}

// run is a sorted file.
type run struct {
	path string
	n    int64
	sum  uint32
}

// New returns a sorter that keeps up to about bytesMax in memory, 0 for 64 MiB,
// and whose files are in an existing folder and begin with name.
func New(fs vfs.FS, dir, name string, bytesMax int) *Sorter {
	if bytesMax <= 0 {
		bytesMax = bytesMaxDefault
	}
	return &Sorter{fs: fs, path: fs.PathJoin(dir, name), bytesMax: bytesMax / 2, part: &part{sorted: true}, spare: &part{sorted: true}}
}

// Add adds a key and its value; both are copied. Each must not have been called.
func (s *Sorter) Add(key, val []byte) error {
	p := s.part
	it := item{at: uint64(len(p.bytes)), keyLen: uint32(len(key)), valLen: uint32(len(val))}
	var head [8]byte
	copy(head[:], key)
	it.head = binary.BigEndian.Uint64(head[:])
	p.bytes = append(append(p.bytes, key...), val...)
	if n := len(p.items); p.sorted && n > 0 {
		p.sorted = p.compare(p.items[n-1], it) < 0
	}
	if p.items = append(p.items, it); p.size() < s.bytesMax {
		return nil
	}
	return s.spill()
}

// spill hands the part in memory over to be written, once the one before is.
func (s *Sorter) spill() error {
	if err := s.wait(); err != nil {
		return err
	}
	p := s.part
	s.part, s.spare = s.spare, nil
	path := fmt.Sprintf("%s-%d.run", s.path, len(s.runs))
	s.runs = append(s.runs, run{path: path, n: int64(len(p.items))})
	done := make(chan written, 1)
	s.writing = done
	go func() {
		p.sort()
		sum, err := write(s.fs, path, p)
		p.reset()
		done <- written{p, sum, err}
	}()
	return nil
}

// wait waits for the part that is being written.
func (s *Sorter) wait() error {
	if s.writing == nil {
		return nil
	}
	w := <-s.writing
	s.writing, s.spare = nil, w.part
	s.runs[len(s.runs)-1].sum = w.sum
	if w.err != nil {
		return fmt.Errorf("write a part of a sort: %w", w.err)
	}
	return nil
}

func (p *part) sort() {
	if !p.sorted {
		slices.SortFunc(p.items, p.compare)
	}
}

// write writes a sorted part: for each item the lengths of key and value as
// varints, the key, the value.
func write(fs vfs.FS, path string, p *part) (sum uint32, err error) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	h := crc32.New(castagnoli)
	w := bufio.NewWriterSize(io.MultiWriter(h, f), bufferMax)
	var lengths [2 * binary.MaxVarintLen32]byte
	for _, it := range p.items {
		b := binary.AppendUvarint(lengths[:0], uint64(it.keyLen))
		b = binary.AppendUvarint(b, uint64(it.valLen))
		if _, err = w.Write(b); err != nil {
			break
		}
		// Key and value are one piece.
		if _, err = w.Write(p.bytes[it.at : it.at+uint64(it.keyLen)+uint64(it.valLen)]); err != nil {
			break
		}
	}
	if err == nil {
		err = w.Flush()
	}
	return h.Sum32(), errors.Join(err, f.Close())
}

// Len returns how many keys there are.
func (s *Sorter) Len() int64 {
	n := int64(len(s.part.items))
	for _, r := range s.runs {
		n += r.n
	}
	return n
}

// Each calls f for every key in order, until it fails; equal keys follow each
// other in no particular order. Key and value are valid for the call. It may be
// called once.
func (s *Sorter) Each(f func(key, val []byte) error) (err error) {
	if err := s.wait(); err != nil {
		return err
	}
	s.spare = nil
	p := s.part
	p.sort()
	m := merge{part: p}
	defer func() {
		for _, c := range m.cursors {
			err = errors.Join(err, c.close())
		}
	}()
	buffer := bufferMax
	if len(s.runs) > 0 {
		buffer = min(bufferMax, max(bufferMin, s.bytesMax/len(s.runs)))
	}
	for _, r := range s.runs {
		c, err := openRun(s.fs, r, buffer)
		if err != nil {
			return err
		}
		m.cursors = append(m.cursors, c)
	}
	if len(p.items) > 0 {
		m.cursors = append(m.cursors, &cursor{part: p, left: int64(len(p.items))})
	}
	for _, c := range m.cursors {
		ok, err := c.next()
		if err != nil {
			return err
		}
		if ok {
			m.order = append(m.order, c)
		}
	}
	heap.Init(&m)
	for len(m.order) > 0 {
		c := m.order[0]
		if err := f(c.key, c.val); err != nil {
			return err
		}
		ok, err := c.next()
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(&m, 0)
		} else {
			heap.Pop(&m)
		}
	}
	return nil
}

// Close ends the sorter and removes its files.
func (s *Sorter) Close() error {
	err := s.wait()
	for _, r := range s.runs {
		// A file that could not even be begun is not there.
		if e := s.fs.Remove(r.path); e != nil && err == nil {
			err = e
		}
	}
	s.runs, s.part, s.spare = nil, &part{sorted: true}, nil
	return err
}

// merge is a heap of cursors by their keys.
type merge struct {
	part    *part
	cursors []*cursor
	order   []*cursor
}

func (m *merge) Len() int           { return len(m.order) }
func (m *merge) Less(i, j int) bool { return bytes.Compare(m.order[i].key, m.order[j].key) < 0 }
func (m *merge) Swap(i, j int)      { m.order[i], m.order[j] = m.order[j], m.order[i] }
func (m *merge) Push(any)           { panic("broken invariant: nothing is pushed while runs are merged") }
func (m *merge) Pop() any {
	n := len(m.order) - 1
	c := m.order[n]
	m.order = m.order[:n]
	return c
}

// cursor reads one run, or the part in memory.
type cursor struct {
	key, val []byte
	left     int64

	part *part // in memory
	i    int

	file vfs.File
	size uint64 // of the file
	run  run
	r    *bufio.Reader
	sum  hash.Hash32
	buf  []byte
}

func openRun(fs vfs.FS, r run, buffer int) (*cursor, error) {
	f, err := fs.Open(r.path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	sum := crc32.New(castagnoli)
	return &cursor{left: r.n, file: f, size: uint64(info.Size()), run: r, sum: sum, r: bufio.NewReaderSize(io.TeeReader(f, sum), buffer)}, nil
}

// next moves to the next key and reports whether there is one.
func (c *cursor) next() (bool, error) {
	if c.left == 0 {
		return false, c.finish()
	}
	c.left--
	if c.part != nil {
		it := c.part.items[c.i]
		c.i++
		c.key, c.val = c.part.key(it), c.part.val(it)
		return true, nil
	}
	keyLen, err := c.length()
	if err != nil {
		return false, err
	}
	valLen, err := c.length()
	if err != nil {
		return false, err
	}
	if n := keyLen + valLen; cap(c.buf) < n {
		c.buf = make([]byte, n+n/2)
	}
	c.buf = c.buf[:keyLen+valLen]
	if _, err := io.ReadFull(c.r, c.buf); err != nil {
		return false, c.damaged(err)
	}
	c.key, c.val = c.buf[:keyLen:keyLen], c.buf[keyLen:]
	return true, nil
}

func (c *cursor) length() (int, error) {
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return 0, c.damaged(err)
	}
	if n > c.size {
		return 0, c.damaged(fmt.Errorf("a key or value of %d bytes in a file of %d", n, c.size))
	}
	return int(n), nil
}

// finish checks that a run was read as it was written.
func (c *cursor) finish() error {
	if c.part != nil {
		return nil
	}
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		return c.damaged(fmt.Errorf("it goes on after its end: %w", err))
	}
	if got := c.sum.Sum32(); got != c.run.sum {
		return c.damaged(fmt.Errorf("its sum is %08x, it was %08x", got, c.run.sum))
	}
	return nil
}

func (c *cursor) damaged(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrDamaged, c.run.path, err)
}

func (c *cursor) close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}
