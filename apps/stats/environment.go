package stats

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/source"
)

// The settings that come from the environment of the program.
const (
	envVisible          = "HALCYON_STATS_VISIBLE"
	envKey              = "HALCYON_STATS_KEY"
	envTimeZone         = "HALCYON_STATS_TIME_ZONE"
	envTrustedProxies   = "HALCYON_STATS_TRUSTED_PROXIES"
	envPlaceFiles       = "HALCYON_STATS_PLACE_FILES"
	envSites            = "HALCYON_STATS_SITES"
	envViewWindow       = "HALCYON_STATS_VIEW_WINDOW"
	envBeatWindow       = "HALCYON_STATS_BEAT_WINDOW"
	envVisitorTimeout   = "HALCYON_STATS_VISITOR_TIMEOUT"
	envClientPlace      = "HALCYON_STATS_CLIENT_PLACE"
	envSignals          = "HALCYON_STATS_SIGNALS"
	envLeave            = "HALCYON_STATS_LEAVE"
	envRobots           = "HALCYON_STATS_ROBOTS"
	envViewRetention    = "HALCYON_STATS_VIEW_RETENTION"
	envVisitorRetention = "HALCYON_STATS_VISITOR_RETENTION"
)

var variables = []halcyon.Variable{
	{Name: envVisible, Optional: true, Help: "who may see the statistics: public, key or off"},
	{Name: envKey, Optional: true, Secret: true, Help: "the key that shows the statistics where not everybody may see them"},
	{Name: envTimeZone, Optional: true, Help: "whose days are counted by, such as Europe/Zurich"},
	{Name: envTrustedProxies, Optional: true, Help: "addresses and networks of the proxies in front, with commas between them"},
	{Name: envPlaceFiles, Optional: true, Help: "MaxMind DB files that tell the place of an address, with commas between them, cities first"},
	{Name: envSites, Optional: true, Help: "the host names that are counted, with commas between them; others are not"},
	{Name: envViewWindow, Optional: true, Help: "within what time a repeated view is not counted, such as 30m"},
	{Name: envBeatWindow, Optional: true, Help: "within what time an unchanged heartbeat writes nothing, such as 20s"},
	{Name: envVisitorTimeout, Optional: true, Help: "how long a visitor is active after a heartbeat, such as 2m"},
	{Name: envClientPlace, Optional: true, Help: "a place that a heartbeat claims: believe or ignore"},
	{Name: envSignals, Optional: true, Help: "Do Not Track and Global Privacy Control: honour or ignore"},
	{Name: envLeave, Optional: true, Help: "when a visitor who closes the page is away: timeout or at-once"},
	{Name: envRobots, Optional: true, Help: "what robots send: name them, or count it like anything else"},
	{Name: envViewRetention, Optional: true, Help: "how long views and events are rows, such as 400d, or off"},
	{Name: envVisitorRetention, Optional: true, Help: "how long a visitor without rows is recognised, such as 800d, or off"},
}

// keyBytesMin keeps the key from being guessed: nothing else slows down who tries.
const keyBytesMin = 12

// from returns the options with what the environment says, in the place of what is
// set in the program. The error names the settings that can't be used.
func (o Options) from(settings halcyon.Settings) (Options, error) {
	var wrong []error
	set := func(name string, read func(string) error) {
		if text := settings.Env(name); text != "" {
			if err := read(text); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	set(envVisible, func(text string) error {
		switch v := Visibility(text); v {
		case VisiblePublic, VisibleKey, VisibleOff:
			o.Visibility = v
			return nil
		}
		return fmt.Errorf("%q is none of public, key and off", text)
	})
	if key := settings.Secret(envKey); key != "" {
		o.Key = key
	}
	if n := len(o.Key); n > 0 && n < keyBytesMin {
		wrong = append(wrong, fmt.Errorf("%s: it has %d bytes and needs %d, since anybody may guess; openssl rand -hex 16 makes one", envKey, n, keyBytesMin))
	}
	set(envTimeZone, func(name string) error {
		zone, err := time.LoadLocation(name)
		if err == nil {
			o.TimeZone = zone
		}
		return err
	})
	set(envPlaceFiles, func(list string) error {
		o.PlaceFiles = nil
		for path := range strings.SplitSeq(list, ",") {
			o.PlaceFiles = append(o.PlaceFiles, strings.TrimSpace(path))
		}
		return nil
	})
	set(envSites, func(list string) error {
		o.Sites = strings.Split(list, ",")
		return nil
	})
	set(envViewWindow, parseLength(&o.ViewWindow))
	set(envBeatWindow, parseLength(&o.BeatWindow))
	set(envVisitorTimeout, parseLength(&o.VisitorTimeout))
	set(envClientPlace, parseChoice(&o.IgnoreClientPlace, "believe", "ignore"))
	set(envSignals, parseChoice(&o.IgnoreSignals, "honour", "ignore"))
	set(envLeave, parseChoice(&o.LeaveAtOnce, "timeout", "at-once"))
	set(envRobots, parseChoice(&o.CountRobots, "name", "count"))
	set(envViewRetention, func(text string) (err error) {
		o.ViewRetention, err = parseRetention(text)
		return err
	})
	set(envVisitorRetention, func(text string) (err error) {
		o.VisitorRetention, err = parseRetention(text)
		return err
	})
	set(envTrustedProxies, func(list string) error {
		o.TrustedProxies = nil
		for text := range strings.SplitSeq(list, ",") {
			network, err := parseNetwork(strings.TrimSpace(text))
			if err != nil {
				return err
			}
			o.TrustedProxies = append(o.TrustedProxies, network)
		}
		return nil
	})
	o = o.withDefaults()
	return o, errors.Join(append(wrong, o.check())...)
}

// check brings the names of sites into the form in which they are compared, and returns
// an error for settings that do not go together, or can't be meant.
func (o *Options) check() error {
	var wrong []error
	if o.BeatWindow >= o.VisitorTimeout {
		wrong = append(wrong, fmt.Errorf("%s, Options.BeatWindow: it is %v and has to be shorter than %s, which is %v: visitors would go while they read",
			envBeatWindow, o.BeatWindow, envVisitorTimeout, o.VisitorTimeout))
	}
	switch o.Visibility {
	case "", VisiblePublic, VisibleKey, VisibleOff:
	default:
		wrong = append(wrong, fmt.Errorf("Options.Visibility: %q is none of public, key and off", o.Visibility))
	}
	sites := make([]string, 0, len(o.Sites))
	for _, site := range o.Sites {
		name := source.CleanHost(strings.TrimSpace(site))
		if _, err := netip.ParseAddr(name); name == "" || err != nil && strings.Contains(name, ":") {
			wrong = append(wrong, fmt.Errorf("%s, Options.Sites: %q is no host name such as example.org, without a port", envSites, site))
		}
		sites = append(sites, name)
	}
	o.Sites = sites
	return errors.Join(wrong...)
}

// parseLength returns what reads a time into a setting.
func parseLength(into *time.Duration) func(string) error {
	return func(text string) error {
		length, err := time.ParseDuration(text)
		if err != nil || length < time.Millisecond {
			return fmt.Errorf("%q is no time such as 90s or 30m", text)
		}
		*into = length
		return nil
	}
}

// parseChoice returns what reads one of two words into a setting.
func parseChoice(into *bool, no, yes string) func(string) error {
	return func(text string) error {
		if text != no && text != yes {
			return fmt.Errorf("%q is neither %s nor %s", text, no, yes)
		}
		*into = text == yes
		return nil
	}
}

// daysOfRetentionMax keeps a number of days within a Duration.
const daysOfRetentionMax = 36_500

// parseRetention reads how long something is kept: days as 400d, a duration as of
// time.ParseDuration, or off for ever.
func parseRetention(text string) (time.Duration, error) {
	if text == "off" {
		return -1, nil
	}
	length, err := time.ParseDuration(text)
	if number, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(number)
		if err == nil && n > daysOfRetentionMax {
			err = strconv.ErrRange
		}
		length = time.Duration(n) * dayLength
	}
	if err != nil || length < dayLength {
		return 0, fmt.Errorf("%q is no time of at least a day such as 400d or 36h, nor off", text)
	}
	return length, nil
}

// parseNetwork reads a network, or an address, which is one by itself.
func parseNetwork(text string) (netip.Prefix, error) {
	if network, err := netip.ParsePrefix(text); err == nil {
		return network.Masked(), nil
	}
	at, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
	}
	at = at.Unmap().WithZone("")
	return netip.PrefixFrom(at, at.BitLen()), nil
}
