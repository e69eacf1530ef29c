package enginetest

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is a file system on a disk of which a test says how full it is.
type Disk struct {
	vfs.FS
	total uint64
	free  atomic.Uint64
	asked atomic.Int64
}

// NewDisk returns a disk of that many bytes, all of them free, for the files of
// fs.
func NewDisk(fs vfs.FS, total uint64) *Disk {
	d := &Disk{FS: fs, total: total}
	d.free.Store(total)
	return d
}

// SetFree sets how many bytes are free from now on.
func (d *Disk) SetFree(bytes uint64) { d.free.Store(bytes) }

// Asked returns how often somebody wanted to know.
func (d *Disk) Asked() int64 { return d.asked.Load() }

// GetDiskUsage says what SetFree said.
func (d *Disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.asked.Add(1)
	free := d.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: d.total, UsedBytes: d.total - free}, nil
}
