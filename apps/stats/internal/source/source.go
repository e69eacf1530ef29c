package source

import (
	_ "embed"
	"fmt"
	"net/url"
	"strings"
)

// The channels.
const (
	Direct   = "Direct"       // nothing linked here
	Search   = "Search"       //
	Social   = "Social"       //
	AI       = "AI assistant" //
	Email    = "Email"        //
	Video    = "Video"        //
	Paid     = "Paid"         // a medium such as cpc
	Campaign = "Campaign"     // another UTM medium or source
	Referral = "Referral"     // a page of another site
)

// UTM is the parameters of a link that its author gave it.
type UTM struct{ Source, Medium, Campaign string }

//go:embed sources.txt
var tableText string

// table is the channel of each host of sources.txt.
var table = func() map[string]string {
	read, err := parseTable(tableText)
	if err != nil {
		panic("source: sources.txt: " + err.Error()) // the tests read it first
	}
	return read
}()

func parseTable(text string) (map[string]string, error) {
	read := make(map[string]string)
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		channel, hosts, ok := strings.Cut(line, "|")
		channel = strings.TrimSpace(channel)
		switch channel {
		case Search, Social, AI, Email, Video:
		default:
			ok = false
		}
		if !ok {
			return nil, fmt.Errorf("line %d: %q does not begin with a channel", i+1, line)
		}
		for _, host := range strings.Fields(hosts) {
			if read[host] != "" {
				return nil, fmt.Errorf("line %d: %s is listed twice", i+1, host)
			}
			read[host] = channel
		}
	}
	return read, nil
}

// Host returns the host of a web address in the form in which sites are named:
// in lower case, without port and leading www. It is "" for anything else.
func Host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	switch u.Scheme {
	case "http", "https", "android-app":
		return CleanHost(u.Hostname())
	}
	return ""
}

// hostSizeMax is the longest name that DNS knows, in bytes.
const hostSizeMax = 253

// CleanHost returns a host name in the form in which sites are named, or "" when
// it is none.
func CleanHost(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if len(host) > hostSizeMax {
		return ""
	}
	for i := range len(host) {
		c := host[i]
		// Letters of other alphabets come as xn--, or as they are; a colon is in
		// addresses of version 6.
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == ':' || c >= 0x80) {
			return ""
		}
	}
	return strings.TrimPrefix(host, "www.")
}

// Channel returns the channel of a visit that a page of another host led to, ""
// for none.
func Channel(referrer string, utm UTM) string {
	medium := strings.ToLower(utm.Medium)
	switch medium {
	case "cpc", "ppc", "cpm", "cpv", "cpa", "paid", "paidsearch", "paid-search", "paid_search", "paidsocial", "paid-social", "paid_social",
		"display", "banner", "retargeting", "ads", "ad":
		return Paid
	case "email", "e-mail", "e_mail", "mail", "newsletter":
		return Email
	case "social", "social-network", "social-media", "sm", "social_network", "social_media":
		return Social
	case "organic", "search":
		return Search
	case "video":
		return Video
	}
	if channel := known(referrer); channel != "" {
		return channel
	}
	if source := strings.ToLower(utm.Source); source != "" {
		if channel := known(source); channel != "" {
			return channel
		}
		for _, end := range []string{".com", ".org", ".ai"} {
			if channel := known(source + end); channel != "" && !strings.Contains(source, ".") {
				return channel
			}
		}
	}
	switch {
	case utm != UTM{}:
		return Campaign
	case referrer != "":
		return Referral
	}
	return Direct
}

// known returns the channel of the nearest host above in the table. google.*
// stands for Google in every country.
func known(host string) string {
	for {
		if channel := table[host]; channel != "" {
			return channel
		}
		name, rest, ok := strings.Cut(host, ".")
		if !ok {
			return ""
		}
		if channel := table[name+".*"]; channel != "" && strings.Count(rest, ".") <= 1 {
			return channel
		}
		host = rest
	}
}
