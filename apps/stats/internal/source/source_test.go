package source

import (
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	tests := []struct{ address, want string }{
		{"https://www.Example.org/a?b#c", "example.org"},
		{"http://example.org:8080/", "example.org"},
		{"https://example.org./", "example.org"},
		{"https://user:secret@example.org/", "example.org"},
		{"https://[2001:db8::1]:80/", "2001:db8::1"},
		{"android-app://com.google.android.gm/", "com.google.android.gm"},
		{"https://xn--mnchen-3ya.de/", "xn--mnchen-3ya.de"},
		{"javascript:alert(1)", ""},
		{"about:blank", ""},
		{"file:///etc/passwd", ""},
		{"example.org", ""},
		{"", ""},
		{"https://", ""},
		{"https://exa mple.org/", ""},
		{"https://<b>/", ""},
		{"%zz", ""},
	}
	for _, tt := range tests {
		if got := Host(tt.address); got != tt.want {
			t.Errorf("Host(%q) = %q, want %q", tt.address, got, tt.want)
		}
	}
}

func TestChannel(t *testing.T) {
	tests := []struct {
		referrer string
		utm      UTM
		want     string
	}{
		{"", UTM{}, Direct},
		{"example.org", UTM{}, Referral},
		{"google.com", UTM{}, Search},
		{"google.co.uk", UTM{}, Search},
		{"google.de", UTM{}, Search},
		{"images.google.de", UTM{}, Search},
		{"notgoogle.com", UTM{}, Referral},
		{"google.example.org.evil.com", UTM{}, Referral},
		{"mail.google.com", UTM{}, Email},
		{"gemini.google.com", UTM{}, AI},
		{"chatgpt.com", UTM{}, AI},
		{"claude.ai", UTM{}, AI},
		{"perplexity.ai", UTM{}, AI},
		{"t.co", UTM{}, Social},
		{"news.ycombinator.com", UTM{}, Social},
		{"m.youtube.com", UTM{}, Video},
		{"com.google.android.gm", UTM{}, Email},
		{"google.com", UTM{Medium: "CPC"}, Paid},
		{"", UTM{Source: "june", Medium: "newsletter"}, Email},
		{"", UTM{Source: "chatgpt.com"}, AI},
		{"", UTM{Source: "google"}, Search},
		{"", UTM{Source: "partner"}, Campaign},
		{"", UTM{Campaign: "spring"}, Campaign},
		{"example.org", UTM{Campaign: "spring"}, Campaign},
		{"__proto__", UTM{}, Referral},
	}
	for _, tt := range tests {
		if got := Channel(tt.referrer, tt.utm); got != tt.want {
			t.Errorf("Channel(%q, %+v) = %q, want %q", tt.referrer, tt.utm, got, tt.want)
		}
	}
}

func TestTheTable(t *testing.T) {
	if _, err := parseTable(tableText); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"Nothing | a.com", "Search a.com", "Search | a.com a.com"} {
		if _, err := parseTable(bad); err == nil {
			t.Errorf("the line %q is taken", bad)
		}
	}
}

func FuzzHost(f *testing.F) {
	f.Add("https://www.example.org/")
	f.Fuzz(func(t *testing.T, address string) {
		if host := Host(address); len(host) > hostSizeMax || strings.ContainsAny(host, " /<>\"'&?#@%ABCDEFGHIJKLMNOPQRSTUVWXYZ\n\x00") {
			t.Errorf("the host %q of %q is not clean", host, address)
		}
	})
}
