package server

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"

	"github.com/halcyon-db/halcyon"
)

// requestIDHeader names a request in what a client sends and gets.
const requestIDHeader = "X-Request-Id"

// requestIDBytesMax is the length of the longest id of a client's own that is taken over.
const requestIDBytesMax = 64

// withRequestID gives each request an id that its answer, what is told of its failure and the log have: that of a proxy in front or of the
// client, or else a random one.
func withRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if !isRequestID(id) {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], rand.Uint64())
			id = hex.EncodeToString(b[:])
		}
		w.Header().Set(requestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(halcyon.WithRequestID(r.Context(), id)))
	})
}

// isRequestID reports whether an id may stand in headers, messages and logs as it is.
func isRequestID(id string) bool {
	if id == "" || len(id) > requestIDBytesMax {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}
