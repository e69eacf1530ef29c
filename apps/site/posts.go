package site

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

// relatedMax is the most posts getRelatedPosts returns, whatever is asked for.
const relatedMax = 50

// listedPost is what lists say of a post.
type listedPost struct {
	ID            halcyon.ID[Post] `json:"_id"`
	Created       time.Time        `json:"_creationTime"`
	Slug          string           `json:"slug"`
	Title         string           `json:"title"`
	Description   string           `json:"description"`
	Date          string           `json:"date"`
	Published     bool             `json:"published"`
	Tags          []string         `json:"tags"`
	ReadTime      string           `json:"readTime,omitzero"`
	Image         string           `json:"image,omitzero"`
	Excerpt       string           `json:"excerpt,omitzero"`
	Featured      *bool            `json:"featured"`
	FeaturedOrder *float64         `json:"featuredOrder"`
	AuthorName    string           `json:"authorName,omitzero"`
	AuthorImage   string           `json:"authorImage,omitzero"`
}

func listPost(p Post) listedPost {
	return listedPost{
		ID: p.ID, Created: p.Created, Slug: p.Slug, Title: p.Title, Description: p.Description, Date: p.Date, Published: p.Published,
		Tags: p.Tags, ReadTime: p.ReadTime, Image: p.Image, Excerpt: p.Excerpt, Featured: p.Featured, FeaturedOrder: p.FeaturedOrder,
		AuthorName: p.AuthorName, AuthorImage: p.AuthorImage,
	}
}

// publishedPosts returns the published posts that keep accepts, the newest first;
// those of one day in the order in which they were made.
func publishedPosts(tx *halcyon.Tx, keep func(*Post) bool) ([]Post, error) {
	var posts []Post
	for post, err := range Posts.By("by_published").Eq(true).Each(tx) {
		if err != nil {
			return nil, err
		}
		if keep(&post) {
			posts = append(posts, post)
		}
	}
	slices.SortStableFunc(posts, func(x, y Post) int { return cmp.Compare(y.Date, x.Date) })
	return posts, nil
}

func listed(p *Post) bool { return !p.Unlisted }

// listOf makes the result of a list of what publishedPosts returns.
func listOf[T any](posts []Post, err error, as func(Post) T) ([]T, error) {
	list := make([]T, 0, len(posts))
	for _, post := range posts {
		list = append(list, as(post))
	}
	return list, err
}

// blogPost is a post as the list of all posts has it.
type blogPost struct {
	listedPost
	Layout       string `json:"layout,omitzero"`
	RightSidebar *bool  `json:"rightSidebar"`
	ShowFooter   *bool  `json:"showFooter"`
	BlogFeatured *bool  `json:"blogFeatured"`
}

func getAllPosts(tx *halcyon.Tx) ([]blogPost, error) {
	posts, err := publishedPosts(tx, listed)
	return listOf(posts, err, func(p Post) blogPost {
		return blogPost{listPost(p), p.Layout, p.RightSidebar, p.ShowFooter, p.BlogFeatured}
	})
}

// featuredPost is a post as the front page features it.
type featuredPost struct {
	ID            halcyon.ID[Post] `json:"_id"`
	Slug          string           `json:"slug"`
	Title         string           `json:"title"`
	Excerpt       string           `json:"excerpt,omitzero"`
	Description   string           `json:"description"`
	Image         string           `json:"image,omitzero"`
	FeaturedOrder *float64         `json:"featuredOrder"`
}

func getFeaturedPosts(tx *halcyon.Tx) ([]featuredPost, error) {
	posts, err := publishedPosts(tx, func(p *Post) bool { return listed(p) && set(p.Featured) })
	slices.SortStableFunc(posts, func(x, y Post) int { return compareOrder(x.FeaturedOrder, y.FeaturedOrder) })
	return listOf(posts, err, func(p Post) featuredPost {
		return featuredPost{p.ID, p.Slug, p.Title, p.Excerpt, p.Description, p.Image, p.FeaturedOrder}
	})
}

// heroPost is a post as the head of the blog shows it.
type heroPost struct {
	ID          halcyon.ID[Post] `json:"_id"`
	Slug        string           `json:"slug"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Date        string           `json:"date"`
	Tags        []string         `json:"tags"`
	ReadTime    string           `json:"readTime,omitzero"`
	Image       string           `json:"image,omitzero"`
	Excerpt     string           `json:"excerpt,omitzero"`
	AuthorName  string           `json:"authorName,omitzero"`
	AuthorImage string           `json:"authorImage,omitzero"`
}

func hero(p Post) heroPost {
	return heroPost{p.ID, p.Slug, p.Title, p.Description, p.Date, p.Tags, p.ReadTime, p.Image, p.Excerpt, p.AuthorName, p.AuthorImage}
}

func getBlogFeaturedPosts(tx *halcyon.Tx) ([]heroPost, error) {
	posts, err := publishedPosts(tx, func(p *Post) bool { return listed(p) && set(p.BlogFeatured) })
	return listOf(posts, err, hero)
}

type slugArgs struct {
	Slug string `json:"slug"`
}

// wholePost is a post with its text.
type wholePost struct {
	listedPost
	Content          string `json:"content"`
	ShowImageAtTop   *bool  `json:"showImageAtTop"`
	Layout           string `json:"layout,omitzero"`
	RightSidebar     *bool  `json:"rightSidebar"`
	ShowFooter       *bool  `json:"showFooter"`
	Footer           string `json:"footer,omitzero"`
	ShowSocialFooter *bool  `json:"showSocialFooter"`
	AIChat           *bool  `json:"aiChat"`
	Newsletter       *bool  `json:"newsletter"`
	ContactForm      *bool  `json:"contactForm"`
	DocsSection      *bool  `json:"docsSection"`
	Slides           *bool  `json:"slides"`
}

// findPost returns the published post with that slug, if there is one.
func findPost(tx *halcyon.Tx, slug string) (Post, bool, error) {
	post, ok, err := Posts.By("by_slug").Eq(slug).First(tx)
	return post, ok && post.Published, err
}

// textOf returns the text of a post or a page.
func textOf(tx *halcyon.Tx, origin Origin) (string, error) {
	text, _, err := Texts.Get(tx, origin.Text)
	return text.Markdown, err
}

func getPostBySlug(tx *halcyon.Tx, args slugArgs) (halcyon.Nullable[wholePost], error) {
	none := halcyon.Null[wholePost]()
	p, ok, err := findPost(tx, args.Slug)
	if err != nil || !ok {
		return none, err
	}
	text, err := textOf(tx, p.Origin)
	if err != nil {
		return none, err
	}
	return halcyon.NotNull(wholePost{
		listedPost: listPost(p), Content: text, ShowImageAtTop: p.ShowImageAtTop, Layout: p.Layout, RightSidebar: p.RightSidebar,
		ShowFooter: p.ShowFooter, Footer: p.Footer, ShowSocialFooter: p.ShowSocialFooter, AIChat: p.AIChat, Newsletter: p.Newsletter,
		ContactForm: p.ContactForm, DocsSection: p.DocsSection, Slides: p.Slides,
	}), nil
}

// tagCount is a tag and how many posts have it.
type tagCount struct {
	Tag   string `json:"tag"`
	Count int    `json:"count"`
}

// getAllTags returns the tags of the listed posts, those of most posts first.
func getAllTags(tx *halcyon.Tx) ([]tagCount, error) {
	posts, err := publishedPosts(tx, listed)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, post := range posts {
		for _, tag := range post.Tags {
			counts[tag]++
		}
	}
	tags := make([]tagCount, 0, len(counts))
	for tag, n := range counts {
		tags = append(tags, tagCount{tag, n})
	}
	slices.SortFunc(tags, func(x, y tagCount) int { return cmp.Or(y.Count-x.Count, compareText(x.Tag, y.Tag)) })
	return tags, nil
}

type tagArgs struct {
	Tag string `json:"tag"`
}

func hasTag(p *Post, tag string) bool {
	return slices.ContainsFunc(p.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
}

func getPostsByTag(tx *halcyon.Tx, args tagArgs) ([]listedPost, error) {
	posts, err := publishedPosts(tx, func(p *Post) bool { return listed(p) && hasTag(p, args.Tag) })
	return listOf(posts, err, listPost)
}

type relatedArgs struct {
	CurrentSlug string   `json:"currentSlug"`
	Tags        []string `json:"tags"`
	Limit       *float64 `json:"limit"`
}

// relatedPost is a post that shares tags with another.
type relatedPost struct {
	heroPost
	SharedTags int `json:"sharedTags"`
}

// getRelatedPosts returns posts that share tags, those that share most first.
func getRelatedPosts(tx *halcyon.Tx, args relatedArgs) ([]relatedPost, error) {
	limit := 3
	if args.Limit != nil {
		limit = int(min(max(*args.Limit, 0), relatedMax))
	}
	related := []relatedPost{}
	if len(args.Tags) == 0 || limit == 0 {
		return related, nil
	}
	given := map[string]bool{}
	for _, tag := range args.Tags {
		given[strings.ToLower(tag)] = true
	}
	posts, err := publishedPosts(tx, func(p *Post) bool { return listed(p) && p.Slug != args.CurrentSlug })
	if err != nil {
		return nil, err
	}
	for _, post := range posts {
		shared := 0
		for _, tag := range post.Tags {
			if given[strings.ToLower(tag)] {
				shared++
			}
		}
		if shared > 0 {
			related = append(related, relatedPost{hero(post), shared})
		}
	}
	slices.SortStableFunc(related, func(x, y relatedPost) int { return y.SharedTags - x.SharedTags })
	return related[:min(limit, len(related))], nil
}

// authorCount is an author and how many posts are theirs.
type authorCount struct {
	Name  string `json:"name"`
	Slug  string `json:"slug"`
	Count int    `json:"count"`
}

// authorSlug is how an author stands in an address.
func authorSlug(name string) string {
	var b strings.Builder
	space := false
	for _, r := range strings.ToLower(name) {
		if blank := strings.ContainsRune(" \t\n\r\f\v\u00a0", r); blank {
			if !space {
				b.WriteByte('-')
			}
			space = true
			continue
		}
		space = false
		b.WriteRune(r)
	}
	return b.String()
}

func getAllAuthors(tx *halcyon.Tx) ([]authorCount, error) {
	posts, err := publishedPosts(tx, func(p *Post) bool { return listed(p) && p.AuthorName != "" })
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, post := range posts {
		counts[post.AuthorName]++
	}
	authors := make([]authorCount, 0, len(counts))
	for name, n := range counts {
		authors = append(authors, authorCount{name, authorSlug(name), n})
	}
	slices.SortFunc(authors, func(x, y authorCount) int { return cmp.Or(y.Count-x.Count, compareText(x.Name, y.Name)) })
	return authors, nil
}

type authorArgs struct {
	AuthorSlug string `json:"authorSlug"`
}

func getPostsByAuthor(tx *halcyon.Tx, args authorArgs) ([]listedPost, error) {
	posts, err := publishedPosts(tx, func(p *Post) bool {
		return listed(p) && p.AuthorName != "" && authorSlug(p.AuthorName) == args.AuthorSlug
	})
	return listOf(posts, err, listPost)
}

// docsPost is a post in the side bar of the documentation.
type docsPost struct {
	ID         halcyon.ID[Post] `json:"_id"`
	Slug       string           `json:"slug"`
	Title      string           `json:"title"`
	Group      string           `json:"docsSectionGroup,omitzero"`
	Order      *float64         `json:"docsSectionOrder"`
	GroupOrder *float64         `json:"docsSectionGroupOrder"`
	GroupIcon  string           `json:"docsSectionGroupIcon,omitzero"`
}

func getDocsPosts(tx *halcyon.Tx) ([]docsPost, error) {
	posts, err := publishedPosts(tx, func(p *Post) bool { return listed(p) && set(p.DocsSection) })
	slices.SortStableFunc(posts, func(x, y Post) int {
		return cmp.Or(compareOrder(x.DocsSectionOrder, y.DocsSectionOrder), compareText(x.Title, y.Title))
	})
	return listOf(posts, err, func(p Post) docsPost {
		return docsPost{p.ID, p.Slug, p.Title, p.DocsSectionGroup, p.DocsSectionOrder, p.DocsSectionGroupOrder, p.DocsSectionGroupIcon}
	})
}

// landingPost is the post that opens the documentation.
type landingPost struct {
	ID             halcyon.ID[Post] `json:"_id"`
	Slug           string           `json:"slug"`
	Title          string           `json:"title"`
	Description    string           `json:"description"`
	Content        string           `json:"content"`
	Date           string           `json:"date"`
	Tags           []string         `json:"tags"`
	ReadTime       string           `json:"readTime,omitzero"`
	Image          string           `json:"image,omitzero"`
	ShowImageAtTop *bool            `json:"showImageAtTop"`
	AuthorName     string           `json:"authorName,omitzero"`
	AuthorImage    string           `json:"authorImage,omitzero"`
	Group          string           `json:"docsSectionGroup,omitzero"`
	Order          *float64         `json:"docsSectionOrder"`
	ShowFooter     *bool            `json:"showFooter"`
	Footer         string           `json:"footer,omitzero"`
	AIChat         *bool            `json:"aiChat"`
}

func getDocsLandingPost(tx *halcyon.Tx) (halcyon.Nullable[landingPost], error) {
	none := halcyon.Null[landingPost]()
	posts, err := publishedPosts(tx, func(p *Post) bool { return set(p.DocsSection) && set(p.DocsLanding) })
	if err != nil || len(posts) == 0 {
		return none, err
	}
	p := posts[0]
	text, err := textOf(tx, p.Origin)
	if err != nil {
		return none, err
	}
	return halcyon.NotNull(landingPost{
		ID: p.ID, Slug: p.Slug, Title: p.Title, Description: p.Description, Content: text, Date: p.Date, Tags: p.Tags, ReadTime: p.ReadTime,
		Image: p.Image, ShowImageAtTop: p.ShowImageAtTop, AuthorName: p.AuthorName, AuthorImage: p.AuthorImage,
		Group: p.DocsSectionGroup, Order: p.DocsSectionOrder, ShowFooter: p.ShowFooter, Footer: p.Footer, AIChat: p.AIChat,
	}), nil
}

// orderLast is the place of what names none.
const orderLast = 999

// compareOrder compares places, of which an absent one is orderLast.
func compareOrder(x, y *float64) int {
	last := float64(orderLast)
	if x == nil {
		x = &last
	}
	if y == nil {
		y = &last
	}
	return cmp.Compare(*x, *y)
}

// compareText compares as a person would: without case at first.
func compareText(x, y string) int {
	return cmp.Or(cmp.Compare(strings.ToLower(x), strings.ToLower(y)), cmp.Compare(y, x))
}

// postsModule returns the module "posts".
func (s *Site) postsModule() *halcyon.Module {
	m := halcyon.NewModule("posts")
	m.Query("getAllPosts", getAllPosts)
	m.Query("getFeaturedPosts", getFeaturedPosts)
	m.Query("getBlogFeaturedPosts", getBlogFeaturedPosts)
	m.Query("getPostBySlug", getPostBySlug)
	m.Query("getRelatedPosts", getRelatedPosts)
	m.Query("getPostsByTag", getPostsByTag)
	m.Query("getAllTags", getAllTags)
	m.Query("getAllAuthors", getAllAuthors)
	m.Query("getPostsByAuthor", getPostsByAuthor)
	m.Query("getDocsPosts", getDocsPosts)
	m.Query("getDocsLandingPost", getDocsLandingPost)
	m.Internal.Mutation("syncPostsPublic", syncPostsPublic)
	m.Configure(s.publish("syncPostsPublic"))
	return m
}
