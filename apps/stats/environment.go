package stats

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

// The settings that come from the environment of the program.
const (
	envVisible          = "HALCYON_STATS_VISIBLE"
	envKey              = "HALCYON_STATS_KEY"
	envTimeZone         = "HALCYON_STATS_TIME_ZONE"
	envTrustedProxies   = "HALCYON_STATS_TRUSTED_PROXIES"
	envViewRetention    = "HALCYON_STATS_VIEW_RETENTION"
	envVisitorRetention = "HALCYON_STATS_VISITOR_RETENTION"
)

var variables = []halcyon.Variable{
	{Name: envVisible, Optional: true, Help: "who may see the statistics: public, key or off"},
	{Name: envKey, Optional: true, Secret: true, Help: "the key that shows the statistics where not everybody may see them"},
	{Name: envTimeZone, Optional: true, Help: "whose days are counted by, such as Europe/Zurich"},
	{Name: envTrustedProxies, Optional: true, Help: "addresses and networks of the proxies in front, with commas between them"},
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
	return o.withDefaults(), errors.Join(wrong...)
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
