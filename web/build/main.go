package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// errStale is returned with -check when a committed file is not what the
// sources give.
var errStale = errors.New("the committed bundles are not those of the sources: run `go run .` in web/build and commit the result")

// bundle is one file to build.
type bundle struct {
	entry string // below the workspace
	out   string // below the workspace
	// gzipBytesMax is the budget of the file as it travels; zero means none.
	gzipBytesMax int
	options      api.BuildOptions
}

// bundles lists all that is built, in order.
func bundles() []bundle {
	script := api.BuildOptions{
		Platform: api.PlatformBrowser,
		Format:   api.FormatIIFE,
		Target:   api.ES2022,
	}
	page := script
	page.Banner = map[string]string{"js": "/* Includes npm convex 1.48.0, Apache License 2.0, Copyright Convex, Inc. */"}
	// The tracker runs on other people's pages, before visitors of all ages of browser.
	tracker := script
	tracker.Target = api.ES2020
	tracker.TsconfigRaw = `{}` // without the compiler's strict, so without a "use strict" to carry
	tracker.MangleProps = "^(view|beat|leave|named|id)$"
	// What apps bundle into their pages: with the copies of yjs, convex and react that the page has anyway, since two of yjs do
	// not know each other's documents.
	library := api.BuildOptions{
		Platform: api.PlatformNeutral,
		Format:   api.FormatESModule,
		Target:   api.ES2022,
		External: []string{"yjs", "convex/*", "react"},
	}
	return []bundle{
		{entry: "tracker/src/track.ts", out: "tracker/dist/track.js", gzipBytesMax: 1536, options: tracker},
		{entry: "stats/src/boot.ts", out: "stats/dist/boot.js", gzipBytesMax: 1 << 10, options: script},
		{entry: "stats/src/stats.ts", out: "stats/dist/stats.js", gzipBytesMax: 60 << 10, options: page},
		{entry: "replicate/src/index.ts", out: "replicate/dist/replicate.js", gzipBytesMax: 12 << 10, options: library},
		{entry: "replicate/src/react.ts", out: "replicate/dist/react.js", gzipBytesMax: 3 << 10, options: library},
		{entry: "stats/src/stats.css", out: "stats/dist/stats.css", gzipBytesMax: 8 << 10},
	}
}

// copies lists the files that are served as they are written.
var copies = map[string]string{
	"stats/src/index.html": "stats/dist/index.html",
	"stats/src/off.html":   "stats/dist/off.html",
	"theme/icon.svg":       "stats/dist/icon.svg",
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	root := flags.String("root", "..", "the folder of the npm workspace")
	check := flags.Bool("check", false, "write nothing; fail when a committed file is out of date")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := filepath.Abs(*root)
	if err != nil {
		return fmt.Errorf("find the workspace: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		return fmt.Errorf("no node_modules in the workspace: run `npm ci` there first: %w", err)
	}
	for _, b := range bundles() {
		code, err := b.build(dir)
		if err != nil {
			return err
		}
		packed, err := gzipSize(code)
		if err != nil {
			return fmt.Errorf("measure %s: %w", b.out, err)
		}
		fmt.Fprintf(stdout, "%-24s %7d bytes %7d gzipped (at most %d)\n", b.out, len(code), packed, b.gzipBytesMax)
		if b.gzipBytesMax > 0 && packed > b.gzipBytesMax {
			return fmt.Errorf("%s is %d bytes gzipped, its budget is %d", b.out, packed, b.gzipBytesMax)
		}
		if err := put(filepath.Join(dir, b.out), code, *check); err != nil {
			return err
		}
	}
	picture, err := land(dir)
	if err != nil {
		return err
	}
	if err := put(filepath.Join(dir, landSprite), picture, *check); err != nil {
		return err
	}
	middles, err := centres(dir)
	if err != nil {
		return err
	}
	if err := put(filepath.Join(dir, centresFile), middles, *check); err != nil {
		return err
	}
	for from, to := range copies {
		body, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		if err := put(filepath.Join(dir, to), body, *check); err != nil {
			return err
		}
	}
	return nil
}

// build returns the bundled file.
func (b bundle) build(dir string) ([]byte, error) {
	options := b.options
	options.AbsWorkingDir = dir
	options.EntryPoints = []string{b.entry}
	options.Bundle = true
	options.MinifyWhitespace = true
	options.MinifyIdentifiers = true
	options.MinifySyntax = true
	options.LegalComments = api.LegalCommentsNone
	options.Charset = api.CharsetUTF8
	options.LogLevel = api.LogLevelSilent
	options.External = append(slices.Clone(options.External), "/stats/*") // addresses of the server
	result := api.Build(options)
	if len(result.Errors) > 0 {
		lines := api.FormatMessages(result.Errors, api.FormatMessagesOptions{Kind: api.ErrorMessage})
		return nil, fmt.Errorf("bundle %s:\n%s", b.entry, strings.Join(lines, "\n"))
	}
	if n := len(result.OutputFiles); n != 1 {
		return nil, fmt.Errorf("bundle %s: got %d files, want 1", b.entry, n)
	}
	return result.OutputFiles[0].Contents, nil
}

// put writes the file, or with check only compares it.
func put(name string, code []byte, check bool) error {
	if check {
		old, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("check: %w", err)
		}
		if !bytes.Equal(old, code) {
			return fmt.Errorf("%s: %w", name, errStale)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	if err := os.WriteFile(name, code, 0o644); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// gzipSize returns the size the server sends the file with.
func gzipSize(code []byte) (int, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(code); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	return packed.Len(), nil
}
