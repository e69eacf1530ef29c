package site

import "github.com/halcyon-db/halcyon"

// The kinds of what a slug names, as the statistics show them.
const (
	kindPost = "blog"
	kindPage = "page"
)

// homeSlug is the slug of the page that introduces the front page.
const homeSlug = "home"

// Posts are the files of blog/. Texts are apart, so that lists and titles are
// read without them.
var Posts = halcyon.NewTable[Post]("posts").
	Index("by_slug", "slug").
	Index("by_published", "published", "date").
	Aggregate("published", halcyon.GroupBy("published"))

// Pages are the files of pages/.
var Pages = halcyon.NewTable[Page]("pages").
	Index("by_slug", "slug").
	Index("by_published", "published", "order").
	Aggregate("published", halcyon.GroupBy("published"))

// Texts are the Markdown files behind posts and pages.
var Texts = halcyon.NewTable[Text]("texts")

// Post is one post.
type Post struct {
	ID          halcyon.ID[Post] `json:"_id" halcyon:"id"`
	Slug        string           `json:"slug"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Date        string           `json:"date"` // 2026-11-20
	Published   bool             `json:"published"`
	Unlisted    bool             `json:"unlisted"` // published, but in no list
	Tags        []string         `json:"tags"`
	ReadTime    string           `json:"readTime"`
	Origin
}

// Page is one page.
type Page struct {
	ID          halcyon.ID[Page] `json:"_id" halcyon:"id"`
	Slug        string           `json:"slug"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Published   bool             `json:"published"`
	Order       float64          `json:"order"` // in the navigation, ascending
	ShowInNav   bool             `json:"showInNav"`
	Origin
}

// Origin says which file a row was made of.
type Origin struct {
	Source string           `json:"source"` // blog/first.md
	Hash   string           `json:"hash"`   // of the file and of the way it is read
	Text   halcyon.ID[Text] `json:"text"`
}

// Text is the text of one file, front matter included.
type Text struct {
	Markdown string `json:"markdown"`
}
