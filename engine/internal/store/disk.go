package store

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ballastName is the file in a store's folder that holds nothing and takes
// room, to be given up when the disk is full.
const ballastName = "BALLAST"

// Disk says how much room the disk of a store has, in bytes.
type Disk struct {
	Free  uint64 // for this user
	Total uint64
}

// Disk asks the file system for its room. ok is false where it cannot tell, as
// one in memory.
func (s *Store) Disk() (d Disk, ok bool, err error) { return diskOf(s.fs, s.dir) }

func diskOf(fs vfs.FS, dir string) (Disk, bool, error) {
	u, err := fs.GetDiskUsage(dir)
	switch {
	case errors.Is(err, vfs.ErrUnsupported):
		return Disk{}, false, nil
	case err != nil:
		return Disk{}, false, fmt.Errorf("ask for the room on the disk of %s: %w", dir, err)
	}
	return Disk{Free: u.AvailBytes, Total: u.TotalBytes}, true, nil
}

// keepBallast sets the ballast of a folder right before its store is opened.
// With less room than the ballast takes, it is given up, so that a store on a
// full disk can be opened: Pebble begins new files at every opening. With ten
// times as much it is put there. bytes 0 is none.
//
// It takes blocks without writing to them, which costs nothing; on a system or
// file system that cannot do so, there is none.
func keepBallast(fs vfs.FS, dir string, bytes int64) (freed bool, err error) {
	name := fs.PathJoin(dir, ballastName)
	_, err = fs.Stat(name)
	there := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	d, known, err := diskOf(fs, dir)
	if err != nil || !known {
		return false, err
	}
	switch room := uint64(max(bytes, 0)); {
	case there && (room == 0 || d.Free < room):
		return true, fs.Remove(name)
	case there || room == 0 || d.Free/10 < room:
		return false, nil
	}
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false, err
	}
	if f.Preallocate(0, bytes) != nil {
		return false, errors.Join(f.Close(), fs.Remove(name))
	}
	return false, errors.Join(f.Sync(), f.Close())
}
