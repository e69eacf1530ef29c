package enginetest

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Crashable is a file system in memory of which a test takes what a crash would
// leave, at any moment, while others write to it.
//
// It is a crashable [vfs.MemFS] whose clones are safe to take at any moment. Link
// and ReuseForWrite of that one lock what CrashClone locks twice, one inside the
// other: a clone that comes between the two waits for the first, and the second
// for the clone, for ever.
type Crashable struct {
	*vfs.MemFS
	cloning sync.RWMutex // held for reading by what locks twice
}

// NewCrashable returns an empty one.
func NewCrashable() *Crashable { return &Crashable{MemFS: vfs.NewCrashableMem()} }

// CrashClone returns what a crash at this moment would leave.
func (c *Crashable) CrashClone(cfg vfs.CrashCloneCfg) *Crashable {
	c.cloning.Lock()
	defer c.cloning.Unlock()
	return &Crashable{MemFS: c.MemFS.CrashClone(cfg)}
}

// Link gives a file a second name.
func (c *Crashable) Link(oldname, newname string) error {
	c.cloning.RLock()
	defer c.cloning.RUnlock()
	return c.MemFS.Link(oldname, newname)
}

// ReuseForWrite renames a file and opens it to be written over.
func (c *Crashable) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	c.cloning.RLock()
	defer c.cloning.RUnlock()
	return c.MemFS.ReuseForWrite(oldname, newname, category)
}
