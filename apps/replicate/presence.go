package replicate

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

const (
	beatDefault   = 10 * time.Second // between two joins of a client that does not say
	beatMax       = 10 * time.Minute
	beatsMissed   = 2.5 // after so many beats without one a client counts as gone
	presenceKept  = time.Hour
	presenceShown = 1_000 // of one answer
	presenceMax   = 4 << 10
	presenceIDMax = 256
	sweepBatch    = 500
	asideKept     = 30 * 24 * time.Hour
)

// Profile is how a client wants to be shown to others.
type Profile struct {
	Name   *string `json:"name"`
	Color  *string `json:"color"`
	Avatar *string `json:"avatar"`
}

// Cursor is where a client's selection is.
type Cursor struct {
	Anchor value.Value `json:"anchor"`
	Head   value.Value `json:"head"`
	Field  *string     `json:"field"`
}

type presenceArgs struct {
	Document string         `json:"document"`
	Client   string         `json:"client"`
	Action   presenceAction `json:"action"`
	User     *string        `json:"user"`
	Profile  *Profile       `json:"profile"`
	Cursor   *Cursor        `json:"cursor"`
	Interval *float64       `json:"interval"` // ms between two joins
	Vector   *[]byte        `json:"vector"`
	Seq      *float64       `json:"seq"`
}

type presenceAction string

func (presenceAction) Values() []presenceAction {
	return []presenceAction{"join", "leave", "mark", "signal"}
}

// tell notes that a client is at a document, or has left it.
//
// A mark, by which npm clients say after each page of the stream how far they are with each document of it, writes nothing: nothing that a
// client lacks is ever removed, so nobody has to know. A join that says nothing new writes once in an interval.
func (c *Collection) tell(tx *halcyon.Tx, args presenceArgs) error {
	if args.Action == "mark" {
		return nil
	}
	if f := checkDocument(args.Document); f != nil {
		return f.told()
	}
	if err := args.check(); err != nil {
		return err
	}
	row, known, err := c.presences.By("by_document").Eq(args.Document, args.Client).First(tx)
	if err != nil {
		return err
	}
	now := tx.Now()
	if args.Action == "leave" {
		if !known || !row.Until.After(now) {
			return nil
		}
		row.Until, row.Cursor = now, nil
		return c.presences.Replace(tx, row.ID, row)
	}
	d, level, err := c.Lookup(tx, args.Document)
	if err != nil {
		return err
	}
	if level < Read || d.Deleted {
		return nil
	}
	beat := beatDefault
	if args.Interval != nil && *args.Interval > 0 {
		beat = min(time.Duration(math.Min(*args.Interval, float64(beatMax.Milliseconds())))*time.Millisecond, beatMax)
	}
	fresh := row
	fresh.Document, fresh.Client, fresh.Seen = args.Document, args.Client, now
	fresh.Until = now.Add(time.Duration(float64(beat) * beatsMissed))
	if args.User != nil {
		fresh.User = *args.User
	}
	if args.Profile != nil {
		fresh.Profile = args.Profile
	}
	if args.Cursor != nil {
		fresh.Cursor = args.Cursor
	}
	switch {
	case !known:
		_, err = c.presences.Insert(tx, fresh)
	case fresh.says(row) && fresh.Until.Sub(row.Until) < beat/2 && row.Until.After(now):
		return nil
	default:
		err = c.presences.Replace(tx, row.ID, fresh)
	}
	return err
}

// says reports whether others are shown the same.
func (p presence) says(o presence) bool {
	return p.User == o.User && bytes.Equal(encoded(p.Profile), encoded(o.Profile)) && bytes.Equal(encoded(p.Cursor), encoded(o.Cursor))
}

func encoded(v any) []byte {
	e, err := halcyon.Encode(v)
	if err != nil {
		return nil
	}
	return value.AppendJSON(nil, e)
}

func (a *presenceArgs) check() error {
	size := len(encoded(a.Profile)) + len(encoded(a.Cursor))
	if a.User != nil {
		size += len(*a.User)
	}
	if a.Client == "" || len(a.Client) > presenceIDMax || size > presenceMax {
		return &halcyon.Error{Code: "PresenceInvalid", Message: fmt.Sprintf(
			"a client has a name of 1 to %d bytes, and user, profile and cursor together at most %d; these have %d and %d", presenceIDMax, presenceMax, len(a.Client), size)}
	}
	return nil
}

type sessionArgs struct {
	Document  *string `json:"document"`
	Connected *bool   `json:"connected"`
	Exclude   *string `json:"exclude"`
}

type session struct {
	Client   string   `json:"client"`
	Document string   `json:"document"`
	User     string   `json:"user,omitzero"`
	Profile  *Profile `json:"profile"`
	Cursor   *Cursor  `json:"cursor"`
	Seen     float64  `json:"seen"` // ms since 1970
}

// sessions answers who is at a document, or at any of the collection, which npm clients ask for with no document. It changes by itself when
// somebody has been silent for too long. Of several clients of one user the one that was seen last is shown.
func (c *Collection) sessions(tx *halcyon.Tx, args sessionArgs) ([]session, error) {
	now := tx.Now()
	query := c.presences.By("by_until").Gt(now)
	if args.Document != nil {
		query = c.presences.By("by_document").Eq(*args.Document)
	}
	type key struct{ document, user string }
	byUser := map[key]presence{}
	levels := map[string]Level{}
	wake := time.Time{}
	read := 0
	for row, err := range query.Each(tx) {
		if err != nil {
			return nil, err
		}
		if read++; read > 4*presenceShown || len(levels) > pageRuledMax {
			break
		}
		here := row.Until.After(now)
		if here && (wake.IsZero() || row.Until.Before(wake)) {
			wake = row.Until
		}
		if args.Connected != nil && *args.Connected != here || args.Exclude != nil && *args.Exclude == row.Client {
			continue
		}
		level, ok := levels[row.Document]
		if !ok {
			if _, level, err = c.Lookup(tx, row.Document); err != nil {
				return nil, err
			}
			levels[row.Document] = level
		}
		if level < Read {
			continue
		}
		k := key{row.Document, "user " + row.User}
		if row.User == "" {
			k.user = "client " + row.Client
		}
		if old, ok := byUser[k]; !ok || row.Seen.After(old.Seen) {
			byUser[k] = row
		}
	}
	if wake.IsZero() {
		wake = now.Add(beatMax) // nothing changes by itself
	}
	tx.WakeAt(wake)
	shown := make([]session, 0, len(byUser))
	for _, row := range byUser {
		shown = append(shown, session{row.Client, row.Document, row.User, row.Profile, row.Cursor, float64(row.Seen.UnixMilli())})
	}
	slices.SortFunc(shown, func(a, b session) int {
		if order := strings.Compare(a.Document, b.Document); order != 0 {
			return order
		}
		return strings.Compare(a.Client, b.Client)
	})
	return shown[:min(len(shown), presenceShown)], nil
}

// sweep removes clients that have long gone.
func (c *Collection) sweep(tx *halcyon.Tx) error {
	gone, err := c.presences.By("by_until").Lt(tx.Now().Add(-presenceKept)).Take(tx, sweepBatch)
	if err != nil {
		return err
	}
	for i, row := range gone {
		if i > 0 && tx.HalfSpent() {
			return nil // the next sweep goes on
		}
		if err := c.presences.Delete(tx, row.ID); err != nil {
			return err
		}
	}
	old, err := c.asides.By("by_time").Lt(tx.Now().Add(-asideKept)).Take(tx, sweepBatch)
	if err != nil {
		return err
	}
	for i, row := range old {
		if i > 0 && tx.HalfSpent() {
			return nil
		}
		if err := c.asides.Delete(tx, row.ID); err != nil {
			return err
		}
	}
	return nil
}
