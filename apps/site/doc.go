// Package site is a small Markdown site: posts and pages from a folder, kept in
// the database and served from it.
//
// The folder holds blog/*.md and pages/*.md. Each file begins with front matter,
// YAML between lines of --- or TOML between lines of +++:
//
//	---
//	title: My first post
//	slug: first
//	date: 2026-11-20
//	---
//
// docs/guide/site.md lists the keys. The files stay the source.
//
// At start, and whenever it changes from then on, the folder is synced into the
// tables "posts" and "pages" in one transaction: a file whose content is in the
// tables already writes nothing, and what has no file any more is deleted. A file
// that can't be read as a post or a page is named in the log and keeps what an
// earlier version of it published. A missing folder changes nothing. `site check`
// tells what a sync would say.
//
// The files of images/ are served from disk, at /images/.
//
// # Functions
//
// The modules "posts", "pages" and "search" have the queries that front ends of
// the blog framework markdown-site call, and the mutations of its sync script.
// What a script sends and what files say are told apart by Origin.Source: neither
// of the two syncs touches the other's rows, save that a file takes a slug that a
// script has used.
//
// The page with the slug "home" introduces the front page, and its title names
// the site.
//
// # HTML
//
// Raw HTML in Markdown is left out, and so are links that run scripts: Markdown
// comes from the owner today, but need not tomorrow. Titles and all other front
// matter are escaped. Every page forbids inline scripts and styles by its
// Content-Security-Policy.
//
// # Other apps
//
// [Site.Titles] and [Site.Published] read in the transaction of the caller, so
// that an app that takes them as functions sees the same snapshot and is told of
// every change:
//
//	s := site.New(site.Options{})
//	modules := append(s.Modules(), stats.Module(stats.Options{Titles: s.Titles, Published: s.Published}))
package site
