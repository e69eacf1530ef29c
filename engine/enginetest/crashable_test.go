package enginetest_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// Clones that are taken while files are linked and reused end. Those of a plain
// MemFS do not: with it, this test stands still.
func TestClonesWhileFilesAreReused(t *testing.T) {
	fs := enginetest.NewCrashable()
	create := func(name string) {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	create("reused0")
	create("linked")
	const rounds = 20_000
	ended := make(chan struct{})
	var cloning, writing sync.WaitGroup
	for range 2 {
		cloning.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					fs.CrashClone(vfs.CrashCloneCfg{})
				}
			}
		})
	}
	writing.Go(func() {
		for i := range rounds {
			f, err := fs.ReuseForWrite(fmt.Sprint("reused", i), fmt.Sprint("reused", i+1), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Error(err)
				return
			}
			if err := f.Close(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writing.Go(func() {
		for range rounds {
			if err := fs.Link("linked", "also"); err != nil {
				t.Error(err)
				return
			}
			if err := fs.Remove("also"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writing.Wait()
	close(ended)
	cloning.Wait()
}
