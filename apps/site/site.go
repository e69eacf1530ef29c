package site

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Options are the settings of a site; the zero value means all defaults. What the
// environment of the program sets, see the guide, wins over them.
type Options struct {
	// Dir is the folder with blog/, pages/ and images/. Default: "content", from where the
	// program was started.
	Dir string
	// Name is what the site is called as long as no page "home" says otherwise.
	// Default: "Halcyon".
	Name string
	// URL is the address of the site, such as https://example.org, for feeds and
	// the like. Default: the one a request came to.
	URL string
	// WatchInterval is how often the folder is looked at for changes. Default: one
	// second; less than 0: only at start.
	WatchInterval time.Duration
	// OpenSync lets everybody who reaches the server replace what sync scripts
	// sent before. Default: posts:syncPostsPublic and pages:syncPagesPublic are
	// internal functions, for those who show an admin key.
	OpenSync bool
}

// Site is a site before and after it is mounted. Use [New].
type Site struct {
	given   Options // by the program
	options Options // and by its environment; set when the App opens
	cache   pageCache
	named   map[string]string       // why a file was left out, as the log says already; whoever syncs has it
	synced  func(syncResult, error) // told to tests after each look at a changed folder
}

// New returns a site. Its Modules may be mounted in one App.
func New(options Options) *Site {
	return &Site{given: options, options: options.withDefaults(), synced: func(syncResult, error) {}}
}

// withDefaults returns the options with every unset field at its default.
func (options Options) withDefaults() Options {
	if options.Dir == "" {
		options.Dir = "content"
	}
	if options.Name == "" {
		options.Name = "Halcyon"
	}
	if options.WatchInterval == 0 {
		options.WatchInterval = time.Second
	}
	options.URL = strings.TrimRight(options.URL, "/")
	return options
}

// The settings that come from the environment of the program.
const (
	envDir  = "HALCYON_SITE_DIR"
	envURL  = "HALCYON_SITE_URL"
	envSync = "HALCYON_SITE_SYNC"
)

// configure takes over what the environment says.
func (s *Site) configure(settings halcyon.Settings) error {
	o := s.given
	for name, field := range map[string]*string{envDir: &o.Dir, envURL: &o.URL} {
		if text := settings.Env(name); text != "" {
			*field = text
		}
	}
	s.options = o.withDefaults()
	return nil
}

// publish returns what makes a sync function public where that is the setting.
func (s *Site) publish(function string) func(halcyon.Settings) error {
	return func(settings halcyon.Settings) error {
		switch text := settings.Env(envSync); {
		case text == "open", text == "" && s.given.OpenSync:
			return settings.Publish(function)
		case text != "" && text != "closed":
			return fmt.Errorf("%s: %q is neither open nor closed", envSync, text)
		}
		return nil
	}
}

// Modules returns the modules of a site: "site", which holds the tables, serves
// every path that no other module serves, syncs the folder, and offers the command
// `site check`; and "posts", "pages" and "search", what front ends call.
func (s *Site) Modules() []*halcyon.Module {
	m := halcyon.NewModule("site", Posts, Pages, Texts)
	m.Env(
		halcyon.Variable{Name: envDir, Optional: true, Help: "the folder with the posts, pages and images"},
		halcyon.Variable{Name: envURL, Optional: true, Help: "the address of the site, for feeds"},
		halcyon.Variable{Name: envSync, Optional: true, Help: "open lets everybody run the sync functions"},
	)
	m.Configure(s.configure)
	m.Internal.Mutation("sync", syncFolder)
	m.Internal.Query("front", front)
	m.Internal.Query("document", document)
	m.Internal.Query("tagged", tagged)
	m.Internal.Query("feed", feed)
	m.Internal.Query("index", index)
	w := &watcher{site: s}
	m.OnStart(func(ctx context.Context, app *halcyon.App) error {
		if err := s.checkURL(); err != nil {
			return err
		}
		w.try(ctx, app)
		return ctx.Err()
	})
	m.Background(w.watch)
	m.HandleApp("/", func(app *halcyon.App) http.Handler { return s.handler(app) })
	m.Command("check", "Read the site's folder and name every file that can't be published.", s.check, halcyon.WithoutData())
	return []*halcyon.Module{m, s.postsModule(), s.pagesModule(), searchModule()}
}

func (s *Site) checkURL() error {
	if s.options.URL == "" {
		return nil
	}
	u, err := url.Parse(s.options.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the address of the site is %q; it has to be one such as https://example.org", s.options.URL)
	}
	return nil
}

// Titles returns what is published under a slug: its title, and "blog" for a post
// or "page" for a page. Its signature is that of the option Titles of apps/stats.
func (s *Site) Titles(tx *halcyon.Tx, slug string) (title, kind string, ok bool, err error) {
	post, ok, err := findPost(tx, slug)
	if err != nil || ok {
		return post.Title, kindPost, ok, err
	}
	page, ok, err := findPage(tx, slug)
	if err != nil || !ok {
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

// errCheck is the outcome of `site check` when it found something.
var errCheck = errors.New("some files can't be published")

// check is the command `site check`.
func (s *Site) check(_ context.Context, env *halcyon.CommandEnv, _ []string) error {
	found, err := readFolder(s.options.Dir)
	if err != nil {
		return fmt.Errorf("read the content folder: %w", err)
	}
	for _, d := range found.documents {
		title := ""
		if d.Post != nil {
			title = d.Post.Title
		} else if d.Page != nil {
			title = d.Page.Title
		}
		if _, err := fmt.Fprintf(env.Stdout, "%s\t/%s\t%s\n", d.Source, d.slug(), title); err != nil {
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
