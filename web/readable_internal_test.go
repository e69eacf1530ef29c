package web

import (
	"encoding/json"
	"os"
	"testing"
)

// The page's script reads the same file.
func TestReadable(t *testing.T) {
	text, err := os.ReadFile("testdata/readable.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Path, Readable string }
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if got := readable(c.Path); got != c.Readable {
			t.Errorf("%q: got %q, want %q", c.Path, got, c.Readable)
		}
	}
}
