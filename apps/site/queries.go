package site

import "github.com/halcyon-db/halcyon"

// frontPostsMax is how many posts the front page lists, newest first.
const frontPostsMax = 100

// frame is what every page of the site shows around its own content.
type frame struct {
	Name string    `json:"name"` // of the site; empty when no page says so
	Nav  []navItem `json:"nav"`
}

type navItem struct {
	Slug  string `json:"slug"`
	Title string `json:"title"`
}

// listedPost is a post as the front page lists it.
type listedPost struct {
	Slug        string   `json:"slug"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Date        string   `json:"date"`
	ReadTime    string   `json:"readTime"`
	Tags        []string `json:"tags"`
}

type frontResult struct {
	frame
	Description string       `json:"description"`
	Markdown    string       `json:"markdown"` // the introduction; may be empty
	Posts       []listedPost `json:"posts"`
	Empty       bool         `json:"empty"` // nothing at all is published
}

// front returns the front page.
func front(tx *halcyon.Tx) (frontResult, error) {
	result := frontResult{Posts: []listedPost{}}
	var home Page
	var introduced bool
	var err error
	if result.frame, home, introduced, err = readFrame(tx); err != nil {
		return frontResult{}, err
	}
	if introduced {
		result.Description = home.Description
		text, _, err := Texts.Get(tx, home.Text)
		if err != nil {
			return frontResult{}, err
		}
		result.Markdown = text.Markdown
	}
	for post, err := range Posts.By("by_published").Eq(true).Desc().Each(tx) {
		if err != nil {
			return frontResult{}, err
		}
		if post.Unlisted {
			continue
		}
		result.Posts = append(result.Posts, listedPost{
			Slug: post.Slug, Title: post.Title, Description: post.Description,
			Date: post.Date, ReadTime: post.ReadTime, Tags: post.Tags,
		})
		if len(result.Posts) == frontPostsMax {
			break
		}
	}
	result.Empty = !introduced && len(result.Posts) == 0 && len(result.Nav) == 0
	return result, nil
}

type documentArgs struct {
	Slug string `json:"slug"`
}

type documentResult struct {
	frame
	Found       bool     `json:"found"`
	Kind        string   `json:"kind"`
	Slug        string   `json:"slug"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Date        string   `json:"date"` // of a post
	ReadTime    string   `json:"readTime"`
	Tags        []string `json:"tags"`
	Markdown    string   `json:"markdown"`
}

// document returns what is published under a slug, a post before a page, and the
// frame around it also when there is nothing.
func document(tx *halcyon.Tx, args documentArgs) (documentResult, error) {
	result := documentResult{Slug: args.Slug, Tags: []string{}}
	var err error
	if result.frame, _, _, err = readFrame(tx); err != nil {
		return documentResult{}, err
	}
	var origin Origin
	post, ok, err := Posts.By("by_slug").Eq(args.Slug).First(tx)
	if err != nil {
		return documentResult{}, err
	}
	if ok && post.Published {
		result.Found, result.Kind, origin = true, kindPost, post.Origin
		result.Title, result.Description = post.Title, post.Description
		result.Date, result.ReadTime, result.Tags = post.Date, post.ReadTime, post.Tags
	} else {
		page, ok, err := Pages.By("by_slug").Eq(args.Slug).First(tx)
		if err != nil || !ok || !page.Published {
			return result, err
		}
		result.Found, result.Kind, origin = true, kindPage, page.Origin
		result.Title, result.Description = page.Title, page.Description
	}
	text, _, err := Texts.Get(tx, origin.Text)
	if err != nil {
		return documentResult{}, err
	}
	result.Markdown = text.Markdown
	return result, nil
}

// readFrame reads the navigation, and the page that introduces the site, if any.
func readFrame(tx *halcyon.Tx) (f frame, home Page, introduced bool, err error) {
	f.Nav = []navItem{}
	for page, err := range Pages.By("by_published").Eq(true).Each(tx) {
		switch {
		case err != nil:
			return frame{}, Page{}, false, err
		case page.Slug == homeSlug:
			home, introduced, f.Name = page, true, page.Title
		case page.ShowInNav:
			f.Nav = append(f.Nav, navItem{Slug: page.Slug, Title: page.Title})
		}
	}
	return f, home, introduced, nil
}
