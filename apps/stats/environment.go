package stats

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// FromEnvironment returns the options with what the environment says:
//
//	HALCYON_STATS_VISIBLE          public, key or off
//	HALCYON_STATS_KEY              the key, or HALCYON_STATS_KEY_FILE, the file that has it
//	HALCYON_STATS_TIME_ZONE        such as Europe/Zurich
//	HALCYON_STATS_VIEW_RETENTION, HALCYON_STATS_VISITOR_RETENTION
//	                               such as 400d or 36h, or off
//	HALCYON_STATS_TRUSTED_PROXIES  addresses and networks, with commas between them
//
// What cannot be used keeps the App from starting.
func (o Options) FromEnvironment(lookup func(string) (string, bool)) Options {
	var wrong []error
	set := func(name string, read func(string) error) {
		if text, ok := lookup(name); ok && text != "" {
			if err := read(text); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	set("HALCYON_STATS_VISIBLE", func(text string) error {
		switch o.Visibility = Visibility(text); o.Visibility {
		case VisiblePublic, VisibleKey, VisibleOff:
			return nil
		}
		return fmt.Errorf("%q is none of public, key and off", text)
	})
	set("HALCYON_STATS_KEY", func(text string) error { o.Key = text; return nil })
	set("HALCYON_STATS_KEY_FILE", func(name string) error {
		text, err := os.ReadFile(name)
		o.Key = strings.TrimRight(string(text), "\r\n")
		return err
	})
	set("HALCYON_STATS_TIME_ZONE", func(name string) (err error) {
		o.TimeZone, err = time.LoadLocation(name)
		return err
	})
	set("HALCYON_STATS_VIEW_RETENTION", func(text string) (err error) {
		o.ViewRetention, err = parseRetention(text)
		return err
	})
	set("HALCYON_STATS_VISITOR_RETENTION", func(text string) (err error) {
		o.VisitorRetention, err = parseRetention(text)
		return err
	})
	set("HALCYON_STATS_TRUSTED_PROXIES", func(list string) error {
		for text := range strings.SplitSeq(list, ",") {
			network, err := parseNetwork(strings.TrimSpace(text))
			if err != nil {
				return err
			}
			o.TrustedProxies = append(o.TrustedProxies, network)
		}
		return nil
	})
	o.wrong = errors.Join(o.wrong, errors.Join(wrong...))
	return o
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
