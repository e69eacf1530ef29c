package site

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a folder. Past the first the file is left out and named; past the
// others the folder is refused, since all of it is one transaction.
const (
	fileSizeMax   = 512 << 10 // bytes of one file
	filesMax      = 4000      // files in blog/ and pages/ together
	folderSizeMax = 8 << 20   // bytes of all files together
)

// What can be wrong with a file or with the folder.
var (
	errFileSize       = fmt.Errorf("it is larger than %d KiB", fileSizeMax>>10)
	errNotFile        = errors.New("it is not a regular file")
	errNotText        = errors.New("it is not UTF-8 text")
	errFolderTooLarge = fmt.Errorf("the folder holds more than %d files or %d MiB", filesMax, folderSizeMax>>20)
)

// parts are the folders that are read, and what is in them.
var parts = []struct{ name, kind string }{{"blog", kindPost}, {"pages", kindPage}}

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
	for _, part := range parts {
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
			if other, taken := takenBy[doc.slug()]; err == nil && taken {
				err = fmt.Errorf("%s has the slug %q already", other, doc.slug())
			}
			if err != nil {
				found.problems = append(found.problems, problem{name, err})
				continue
			}
			takenBy[doc.slug()] = name
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
	// Opening a named pipe would wait for somebody to write to it, and reading a
	// device may never end.
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotFile
	}
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
	if !utf8.Valid(body) || bytes.IndexByte(body, 0) >= 0 {
		return nil, errNotText
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	return bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), nil
}

// stamp is what tells that a file may have changed.
type stamp struct {
	name  string
	size  int64
	nanos int64 // of its modification
}

// stampFolder returns the stamps of the folder's Markdown files, and the time of
// the newest in nanoseconds. A missing folder has none. A file that can't be
// looked at has a stamp of its name alone: reading it tells what is wrong.
func stampFolder(dir string) (stamps []stamp, newest int64, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = root.Close() }() // it was only read
	for _, part := range parts {
		names, err := markdownFiles(root, part.name)
		if err != nil {
			return nil, 0, err
		}
		for _, name := range names {
			s := stamp{name: name}
			if info, err := root.Stat(name); err == nil {
				s.size, s.nanos = info.Size(), info.ModTime().UnixNano()
			}
			stamps, newest = append(stamps, s), max(newest, s.nanos)
		}
		if len(stamps) > filesMax {
			return nil, 0, errFolderTooLarge
		}
	}
	return stamps, newest, nil
}

// fileSlug is the slug of a file that names none.
func fileSlug(slug, name string) string {
	return strings.Trim(cmp.Or(slug, strings.TrimSuffix(path.Base(name), ".md")), "/")
}
