package site

import (
	"time"

	"github.com/halcyon-db/halcyon"
)

// The kinds of what a slug names, as the statistics show them.
const (
	kindPost = "blog"
	kindPage = "page"
)

// homeSlug is the slug of the page that introduces the front page.
const homeSlug = "home"

// Posts are the files of blog/, and what posts:syncPostsPublic sent. Texts are
// apart, so that lists and titles are read without them.
var Posts = halcyon.NewTable[Post]("posts").
	Index("by_slug", "slug").
	Index("by_published", "published", "date").
	Aggregate("published", halcyon.GroupBy("published"))

// Pages are the files of pages/, and what pages:syncPagesPublic sent.
var Pages = halcyon.NewTable[Page]("pages").
	Index("by_slug", "slug").
	Index("by_published", "published", "order").
	Aggregate("published", halcyon.GroupBy("published"))

// Texts are the Markdown texts of posts and pages.
var Texts = halcyon.NewTable[Text]("texts")

// Post is one post.
type Post struct {
	ID      halcyon.ID[Post] `json:"_id" halcyon:"id"`
	Created time.Time        `json:"_creationTime" halcyon:"creationTime"`
	PostFields
	Origin
}

// PostFields is what the front matter of a post says.
type PostFields struct {
	Slug         string   `json:"slug"`
	Title        string   `json:"title"`
	Description  string   `json:"description"`
	Date         string   `json:"date"` // begins like 2026-11-20
	Published    bool     `json:"published"`
	Tags         []string `json:"tags"`
	ReadTime     string   `json:"readTime,omitzero"`
	Unlisted     bool     `json:"unlisted,omitzero"` // published, but in no list
	BlogFeatured *bool    `json:"blogFeatured"`
	Extras
}

// Page is one page.
type Page struct {
	ID      halcyon.ID[Page] `json:"_id" halcyon:"id"`
	Created time.Time        `json:"_creationTime" halcyon:"creationTime"`
	PageFields
	Origin
}

// PageFields is what the front matter of a page says.
type PageFields struct {
	Slug        string   `json:"slug"`
	Title       string   `json:"title"`
	Description string   `json:"description,omitzero"`
	Published   bool     `json:"published"`
	Order       *float64 `json:"order"`     // in the navigation, ascending; absent comes after 998
	ShowInNav   *bool    `json:"showInNav"` // absent: yes
	TextAlign   string   `json:"textAlign,omitzero"`
	Extras
}

// inNav reports whether the navigation lists the page.
func (p *PageFields) inNav() bool { return p.ShowInNav == nil || *p.ShowInNav }

// Extras are the keys that posts and pages share and that a front end makes of
// what it likes. Our own pages use image, authorName, featured and footer.
type Extras struct {
	Image                 string   `json:"image,omitzero" yaml:"image" toml:"image"`
	ShowImageAtTop        *bool    `json:"showImageAtTop" yaml:"showImageAtTop" toml:"showImageAtTop"`
	Excerpt               string   `json:"excerpt,omitzero" yaml:"excerpt" toml:"excerpt"`
	Featured              *bool    `json:"featured" yaml:"featured" toml:"featured"`
	FeaturedOrder         *float64 `json:"featuredOrder" yaml:"featuredOrder" toml:"featuredOrder"`
	AuthorName            string   `json:"authorName,omitzero" yaml:"authorName" toml:"authorName"`
	AuthorImage           string   `json:"authorImage,omitzero" yaml:"authorImage" toml:"authorImage"`
	Layout                string   `json:"layout,omitzero" yaml:"layout" toml:"layout"`
	RightSidebar          *bool    `json:"rightSidebar" yaml:"rightSidebar" toml:"rightSidebar"`
	ShowFooter            *bool    `json:"showFooter" yaml:"showFooter" toml:"showFooter"`
	Footer                string   `json:"footer,omitzero" yaml:"footer" toml:"footer"`
	ShowSocialFooter      *bool    `json:"showSocialFooter" yaml:"showSocialFooter" toml:"showSocialFooter"`
	AIChat                *bool    `json:"aiChat" yaml:"aiChat" toml:"aiChat"`
	Newsletter            *bool    `json:"newsletter" yaml:"newsletter" toml:"newsletter"`
	ContactForm           *bool    `json:"contactForm" yaml:"contactForm" toml:"contactForm"`
	DocsSection           *bool    `json:"docsSection" yaml:"docsSection" toml:"docsSection"`
	DocsSectionGroup      string   `json:"docsSectionGroup,omitzero" yaml:"docsSectionGroup" toml:"docsSectionGroup"`
	DocsSectionOrder      *float64 `json:"docsSectionOrder" yaml:"docsSectionOrder" toml:"docsSectionOrder"`
	DocsSectionGroupOrder *float64 `json:"docsSectionGroupOrder" yaml:"docsSectionGroupOrder" toml:"docsSectionGroupOrder"`
	DocsSectionGroupIcon  string   `json:"docsSectionGroupIcon,omitzero" yaml:"docsSectionGroupIcon" toml:"docsSectionGroupIcon"`
	DocsLanding           *bool    `json:"docsLanding" yaml:"docsLanding" toml:"docsLanding"`
	Slides                *bool    `json:"slides" yaml:"slides" toml:"slides"`
}

// Origin says where a row came from.
type Origin struct {
	Source string           `json:"source"` // blog/first.md, or pushedSource
	Hash   string           `json:"hash"`   // of all that the row and its text say
	Text   halcyon.ID[Text] `json:"text"`
}

// pushedSource is the Source of what a sync script sent.
const pushedSource = "sync"

// Text is the Markdown text of a post or a page, without front matter.
type Text struct {
	ID       halcyon.ID[Text] `halcyon:"id"`
	Markdown string           `json:"markdown"`
}

// set reports whether an optional flag is there and true.
func set(flag *bool) bool { return flag != nil && *flag }
