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
		if a.Key == "" {
			return &halcyon.Error{Code: CodeKey, Message: "No key is set yet. Whoever runs this server sets HALCYON_STATS_KEY, or lets everybody see the statistics with HALCYON_STATS_VISIBLE=public."}
		}
		return &halcyon.Error{Code: CodeKey, Message: "These statistics are for those who have the key. Whoever runs this site can give it to you."}
	}
	return &halcyon.Error{Code: CodeOff, Message: "The statistics of this site are shown to nobody."}
}

// guarded serves the page, which asks for the key by itself where its queries need
// one, and says so where nobody may see the statistics.
func (a *app) guarded(page, off http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.visibility() == VisibleOff {
			off.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	})
}
