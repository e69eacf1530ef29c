package halcyon_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// The documents of three versions of a program.
type (
	songV1 struct {
		Title  string
		Length string // minutes and seconds, 3:05
		Rating *int
	}
	songV2 struct {
		Title   string
		Seconds int
		Rating  int
	}
	songV3 struct { // fits what songV1 stored
		Title  string
		Length string
		Rating *float64
		Artist *string
	}
)

// songApp opens a program with these documents on a disk. put inserts songs.
func songApp[T any](t *testing.T, fs vfs.FS, more func(m *halcyon.Module, songs *halcyon.Table[T])) (app *halcyon.App, put func(...T), all func() []T) {
	t.Helper()
	songs := halcyon.NewTable[T]("songs")
	m := halcyon.NewModule("music", songs)
	var in, out []T
	m.Internal.Mutation("put", func(tx *halcyon.Tx) error {
		for _, doc := range in {
			if _, err := songs.Insert(tx, doc); err != nil {
				return err
			}
		}
		return nil
	})
	m.Internal.Query("all", func(tx *halcyon.Tx) (err error) {
		out, err = songs.All().Collect(tx)
		return err
	})
	if more != nil {
		more(m, songs)
	}
	app = openApp(t, halcyon.Options{Engine: engine.Options{FS: fs}}, m)
	run := func(name string) {
		t.Helper()
		if err := app.Run(context.Background(), "music:"+name, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	return app, func(docs ...T) { in = docs; run("put") }, func() []T { run("all"); return out }
}

func start(t *testing.T, app *halcyon.App) {
	t.Helper()
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// stop ends a program, so that another one can open its disk.
func stop(t *testing.T, app *halcyon.App) {
	t.Helper()
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
}

func manySongs(n int) (songs []songV1) {
	for i := range n {
		songs = append(songs, songV1{Title: fmt.Sprint("song ", i), Length: fmt.Sprintf("%d:%02d", i/60, i%60)})
	}
	three := 3
	songs[0].Rating = &three
	return songs
}

func seconds(length string) (n int, err error) {
	var m, s int
	_, err = fmt.Sscanf(length, "%d:%d", &m, &s)
	return 60*m + s, err
}

// upgrade is the migration from songV1 to songV2; songs of no length are removed.
func upgrade(_ *halcyon.Tx, old songV1) (songV2, error) {
	n, err := seconds(old.Length)
	if err == nil && n == 0 {
		return songV2{}, halcyon.ErrRemove
	}
	out := songV2{Title: old.Title, Seconds: n}
	if old.Rating != nil {
		out.Rating = *old.Rating
	}
	return out, err
}

func TestDocumentsThatDoNotFit(t *testing.T) {
	fs := vfs.NewMem()
	app, put, _ := songApp[songV1](t, fs, nil)
	put(manySongs(1200)...)
	start(t, app)
	stop(t, app)

	bad, _, _ := songApp[songV2](t, fs, nil)
	err := bad.Start(t.Context())
	misfit, ok := errors.AsType[*halcyon.SchemaError](err)
	if !ok {
		t.Fatalf("a program whose struct does not fit starts with %v", err)
	}
	got := map[string]int64{}
	for _, m := range misfit.Misfits {
		got[m.Path] = m.Count
	}
	if diff := cmp.Diff(map[string]int64{"rating": 1199, "seconds": 1}, got); diff != "" || misfit.Table != "music/songs" || misfit.Documents != 1200 {
		t.Errorf("it says %v; documents by field (-want +got):\n%s", err, diff)
	}
	for _, want := range []string{"halcyon_test.songV2", "field rating: 1199 of 1200 documents, such as ", "omitzero", "halcyon.Migrate"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
	stop(t, bad)

	// With other fields that are optional everything fits.
	good, _, all := songApp[songV3](t, fs, nil)
	start(t, good)
	if n := len(all()); n != 1200 {
		t.Errorf("%d songs", n)
	}
}

func TestMigration(t *testing.T) {
	fs := vfs.NewMem()
	app, put, _ := songApp[songV1](t, fs, nil)
	put(manySongs(250)...)
	start(t, app)
	stop(t, app)

	// A dry run keeps nothing.
	dry, _, _ := songApp(t, fs, func(m *halcyon.Module, songs *halcyon.Table[songV2]) { halcyon.Migrate(m, "seconds", songs, upgrade) })
	var progress []int64
	done, err := dry.Migrate(t.Context(), halcyon.MigrateOptions{DryRun: true, Progress: func(m halcyon.Migrated) { progress = append(progress, m.Seen) }})
	want := []halcyon.Migrated{{Name: "music/seconds", Table: "music/songs", Seen: 250, Changed: 249, Removed: 1, Done: true}}
	if diff := cmp.Diff(want, done); err != nil || diff != "" || !slices.Equal(progress, []int64{100, 200, 250}) {
		t.Errorf("the dry run: %v, progress %v (-want +got):\n%s", err, progress, diff)
	}
	stop(t, dry)

	// One that fails half way goes on where it was.
	seen, broken := 0, errors.New("broken")
	half, _, _ := songApp(t, fs, func(m *halcyon.Module, songs *halcyon.Table[songV2]) {
		halcyon.Migrate(m, "seconds", songs, func(tx *halcyon.Tx, old songV1) (songV2, error) {
			if seen++; seen > 130 {
				return songV2{}, broken
			}
			return upgrade(tx, old)
		})
	})
	if err := half.Start(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "migration music/seconds: document ") {
		t.Fatalf("a migration that fails: %v", err)
	}
	stop(t, half)

	executed := 0
	whole, _, all := songApp(t, fs, func(m *halcyon.Module, songs *halcyon.Table[songV2]) {
		halcyon.Migrate(m, "seconds", songs, func(tx *halcyon.Tx, old songV1) (songV2, error) {
			executed++
			return upgrade(tx, old)
		})
	})
	start(t, whole)
	songs := all()
	sum := 0
	for _, s := range songs {
		sum += s.Seconds
	}
	if executed != 150 || len(songs) != 249 || sum != 249*250/2 {
		t.Errorf("it was executed for %d documents, want 150; there are %d songs of %d seconds", executed, len(songs), sum)
	}
	stop(t, whole)

	// It does not run again.
	again, _, _ := songApp(t, fs, func(m *halcyon.Module, songs *halcyon.Table[songV2]) {
		halcyon.Migrate(m, "seconds", songs, func(*halcyon.Tx, songV1) (songV2, error) { return songV2{}, broken })
	})
	start(t, again)
}

func TestMigrationDeclared(t *testing.T) {
	other := halcyon.NewTable[songV2]("other")
	songs := halcyon.NewTable[songV2]("songs")
	for _, c := range []struct {
		name string
		make func(m *halcyon.Module)
		want string
	}{
		{"a table of nobody", func(m *halcyon.Module) { halcyon.Migrate(m, "x", other, upgrade) }, `has no table "other"`},
		{"twice", func(m *halcyon.Module) {
			halcyon.Migrate(m, "x", songs, upgrade)
			halcyon.Migrate(m, "x", songs, upgrade)
		}, "that of another"},
		{"no name", func(m *halcyon.Module) { halcyon.Migrate(m, "", songs, upgrade) }, "has no name"},
	} {
		m := halcyon.NewModule("music", songs)
		c.make(m)
		if _, err := halcyon.NewApp(m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
