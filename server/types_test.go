package server

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

var updateTypes = flag.Bool("server.update", false, "write the generated types that TestGeneratedTypes compares")

// The types of an app that has one of everything.
type (
	room struct {
		ID       halcyon.ID[room] `json:"_id" halcyon:"id"`
		Created  time.Time        `json:"_creationTime" halcyon:"creationTime"`
		Name     string           `json:"name"`
		Messages int64            `json:"messages"`
		Picture  *halcyon.Nullable[[]byte]
		Grid     [][]float64 `json:"grid,omitempty"`
		Odd      map[string]*mood
	}
	mood  string
	text  struct{ Body string }
	image struct {
		URL   string
		Width float64
	}
	content struct {
		halcyon.Union `json:"kind"`
		Text          *text
		Image         *image
	}
	chatMessage struct {
		ID      halcyon.ID[chatMessage] `json:"_id" halcyon:"id"`
		Created time.Time               `json:"_creationTime" halcyon:"creationTime"`
		Room    halcyon.ID[room]        `json:"room"`
		Content content                 `json:"content"`
		Mood    mood                    `json:"mood"`
		At      time.Time               `json:"at"`
		Tags    []string                `json:"tags"`
	}
)

func (mood) Values() []mood { return []mood{"glad", "sad"} }

func chatModule() *halcyon.Module {
	rooms, messages := halcyon.NewTable[room]("rooms"), halcyon.NewTable[chatMessage]("messages").Index("by_room", "room")
	m := halcyon.NewModule("chat", rooms, messages)
	type roomArgs struct {
		Room halcyon.ID[room] `json:"room"`
	}
	m.Query("room", func(tx *halcyon.Tx, args roomArgs) (*room, error) {
		doc, ok, err := rooms.Get(tx, args.Room)
		if !ok {
			return nil, err
		}
		return &doc, err
	})
	m.Query("list", func(tx *halcyon.Tx, args struct {
		Room halcyon.ID[room]    `json:"room"`
		Page halcyon.PageOptions `json:"paginationOpts"`
	}) (halcyon.Page[chatMessage], error) {
		return messages.By("by_room").Eq(args.Room).Page(tx, args.Page)
	})
	m.Mutation("send", func(tx *halcyon.Tx, args struct {
		Room    halcyon.ID[room] `json:"room"`
		Content content          `json:"content"`
		Mood    mood             `json:"mood"`
		At      time.Time        `json:"at,omitzero"`
		Tags    []string         `json:"tags,omitempty"`
	}) (halcyon.ID[chatMessage], error) {
		return messages.Insert(tx, chatMessage{Room: args.Room, Content: args.Content, Mood: args.Mood, At: args.At, Tags: args.Tags})
	})
	m.Action("summarise", func(*halcyon.Ctx) (map[string][]float64, error) { return nil, nil })
	m.Query("anything", func(tx *halcyon.Tx, args map[string]any) (any, error) { return args, nil })
	m.Internal.Mutation("forget", func(*halcyon.Tx) error { return nil })
	return m
}

// TestGeneratedTypes compares the types with those that are committed, and has
// the TypeScript compiler check a program that uses them with the official
// clients.
func TestGeneratedTypes(t *testing.T) {
	app, err := halcyon.NewApp(chatModule())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range app.TypeScript() {
		path := filepath.Join("testdata", "node", "types", "halcyon", name)
		if *updateTypes {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s (-committed +generated), write it with -server.update:\n%s", path, diff)
		}
	}
	dir := nodeClients(t)
	tsc := exec.Command(filepath.Join(dir, "node_modules", ".bin", "tsc"), "-p", filepath.Join(dir, "types"))
	if out, err := tsc.CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
}
