package stats

import (
	"context"
	"time"

	"github.com/halcyon-db/halcyon"
)

// A row that was deleted is gone from every answer at once, and from the change
// records when those are removed. The files of the store have it until they are
// rewritten, which the store does by itself only where much is written. So all of
// them are, once in EraseInterval, and the longest time that a deleted row survives
// in them can be told: it is EraseInterval, and the time that change records are
// kept, and up to an hour until it is looked whether it is time.

// Erasure is when the files of the store were rewritten last. There is one row.
type Erasure struct {
	ID halcyon.ID[Erasure] `halcyon:"id"`
	At time.Time           `json:"at"` // the beginning
}

// Erasures is the table of it.
var Erasures = halcyon.NewTable[Erasure]("erasures")

// eraseLook is how often it is looked whether it is time.
const eraseLook = time.Hour

// declareErase declares what erasing needs.
func (a *app) declareErase(m *halcyon.Module) {
	m.Internal.Mutation("eraseDue", a.eraseDue)
	m.Internal.Mutation("noteErasure", noteErasure)
	m.Background(func(ctx context.Context, app *halcyon.App) error {
		if a.EraseInterval < 0 {
			return nil
		}
		tick := time.NewTicker(eraseLook)
		defer tick.Stop()
		for {
			if err := a.erase(ctx, app); err != nil && ctx.Err() == nil {
				// It is tried again at the next look: the disk may be full.
				app.Logger().Error("the files of the data could not be rewritten without what was deleted", "error", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
	})
}

// erase rewrites the files of the store if it is time.
func (a *app) erase(ctx context.Context, app *halcyon.App) error {
	var due erasureDue
	if err := app.Run(ctx, "stats:eraseDue", nil, &due); err != nil || !due.Due {
		return err
	}
	if err := app.Compact(ctx); err != nil {
		return err
	}
	return app.Run(ctx, "stats:noteErasure", due, nil)
}

type erasureDue struct {
	Due bool      `json:"due"`
	Now time.Time `json:"now"`
}

// eraseDue reports whether it is time. The first start begins the first interval.
func (a *app) eraseDue(tx *halcyon.Tx) (erasureDue, error) {
	result := erasureDue{Now: tx.Now()}
	last, known, err := Erasures.All().First(tx)
	switch {
	case err != nil:
		return result, err
	case !known:
		_, err = Erasures.Insert(tx, Erasure{At: tx.Now()})
		return result, err
	}
	result.Due = !tx.Now().Before(last.At.Add(a.EraseInterval))
	return result, nil
}

// noteErasure notes that everything that was deleted before due.Now is gone from the
// files, except what change records tell of it.
func noteErasure(tx *halcyon.Tx, due erasureDue) error {
	last, known, err := Erasures.All().First(tx)
	if err != nil || !known {
		return err
	}
	return Erasures.Patch(tx, last.ID, halcyon.Fields{"at": due.Now})
}
