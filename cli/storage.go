package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// storageFlags say where the data is and how it is kept.
type storageFlags struct {
	Dir     string   `complete:"file" default:"./halcyon-data" env:"HALCYON_STORAGE_DIR" placeholder:"DIR" help:"Folder that holds the data; made when missing. (default: ${default})"`
	FreeMin byteSize `env:"HALCYON_STORAGE_FREE_MIN" placeholder:"SIZE" help:"Room to keep free on the disk, for example 200MiB; below it nothing is written. (default: 1GiB, or 3 % of the disk if that is more)"`
}

// options returns the settings the flags ask for.
func (f storageFlags) options(logger *slog.Logger) *halcyon.Options {
	o := &halcyon.Options{Logger: logger}
	if f.FreeMin > 0 {
		o.Engine = engine.Options{DiskFreeMin: int64(f.FreeMin), DiskFreeMinRatio: -1}
	}
	return o
}

// byteSize is a number of bytes on the command line: 1048576, 1024KiB, 1MiB or
// 1GiB.
type byteSize int64

var byteUnits = []struct {
	name  string
	bytes float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

// UnmarshalText reads it.
func (b *byteSize) UnmarshalText(text []byte) error {
	for _, unit := range byteUnits {
		digits, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if size := n * unit.bytes; err == nil && size >= 1 && size < math.MaxInt64 {
			*b = byteSize(size)
			return nil
		}
		break
	}
	return fmt.Errorf("%q is not a size such as 500MiB or 2GiB", text)
}

// openApp opens the app's data, whose folder is made when missing.
func openApp(e *env, app *halcyon.App, storage storageFlags, logger *slog.Logger) error {
	if err := os.MkdirAll(storage.Dir, 0o700); err != nil {
		return explainOpen(e.program, storage.Dir, fmt.Errorf("make the folder of the data: %w", err))
	}
	options := storage.options(logger)
	options.LookupEnv = e.settings.lookup
	if e.dev {
		options.ShowErrors, options.ActionGrace = true, devGrace
	}
	if err := app.Open(storage.Dir, options); err != nil {
		return explainOpen(e.program, storage.Dir, err)
	}
	return nil
}

// closeApp closes the app's data.
func closeApp(app *halcyon.App) error {
	if err := app.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the data: %w", err)
	}
	return nil
}
