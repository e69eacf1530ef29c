package site

import (
	"cmp"
	"slices"

	"github.com/halcyon-db/halcyon"
)

// publishedPages returns the published pages that keep accepts, by their order,
// then by their titles.
func publishedPages(tx *halcyon.Tx, keep func(*Page) bool) ([]Page, error) {
	var pages []Page
	for page, err := range Pages.By("by_published").Eq(true).Each(tx) {
		if err != nil {
			return nil, err
		}
		if keep(&page) {
			pages = append(pages, page)
		}
	}
	slices.SortStableFunc(pages, func(x, y Page) int {
		return cmp.Or(compareOrder(x.Order, y.Order), compareText(x.Title, y.Title))
	})
	return pages, nil
}

// pagesAs makes the result of a list of what publishedPages returns.
func pagesAs[T any](pages []Page, err error, as func(Page) T) ([]T, error) {
	list := make([]T, 0, len(pages))
	for _, page := range pages {
		list = append(list, as(page))
	}
	return list, err
}

// listedPage is what lists say of a page.
type listedPage struct {
	ID            halcyon.ID[Page] `json:"_id"`
	Slug          string           `json:"slug"`
	Title         string           `json:"title"`
	Published     bool             `json:"published"`
	Order         *float64         `json:"order"`
	ShowInNav     *bool            `json:"showInNav"`
	Excerpt       string           `json:"excerpt,omitzero"`
	Image         string           `json:"image,omitzero"`
	Featured      *bool            `json:"featured"`
	FeaturedOrder *float64         `json:"featuredOrder"`
	AuthorName    string           `json:"authorName,omitzero"`
	AuthorImage   string           `json:"authorImage,omitzero"`
	Layout        string           `json:"layout,omitzero"`
	RightSidebar  *bool            `json:"rightSidebar"`
	ShowFooter    *bool            `json:"showFooter"`
}

func listPage(p Page) listedPage {
	return listedPage{
		ID: p.ID, Slug: p.Slug, Title: p.Title, Published: p.Published, Order: p.Order, ShowInNav: p.ShowInNav, Excerpt: p.Excerpt,
		Image: p.Image, Featured: p.Featured, FeaturedOrder: p.FeaturedOrder, AuthorName: p.AuthorName, AuthorImage: p.AuthorImage,
		Layout: p.Layout, RightSidebar: p.RightSidebar, ShowFooter: p.ShowFooter,
	}
}

// getAllPages returns the pages of the navigation.
func getAllPages(tx *halcyon.Tx) ([]listedPage, error) {
	pages, err := publishedPages(tx, func(p *Page) bool { return p.inNav() })
	return pagesAs(pages, err, listPage)
}

// featuredPage is a page as the front page features it.
type featuredPage struct {
	ID            halcyon.ID[Page] `json:"_id"`
	Slug          string           `json:"slug"`
	Title         string           `json:"title"`
	Excerpt       string           `json:"excerpt,omitzero"`
	Image         string           `json:"image,omitzero"`
	FeaturedOrder *float64         `json:"featuredOrder"`
}

func getFeaturedPages(tx *halcyon.Tx) ([]featuredPage, error) {
	pages, err := publishedPages(tx, func(p *Page) bool { return set(p.Featured) })
	slices.SortStableFunc(pages, func(x, y Page) int { return compareOrder(x.FeaturedOrder, y.FeaturedOrder) })
	return pagesAs(pages, err, func(p Page) featuredPage {
		return featuredPage{p.ID, p.Slug, p.Title, p.Excerpt, p.Image, p.FeaturedOrder}
	})
}

// wholePage is a page with its text.
type wholePage struct {
	listedPage
	Content          string `json:"content"`
	ShowImageAtTop   *bool  `json:"showImageAtTop"`
	Footer           string `json:"footer,omitzero"`
	ShowSocialFooter *bool  `json:"showSocialFooter"`
	AIChat           *bool  `json:"aiChat"`
	ContactForm      *bool  `json:"contactForm"`
	Newsletter       *bool  `json:"newsletter"`
	TextAlign        string `json:"textAlign,omitzero"`
	DocsSection      *bool  `json:"docsSection"`
	Slides           *bool  `json:"slides"`
}

// findPage returns the published page with that slug, if there is one.
func findPage(tx *halcyon.Tx, slug string) (Page, bool, error) {
	page, ok, err := Pages.By("by_slug").Eq(slug).First(tx)
	return page, ok && page.Published, err
}

func getPageBySlug(tx *halcyon.Tx, args slugArgs) (halcyon.Nullable[wholePage], error) {
	none := halcyon.Null[wholePage]()
	p, ok, err := findPage(tx, args.Slug)
	if err != nil || !ok {
		return none, err
	}
	text, err := textOf(tx, p.Origin)
	if err != nil {
		return none, err
	}
	return halcyon.NotNull(wholePage{
		listedPage: listPage(p), Content: text, ShowImageAtTop: p.ShowImageAtTop, Footer: p.Footer, ShowSocialFooter: p.ShowSocialFooter,
		AIChat: p.AIChat, ContactForm: p.ContactForm, Newsletter: p.Newsletter, TextAlign: p.TextAlign, DocsSection: p.DocsSection, Slides: p.Slides,
	}), nil
}

// docsPage is a page in the side bar of the documentation.
type docsPage struct {
	ID         halcyon.ID[Page] `json:"_id"`
	Slug       string           `json:"slug"`
	Title      string           `json:"title"`
	Group      string           `json:"docsSectionGroup,omitzero"`
	Order      *float64         `json:"docsSectionOrder"`
	GroupOrder *float64         `json:"docsSectionGroupOrder"`
	GroupIcon  string           `json:"docsSectionGroupIcon,omitzero"`
}

func getDocsPages(tx *halcyon.Tx) ([]docsPage, error) {
	pages, err := publishedPages(tx, func(p *Page) bool { return set(p.DocsSection) })
	slices.SortStableFunc(pages, func(x, y Page) int {
		return cmp.Or(compareOrder(x.DocsSectionOrder, y.DocsSectionOrder), compareText(x.Title, y.Title))
	})
	return pagesAs(pages, err, func(p Page) docsPage {
		return docsPage{p.ID, p.Slug, p.Title, p.DocsSectionGroup, p.DocsSectionOrder, p.DocsSectionGroupOrder, p.DocsSectionGroupIcon}
	})
}

// landingPage is the page that opens the documentation.
type landingPage struct {
	ID             halcyon.ID[Page] `json:"_id"`
	Slug           string           `json:"slug"`
	Title          string           `json:"title"`
	Content        string           `json:"content"`
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

func getDocsLandingPage(tx *halcyon.Tx) (halcyon.Nullable[landingPage], error) {
	none := halcyon.Null[landingPage]()
	pages, err := publishedPages(tx, func(p *Page) bool { return set(p.DocsSection) && set(p.DocsLanding) })
	if err != nil || len(pages) == 0 {
		return none, err
	}
	p := pages[0]
	text, err := textOf(tx, p.Origin)
	if err != nil {
		return none, err
	}
	return halcyon.NotNull(landingPage{
		ID: p.ID, Slug: p.Slug, Title: p.Title, Content: text, Image: p.Image, ShowImageAtTop: p.ShowImageAtTop, AuthorName: p.AuthorName,
		AuthorImage: p.AuthorImage, Group: p.DocsSectionGroup, Order: p.DocsSectionOrder, ShowFooter: p.ShowFooter, Footer: p.Footer, AIChat: p.AIChat,
	}), nil
}

// pagesModule returns the module "pages".
func (s *Site) pagesModule() *halcyon.Module {
	m := halcyon.NewModule("pages")
	m.Query("getAllPages", getAllPages)
	m.Query("getFeaturedPages", getFeaturedPages)
	m.Query("getPageBySlug", getPageBySlug)
	m.Query("getDocsPages", getDocsPages)
	m.Query("getDocsLandingPage", getDocsLandingPage)
	m.Internal.Mutation("syncPagesPublic", syncPagesPublic)
	m.Configure(s.publish("syncPagesPublic"))
	return m
}
