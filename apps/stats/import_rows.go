package stats

import (
	"errors"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/accesslog"
)

// An Import is how far a log was read. It is written in the transactions that
// count the log's views, so that no crash comes between.
type Import struct {
	ID halcyon.ID[Import] `halcyon:"id"`
	ImportedLog
}

// ImportedLog is a log that was read, and how far.
type ImportedLog struct {
	Source  string    `json:"source"`  // the name of the file, or - for standard input
	Head    string    `json:"head"`    // the fingerprint of its first lines; see accesslog.Fingerprints
	Heads   int       `json:"heads"`   // of how many
	Run     string    `json:"run"`     // which key its visitors were named with
	Started time.Time `json:"started"` //
	Done    bool      `json:"done"`    // read to its end
	ImportState
}

// ImportState is what changes of an Import.
type ImportState struct {
	Position int64          `json:"position"` // where the next line begins, in bytes of the unpacked log
	From     int64          `json:"from"`     // where the first line begins that is not counted yet
	Low      time.Time      `json:"low,omitzero"`
	Open     bool           `json:"open,omitzero"`   // the last line has no end yet
	Common   bool           `json:"common,omitzero"` // the last line is one of the common format
	Lines    int            `json:"lines"`
	Counted  int            `json:"counted"`
	LeftOut  map[string]int `json:"leftOut,omitempty"`
	Loading  string         `json:"loading,omitzero"` // a visitor of the load that may have been cut short
}

func (s *ImportState) mark() accesslog.Mark {
	return accesslog.Mark{Position: s.Position, From: s.From, Low: s.Low, Open: s.Open, Common: s.Common}
}

func (s *ImportState) setMark(m accesslog.Mark) {
	s.Position, s.From, s.Low, s.Open, s.Common = m.Position, m.From, m.Low, m.Open, m.Common
}

// add counts lines that are left out.
func (s *ImportState) add(reason accesslog.Reason, n int) {
	if n == 0 {
		return
	}
	if s.LeftOut == nil {
		s.LeftOut = make(map[string]int)
	}
	s.LeftOut[string(reason)] += n
}

// merge adds the counts of other.
func (s *ImportState) merge(other ImportState) {
	s.Lines += other.Lines
	s.Counted += other.Counted
	for reason, n := range other.LeftOut {
		s.add(accesslog.Reason(reason), n)
	}
}

// Imports are the logs that were read.
var Imports = halcyon.NewTable[Import]("imports").
	Index("by_head", "head")

type importViewsArgs struct {
	Views []importedView `json:"views"`
	// Note, if it is there, is noted in the same transaction.
	Note *importNote `json:"note"`
}

// importedView is a view of a log: of one that was read, or of a program that has
// another way to read one.
type importedView struct {
	Path      string    `json:"path"`
	SessionID string    `json:"sessionId"`
	Timestamp time.Time `json:"timestamp"`
	Hit       *Hit      `json:"hit"`
	// Told says that the program knows all of the visitor's views: this one is
	// counted, and these are the ones before it.
	Told       bool      `json:"told,omitzero"`
	Before     time.Time `json:"before,omitzero"`
	BeforeHere time.Time `json:"beforeHere,omitzero"`
}

// importNote is what came of the lines up to a place in a log.
type importNote struct {
	ID    halcyon.ID[Import] `json:"id"`
	State ImportState        `json:"state"` // with the counts of these lines alone, without those of this call's views
	Done  bool               `json:"done"`
	Heads int                `json:"heads"` // not 0: the fingerprint is of so many lines now
	Head  string             `json:"head"`
}

type importViewsResult struct {
	// Taken is how many of the views were looked at, the first ones: as many as the
	// transaction had time and room for. If it is not all of them nothing is noted,
	// and the rest is to be told with the note.
	Taken    int `json:"taken"`
	Counted  int `json:"counted"`
	Repeated int `json:"repeated"`
	Refused  int `json:"refused"` // the path is too long
}

// view makes of an imported view what is kept.
func (v importedView) view() (PageView, error) {
	view, err := newView(recordPageViewArgs{
		Path: v.Path, PageType: pageTypeOf(cleanPath(v.Path)), SessionID: v.SessionID,
	}, v.Timestamp)
	if v.Hit != nil {
		view.Hit = *v.Hit
	}
	return view, err
}

// tooLongPath reports whether an error is that of a path that is too long: the one
// thing that may be wrong with the view of a log.
func tooLongPath(err error) bool {
	refused, ok := errors.AsType[*halcyon.Error](err)
	return ok && refused.Code == CodePath
}

// importViews counts views that have happened, by the rules and into the tables
// of recordPageView, and notes how far their log was read.
func (a *app) importViews(tx *halcyon.Tx, args importViewsArgs) (importViewsResult, error) {
	var result importViewsResult
	var ids []halcyon.ID[PageView]
	sites := make(map[string]bool)
	folded := new(past)
	for i, given := range args.Views {
		if i > 0 && folded.full(tx) {
			break
		}
		result.Taken++
		view, err := given.view()
		if tooLongPath(err) {
			result.Refused++
			continue
		}
		if err != nil {
			return result, err
		}
		var id halcyon.ID[PageView]
		counted := true
		if given.Told {
			id, err = a.insertTold(tx, folded, given, view, sites)
		} else {
			id, counted, err = a.count(tx, folded, view)
		}
		switch {
		case err != nil:
			return result, err
		case counted:
			result.Counted++
			ids = append(ids, id)
		default:
			result.Repeated++
		}
	}
	if err := folded.save(tx); err != nil {
		return result, err
	}
	// At the end: a read of the table has to look at every operation before it.
	for _, id := range ids {
		if err := PageViews.Apply(tx, id, halcyon.CommitTime("stored")); err != nil {
			return result, err
		}
	}
	if args.Note == nil || result.Taken < len(args.Views) {
		return result, nil
	}
	args.Note.State.Counted += result.Counted
	args.Note.State.add(reasonRepeated, result.Repeated)
	args.Note.State.add(reasonRefused, result.Refused)
	return result, noteImport(tx, *args.Note)
}

// insertTold counts a view of whose visitor all is known, without asking for it.
func (a *app) insertTold(tx *halcyon.Tx, folded *past, given importedView, view PageView, sites map[string]bool) (halcyon.ID[PageView], error) {
	if !sites[view.Site] {
		if err := a.knowSite(tx, view.Site, view.Timestamp); err != nil {
			return "", err
		}
		sites[view.Site] = true
	}
	view.Before, view.BeforeHere = given.Before, given.BeforeHere
	if view.Before.IsZero() {
		if _, err := Visitors.Insert(tx, Visitor{Site: view.Site, SessionID: view.SessionID, FirstSeen: view.Timestamp}); err != nil {
			return "", err
		}
	}
	if view.BeforeHere.IsZero() {
		if err := folded.returnTo(tx, view.Site, view.Path); err != nil {
			return "", err
		}
	}
	return PageViews.Insert(tx, view)
}

// noteImport adds what came of some lines to what is known of their log.
func noteImport(tx *halcyon.Tx, note importNote) error {
	row, ok, err := Imports.Get(tx, note.ID)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("the import was forgotten while it went on")
	}
	before := row.ImportState
	row.ImportState = note.State
	row.LeftOut = nil
	row.Lines, row.Counted = 0, 0
	row.merge(before)
	row.merge(note.State)
	row.Done = note.Done
	if note.Heads > row.Heads {
		row.Heads, row.Head = note.Heads, note.Head
	}
	return Imports.Replace(tx, row.ID, row)
}

// findImportArgs tell a log: by what its first lines are, see
// accesslog.Fingerprints.
type findImportArgs struct {
	Source string   `json:"source"`
	Heads  []string `json:"heads"`
}

// headsToRename is of how many lines a fingerprint has to be for a log to be known
// by it under another name. Two small logs may begin alike.
const headsToRename = 20

// findImport returns what is known of a log: the row of most lines of its head.
func findImport(tx *halcyon.Tx, args findImportArgs) (halcyon.Nullable[Import], error) {
	for i := len(args.Heads) - 1; i >= 0; i-- {
		for row, err := range Imports.By("by_head").Eq(args.Heads[i]).Desc().Each(tx) {
			if err != nil {
				return halcyon.Null[Import](), err
			}
			if row.Heads == i+1 && (row.Source == args.Source || row.Heads >= headsToRename) {
				return halcyon.NotNull(row), nil
			}
		}
	}
	return halcyon.Null[Import](), nil
}

// beginImport makes the row of a log that is read for the first time, or says of
// one that is read on with which key its visitors are named now.
func beginImport(tx *halcyon.Tx, args beginImportArgs) (halcyon.ID[Import], error) {
	if args.ID != nil {
		return *args.ID, Imports.Patch(tx, *args.ID, halcyon.Fields{"source": args.Log.Source, "run": args.Log.Run, "done": false})
	}
	args.Log.Started = tx.Now()
	return Imports.Insert(tx, Import{ImportedLog: args.Log})
}

type beginImportArgs struct {
	ID  *halcyon.ID[Import] `json:"id"`
	Log ImportedLog         `json:"log"`
}
