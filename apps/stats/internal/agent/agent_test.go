package agent

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct{ ua, device, browser, system string }{
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", "desktop", "Chrome", "Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", "desktop", "Edge", "Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0", "desktop", "Firefox", "Windows"},
		{"Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko", "desktop", "Internet Explorer", "Windows"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15", "desktop", "Safari", "macOS"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 OPR/116.0.0.0", "desktop", "Opera", "macOS"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", "desktop", "Chrome", "Linux"},
		{"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", "desktop", "Chrome", "ChromeOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1", "mobile", "Safari", "iOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1", "mobile", "Chrome", "iOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/133.0 Mobile/15E148 Safari/605.1.15", "mobile", "Firefox", "iOS"},
		{"Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1", "tablet", "Safari", "iPadOS"},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36", "mobile", "Chrome", "Android"},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", "tablet", "Chrome", "Android"},
		{"Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36", "mobile", "Samsung Internet", "Android"},
		{"Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0", "mobile", "Firefox", "Android"},
		{"Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15", "console", "Safari", "PlayStation"},
		{"Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/87.0.4280.88 Safari/537.36 WebAppManager", "tv", "Chrome", "webOS"},
		{"Lynx/2.9.0 libwww-FM/2.14", "", "Lynx", ""},
		{"", "", "", ""},
		{"\x00\xff", "", "", ""},
	}
	for _, tt := range tests {
		if got, want := Parse(tt.ua), (Agent{tt.device, tt.browser, tt.system}); got != want {
			t.Errorf("Parse(%q) = %+v, want %+v", tt.ua, got, want)
		}
		if kind, name, ok := Robot(tt.ua); ok {
			t.Errorf("Robot(%q) = %s %s, want a browser", tt.ua, kind, name)
		}
	}
}

func TestRobot(t *testing.T) {
	tests := []struct {
		ua   string
		kind Kind
		name string
	}{
		{"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)", AI, "GPTBot"},
		{"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)", AI, "ClaudeBot"},
		{"CCBot/2.0 (https://commoncrawl.org/faq/)", AI, "CCBot"},
		{"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/131.0.0.0 Safari/537.36", Crawler, "Googlebot"},
		{"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", Crawler, "bingbot"},
		{"facebookexternalhit/1.1", Crawler, "facebookexternalhit"},
		{"Mozilla/5.0 (compatible; NeverHeardOfBot/0.1)", Crawler, "another bot"},
		{"Mozilla/5.0 (compatible; x; +http://example.org/about)", Crawler, "another robot with an address"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36", Headless, "HeadlessChrome"},
		{"curl/8.5.0", Library, "curl"},
		{"python-requests/2.32.3", Library, "python-requests"},
		{"Go-http-client/2.0", Library, "Go-http-client"},
		{strings.Repeat("x", 500) + "Googlebot", Crawler, "Googlebot"},
	}
	for _, tt := range tests {
		if kind, name, ok := Robot(tt.ua); !ok || kind != tt.kind || name != tt.name {
			t.Errorf("Robot(%q) = %s %q %t, want %s %q", tt.ua, kind, name, ok, tt.kind, tt.name)
		}
	}
}

func TestTheTableIsInOrder(t *testing.T) {
	read, err := parseTable(tableText)
	if err != nil {
		t.Fatal(err)
	}
	for kind, rules := range read {
		for i, below := range rules {
			for _, above := range rules[:i] {
				if strings.Contains(below.word, above.word) {
					t.Errorf("%s: %q is never reached, for %q stands above it", kind, below.word, above.word)
				}
			}
		}
	}
	for _, bad := range []string{"bot | x", "bot | | x", "bot | x |", "bot | a | b | c"} {
		if _, err := parseTable(bad); err == nil {
			t.Errorf("the line %q is taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0")
	names := make(map[string]bool)
	for _, rules := range table {
		for _, rule := range rules {
			names[rule.name] = true
		}
	}
	f.Fuzz(func(t *testing.T, ua string) {
		a := Parse(ua)
		_, robot, _ := Robot(ua)
		for _, name := range []string{a.Browser, a.System, a.Device, robot} {
			if name != "" && name != "desktop" && !names[name] {
				t.Errorf("%q: the name %q is none of the table", ua, name)
			}
		}
	})
}
