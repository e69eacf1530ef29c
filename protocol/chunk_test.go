package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestSplitText(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		size       int
		want       []string
	}{
		{"nothing", "", 4, []string{""}},
		{"exactly one part", "abcd", 4, []string{"abcd"}},
		{"one byte more", "abcde", 4, []string{"abcd", "e"}},
		{"two bytes a character", "aééé", 4, []string{"aé", "éé"}},
		{"three bytes a character", "a€€", 4, []string{"a€", "€"}},
		{"no text at all", "\x80\x80\x80\x80\x80\x80", 4, []string{"\x80", "\x80", "\x80\x80\x80\x80"}},
		{"four bytes a character", "a\U0001F600\U0001F600", 4, []string{"a", "\U0001F600", "\U0001F600"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, part := range SplitText([]byte(tc.text), tc.size) {
				got = append(got, string(part))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("SplitText(%q, %d) (-want +got):\n%s", tc.text, tc.size, diff)
			}
		})
	}
}

// chunks cuts a Transition and writes and reads each part.
func chunks(t *testing.T, whole *Transition, size int) []ServerMessage {
	t.Helper()
	parts := SplitText(whole.Append(nil), size)
	messages := make([]ServerMessage, len(parts))
	for i, part := range parts {
		text := (&TransitionChunk{Chunk: string(part), Part: uint32(i), Parts: uint32(len(parts)), TransitionID: "7"}).Append(nil)
		if !json.Valid(text) {
			t.Fatalf("part %d is %q", i, text)
		}
		m, err := DecodeServer(text)
		if err != nil {
			t.Fatalf("part %d, %q: %v", i, text, err)
		}
		messages[i] = m
	}
	return messages
}

func TestAssembler(t *testing.T) {
	whole := &Transition{End: Version{1, 0, 9}, Modifications: []QueryChange{
		{QueryID: 3, Value: json.RawMessage(`{"text":"żółć \u2028 \"\\ ` + strings.Repeat("\U0001F600", 9) + `"}`)},
	}}
	for size := 4; size < 90; size++ {
		var a Assembler
		for i, m := range chunks(t, whole, size) {
			got, err := a.Add(m)
			if err != nil {
				t.Fatalf("size %d, part %d: %v", size, i, err)
			}
			if got == nil {
				continue
			}
			if diff := cmp.Diff(ServerMessage(whole), got); diff != "" {
				t.Fatalf("size %d (-want +got):\n%s", size, diff)
			}
			if ping, err := a.Add(&Ping{}); ping == nil || err != nil {
				t.Fatalf("a Ping afterwards: %v, %v", ping, err)
			}
		}
		if a.next != 0 {
			t.Fatalf("size %d: it is not complete", size)
		}
	}
}

func TestAssemblerRefuses(t *testing.T) {
	parts := chunks(t, &Transition{End: Version{1, 0, 9}}, 40)
	other := func(i int, change func(*TransitionChunk)) ServerMessage {
		c := *parts[i].(*TransitionChunk)
		change(&c)
		return &c
	}
	ping := (&Ping{}).Append(nil)
	for _, tc := range []struct {
		name     string
		messages []ServerMessage
		want     error
	}{
		{"a message between", []ServerMessage{parts[0], &Ping{}}, ErrChunk},
		{"a part is missing", []ServerMessage{parts[0], parts[2]}, ErrChunk},
		{"a part comes twice", []ServerMessage{parts[0], parts[0]}, ErrChunk},
		{"it does not begin at the first", []ServerMessage{parts[1]}, ErrChunk},
		{"another number of parts", []ServerMessage{parts[0], other(1, func(c *TransitionChunk) { c.Parts++ })}, ErrChunk},
		{"another Transition", []ServerMessage{parts[0], other(1, func(c *TransitionChunk) { c.TransitionID = "8" })}, ErrChunk},
		{"no JSON", []ServerMessage{&TransitionChunk{Chunk: "{", Parts: 1}}, ErrSyntax},
		{"no Transition", []ServerMessage{&TransitionChunk{Chunk: string(ping), Parts: 1}}, ErrChunk},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var a Assembler
			var err error
			for _, m := range tc.messages {
				if _, err = a.Add(m); err != nil {
					break
				}
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
	for _, text := range []string{
		`{"type":"TransitionChunk","chunk":"","partNumber":2,"totalParts":2,"transitionId":"x"}`,
		`{"type":"TransitionChunk","chunk":"","partNumber":0,"totalParts":0,"transitionId":"x"}`,
		`{"type":"TransitionChunk","chunk":"","partNumber":0,"totalParts":2}`,
		`{"type":"TransitionChunk","chunk":1,"partNumber":0,"totalParts":2,"transitionId":"x"}`,
	} {
		if m, err := DecodeServer([]byte(text)); !errors.Is(err, ErrSyntax) {
			t.Errorf("DecodeServer(%s) = %v, %v, want ErrSyntax", text, m, err)
		}
	}
}

// FuzzSplitText checks that parts are within their size, whole characters where
// the text is UTF-8, and the text when put together.
func FuzzSplitText(f *testing.F) {
	for _, text := range []string{"", "abcdefgh", "żółć \U0001F600\U0001F600", "\xff\xff\xff\xff\xff\xff", "\x80\x80\x80\x80\x80\x80\x80\x80"} {
		f.Add([]byte(text), 4)
	}
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		size = 4 + max(0, size%100)
		parts := SplitText(text, size)
		if got := bytes.Join(parts, nil); !bytes.Equal(got, text) {
			t.Fatalf("SplitText(%q, %d) is together %q", text, size, got)
		}
		for i, part := range parts {
			if len(part) > size || len(part) == 0 && len(text) > 0 {
				t.Fatalf("SplitText(%q, %d): part %d has %d bytes", text, size, i, len(part))
			}
			if utf8.Valid(text) && !utf8.Valid(part) {
				t.Fatalf("SplitText(%q, %d) cuts through a character: %s", text, size, fmt.Sprintf("%q", parts))
			}
		}
	})
}
