package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/halcyon-db/halcyon"
)

// Options are the settings of a site; the zero value means all defaults.
type Options struct {
	// Dir is the folder with blog/ and pages/. Default: "content", from where the
	// program was started.
	Dir string
	// Name is what the site is called as long as no page "home" says otherwise.
	// Default: "Halcyon".
	Name string
}

// Site is a site before and after it is mounted. Use [New].
type Site struct {
	options Options
	cache   pageCache
}

// New returns a site. Its Module may be mounted in one App.
func New(options Options) *Site {
	if options.Dir == "" {
		options.Dir = "content"
	}
	if options.Name == "" {
		options.Name = "Halcyon"
	}
	return &Site{options: options}
}

// Module returns the module "site". It serves every path that no other module
// serves, syncs the folder at start, and offers the command `site check`.
func (s *Site) Module() *halcyon.Module {
	m := halcyon.NewModule("site", Posts, Pages, Texts)
	m.Internal.Mutation("sync", syncFolder)
	m.Internal.Query("front", front)
	m.Internal.Query("document", document)
	m.OnStart(s.sync)
	m.HandleApp("/", func(app *halcyon.App) http.Handler { return s.handler(app) })
	m.Command("check", "Read the site's folder and name every file that can't be published.", s.check)
	return m
}

// Titles returns what is published under a slug: its title, and "blog" for a post
// or "page" for a page. Its signature is that of the option Titles of apps/stats.
func (s *Site) Titles(tx *halcyon.Tx, slug string) (title, kind string, ok bool, err error) {
	post, ok, err := Posts.By("by_slug").Eq(slug).First(tx)
	if err != nil {
		return "", "", false, err
	}
	if ok && post.Published {
		return post.Title, kindPost, true, nil
	}
	page, ok, err := Pages.By("by_slug").Eq(slug).First(tx)
	if err != nil || !ok || !page.Published {
		return "", "", false, err
	}
	return page.Title, kindPage, true, nil
}

// Published returns the numbers of published posts and pages.
func (s *Site) Published(tx *halcyon.Tx) (posts, pages int, err error) {
	p, err := Posts.Count("published").Eq(true).Count(tx)
	if err != nil {
		return 0, 0, err
	}
	g, err := Pages.Count("published").Eq(true).Count(tx)
	if err != nil {
		return 0, 0, err
	}
	return int(p), int(g), nil
}

// sync brings the tables in step with the folder.
func (s *Site) sync(ctx context.Context, app *halcyon.App) error {
	logger := app.Logger().With("dir", s.options.Dir)
	found, err := readFolder(s.options.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		logger.Info("no content folder, nothing synced")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the content folder: %w", err)
	}
	for _, problem := range found.problems {
		logger.Warn("content file left out", "file", problem.file, "reason", problem.err)
	}
	var result syncResult
	if err := app.Run(ctx, "site:sync", found.args(), &result); err != nil {
		return fmt.Errorf("sync the content folder: %w", err)
	}
	logger.Info("content synced", "created", result.Created, "updated", result.Updated,
		"deleted", result.Deleted, "unchanged", result.Unchanged)
	return nil
}

// errCheck is the outcome of `site check` when it found something.
var errCheck = errors.New("some files can't be published")

// check is the command `site check`.
func (s *Site) check(_ context.Context, env *halcyon.CommandEnv, _ []string) error {
	found, err := readFolder(s.options.Dir)
	if err != nil {
		return fmt.Errorf("read the content folder: %w", err)
	}
	for _, d := range found.documents {
		if _, err := fmt.Fprintf(env.Stdout, "%s\t/%s\t%s\n", d.Source, d.Slug, d.Title); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	for _, problem := range found.problems {
		if _, err := fmt.Fprintf(env.Stderr, "%s: %v\n", problem.file, problem.err); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if len(found.problems) > 0 {
		return errCheck
	}
	return nil
}
