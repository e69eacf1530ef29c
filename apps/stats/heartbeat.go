package stats

import (
	"math"
	"time"

	"github.com/halcyon-db/halcyon"
)

// placeNameSizeMax is the longest name of a city or a country, in bytes.
const placeNameSizeMax = 128

type heartbeatArgs struct {
	SessionID   string   `json:"sessionId"`
	CurrentPath string   `json:"currentPath"`
	City        *string  `json:"city"`
	Country     *string  `json:"country"`
	Latitude    *float64 `json:"latitude"`
	Longitude   *float64 `json:"longitude"`
}

// heartbeat says that a visitor is here. A beat that changes nothing inside the
// beat window is skipped before any write; a new path or place is always
// applied. The time of the last sign of life never goes backward.
func (a *app) heartbeat(tx *halcyon.Tx, args heartbeatArgs) error {
	beat := ActiveSession{SessionID: args.SessionID, CurrentPath: cleanPath(args.CurrentPath), LastSeen: tx.Now()}
	if !a.IgnoreClientPlace {
		beat.setPlace(args)
	}
	if a.robotCalls(tx) != "" {
		return beat.check() // its views are counted by its name, it is not here
	}
	return a.applyBeat(tx, beat)
}

// applyBeat is the one place where beats are applied, of clients of the Convex
// API and of the event intake.
func (a *app) applyBeat(tx *halcyon.Tx, beat ActiveSession) error {
	if err := beat.check(); err != nil {
		return err
	}
	// No more is shown, so no more is kept, and visitors of one place are in one
	// group of its aggregate.
	beat.Latitude, beat.Longitude = coarse(beat.Latitude), coarse(beat.Longitude)
	// One row is the rule. More than one, left by an import or by hand, is
	// healed here: the one seen last stays.
	rows, err := ActiveSessions.By("by_sessionId").Eq(beat.SessionID, beat.Site).Take(tx, 2)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		if err := a.knowSite(tx, beat.Site, beat.LastSeen); err != nil {
			return err
		}
		_, err := ActiveSessions.Insert(tx, beat)
		return err
	}
	kept := rows[0]
	for _, row := range rows[1:] {
		surplus := row
		if row.LastSeen.After(kept.LastSeen) {
			kept, surplus = row, kept
		}
		if err := ActiveSessions.Delete(tx, surplus.ID); err != nil {
			return err
		}
	}
	changes := kept.changes(beat)
	if len(changes) == 0 && beat.LastSeen.Sub(kept.LastSeen) < a.BeatWindow {
		return nil
	}
	if beat.LastSeen.After(kept.LastSeen) {
		changes["lastSeen"] = beat.LastSeen
	}
	return ActiveSessions.Patch(tx, kept.ID, changes)
}

func (s *ActiveSession) check() error {
	if err := checkVisitorID(s.SessionID); err != nil {
		return err
	}
	return checkPath(s.CurrentPath)
}

// setPlace takes over the parts of the place that are given and valid. The rest
// stays unset: a tracker with a broken place lookup is still a visitor. 0 is a
// coordinate.
func (s *ActiveSession) setPlace(args heartbeatArgs) {
	s.City, s.Country = placeName(args.City), placeName(args.Country)
	s.Latitude, s.Longitude = coordinate(args.Latitude, 90), coordinate(args.Longitude, 180)
}

func placeName(name *string) *string {
	if name == nil || *name == "" || len(*name) > placeNameSizeMax {
		return nil
	}
	return name
}

func coordinate(degrees *float64, most float64) *float64 {
	if degrees == nil || !(math.Abs(*degrees) <= most) { // NaN compares false
		return nil
	}
	return degrees
}

// changes returns the fields in which beat says something else than the row,
// without the time.
func (s *ActiveSession) changes(beat ActiveSession) halcyon.Fields {
	changes := make(halcyon.Fields)
	if beat.CurrentPath != s.CurrentPath {
		changes["currentPath"] = beat.CurrentPath
	}
	addChange(changes, "city", s.City, beat.City)
	addChange(changes, "country", s.Country, beat.Country)
	addChange(changes, "latitude", s.Latitude, beat.Latitude)
	addChange(changes, "longitude", s.Longitude, beat.Longitude)
	return changes
}

func addChange[T comparable](changes halcyon.Fields, name string, old, given *T) {
	if given != nil && (old == nil || *old != *given) {
		changes[name] = *given
	}
}

// activeSince returns the time after which a visitor has to have been seen to
// be active now.
func (a *app) activeSince(tx *halcyon.Tx) time.Time { return tx.Now().Add(-a.VisitorTimeout) }
