package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
)

// cursorSeal encrypts and authenticates cursors. The same place of the same
// query is always the same cursor, so that equal results are equal bytes: the
// nonce is a MAC of what is encrypted. It follows that a cursor tells who has
// seen it before that it is the same place, and nothing else.
type cursorSeal struct {
	aead cipher.AEAD
	mac  []byte // key of the MAC
}

const (
	metaCursors = "cursors" // name of the key in the store

	cursorKeySize  = 32
	cursorBytesMax = 8 << 10 // of the text: an index key is at most 4 KiB
)

func newCursorSeal(key []byte) *cursorSeal {
	derive := func(purpose string) []byte {
		h := hmac.New(sha256.New, key)
		_, _ = io.WriteString(h, purpose) // never fails
		return h.Sum(nil)
	}
	block, err := aes.NewCipher(derive("encrypt"))
	if err != nil {
		panic("invariant: a SHA-256 is a key of AES-256: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("invariant: AES has the block size of GCM: " + err.Error())
	}
	return &cursorSeal{aead: aead, mac: derive("nonce")}
}

// seal returns the cursor of a place in a query.
func (s *cursorSeal) seal(place, query []byte) string {
	nonce := s.nonce(place, query)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, place, query))
}

func (s *cursorSeal) nonce(place, query []byte) []byte {
	h := hmac.New(sha256.New, s.mac)
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(query))))
	_, _ = h.Write(query)
	_, _ = h.Write(place)
	return h.Sum(nil)[:s.aead.NonceSize()]
}

// open returns the place that a cursor was made of, and false when it was not
// made by this database for this query.
func (s *cursorSeal) open(cursor string, query []byte) ([]byte, bool) {
	if len(cursor) > cursorBytesMax {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	n := s.aead.NonceSize()
	if err != nil || len(b) < n {
		return nil, false
	}
	place, err := s.aead.Open(nil, b[:n], b[n:], query)
	return place, err == nil
}

// loadCursorSeal reads the key of cursors, making one at the first opening.
// repeatable makes it from the database's seed.
func (db *DB) loadCursorSeal(repeatable bool) (*cursorSeal, error) {
	snap := db.store.NewSnapshot()
	defer snap.Release()
	key, ok, err := snap.Get(metaKey(metaCursors))
	switch {
	case err != nil:
		return nil, err
	case ok && len(key) != cursorKeySize:
		return nil, fmt.Errorf("%w: the key of cursors has %d bytes", ErrCorrupt, len(key))
	case ok:
		return newCursorSeal(key), nil
	}
	key = make([]byte, cursorKeySize)
	if repeatable {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("cursors"), db.o.Seed))
		copy(key, sum[:])
	} else {
		_, _ = crand.Read(key) // never fails
	}
	b := db.store.NewBatch()
	if err := b.Set(metaKey(metaCursors), key); err != nil {
		return nil, err
	}
	if err := db.store.ApplyDurably(b); err != nil {
		return nil, fmt.Errorf("store the key of cursors: %w", err)
	}
	return newCursorSeal(key), nil
}
