package stats

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/agent"
)

const (
	// messageSizeMax is the largest body of POST /api/event, in bytes.
	messageSizeMax = 16 << 10

	// droppedHeader tells why a request was not counted.
	droppedHeader = "X-Halcyon-Dropped"
)

// The reasons why a request is not counted, beside bot:NAME, ai:NAME,
// library:NAME and headless:NAME of the table of agents.
const (
	reasonNoAgent    = "no-user-agent"
	reasonNoLanguage = "no-accept-language"
	reasonPrefetch   = "prefetch"
	reasonLimit      = "rate-limit"
	reasonWindow     = "repeated"
	reasonBody       = "body-too-large"
	reasonJSON       = "bad-json"
	reasonSite       = "other-site"
	reasonOther      = "refused"
)

// reasonOf is the reason for each code with which a message is refused.
var reasonOf = map[string]string{
	CodeEventName: "bad-name", CodeEventURL: "bad-url", CodeEventProps: "bad-props", CodeVisitorID: "bad-visitor",
	CodePath: "path-too-long", CodePageType: "page-type-too-long", CodeSite: "too-many-sites", errRepeated.Code: reasonWindow,
}

// intake serves POST /api/event.
type intake struct {
	app   *halcyon.App
	stats *app
	limit *limiter
	once  sync.Once // says that a proxy is not trusted
}

func (a *app) serveEvents(app *halcyon.App) http.Handler {
	return &intake{app: app, stats: a, limit: newLimiter(a.EventsPerSecond, a.EventsBurst)}
}

// ServeHTTP counts what a page tells. A request that is understood is answered
// with 202 also when it is not counted: a page has nothing to do about it.
func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", droppedHeader)
	h.Set("Cache-Control", "no-store")
	address, byProxy := trusted(in.stats.TrustedProxies).client(r)
	if !byProxy && r.Header.Get("X-Forwarded-For") != "" && isNear(address) {
		in.once.Do(func() {
			in.app.Logger().Warn("events come through a proxy near by that is not trusted: its visitors share one limit, and their places are not known; name the proxy if it is yours",
				slog.String("setting", envTrustedProxies))
		})
	}
	if !in.limit.allow(address, time.Now()) {
		// Not written down: a flood must not become a flood of writes.
		h.Set("Retry-After", "1")
		h.Set(droppedHeader, reasonLimit)
		http.Error(w, "Too many events from this address.", http.StatusTooManyRequests)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, messageSizeMax))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			in.refuse(w, r, http.StatusRequestEntityTooLarge, reasonBody, "The body has at most "+strconv.Itoa(messageSizeMax)+" bytes.")
		}
		return // nobody is there to be told
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		in.refuse(w, r, http.StatusBadRequest, reasonJSON, "The body is a JSON object with name and url: "+err.Error())
		return
	}
	e, err := m.read()
	if refused, ok := errors.AsType[*halcyon.Error](err); ok {
		in.drop(w, r, "", reasonOf[refused.Code])
		return
	}
	if len(in.stats.Sites) > 0 && !slices.Contains(in.stats.Sites, e.Site) {
		in.drop(w, r, "", reasonSite)
		return
	}
	if reason := in.robot(r); reason != "" {
		in.drop(w, r, e.Site, reason)
		return
	}
	ua := agent.Parse(r.UserAgent())
	e.Device, e.Browser, e.System = ua.Device, ua.Browser, ua.System
	place := in.stats.placeOf(r)
	e.City, e.Latitude, e.Longitude = place.City, place.Latitude, place.Longitude
	if place.Country != nil {
		e.Country = *place.Country
	}
	if asksNotToBeTracked(r) && !in.stats.IgnoreSignals && e.Name != eventBeat && e.Name != eventLeave {
		e.SessionID = ""
	}
	in.count(w, r, e)
}

// isNear reports whether an address is of this machine or of a private network, where
// one's own proxies are.
func isNear(address string) bool {
	at, err := netip.ParseAddr(address)
	return err == nil && (at.Unmap().IsPrivate() || at.Unmap().IsLoopback())
}

// count hands a message to the transaction it is for.
func (in *intake) count(w http.ResponseWriter, r *http.Request, e told) {
	path := "stats:tell"
	switch e.Name {
	case eventBeat:
		path = "stats:tellBeat"
	case eventLeave:
		if path = "stats:tellLeave"; !in.stats.LeaveAtOnce {
			w.WriteHeader(http.StatusAccepted)
			return
		}
	}
	err := in.run(r.Context(), path, e)
	refused, ok := errors.AsType[*halcyon.Error](err)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
	case ok && reasonOf[refused.Code] == reasonWindow:
		// What the rules do not count is no loss and is not counted as one.
		w.Header().Set(droppedHeader, reasonWindow)
		w.WriteHeader(http.StatusAccepted)
	case ok && reasonOf[refused.Code] != "":
		in.drop(w, r, e.Site, reasonOf[refused.Code])
	case r.Context().Err() != nil:
	default:
		in.app.Logger().Error("an event could not be stored", slog.Any("error", err))
		w.Header().Set("Retry-After", "1")
		http.Error(w, "The event could not be stored.", http.StatusServiceUnavailable)
	}
}

// run runs an internal mutation, and answers before it is durable where that is
// allowed.
func (in *intake) run(ctx context.Context, path string, args any) error {
	v, err := halcyon.Encode(args)
	if err != nil {
		return err
	}
	outcome, err := in.app.Mutation(ctx, halcyon.Request{Path: path, Args: v, Admin: true, Early: true})
	if err == nil && outcome.Failure != nil {
		return outcome.Failure
	}
	return err
}

// drop answers a request that is not counted, and counts that.
func (in *intake) drop(w http.ResponseWriter, r *http.Request, site, reason string) {
	if reason == "" {
		reason = reasonOther
	}
	w.Header().Set(droppedHeader, reason)
	if err := in.run(r.Context(), "stats:drop", dropped{Site: site, Reason: reason}); err != nil && r.Context().Err() == nil {
		in.app.Logger().Warn("an event that was not counted could not be counted as such", slog.Any("error", err))
	}
	w.WriteHeader(http.StatusAccepted)
}

// refuse is drop for a request that is not understood.
func (in *intake) refuse(w http.ResponseWriter, r *http.Request, status int, reason, text string) {
	w.Header().Set(droppedHeader, reason)
	if err := in.run(r.Context(), "stats:drop", dropped{Reason: reason}); err != nil && r.Context().Err() == nil {
		in.app.Logger().Warn("an event that was not counted could not be counted as such", slog.Any("error", err))
	}
	http.Error(w, text, status)
}

// robot returns why a request is not from a person's browser, or "".
func (in *intake) robot(r *http.Request) string {
	if in.stats.CountRobots {
		return ""
	}
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		if purpose := strings.ToLower(r.Header.Get(name)); strings.Contains(purpose, "prefetch") || strings.Contains(purpose, "preview") {
			return reasonPrefetch
		}
	}
	if r.UserAgent() == "" {
		return reasonNoAgent
	}
	if kind, name, ok := agent.Robot(r.UserAgent()); ok {
		return string(kind) + ":" + name
	}
	if r.Header.Get("Accept-Language") == "" {
		return reasonNoLanguage
	}
	return ""
}

// asksNotToBeTracked reports whether the browser sends Do Not Track or Global
// Privacy Control.
func asksNotToBeTracked(r *http.Request) bool {
	return r.Header.Get("DNT") == "1" || r.Header.Get("Sec-GPC") == "1"
}

// limiter allows each address so many events a second, after a burst. It knows
// addresses by a hash under a random seed of the process, in memory alone.
type limiter struct {
	rate, burst float64
	seed        maphash.Seed

	mu struct {
		sync.Mutex
		buckets map[uint64]bucket
	}
}

// bucket is how many events are left of the burst.
type bucket struct {
	left float64
	at   time.Time
}

// addressesMax is the most addresses that are told apart. When there are more,
// those that have been silent long enough to have their burst back are
// forgotten; if there are none, all are: for a moment everybody has a new burst.
const addressesMax = 50_000

func newLimiter(rate, burst float64) *limiter {
	l := &limiter{rate: rate, burst: burst, seed: maphash.MakeSeed()}
	l.mu.buckets = make(map[uint64]bucket)
	return l
}

func (l *limiter) allow(address string, now time.Time) bool {
	key := maphash.String(l.seed, network(address))
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.mu.buckets[key]
	if !known {
		if len(l.mu.buckets) >= addressesMax {
			l.forgetLocked(now)
		}
		b = bucket{l.burst, now}
	}
	b.left = min(l.burst, b.left+l.rate*max(0, now.Sub(b.at).Seconds()))
	b.at = now
	allowed := b.left >= 1
	if allowed {
		b.left--
	}
	l.mu.buckets[key] = b
	return allowed
}

func (l *limiter) forgetLocked(now time.Time) {
	for key, b := range l.mu.buckets {
		if b.left+l.rate*now.Sub(b.at).Seconds() >= l.burst {
			delete(l.mu.buckets, key)
		}
	}
	if len(l.mu.buckets) >= addressesMax {
		clear(l.mu.buckets)
	}
}

// network returns what of an address one party has: of version 6, the 64 bits
// that a provider gives to one of its customers.
func network(address string) string {
	at, err := netip.ParseAddr(address)
	if err != nil || at.Unmap().Is4() {
		return address
	}
	prefix, _ := at.WithZone("").Prefix(64) // the address has more bits
	return prefix.String()
}
