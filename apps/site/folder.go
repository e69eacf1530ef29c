package site

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"go.abhg.dev/goldmark/frontmatter"
)

// Limits of a folder. Past the first two the file is left out and named; past the
// others the folder is refused, since all of it is one transaction.
const (
	fileSizeMax   = 512 << 10 // bytes of one file
	slugSizeMax   = 200       // bytes of one slug
	filesMax      = 4000      // files in blog/ and pages/ together
	folderSizeMax = 8 << 20   // bytes of all files together
)

// wordsPerMinute is how fast a reader is taken to read.
const wordsPerMinute = 200

// readVersion is part of every hash: raise it when the same file is to give
// another row, so that a new version of the program writes all rows anew.
const readVersion = "1"

// What can be wrong with a file or with the folder.
var (
	errNoFrontMatter  = errors.New("it does not begin with front matter: a line of ---, then title: and the like, then a line of ---")
	errNoTitle        = errors.New("the front matter has no title")
	errNoDate         = errors.New("the front matter of a post needs a date, such as 2026-11-20")
	errSlug           = errors.New("a slug is made of letters, digits and - _ . ~ and begins with a letter or a digit")
	errReserved       = errors.New("the server answers this address itself; choose another slug")
	errFileSize       = fmt.Errorf("it is larger than %d KiB", fileSizeMax>>10)
	errNotText        = errors.New("it is not UTF-8 text")
	errFolderTooLarge = fmt.Errorf("the folder holds more than %d files or %d MiB", filesMax, folderSizeMax>>20)
)

var slugPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.~-]*$`)

// reservedSlugs are the first parts of addresses that never reach the site.
var reservedSlugs = []string{"api", "assets", "http", "metrics", "stats", "track.js", "yjs"}

// source is one file as the sync takes it: a post or a page with its text.
type source struct {
	Kind        string   `json:"kind"` // kindPost or kindPage
	Source      string   `json:"source"`
	Hash        string   `json:"hash"`
	Markdown    string   `json:"markdown"`
	Slug        string   `json:"slug"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Date        string   `json:"date"`
	Published   bool     `json:"published"`
	Unlisted    bool     `json:"unlisted"`
	Tags        []string `json:"tags"`
	ReadTime    string   `json:"readTime"`
	Order       float64  `json:"order"`
	ShowInNav   bool     `json:"showInNav"`
}

// problem is a file that is left out, and why.
type problem struct {
	file string
	err  error
}

// folder is what was found.
type folder struct {
	documents []source  // by kind, then by file name
	problems  []problem // in the order they were found
}

// args are the arguments of the sync.
func (f folder) args() syncArgs {
	args := syncArgs{Documents: f.documents, Keep: []string{}}
	for _, p := range f.problems {
		args.Keep = append(args.Keep, p.file)
	}
	return args
}

// frontMatter is what a file says about itself. Pointers tell unset from false.
type frontMatter struct {
	Title       string   `yaml:"title" toml:"title"`
	Slug        string   `yaml:"slug" toml:"slug"`
	Date        any      `yaml:"date" toml:"date"`
	Description string   `yaml:"description" toml:"description"`
	Published   *bool    `yaml:"published" toml:"published"`
	Unlisted    bool     `yaml:"unlisted" toml:"unlisted"`
	Tags        []string `yaml:"tags" toml:"tags"`
	ReadTime    string   `yaml:"readTime" toml:"readTime"`
	Order       float64  `yaml:"order" toml:"order"`
	ShowInNav   *bool    `yaml:"showInNav" toml:"showInNav"`
}

// readFolder reads dir. The error is fs.ErrNotExist when there is no such folder;
// one without blog/ or pages/ is merely empty of these. Links that lead out of the
// folder are not followed.
func readFolder(dir string) (folder, error) {
	var found folder
	root, err := os.OpenRoot(dir)
	if err != nil {
		return found, err
	}
	defer func() { _ = root.Close() }() // it was only read
	var files, size int
	takenBy := map[string]string{}
	for _, part := range []struct{ name, kind string }{{"blog", kindPost}, {"pages", kindPage}} {
		names, err := markdownFiles(root, part.name)
		if err != nil {
			return folder{}, err
		}
		for _, name := range names {
			body, err := readFile(root, name)
			if files, size = files+1, size+len(body); files > filesMax || size > folderSizeMax {
				return folder{}, errFolderTooLarge
			}
			var doc source
			if err == nil {
				doc, err = readDocument(part.kind, name, body)
			}
			if other, taken := takenBy[doc.Slug]; err == nil && taken {
				err = fmt.Errorf("%s has the slug %q already", other, doc.Slug)
			}
			if err != nil {
				found.problems = append(found.problems, problem{name, err})
				continue
			}
			takenBy[doc.Slug] = name
			found.documents = append(found.documents, doc)
		}
	}
	return found, nil
}

// markdownFiles returns the names of a folder's Markdown files, sorted.
func markdownFiles(root *os.Root, dir string) ([]string, error) {
	entries, err := fs.ReadDir(root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".md") && !strings.HasPrefix(entry.Name(), ".") {
			names = append(names, path.Join(dir, entry.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

// readFile returns the text of a file with unix line ends.
func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	body, err := io.ReadAll(io.LimitReader(f, fileSizeMax+1))
	if err != nil {
		return nil, err
	}
	if len(body) > fileSizeMax {
		return nil, errFileSize
	}
	if !utf8.Valid(body) {
		return nil, errNotText
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	return bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), nil
}

// readDocument makes a post or a page of a file.
func readDocument(kind, name string, body []byte) (source, error) {
	ctx := parser.NewContext()
	markdown.Parser().Parse(text.NewReader(body), parser.WithContext(ctx))
	data := frontmatter.Get(ctx)
	if data == nil {
		return source{}, errNoFrontMatter
	}
	var front frontMatter
	if err := data.Decode(&front); err != nil {
		return source{}, fmt.Errorf("front matter: %w", err)
	}
	sum := sha256.Sum256(append([]byte(readVersion+"\x00"), body...))
	doc := source{
		Kind:        kind,
		Source:      name,
		Hash:        hex.EncodeToString(sum[:16]),
		Markdown:    string(body),
		Slug:        strings.Trim(cmp.Or(front.Slug, strings.TrimSuffix(path.Base(name), ".md")), "/"),
		Title:       strings.TrimSpace(front.Title),
		Description: strings.TrimSpace(front.Description),
		Published:   front.Published == nil || *front.Published,
		Tags:        []string{},
	}
	if doc.Title == "" {
		return source{}, errNoTitle
	}
	if err := checkSlug(doc.Slug); err != nil {
		return source{}, err
	}
	if kind == kindPage {
		doc.Order = front.Order
		doc.ShowInNav = front.ShowInNav == nil || *front.ShowInNav
		return doc, nil
	}
	var err error
	if doc.Date, err = day(front.Date); err != nil {
		return source{}, err
	}
	doc.Unlisted = front.Unlisted
	doc.Tags = append(doc.Tags, front.Tags...)
	if doc.ReadTime = front.ReadTime; doc.ReadTime == "" {
		minutes := max(1, (len(bytes.Fields(body))+wordsPerMinute/2)/wordsPerMinute)
		doc.ReadTime = fmt.Sprintf("%d min read", minutes)
	}
	return doc, nil
}

func checkSlug(slug string) error {
	if len(slug) > slugSizeMax || !slugPattern.MatchString(slug) {
		return fmt.Errorf("slug %q: %w", slug[:min(len(slug), slugSizeMax)], errSlug)
	}
	if slices.Contains(reservedSlugs, slug) {
		return fmt.Errorf("slug %q: %w", slug, errReserved)
	}
	return nil
}

// day reads the date of a post, which YAML and TOML give as a time or as text.
func day(date any) (string, error) {
	switch date := date.(type) {
	case time.Time:
		return date.Format(time.DateOnly), nil
	case string:
		if len(date) > len(time.DateOnly) && strings.ContainsRune("T ", rune(date[len(time.DateOnly)])) {
			date = date[:len(time.DateOnly)]
		}
		if _, err := time.Parse(time.DateOnly, date); err == nil {
			return date, nil
		}
	}
	return "", errNoDate
}
