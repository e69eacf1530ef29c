package stats

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/source"
)

// The names of events that are no custom events.
const (
	eventView  = "pageview"
	eventBeat  = "heartbeat"
	eventLeave = "leave"
)

const (
	// eventNameSizeMax is the longest name of an event, in bytes.
	eventNameSizeMax = 64

	// propsMax is the most properties of an event; eventNameSizeMax is the longest
	// name and fieldSizeMax the longest value of one.
	propsMax = 16

	// fieldSizeMax is the longest of the other texts that are kept, in bytes.
	// Longer ones are cut.
	fieldSizeMax = 128
)

// The codes of the errors of an event, beside those of a view.
const (
	CodeEventName  = "EventNameInvalid"
	CodeEventURL   = "EventURLInvalid"
	CodeEventProps = "EventPropsInvalid"
)

// told is an event as the intake hands it to the transaction: read, cleaned, and
// without anything that tells who sent it but the visitor's id.
type told struct {
	Name      string            `json:"name"`
	Path      string            `json:"path"`
	PageType  string            `json:"pageType"`
	SessionID string            `json:"sessionId"` // "" for a visitor who is not to be recognised again
	Props     map[string]string `json:"props,omitempty"`
	Hit
	City      *string  `json:"city"`
	Latitude  *float64 `json:"latitude"`
	Longitude *float64 `json:"longitude"`
}

// tell counts a view or an event that the intake has read.
func (a *app) tell(tx *halcyon.Tx, e told) error {
	if e.Name != eventView {
		return a.countEvent(tx, e)
	}
	view := PageView{Path: e.Path, PageType: e.PageType, SessionID: e.SessionID, Timestamp: tx.Now(), Hit: e.Hit}
	if err := checkPath(view.Path); err != nil {
		return err
	}
	counted, err := a.countView(tx, view)
	if err != nil {
		return err
	}
	if !counted {
		return errRepeated
	}
	return a.rollUpSometimes(tx)
}

// errRepeated says that a view is one of those that count once. It has changed
// nothing.
var errRepeated = &halcyon.Error{Code: "Repeated", Message: "the visitor has a view of this path within the view window"}

// tellBeat applies a beat that the intake has read.
func (a *app) tellBeat(tx *halcyon.Tx, e told) error {
	beat := ActiveSession{
		Site: e.Site, SessionID: e.SessionID, CurrentPath: e.Path, LastSeen: tx.Now(),
		City: e.City, Latitude: e.Latitude, Longitude: e.Longitude,
	}
	if e.Country != "" {
		beat.Country = &e.Country
	}
	return a.applyBeat(tx, beat)
}

// tellLeave takes a visitor who closed the last tab away at once, where that is
// the setting.
func (a *app) tellLeave(tx *halcyon.Tx, e told) error {
	rows, err := ActiveSessions.By("by_sessionId").Eq(e.SessionID, e.Site).Take(tx, 2)
	if err != nil {
		return err
	}
	for _, row := range rows {
		// A beat from another page says that this was not the last tab.
		if row.CurrentPath != e.Path {
			continue
		}
		if err := ActiveSessions.Delete(tx, row.ID); err != nil {
			return err
		}
	}
	return nil
}

// countEvent keeps a custom event.
func (a *app) countEvent(tx *halcyon.Tx, e told) error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	if err := a.knowSite(tx, e.Site, tx.Now()); err != nil {
		return err
	}
	event := Event{Name: e.Name, Path: e.Path, SessionID: e.SessionID, Timestamp: tx.Now(), Props: e.Props, Hit: e.Hit}
	if e.SessionID != "" {
		before, ok, err := Events.By("by_session_name").Eq(e.SessionID, e.Site, e.Name).Desc().First(tx)
		if err != nil {
			return err
		}
		if ok {
			event.Before = before.Timestamp
		}
		before, ok, err = Events.By("by_session_path").Eq(e.SessionID, e.Site, e.Name, e.Path).Desc().First(tx)
		if err != nil {
			return err
		}
		if ok {
			event.BeforeHere = before.Timestamp
		}
	}
	id, err := Events.Insert(tx, event)
	if err != nil {
		return err
	}
	if err := Events.Apply(tx, id, halcyon.CommitTime("stored")); err != nil {
		return err
	}
	return a.rollUpSometimes(tx)
}

// dropped is a request that was not counted.
type dropped struct {
	Site   string `json:"site"`
	Reason string `json:"reason"`
}

// drop counts it. The reasons are those of the program, so that there are not
// more than that many; a site that is not listed is none.
func (a *app) drop(tx *halcyon.Tx, d dropped) error {
	if d.Site != "" {
		_, known, err := Sites.By("by_name").Eq(d.Site).First(tx)
		if err != nil {
			return err
		}
		if !known {
			d.Site = ""
		}
	}
	day := dayOf(tx.Now(), a.TimeZone)
	row, ok, err := Drops.By("by_site").Eq(d.Site, day, d.Reason).First(tx)
	if err != nil {
		return err
	}
	if !ok {
		_, err := Drops.Insert(tx, Drop{Site: d.Site, Day: day, Reason: d.Reason, Count: 1})
		return err
	}
	return Drops.Apply(tx, row.ID, halcyon.Add("count", int64(1)))
}

// message is the body of POST /api/event.
type message struct {
	Name     string         `json:"name"`
	URL      string         `json:"url"`
	Referrer string         `json:"referrer"`
	Domain   string         `json:"domain"`
	Visitor  string         `json:"visitor"`
	PageType string         `json:"pageType"`
	Title    string         `json:"title"`
	Props    map[string]any `json:"props"`
}

// read makes of a message what is kept of it. The title is looked at by nobody
// yet: a page that the site knows has one already.
func (m *message) read() (told, error) {
	var e told
	if m.Name == "" || len(m.Name) > eventNameSizeMax || !utf8.ValidString(m.Name) {
		return e, &halcyon.Error{Code: CodeEventName, Message: fmt.Sprintf("name has 1 to %d bytes", eventNameSizeMax)}
	}
	page, err := url.Parse(m.URL)
	if err != nil || page.Host == "" || page.Scheme != "http" && page.Scheme != "https" {
		return e, &halcyon.Error{Code: CodeEventURL, Message: "url is the http or https address of the page"}
	}
	e.Name, e.SessionID, e.PageType = m.Name, m.Visitor, m.PageType
	e.Site = source.CleanHost(page.Hostname())
	if m.Domain != "" {
		e.Site = hostOf(m.Domain)
	}
	if e.Site == "" {
		return e, &halcyon.Error{Code: CodeEventURL, Message: "the host of url, or domain, is no host name"}
	}
	if e.SessionID != "" {
		if err := checkVisitorID(e.SessionID); err != nil {
			return e, err
		}
	}
	e.Path = cleanPath(page.EscapedPath())
	if e.PageType == "" {
		e.PageType = pageTypeOf(e.Path)
	}
	if len(e.PageType) > pageTypeSizeMax {
		return e, tooLong(CodePageType, "pageType", len(e.PageType), pageTypeSizeMax)
	}
	query := page.Query()
	e.UTMSource = field(firstOf(query, "utm_source", "source", "ref"))
	e.UTMMedium = field(query.Get("utm_medium"))
	e.UTMCampaign = field(query.Get("utm_campaign"))
	// A link inside of the site is no source.
	if from := source.Host(m.Referrer); from != e.Site {
		e.Referrer = from
	}
	if inside := source.Host(m.Referrer) == e.Site; !inside || e.UTMSource+e.UTMMedium+e.UTMCampaign != "" {
		e.Channel = source.Channel(e.Referrer, source.UTM{Source: e.UTMSource, Medium: e.UTMMedium, Campaign: e.UTMCampaign})
	}
	e.Props, err = props(m.Props)
	return e, err
}

// firstOf returns the first parameter that is given.
func firstOf(query url.Values, names ...string) string {
	for _, name := range names {
		if v := query.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// field cuts a text of a client to what is kept: valid, without what reads as an
// e-mail address, and not too long.
func field(text string) string {
	text = strings.ToValidUTF8(text, "")
	if strings.Contains(text, "@") {
		text = emailLike.ReplaceAllLiteralString(text, "[email]")
	}
	if len(text) <= fieldSizeMax {
		return text
	}
	end := fieldSizeMax
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// props brings the properties of an event into their kept form.
func props(given map[string]any) (map[string]string, error) {
	if len(given) > propsMax {
		return nil, &halcyon.Error{Code: CodeEventProps, Message: fmt.Sprintf("props has %d entries, %d are allowed", len(given), propsMax)}
	}
	var kept map[string]string
	for name, v := range given {
		if name == "" || len(name) > eventNameSizeMax || !propName(name) {
			return nil, &halcyon.Error{Code: CodeEventProps, Message: fmt.Sprintf(
				"the names of props have 1 to %d printable ASCII characters and do not begin with $ or _", eventNameSizeMax)}
		}
		var text string
		switch v := v.(type) {
		case nil:
			continue
		case string:
			text = v
		case bool, float64:
			text = fmt.Sprint(v)
		default:
			return nil, &halcyon.Error{Code: CodeEventProps, Message: "the values of props are texts, numbers, true, false or null"}
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[name] = field(text)
	}
	return kept, nil
}

// propName reports whether a name can be one of a record's.
func propName(name string) bool {
	if name[0] == '$' || name[0] == '_' {
		return false
	}
	for i := range len(name) {
		if name[i] < 0x20 || name[i] > 0x7e {
			return false
		}
	}
	return true
}
