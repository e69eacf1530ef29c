package main

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
)

// The limits of what people write, in characters.
const (
	nameRunesMax = 40
	bodyRunesMax = 2000
)

// roomsMax is how many rooms are listed.
const roomsMax = 100

// Room is a place to talk in. Its name is that of no other room.
type Room struct {
	ID   halcyon.ID[Room] `halcyon:"id"`
	At   time.Time        `halcyon:"creationTime"`
	Name string           `json:"name"`
}

// Message is what somebody said in a room.
type Message struct {
	ID     halcyon.ID[Message] `halcyon:"id"`
	At     time.Time           `halcyon:"creationTime"`
	Room   halcyon.ID[Room]    `json:"room"`
	Author string              `json:"author"`
	Body   string              `json:"body"`
}

// Rooms and Messages are the tables. The aggregate counts the messages of a
// room, however many there are, without reading them.
var (
	Rooms    = halcyon.NewTable[Room]("rooms").Unique("by_name", "name")
	Messages = halcyon.NewTable[Message]("messages").
			Index("by_room", "room").
			Aggregate("countByRoom", halcyon.GroupBy("room"))
)

// Module is the chat: its tables, its functions and its page.
func Module() *halcyon.Module {
	m := halcyon.NewModule("chat", Rooms, Messages)
	m.Query("rooms", rooms)
	m.Query("messages", messages)
	m.Mutation("openRoom", openRoom)
	m.Mutation("send", send)
	m.Handle("GET /{$}", page())
	m.Handle("GET /assets/", page())
	return m
}

// RoomOnList is a room with the number of its messages.
type RoomOnList struct {
	ID       halcyon.ID[Room] `json:"id"`
	Name     string           `json:"name"`
	Messages int              `json:"messages"`
}

// rooms lists the first hundred rooms by their names.
func rooms(tx *halcyon.Tx) ([]RoomOnList, error) {
	found, err := Rooms.By("by_name").Take(tx, roomsMax)
	if err != nil {
		return nil, err
	}
	list := make([]RoomOnList, len(found))
	for i, room := range found {
		n, err := Messages.Count("countByRoom").Eq(room.ID).Count(tx)
		if err != nil {
			return nil, err
		}
		list[i] = RoomOnList{ID: room.ID, Name: room.Name, Messages: int(n)}
	}
	return list, nil
}

type messagesArgs struct {
	Room halcyon.ID[Room]    `json:"room"`
	Page halcyon.PageOptions `json:"paginationOpts"`
}

// messages has what was said in a room, the newest first, page by page.
func messages(tx *halcyon.Tx, args messagesArgs) (halcyon.Page[Message], error) {
	return Messages.By("by_room").Eq(args.Room).Desc().Page(tx, args.Page)
}

type openRoomArgs struct {
	Name string `json:"name"`
}

// openRoom returns the room of a name, which it makes if there is none.
func openRoom(tx *halcyon.Tx, args openRoomArgs) (halcyon.ID[Room], error) {
	name, err := checked("A room's name", args.Name, nameRunesMax)
	if err != nil {
		return "", err
	}
	room, ok, err := Rooms.By("by_name").Eq(name).First(tx)
	if err != nil || ok {
		return room.ID, err
	}
	return Rooms.Insert(tx, Room{Name: name})
}

type sendArgs struct {
	Room   halcyon.ID[Room] `json:"room"`
	Author string           `json:"author"`
	Body   string           `json:"body"`
}

// send adds a message to a room.
func send(tx *halcyon.Tx, args sendArgs) (halcyon.ID[Message], error) {
	author, err := checked("Your name", args.Author, nameRunesMax)
	if err != nil {
		return "", err
	}
	body, err := checked("A message", args.Body, bodyRunesMax)
	if err != nil {
		return "", err
	}
	if _, ok, err := Rooms.Get(tx, args.Room); err != nil {
		return "", err
	} else if !ok {
		return "", &halcyon.Error{Code: "NoRoom", Message: "This room is gone."}
	}
	return Messages.Insert(tx, Message{Room: args.Room, Author: author, Body: body})
}

// checked returns text without the space around it. The error is for the caller:
// there is no text, or too much.
func checked(what, text string, runesMax int) (string, error) {
	text = strings.TrimSpace(text)
	switch n := utf8.RuneCountInString(text); {
	case n == 0:
		return "", &halcyon.Error{Code: "Empty", Message: what + " has at least one character."}
	case n > runesMax:
		return "", &halcyon.Error{Code: "TooLong", Message: fmt.Sprintf("%s has at most %d characters, this has %d.", what, runesMax, n)}
	}
	return text, nil
}

//go:embed web/dist
var dist embed.FS

// page serves the page and its files.
func page() http.Handler {
	files, err := fs.Sub(dist, "web/dist")
	if err != nil {
		panic(fmt.Sprintf("chat: embedded files: %v", err))
	}
	return http.FileServerFS(files)
}
