package stats

import (
	"crypto/subtle"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/halcyon-db/halcyon"
)

// Visibility says who may see the statistics: the page /stats and the queries.
type Visibility string

// The values. The zero value is VisiblePublic while the program listens on an
// address that only this machine reaches, and otherwise VisibleKey.
const (
	VisiblePublic Visibility = "public" // everybody
	VisibleKey    Visibility = "key"    // whoever has Options.Key
	VisibleOff    Visibility = "off"    // nobody
)

// The codes of the errors of a query whose caller may not see its answer.
const (
	CodeKey = "StatsKeyRequired"
	CodeOff = "StatsOff"
)

// Viewer is the part of the arguments of a query that says who asks.
type Viewer struct {
	Key string `json:"key,omitzero"`
}

// exposed is whether others than this machine reach the program.
type exposed struct{ atomic.Bool }

// listening takes note of where the program listens.
func (e *exposed) listening(at net.Addr) {
	tcp, ok := at.(*net.TCPAddr)
	e.Store(!ok || !tcp.IP.IsLoopback())
}

// visibility returns the setting, or what stands for it.
func (a *app) visibility() Visibility {
	switch {
	case a.Visibility != "":
		return a.Visibility
	case a.exposed.Load():
		return VisibleKey
	}
	return VisiblePublic
}

// allow returns the error for a caller who may not see the statistics.
func (a *app) allow(key string) error {
	switch a.visibility() {
	case VisiblePublic:
		return nil
	case VisibleKey:
		if a.Key != "" && subtle.ConstantTimeCompare([]byte(key), []byte(a.Key)) == 1 {
			return nil
		}
		return &halcyon.Error{Code: CodeKey, Message: "these statistics are for those who have the key: open /stats?key=..., or send the argument key"}
	}
	return &halcyon.Error{Code: CodeOff, Message: "these statistics are shown to nobody"}
}

// guarded keeps a page from those who may not see the statistics.
func (a *app) guarded(page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.allow(r.URL.Query().Get("key")); err != nil {
			w.Header().Set("Cache-Control", "no-store")
			if a.visibility() == VisibleOff {
				http.NotFound(w, r)
				return
			}
			text := "These statistics are for those who have the key. Open /stats?key=THE-KEY."
			if a.Key == "" {
				text += " None is set: set HALCYON_STATS_KEY, or let everybody see them with HALCYON_STATS_VISIBLE=public."
			}
			http.Error(w, text, http.StatusForbidden)
			return
		}
		if a.visibility() == VisibleKey {
			// The key is in the address: it must not travel to other sites.
			w.Header().Set("Referrer-Policy", "no-referrer")
		}
		page.ServeHTTP(w, r)
	})
}
