package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

var chat = newProgram("../examples/chat")

// spoken is what the page of the chat shows a person.
type spoken struct {
	Link     string
	Rooms    []string // "name messages"
	Said     []string // "author: body", the oldest first
	Pending  int      // how many of them have not been confirmed
	Hint     string   // what stands where there is nothing
	Older    bool     // there is a button for more
	Problems []string
}

// readChat gives a spoken.
const readChat = `(() => {
	const texts = (selector, read) => [...document.querySelectorAll(selector)].map(read);
	return {
		Link: document.getElementById("link")?.textContent ?? "",
		Rooms: texts("nav li", (li) => li.querySelector("span").textContent + " " + li.querySelector("small").textContent),
		Said: texts("article", (a) => a.querySelector("b").textContent + ": " + a.querySelector(".body").textContent),
		Pending: document.querySelectorAll("article[data-pending=true]").length,
		Hint: document.querySelector(".nothing")?.textContent ?? "",
		Older: document.getElementById("older") !== null,
		Problems: texts("[role=alert]", (p) => p.textContent),
	};
})()`

// recordChat makes the page remember every list of messages that it shows.
const recordChat = `(() => {
	window.screens = [];
	const note = () => {
		const now = [...document.querySelectorAll("article .body")].map((p) => p.textContent);
		if (JSON.stringify(now) !== JSON.stringify(window.screens.at(-1))) window.screens.push(now);
	};
	new MutationObserver(note).observe(document.getElementById("messages"), {childList: true, characterData: true, subtree: true});
	note();
	return true;
})()`

// awaitChat waits until the page of the chat shows what is wanted.
func (b *browser) awaitChat(want spoken) {
	b.t.Helper()
	poll(b.t, b.name+" shows it", func() (bool, string) {
		diff := cmp.Diff(want, evaluate[spoken](b, readChat))
		return diff == "", "(-want +got)\n" + diff
	})
}

// write types into a field as a person does, and presses the button beside it.
func (b *browser) write(form, field, text string) {
	b.t.Helper()
	act(b, "type "+text, chromedp.SendKeys(chromedp.CSS(form+" "+field), text))
	act(b, "press the button", chromedp.Click(chromedp.CSS(form+" button")))
}

// say says something in the room that is open.
func (b *browser) say(text string) {
	b.t.Helper()
	b.write("#say", "textarea", text)
}

// look takes pictures of the page in both colour schemes.
func (b *browser) look(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		act(b, scheme, func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			return chromedp.Void{}, err
		})
		b.screenshot(name + "-" + scheme)
	}
}

// Two people in two browsers talk to each other, also over a restart of the
// server, and nobody is shown a message twice or sees one vanish.
func TestChatInTwoBrowsers(t *testing.T) {
	t.Parallel()
	chromium(t)
	noteRun(t)
	s := serve(t, chat)
	ada, bob := openBrowser(t, "Ada"), openBrowser(t, "Bob")
	for _, b := range []*browser{ada, bob} {
		b.visit(s.url())
		b.awaitChat(spoken{Link: "Live", Rooms: []string{}, Said: []string{}, Hint: "Pick a room, or open one.", Problems: []string{}})
		act(b, "say who it is", chromedp.SendKeys(chromedp.CSS("#name"), b.name))
	}
	ada.look("no-rooms")

	// A room that one opens is on the list of the other.
	const nothing = "Nothing has been said here. Say something."
	ada.write("#open", "input", "Lobby")
	ada.awaitChat(spoken{Link: "Live", Rooms: []string{"Lobby 0"}, Said: []string{}, Hint: nothing, Problems: []string{}})
	ada.look("empty-room")
	act(bob, "open the room", chromedp.Click(chromedp.CSS("nav li a")))
	bob.awaitChat(spoken{Link: "Live", Rooms: []string{"Lobby 0"}, Said: []string{}, Hint: nothing, Problems: []string{}})
	for _, b := range []*browser{ada, bob} {
		evaluate[bool](b, recordChat)
		evaluate[bool](b, `window.stays = true`)
	}

	ada.say("Hello, Bob!")
	bob.awaitChat(spoken{Link: "Live", Rooms: []string{"Lobby 1"}, Said: []string{"Ada: Hello, Bob!"}, Problems: []string{}})
	bob.say("Hello, <b>Ada</b>!")
	said := []string{"Ada: Hello, Bob!", "Bob: Hello, <b>Ada</b>!"}
	for _, b := range []*browser{ada, bob} {
		b.awaitChat(spoken{Link: "Live", Rooms: []string{"Lobby 2"}, Said: said, Problems: []string{}})
	}
	ada.look("two-messages")

	// The server is away: what Ada says is on her screen, and is sent later, once.
	for _, b := range []*browser{ada, bob} {
		b.expect(`^WebSocket connection to .* failed: .*ERR_CONNECTION_REFUSED|Uncaught ConvexError: {"code":"TooLong"`)
	}
	if status := s.terminate(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	for _, b := range []*browser{ada, bob} {
		b.awaitChat(spoken{Link: "Reconnecting…", Rooms: []string{"Lobby 2"}, Said: said, Problems: []string{}})
	}
	ada.say("Are you there?")
	said = append(said, "Ada: Are you there?")
	ada.awaitChat(spoken{Link: "Reconnecting…", Rooms: []string{"Lobby 2"}, Said: said, Pending: 1, Problems: []string{}})
	ada.look("without-a-server")
	s.launch()
	s.awaitReady()
	for _, b := range []*browser{ada, bob} {
		b.awaitChat(spoken{Link: "Live", Rooms: []string{"Lobby 3"}, Said: said, Problems: []string{}})
	}

	// What the server refuses is gone from the screen again, and the page says why.
	screens := evaluate[[][]string](ada, `window.screens`)
	evaluate[bool](ada, `(() => {
		const field = document.querySelector("#say textarea");
		Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(field, "x".repeat(2001));
		return field.dispatchEvent(new Event("input", {bubbles: true}));
	})()`)
	act(ada, "press the button", chromedp.Click(chromedp.CSS("#say button")))
	ada.awaitChat(spoken{Link: "Live", Rooms: []string{"Lobby 3"}, Said: said, Problems: []string{
		"“" + strings.Repeat("x", 40) + "” was not sent. A message has at most 2000 characters, this has 2001.",
	}})

	for b, screens := range map[*browser][][]string{ada: screens, bob: evaluate[[][]string](bob, `window.screens`)} {
		var before []string
		for _, now := range screens {
			if len(now) != len(before)+1 && len(now) != 0 || !slices.Equal(now[:min(len(before), len(now))], before) {
				t.Errorf("%s was shown %q after %q", b.name, now, before)
			}
			before = now
		}
		if !evaluate[bool](b, `window.stays === true`) {
			t.Errorf("the page of %s was loaded again", b.name)
		}
	}
}

// Older messages come page by page, and what is read stays where it is.
func TestChatShowsOlderMessages(t *testing.T) {
	t.Parallel()
	chromium(t)
	noteRun(t)
	s := serve(t, chat)
	var room string
	if err := s.call("mutation", "chat:openRoom", map[string]any{"name": "A long talk"}, &room); err != nil {
		t.Fatal(err)
	}
	const messages = 70
	var said []string
	send := func() {
		t.Helper()
		body := fmt.Sprintf("This is message %d of a long talk.", len(said)+1)
		if err := s.call("mutation", "chat:send", map[string]any{"room": room, "author": "Ada", "body": body}, new(string)); err != nil {
			t.Fatal(err)
		}
		said = append(said, "Ada: "+body)
	}
	for range messages {
		send()
	}
	b := openBrowser(t, "reader")
	act(b, "a telephone", chromedp.EmulateViewport(390, 780))
	b.visit(s.url() + "/#" + room)
	show := func(n int, older bool) {
		t.Helper()
		b.awaitChat(spoken{Link: "Live", Rooms: []string{fmt.Sprint("A long talk ", len(said))}, Said: said[len(said)-n:], Older: older, Problems: []string{}})
	}
	atEnd := func() (bool, string) {
		n := evaluate[float64](b, `(() => { const m = document.getElementById("messages"); return m.scrollHeight - m.clientHeight - m.scrollTop })()`)
		return n < 2, fmt.Sprintf("%g pixels above the end", n)
	}
	show(30, true)
	poll(t, "the newest message is in view", atEnd)
	send()
	show(31, true)
	poll(t, "the newest message is in view", atEnd)
	b.look("telephone")

	evaluate[bool](b, `(document.getElementById("messages").scrollTop = 0, true)`)
	place := `document.querySelectorAll("article")[document.querySelectorAll("article").length - 31].getBoundingClientRect().top`
	before := evaluate[float64](b, place)
	act(b, "older messages", chromedp.Click(chromedp.CSS("#older")))
	show(61, true)
	if after := evaluate[float64](b, place); after < before-60 || after > before+60 { // the button's own height
		t.Errorf("the message that was read moved from %g to %g", before, after)
	}
	act(b, "older messages", chromedp.Click(chromedp.CSS("#older")))
	show(71, false)
	if wide := evaluate[float64](b, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %g pixels wide on a telephone of 390", wide)
	}
	act(b, "back to the rooms", chromedp.Click(chromedp.CSS(".back")))
	poll(t, "the rooms are in view", func() (bool, string) {
		return evaluate[bool](b, `document.querySelector("nav").getBoundingClientRect().width > 100`), "they are not"
	})
	b.look("telephone-rooms")
}
