package geoip

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Found is what a file says of an address. What it does not say is empty or nil.
type Found struct {
	Country             string // ISO 3166-1 alpha-2, as it is in the file
	CountryName, City   string // in English
	Latitude, Longitude *float64
}

// lookInterval is how often a file is looked at, whether it is another one by now.
const lookInterval = time.Minute

// Files are files in the MaxMind DB format, the one that is asked first first. A file
// that is replaced is taken up within a minute of the next Lookup after that; it has to
// be replaced by renaming, as its tools do, and not written over, since it is mapped into
// memory. Use is safe for any number of goroutines.
type Files struct {
	now   func() time.Time
	wrong func(error)

	mu struct {
		sync.Mutex
		files  []file
		looked time.Time
	}
}

// file is an open file and how it was when it was opened.
type file struct {
	path     string
	reader   *maxminddb.Reader
	size     int64
	modified time.Time
}

// Open opens files. wrong is told, at most once a minute, of one that was replaced and
// cannot be read; the one from before counts until then.
func Open(paths []string, now func() time.Time, wrong func(error)) (*Files, error) {
	f := &Files{now: now, wrong: wrong}
	f.mu.looked = now()
	for _, path := range paths {
		one, err := open(path)
		if err != nil {
			return nil, err
		}
		f.mu.files = append(f.mu.files, one)
	}
	return f, nil
}

// open opens a file, and refuses one that is no MaxMind DB.
func open(path string) (file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return file{}, err
	}
	if !info.Mode().IsRegular() {
		return file{}, &fs.PathError{Op: "open", Path: path, Err: errors.New("it is no file")}
	}
	reader, err := maxminddb.Open(path)
	if err != nil {
		return file{}, &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("it is no MaxMind DB (.mmdb): %w", err)}
	}
	return file{path, reader, info.Size(), info.ModTime()}, nil
}

// Lookup returns what the first file says that knows the country of an address, and false
// when none does.
func (f *Files) Lookup(at netip.Addr) (Found, bool) {
	at = at.Unmap().WithZone("")
	if !at.IsValid() || at.IsPrivate() || at.IsLoopback() || at.IsLinkLocalUnicast() {
		return Found{}, false
	}
	for _, one := range f.current() {
		if found, ok := one.lookup(at); ok {
			return found, true
		}
	}
	return Found{}, false
}

// current returns the files, those that were replaced anew. The readers of those that
// were are closed when nobody uses them any more.
func (f *Files) current() []file {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.mu.looked) >= lookInterval || now.Before(f.mu.looked) {
		f.mu.looked = now
		files := slices.Clone(f.mu.files)
		for i, old := range files {
			info, err := os.Stat(old.path)
			if err == nil && info.Size() == old.size && info.ModTime().Equal(old.modified) {
				continue
			}
			var fresh file
			if err == nil {
				fresh, err = open(old.path)
			}
			if err != nil {
				f.wrong(err)
				continue
			}
			files[i] = fresh
		}
		f.mu.files = files
	}
	return f.mu.files
}

// lookup reads the entry of an address in the two shapes that there are: that of MaxMind
// and DB-IP, with records inside of the record, and the flat one of ip-location-db and
// IPinfo. What has another shape says nothing.
func (f *file) lookup(at netip.Addr) (Found, bool) {
	if at.Is6() && f.reader.Metadata.IPVersion == 4 {
		return Found{}, false
	}
	var entry map[string]any
	if err := f.reader.Lookup(at).Decode(&entry); err != nil || entry == nil {
		return Found{}, false
	}
	found := Found{
		Country:     first(text(entry["country"], "iso_code"), text(entry["country_code"])),
		CountryName: first(text(entry["country"], "names", "en"), text(entry["country_name"])),
		City:        first(text(entry["city"], "names", "en"), text(entry["city"])),
	}
	if flat := text(entry["country"]); found.Country == "" { // IPinfo's standard files
		found.Country = flat
	} else if found.CountryName == "" { // and its free one
		found.CountryName = flat
	}
	if found.Country == "" {
		return Found{}, false
	}
	place := entry
	if location, ok := entry["location"].(map[string]any); ok {
		place = location
	}
	found.Latitude, found.Longitude = degrees(place["latitude"], place["lat"]), degrees(place["longitude"], place["lng"])
	return found, true
}

// text returns a text, or the one at the end of a path of records.
func text(v any, path ...string) string {
	for _, name := range path {
		record, _ := v.(map[string]any)
		v = record[name]
	}
	s, _ := v.(string)
	return s
}

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// degrees returns the first of the values that is a number, or a text of one.
func degrees(values ...any) *float64 {
	for _, v := range values {
		switch v := v.(type) {
		case float64:
			return &v
		case float32:
			return new(float64(v))
		case string:
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				return &n
			}
		}
	}
	return nil
}
