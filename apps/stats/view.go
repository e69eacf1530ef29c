package stats

import (
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/agent"
)

// The codes of the errors a caller can cause.
const (
	CodeVisitorID = "InvalidSessionId"
	CodePath      = "PathTooLong"
	CodePageType  = "PageTypeTooLong"
	CodeSite      = "TooManySites"
)

type recordPageViewArgs struct {
	Path      string `json:"path"`
	PageType  string `json:"pageType"`
	SessionID string `json:"sessionId"` // "" for a visitor who is not to be recognised again
}

// recordPageView counts a view now, unless the visitor's last view of the path
// is less than the view window ago.
func (a *app) recordPageView(tx *halcyon.Tx, args recordPageViewArgs) error {
	view, err := newView(args, tx.Now())
	if err != nil {
		return err
	}
	if reason := a.robotCalls(tx); reason != "" {
		return a.drop(tx, dropped{Reason: reason})
	}
	ua := agent.Parse(tx.UserAgent())
	view.Device, view.Browser, view.System = ua.Device, ua.Browser, ua.System
	counted, err := a.countView(tx, view)
	if err != nil || !counted {
		return err
	}
	return a.rollUpSometimes(tx)
}

// robotCalls returns why the caller of a mutation is no reader, or "". A program that
// calls the API by a library is none that visits pages: its author had it call. What
// runs the scripts of pages has the agent of a browser without a screen, or of a
// robot.
func (a *app) robotCalls(tx *halcyon.Tx) string {
	kind, name, ok := agent.Robot(tx.UserAgent())
	if !ok || kind == agent.Library || a.CountRobots {
		return ""
	}
	return string(kind) + ":" + name
}

// newView checks what a caller sent and makes it what is kept.
func newView(args recordPageViewArgs, at time.Time) (PageView, error) {
	path := cleanPath(args.Path)
	if args.SessionID != "" {
		if err := checkVisitorID(args.SessionID); err != nil {
			return PageView{}, err
		}
	}
	if err := checkPath(path); err != nil {
		return PageView{}, err
	}
	if len(args.PageType) > pageTypeSizeMax {
		return PageView{}, tooLong(CodePageType, "pageType", len(args.PageType), pageTypeSizeMax)
	}
	return PageView{Path: path, PageType: args.PageType, SessionID: args.SessionID, Timestamp: at}, nil
}

// countView counts one view. See count.
func (a *app) countView(tx *halcyon.Tx, view PageView) (counted bool, err error) {
	known := new(past)
	id, counted, err := a.count(tx, known, view)
	if err == nil {
		err = known.save(tx)
	}
	if err == nil && counted {
		err = PageViews.Apply(tx, id, halcyon.CommitTime("stored"))
	}
	return counted, err
}

// count is the one place where views are counted, live and imported: the view is
// kept unless the same visitor has a kept view of the same path less
// than the view window before it, or after it, as happens when a log is read
// late. It reads only that visitor's rows, so that two views conflict only when
// they are of one visitor. known is shared by the views of a transaction, and has to
// be saved after the last of them.
func (a *app) count(tx *halcyon.Tx, known *past, view PageView) (id halcyon.ID[PageView], counted bool, err error) {
	if view.SessionID == "" {
		// Nobody's: it neither repeats another view nor adds to the visitors.
		if err := a.knowSite(tx, view.Site, view.Timestamp); err != nil {
			return "", false, err
		}
		if err := known.returnTo(tx, view.Site, view.Path); err != nil {
			return "", false, err
		}
		id, err = PageViews.Insert(tx, view)
		return id, err == nil, err
	}
	near, err := neighbours(tx, PageViews.By("by_session_time").Eq(view.SessionID, view.Site), view.Timestamp)
	if err != nil {
		return "", false, err
	}
	var here around
	if near != (around{}) {
		here, err = neighbours(tx, PageViews.By("by_session_path").Eq(view.SessionID, view.Site, view.Path), view.Timestamp)
		if err != nil {
			return "", false, err
		}
	}
	if here.before != nil && view.Timestamp.Sub(here.before.Timestamp) < a.ViewWindow ||
		here.after != nil && here.after.Timestamp.Sub(view.Timestamp) < a.ViewWindow {
		return "", false, nil
	}
	if err := a.knowSite(tx, view.Site, view.Timestamp); err != nil {
		return "", false, err
	}
	if here.before != nil {
		view.BeforeHere = here.before.Timestamp
	}
	if near.before != nil {
		view.Before = near.before.Timestamp
	} else if view.Before, err = knowVisitor(tx, known, view); err != nil {
		return "", false, err
	}
	if here == (around{}) {
		if err := known.returnTo(tx, view.Site, view.Path); err != nil {
			return "", false, err
		}
	}
	if id, err = PageViews.Insert(tx, view); err != nil {
		return "", false, err
	}
	if near.after != nil {
		if err := a.precede(tx, known, near.after.ID, func(next *PageView) { next.Before = view.Timestamp }); err != nil {
			return "", false, err
		}
	}
	if here.after != nil {
		if err := a.precede(tx, known, here.after.ID, func(next *PageView) { next.BeforeHere = view.Timestamp }); err != nil {
			return "", false, err
		}
	}
	return id, true, nil
}

// around is the views of a visitor right before and right after a moment.
type around struct{ before, after *PageView }

// neighbours finds them in the order of time. Nearly always there is none after.
func neighbours(tx *halcyon.Tx, views halcyon.Query[PageView], at time.Time) (around, error) {
	newest, ok, err := views.Desc().First(tx)
	if err != nil || !ok {
		return around{}, err
	}
	if !newest.Timestamp.After(at) {
		return around{before: &newest}, nil
	}
	found := around{after: &newest}
	if next, ok, err := views.Gt(at).First(tx); err != nil {
		return around{}, err
	} else if ok {
		found.after = &next
	}
	if before, ok, err := views.Lte(at).Desc().First(tx); err != nil {
		return around{}, err
	} else if ok {
		found.before = &before
	}
	return found, nil
}

// precede changes what a view says about the one before it, because an earlier
// one was told late. What the rollups have of it is taken out and put in again.
func (a *app) precede(tx *halcyon.Tx, known *past, id halcyon.ID[PageView], change func(*PageView)) error {
	view, ok, err := PageViews.Get(tx, id)
	if err != nil || !ok {
		return err
	}
	done, err := a.progress(tx)
	if err != nil {
		return err
	}
	old := view
	change(&view)
	if err := PageViews.Patch(tx, id, halcyon.Fields{"before": view.Before, "beforeHere": view.BeforeHere}); err != nil {
		return err
	}
	if done.has(view.Stored) {
		known.replace(tx, a.TimeZone, &old, &view)
	}
	return nil
}

// knowVisitor makes sure that the visitor of a view, who has no row before it, is
// counted as one. It returns when the view before it was if that one is folded.
func knowVisitor(tx *halcyon.Tx, folded *past, view PageView) (before time.Time, err error) {
	visitor, known, err := Visitors.By("by_sessionId").Eq(view.SessionID, view.Site).First(tx)
	if err != nil {
		return before, err
	}
	if !known {
		if visitor, known, err = folded.remember(tx, view.Site, view.SessionID); err != nil {
			return before, err
		}
		if visitor.LastSeen.Before(view.Timestamp) {
			before = visitor.LastSeen
		}
	}
	switch {
	case !known:
		_, err = Visitors.Insert(tx, Visitor{Site: view.Site, SessionID: view.SessionID, FirstSeen: view.Timestamp})
	case view.Timestamp.Before(visitor.FirstSeen):
		err = Visitors.Patch(tx, visitor.ID, halcyon.Fields{"firstSeen": view.Timestamp})
	}
	return before, err
}

// knowSite makes sure that a site is listed. The error has CodeSite when there
// are too many.
func (a *app) knowSite(tx *halcyon.Tx, name string, since time.Time) error {
	site, known, err := Sites.By("by_name").Eq(name).First(tx)
	if err != nil {
		return err
	}
	if known {
		if since.Before(site.FirstSeen) {
			return Sites.Patch(tx, site.ID, halcyon.Fields{"firstSeen": since})
		}
		return nil
	}
	all, err := Sites.All().Take(tx, a.SitesMax)
	if err != nil {
		return err
	}
	if len(all) >= a.SitesMax {
		return &halcyon.Error{Code: CodeSite, Message: fmt.Sprintf("there are %d sites already, and %q is none of them", len(all), name)}
	}
	_, err = Sites.Insert(tx, Site{Name: name, FirstSeen: since})
	return err
}

func checkVisitorID(id string) error {
	if id == "" {
		return &halcyon.Error{Code: CodeVisitorID, Message: "sessionId is empty"}
	}
	if len(id) > visitorIDSizeMax {
		return tooLong(CodeVisitorID, "sessionId", len(id), visitorIDSizeMax)
	}
	return nil
}

func checkPath(path string) error {
	if len(path) > pathSizeMax {
		return tooLong(CodePath, "the path", len(path), pathSizeMax)
	}
	return nil
}

func tooLong(code, what string, size, most int) error {
	return &halcyon.Error{Code: code, Message: fmt.Sprintf("%s has %d bytes, %d are allowed", what, size, most)}
}
