package site

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// pictures is the folder whose files are served as they are, and what their
// addresses begin with.
const pictures = "images"

// pictureTypes are the kinds of files that are served from it.
var pictureTypes = map[string]string{
	".avif": "image/avif",
	".gif":  "image/gif",
	".ico":  "image/x-icon",
	".jpeg": "image/jpeg",
	".jpg":  "image/jpeg",
	".mp4":  "video/mp4",
	".pdf":  "application/pdf",
	".png":  "image/png",
	".svg":  "image/svg+xml",
	".webm": "video/webm",
	".webp": "image/webp",
}

// picturePolicy is the Content-Security-Policy of an SVG, which is a document when
// it is opened by itself.
const picturePolicy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

// errNotPicture is for what is in the folder and not served.
var errNotPicture = errors.New("it is not a kind of file that is served")

// openPicture opens the file of that name in the folder of pictures. Links that
// lead out of it are not followed.
func openPicture(dir, name string) (*os.File, fs.FileInfo, error) {
	hidden := func(part string) bool { return strings.HasPrefix(part, ".") }
	if pictureTypes[kindOfPicture(name)] == "" || slices.ContainsFunc(strings.Split(name, "/"), hidden) {
		return nil, nil, errNotPicture
	}
	local, err := filepath.Localize(name)
	if err != nil {
		return nil, nil, fs.ErrNotExist // no file has such a name
	}
	content, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = content.Close() }() // it was only read
	root, err := content.OpenRoot(pictures)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = root.Close() }() // it was only read
	// Opening a named pipe would wait for somebody to write to it.
	info, err := root.Stat(local)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errNotFile
	}
	file, err := root.Open(local)
	if err != nil {
		return nil, nil, err
	}
	// The name may mean another file by now.
	if info, err = file.Stat(); err != nil {
		_ = file.Close() // it was only read
		return nil, nil, err
	}
	return file, info, nil
}

func kindOfPicture(name string) string { return strings.ToLower(path.Ext(name)) }

// picture answers with a file of the folder of pictures, as it is on disk at this
// moment.
func (p *renderer) picture(w http.ResponseWriter, r *http.Request, name string) {
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "This address answers GET only.", http.StatusMethodNotAllowed)
		return
	}
	file, info, err := openPicture(p.site.options.Dir, name)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			p.app.Logger().Warn("picture can't be read", "path", r.URL.Path, "error", err)
		}
		p.document(w, r, "") // is never found
		return
	}
	defer func() { _ = file.Close() }() // it was only read
	kind := pictureTypes[kindOfPicture(name)]
	header.Set("Content-Type", kind)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-cache") // is asked for again, and sent when it has changed
	header.Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
	if kind == pictureTypes[".svg"] {
		header.Set("Content-Security-Policy", picturePolicy)
	}
	http.ServeContent(w, r, "", info.ModTime(), file)
}
