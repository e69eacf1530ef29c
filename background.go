package halcyon

import (
	"context"
	"errors"
)

// Background adds something that goes on beside the functions while the App runs, such as watching a folder: Start calls it on a goroutine
// of its own, after all OnStart hooks and when crons and scheduled functions run. Its context ends with Close, which waits for it, so it has
// to return then. It may return earlier; an error is logged, and nothing else comes of it.
//
// The commands of a program do not start the App, so nothing goes on behind them.
func (m *Module) Background(run func(ctx context.Context, app *App) error) {
	m.background = append(m.background, run)
}

// startBackground starts what the modules added by Background. What runs is waited for by the group r.beside.
func (a *App) startBackground(ctx context.Context, r *runtime) {
	for _, m := range a.modules {
		for _, run := range m.background {
			r.beside.Go(func() {
				if err := run(ctx, a); err != nil && !errors.Is(err, context.Canceled) {
					r.logger.Error("background work of a module ended", "module", m.name, "error", err)
				}
			})
		}
	}
}
