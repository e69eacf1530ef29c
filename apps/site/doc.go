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
// Keys of both kinds: title (required), slug (default: the file's name),
// description, published (default true). Posts: date (required), tags, readTime
// (default: from the number of words), unlisted. Pages: order, showInNav (default
// true). Other keys are left to later versions; the files stay the source.
//
// At start the folder is synced into the tables "posts" and "pages" in one
// transaction: a file whose content is in the tables already writes nothing, and
// what has no file any more is deleted. A file that can't be read as a post or a
// page is named in the log and keeps what an earlier version of it published. A
// missing folder changes nothing. `site check` tells what a sync would say.
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
//	modules := []*halcyon.Module{s.Module(), stats.Module(stats.Options{Titles: s.Titles, Published: s.Published})}
package site
