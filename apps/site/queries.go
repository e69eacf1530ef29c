package site

import "github.com/halcyon-db/halcyon"

const (
	// postsPerPage is how many posts a page of the list of all posts has, newest
	// first. The front page is the first.
	postsPerPage = 100

	// feedPostsMax is how many posts the feeds have, newest first.
	feedPostsMax = 50

	// relatedShown is how many related posts stand below a post.
	relatedShown = 3
)

// frame is what every page of the site shows around its own content.
type frame struct {
	Name        string    `json:"name"` // of the site; empty when no page says so
	Description string    `json:"siteDescription"`
	Nav         []navItem `json:"nav"`
}

type navItem struct {
	Slug  string `json:"slug"`
	Title string `json:"title"`
}

type frontResult struct {
	frame
	Markdown string       `json:"markdown"` // the introduction; may be empty
	Posts    []listedPost `json:"posts"`
	Page     int          `json:"page"`  // of the list of posts, from 1
	Pages    int          `json:"pages"` // that the list has, 1 at least
	Tags     []tagCount   `json:"tags"`
	Empty    bool         `json:"empty"` // nothing at all is published
}

type frontArgs struct {
	Page int `json:"page"`
}

// front returns the front page, which has the newest posts, or, from page 2 on, a
// page of older ones without the introduction. Past the last page there are none.
func front(tx *halcyon.Tx, args frontArgs) (frontResult, error) {
	result := frontResult{Page: max(args.Page, 1)}
	var home Page
	var introduced bool
	var err error
	if result.frame, home, introduced, err = readFrame(tx); err != nil {
		return frontResult{}, err
	}
	if introduced && result.Page == 1 {
		if result.Markdown, err = textOf(tx, home.Origin); err != nil {
			return frontResult{}, err
		}
	}
	posts, err := publishedPosts(tx, listed)
	result.Pages = max(1, (len(posts)+postsPerPage-1)/postsPerPage)
	begin := len(posts)
	if result.Page <= result.Pages {
		begin = (result.Page - 1) * postsPerPage
	}
	if result.Posts, err = listOf(posts[begin:min(len(posts), begin+postsPerPage)], err, listPost); err != nil {
		return frontResult{}, err
	}
	if result.Tags, err = getAllTags(tx); err != nil {
		return frontResult{}, err
	}
	result.Empty = !introduced && len(result.Posts) == 0 && len(result.Nav) == 0
	return result, nil
}

type documentResult struct {
	frame
	Found       bool           `json:"found"`
	Kind        string         `json:"kind"`
	Slug        string         `json:"slug"`
	Title       string         `json:"title"`
	Summary     string         `json:"summary"`
	Date        string         `json:"date"` // of a post
	ReadTime    string         `json:"readTime"`
	Tags        []string       `json:"tags"`
	Author      string         `json:"author"`
	Image       string         `json:"image"`
	ImageAtTop  bool           `json:"imageAtTop"`
	Unlisted    bool           `json:"unlisted"`
	Markdown    string         `json:"markdown"`
	RelatedList []featuredPost `json:"related"`
}

// document returns what is published under a slug, a post before a page, and the
// frame around it also when there is nothing.
func document(tx *halcyon.Tx, args slugArgs) (documentResult, error) {
	result := documentResult{Slug: args.Slug, Tags: []string{}, RelatedList: []featuredPost{}}
	var err error
	if result.frame, _, _, err = readFrame(tx); err != nil {
		return documentResult{}, err
	}
	var origin Origin
	var extras Extras
	post, ok, err := findPost(tx, args.Slug)
	if err != nil {
		return documentResult{}, err
	}
	if ok {
		result.Found, result.Kind, origin, extras = true, kindPost, post.Origin, post.Extras
		result.Title, result.Summary, result.Unlisted = post.Title, post.Description, post.Unlisted
		result.Date, result.ReadTime, result.Tags = post.Date, post.ReadTime, post.Tags
		limit := float64(relatedShown)
		related, err := getRelatedPosts(tx, relatedArgs{CurrentSlug: post.Slug, Tags: post.Tags, Limit: &limit})
		if err != nil {
			return documentResult{}, err
		}
		for _, r := range related {
			result.RelatedList = append(result.RelatedList, featuredPost{ID: r.ID, Slug: r.Slug, Title: r.Title, Description: r.Description})
		}
	} else {
		page, ok, err := findPage(tx, args.Slug)
		if err != nil || !ok {
			return result, err
		}
		result.Found, result.Kind, origin, extras = true, kindPage, page.Origin, page.Extras
		result.Title, result.Summary = page.Title, page.Description
	}
	result.Author, result.Image, result.ImageAtTop = extras.AuthorName, extras.Image, extras.Image != "" && set(extras.ShowImageAtTop)
	result.Markdown, err = textOf(tx, origin)
	return result, err
}

type taggedResult struct {
	frame
	Tag   string       `json:"tag"`
	Posts []listedPost `json:"posts"`
}

// tagged returns the page of a tag.
func tagged(tx *halcyon.Tx, args tagArgs) (result taggedResult, err error) {
	result.Tag = args.Tag
	if result.frame, _, _, err = readFrame(tx); err != nil {
		return result, err
	}
	result.Posts, err = getPostsByTag(tx, args)
	return result, err
}

// feedPost is a post with its text.
type feedPost struct {
	listedPost
	Markdown string `json:"markdown"`
}

type feedResult struct {
	frame
	Posts []feedPost `json:"posts"`
}

// feed returns the newest listed posts with their texts.
func feed(tx *halcyon.Tx) (feedResult, error) {
	result := feedResult{Posts: []feedPost{}}
	var err error
	if result.frame, _, _, err = readFrame(tx); err != nil {
		return result, err
	}
	posts, err := publishedPosts(tx, listed)
	if err != nil {
		return result, err
	}
	for _, post := range posts[:min(len(posts), feedPostsMax)] {
		text, err := textOf(tx, post.Origin)
		if err != nil {
			return result, err
		}
		result.Posts = append(result.Posts, feedPost{listPost(post), text})
	}
	return result, nil
}

// indexedPage is a page in the index of the site.
type indexedPage struct {
	Slug        string `json:"slug"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

type indexResult struct {
	frame
	Posts []listedPost  `json:"posts"`
	Pages []indexedPage `json:"pages"`
}

// index returns all that is published and listed.
func index(tx *halcyon.Tx) (result indexResult, err error) {
	if result.frame, _, _, err = readFrame(tx); err != nil {
		return result, err
	}
	posts, err := publishedPosts(tx, listed)
	if result.Posts, err = listOf(posts, err, listPost); err != nil {
		return result, err
	}
	pages, err := publishedPages(tx, func(p *Page) bool { return p.Slug != homeSlug })
	result.Pages, err = pagesAs(pages, err, func(p Page) indexedPage { return indexedPage{p.Slug, p.Title, p.Description} })
	return result, err
}

// readFrame reads the navigation, and the page that introduces the site, if any.
func readFrame(tx *halcyon.Tx) (f frame, home Page, introduced bool, err error) {
	f.Nav = []navItem{}
	pages, err := publishedPages(tx, func(p *Page) bool { return p.Slug == homeSlug || p.inNav() })
	if err != nil {
		return frame{}, Page{}, false, err
	}
	for _, page := range pages {
		if page.Slug == homeSlug {
			home, introduced, f.Name, f.Description = page, true, page.Title, page.Description
		} else {
			f.Nav = append(f.Nav, navItem{Slug: page.Slug, Title: page.Title})
		}
	}
	return f, home, introduced, nil
}
