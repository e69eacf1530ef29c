package site

import (
	"fmt"

	"github.com/halcyon-db/halcyon"
)

// The codes of the errors a sync script can cause.
const (
	CodeDocument = "BadDocument"
	CodeTooMuch  = "TooMuchContent"
)

// pushSizeMax bounds the texts that one sync script may leave in the tables, in
// bytes: with the largest folder beside them, a search still reads all of them.
const pushSizeMax = 3 << 20

type syncArgs struct {
	Documents []source `json:"documents"`
	// Keep names the files that exist but can't be read: what they published
	// before stays.
	Keep []string `json:"keep"`
}

// syncResult counts what a sync did.
type syncResult struct {
	Created int `json:"created"`
	Updated int `json:"updated"`
	Deleted int `json:"deleted"`
	// Skipped is what was left alone: it is there already, or belongs to
	// somebody else.
	Skipped int `json:"skipped"`
}

func (r *syncResult) add(other syncResult) {
	r.Created += other.Created
	r.Updated += other.Updated
	r.Deleted += other.Deleted
	r.Skipped += other.Skipped
}

// item is what a row is to be, made of the fields F.
type item[F any] struct {
	slug, source, text, hash string
	fields                   F
}

// held is a row that is there.
type held[T any] struct {
	id   halcyon.ID[T]
	slug string
	Origin
}

// owner says what one sync may touch.
type owner struct {
	// owns tells whether rows of a source are this sync's to change and to delete.
	owns func(source string) bool
	// takes: it takes over a slug that somebody else's row has.
	takes bool
	// keep are the sources whose rows stay although nothing was sent for them.
	keep map[string]bool
}

// The two who sync. What a file says wins over what a script sends, since it is
// the owner of the server who put it there.
func folderOwner(keep []string) owner {
	o := owner{owns: func(source string) bool { return source != pushedSource }, takes: true, keep: map[string]bool{}}
	for _, name := range keep {
		o.keep[name] = true
	}
	return o
}

var pushOwner = owner{owns: func(source string) bool { return source == pushedSource }}

// reconcile makes the rows of a table that belong to o what the items say. It
// writes only what differs.
func reconcile[T, F any](tx *halcyon.Tx, t *halcyon.Table[T], rows []held[T], items []item[F], build func(F, Origin) T, o owner) (result syncResult, err error) {
	bySlug := make(map[string]held[T], len(rows))
	for _, row := range rows {
		bySlug[row.slug] = row
	}
	wanted := make(map[string]bool, len(items))
	for _, it := range items {
		wanted[it.slug] = true
		old, exists := bySlug[it.slug]
		switch {
		case exists && !o.owns(old.Source) && !o.takes,
			exists && old.Hash == it.hash && old.Source == it.source:
			result.Skipped++
			continue
		case !exists:
			text, err := Texts.Insert(tx, Text{Markdown: it.text})
			if err != nil {
				return syncResult{}, err
			}
			if _, err := t.Insert(tx, build(it.fields, Origin{Source: it.source, Hash: it.hash, Text: text})); err != nil {
				return syncResult{}, err
			}
			result.Created++
		default:
			if err := Texts.Replace(tx, old.Text, Text{Markdown: it.text}); err != nil {
				return syncResult{}, err
			}
			if err := t.Replace(tx, old.id, build(it.fields, Origin{Source: it.source, Hash: it.hash, Text: old.Text})); err != nil {
				return syncResult{}, err
			}
			result.Updated++
		}
	}
	for _, row := range rows {
		if wanted[row.slug] || !o.owns(row.Source) || o.keep[row.Source] {
			continue
		}
		if err := t.Delete(tx, row.id); err != nil {
			return syncResult{}, err
		}
		if err := Texts.Delete(tx, row.Text); err != nil {
			return syncResult{}, err
		}
		result.Deleted++
	}
	return result, nil
}

func syncPosts(tx *halcyon.Tx, items []item[PostFields], o owner) (syncResult, error) {
	var rows []held[Post]
	for post, err := range Posts.All().Each(tx) {
		if err != nil {
			return syncResult{}, err
		}
		rows = append(rows, held[Post]{post.ID, post.Slug, post.Origin})
	}
	return reconcile(tx, Posts, rows, items, func(f PostFields, origin Origin) Post { return Post{PostFields: f, Origin: origin} }, o)
}

func syncPages(tx *halcyon.Tx, items []item[PageFields], o owner) (syncResult, error) {
	var rows []held[Page]
	for page, err := range Pages.All().Each(tx) {
		if err != nil {
			return syncResult{}, err
		}
		rows = append(rows, held[Page]{page.ID, page.Slug, page.Origin})
	}
	return reconcile(tx, Pages, rows, items, func(f PageFields, origin Origin) Page { return Page{PageFields: f, Origin: origin} }, o)
}

func postItem(entry *postEntry, source string) (item[PostFields], error) {
	hash, err := hashOf(entry)
	return item[PostFields]{entry.Slug, source, entry.Content, hash, entry.PostFields}, err
}

func pageItem(entry *pageEntry, source string) (item[PageFields], error) {
	hash, err := hashOf(entry)
	return item[PageFields]{entry.Slug, source, entry.Content, hash, entry.PageFields}, err
}

// syncFolder makes the tables what the folder is.
func syncFolder(tx *halcyon.Tx, args syncArgs) (syncResult, error) {
	var posts []item[PostFields]
	var pages []item[PageFields]
	for _, doc := range args.Documents {
		if doc.Post != nil {
			it, err := postItem(doc.Post, doc.Source)
			if err != nil {
				return syncResult{}, err
			}
			posts = append(posts, it)
		}
		if doc.Page != nil {
			it, err := pageItem(doc.Page, doc.Source)
			if err != nil {
				return syncResult{}, err
			}
			pages = append(pages, it)
		}
	}
	o := folderOwner(args.Keep)
	result, err := syncPosts(tx, posts, o)
	if err != nil {
		return syncResult{}, err
	}
	ofPages, err := syncPages(tx, pages, o)
	result.add(ofPages)
	return result, err
}

type syncPostsArgs struct {
	Posts []postEntry `json:"posts"`
}

// syncPostsPublic makes what a sync script sent before what it sends now.
func syncPostsPublic(tx *halcyon.Tx, args syncPostsArgs) (syncResult, error) {
	items := make([]item[PostFields], 0, len(args.Posts))
	size, seen := 0, map[string]bool{}
	for i := range args.Posts {
		entry := &args.Posts[i]
		size += len(entry.Content)
		if err := pushed(entry.Slug, entry.check(), seen, i, size); err != nil {
			return syncResult{}, err
		}
		it, err := postItem(entry, pushedSource)
		if err != nil {
			return syncResult{}, err
		}
		items = append(items, it)
	}
	return syncPosts(tx, items, pushOwner)
}

type syncPagesArgs struct {
	Pages []pageEntry `json:"pages"`
}

// syncPagesPublic is syncPostsPublic for pages.
func syncPagesPublic(tx *halcyon.Tx, args syncPagesArgs) (syncResult, error) {
	items := make([]item[PageFields], 0, len(args.Pages))
	size, seen := 0, map[string]bool{}
	for i := range args.Pages {
		entry := &args.Pages[i]
		size += len(entry.Content)
		if err := pushed(entry.Slug, entry.check(), seen, i, size); err != nil {
			return syncResult{}, err
		}
		it, err := pageItem(entry, pushedSource)
		if err != nil {
			return syncResult{}, err
		}
		items = append(items, it)
	}
	return syncPages(tx, items, pushOwner)
}

// pushed reports why the i-th document of a script is not taken. Nothing of such a
// call is: a script that is half done would delete what it forgot.
func pushed(slug string, wrong error, seen map[string]bool, i, size int) error {
	switch {
	case wrong != nil:
		return &halcyon.Error{Code: CodeDocument, Message: fmt.Sprintf("document %d: %v", i+1, wrong)}
	case seen[slug]:
		return &halcyon.Error{Code: CodeDocument, Message: fmt.Sprintf("document %d: an earlier one has the slug %q already", i+1, slug)}
	case size > pushSizeMax || i >= filesMax:
		return &halcyon.Error{Code: CodeTooMuch, Message: fmt.Sprintf("more than %d documents or %d MiB of text", filesMax, pushSizeMax>>20)}
	}
	seen[slug] = true
	return nil
}
