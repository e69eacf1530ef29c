package site

import (
	"slices"

	"github.com/halcyon-db/halcyon"
)

type syncArgs struct {
	Documents []source `json:"documents"`
	// Keep names the files that exist but can't be read: what they published
	// before stays.
	Keep []string `json:"keep"`
}

type syncResult struct {
	Created   int `json:"created"`
	Updated   int `json:"updated"`
	Deleted   int `json:"deleted"`
	Unchanged int `json:"unchanged"`
}

// syncFolder makes the tables what the folder is. It writes only what differs.
func syncFolder(tx *halcyon.Tx, args syncArgs) (syncResult, error) {
	var result syncResult
	posts, pages := map[string]bool{}, map[string]bool{}
	for _, doc := range args.Documents {
		var outcome *int
		var err error
		if doc.Kind == kindPost {
			posts[doc.Slug] = true
			outcome, err = syncPost(tx, doc, &result)
		} else {
			pages[doc.Slug] = true
			outcome, err = syncPage(tx, doc, &result)
		}
		if err != nil {
			return syncResult{}, err
		}
		*outcome++
	}
	for post, err := range Posts.All().Each(tx) {
		if err != nil {
			return syncResult{}, err
		}
		if posts[post.Slug] || slices.Contains(args.Keep, post.Source) {
			continue
		}
		if err := Posts.Delete(tx, post.ID); err != nil {
			return syncResult{}, err
		}
		if err := Texts.Delete(tx, post.Text); err != nil {
			return syncResult{}, err
		}
		result.Deleted++
	}
	for page, err := range Pages.All().Each(tx) {
		if err != nil {
			return syncResult{}, err
		}
		if pages[page.Slug] || slices.Contains(args.Keep, page.Source) {
			continue
		}
		if err := Pages.Delete(tx, page.ID); err != nil {
			return syncResult{}, err
		}
		if err := Texts.Delete(tx, page.Text); err != nil {
			return syncResult{}, err
		}
		result.Deleted++
	}
	return result, nil
}

// syncPost brings one post in step and returns the counter of what was done.
func syncPost(tx *halcyon.Tx, doc source, result *syncResult) (*int, error) {
	old, exists, err := Posts.By("by_slug").Eq(doc.Slug).First(tx)
	if err != nil {
		return nil, err
	}
	if exists && old.Hash == doc.Hash && old.Source == doc.Source {
		return &result.Unchanged, nil
	}
	text, err := syncText(tx, old.Text, exists, doc)
	if err != nil {
		return nil, err
	}
	post := Post{
		Slug: doc.Slug, Title: doc.Title, Description: doc.Description, Date: doc.Date,
		Published: doc.Published, Unlisted: doc.Unlisted, Tags: doc.Tags, ReadTime: doc.ReadTime,
		Origin: Origin{Source: doc.Source, Hash: doc.Hash, Text: text},
	}
	if exists {
		return &result.Updated, Posts.Replace(tx, old.ID, post)
	}
	_, err = Posts.Insert(tx, post)
	return &result.Created, err
}

// syncPage is syncPost for a page.
func syncPage(tx *halcyon.Tx, doc source, result *syncResult) (*int, error) {
	old, exists, err := Pages.By("by_slug").Eq(doc.Slug).First(tx)
	if err != nil {
		return nil, err
	}
	if exists && old.Hash == doc.Hash && old.Source == doc.Source {
		return &result.Unchanged, nil
	}
	text, err := syncText(tx, old.Text, exists, doc)
	if err != nil {
		return nil, err
	}
	page := Page{
		Slug: doc.Slug, Title: doc.Title, Description: doc.Description,
		Published: doc.Published, Order: doc.Order, ShowInNav: doc.ShowInNav,
		Origin: Origin{Source: doc.Source, Hash: doc.Hash, Text: text},
	}
	if exists {
		return &result.Updated, Pages.Replace(tx, old.ID, page)
	}
	_, err = Pages.Insert(tx, page)
	return &result.Created, err
}

func syncText(tx *halcyon.Tx, old halcyon.ID[Text], exists bool, doc source) (halcyon.ID[Text], error) {
	text := Text{Markdown: doc.Markdown}
	if exists {
		return old, Texts.Replace(tx, old, text)
	}
	return Texts.Insert(tx, text)
}
