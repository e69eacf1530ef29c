package stats

import (
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon"
)

// The codes of the errors a caller can cause.
const (
	CodeVisitorID = "InvalidSessionId"
	CodePath      = "PathTooLong"
	CodePageType  = "PageTypeTooLong"
)

type recordPageViewArgs struct {
	Path      string `json:"path"`
	PageType  string `json:"pageType"`
	SessionID string `json:"sessionId"`
}

// recordPageView counts a view now, unless the visitor's last view of the path
// is less than the view window ago.
func (a *app) recordPageView(tx *halcyon.Tx, args recordPageViewArgs) error {
	view, err := newView(args, tx.Now())
	if err != nil {
		return err
	}
	_, err = a.countView(tx, view)
	return err
}

// newView checks what a caller sent and makes it what is kept.
func newView(args recordPageViewArgs, at time.Time) (PageView, error) {
	path := cleanPath(args.Path)
	if err := checkVisitorID(args.SessionID); err != nil {
		return PageView{}, err
	}
	if err := checkPath(path); err != nil {
		return PageView{}, err
	}
	if len(args.PageType) > pageTypeSizeMax {
		return PageView{}, tooLong(CodePageType, "pageType", len(args.PageType), pageTypeSizeMax)
	}
	return PageView{Path: path, PageType: args.PageType, SessionID: args.SessionID, Timestamp: at}, nil
}

// countView is the one place where views are counted, live and imported: the
// view is kept unless the same visitor has a kept view of the same path less
// than the view window before it, or after it, as happens when a log is read
// late. It reads only that visitor's row of that path, so that two views
// conflict only when they are the same.
func (a *app) countView(tx *halcyon.Tx, view PageView) (counted bool, err error) {
	_, repeated, err := PageViews.By("by_session_path").Eq(view.SessionID, view.Path).
		Gt(view.Timestamp.Add(-a.ViewWindow)).Lt(view.Timestamp.Add(a.ViewWindow)).First(tx)
	if err != nil || repeated {
		return false, err
	}
	if _, err := PageViews.Insert(tx, view); err != nil {
		return false, err
	}
	visitor, known, err := Visitors.By("by_sessionId").Eq(view.SessionID).First(tx)
	switch {
	case err != nil:
		return false, err
	case !known:
		_, err = Visitors.Insert(tx, Visitor{SessionID: view.SessionID, FirstSeen: view.Timestamp})
	case view.Timestamp.Before(visitor.FirstSeen):
		err = Visitors.Patch(tx, visitor.ID, halcyon.Fields{"firstSeen": view.Timestamp})
	}
	return err == nil, err
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
