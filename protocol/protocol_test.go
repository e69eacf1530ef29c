package protocol

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// transcriptLines calls f for each message of the transcripts in testdata,
// which were taken from the npm client talking to a server.
func transcriptLines(t testing.TB, f func(name, side, text string)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.transcript")
	if err != nil || len(files) != 3 {
		t.Fatalf("transcripts = %q, %v, want 3 files", files, err)
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			side, text, ok := strings.Cut(lines.Text(), " ")
			if ok && side != "#" {
				f(name, side, text)
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTranscripts(t *testing.T) {
	messages := 0
	transcriptLines(t, func(name, side, text string) {
		messages++
		var m interface{ Append([]byte) []byte }
		var err error
		if side == "client" {
			m, err = DecodeClient([]byte(text))
		} else {
			m, err = DecodeServer([]byte(text))
		}
		if err != nil {
			t.Errorf("%s: decode %s: %v", name, text, err)
			return
		}
		var got, want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if side == "client" {
			dropNullJournals(want)
		}
		again := m.Append(nil)
		if err := json.Unmarshal(again, &got); err != nil {
			t.Errorf("%s: Append gave %s: %v", name, again, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s changed on the way (-want +got):\n%s", name, text, diff)
		}
	})
	if messages < 80 {
		t.Errorf("read %d messages, want at least 80", messages)
	}
}

// dropNullJournals removes what a client may send and may as well leave out.
func dropNullJournals(message any) {
	m, _ := message.(map[string]any)
	mods, _ := m["modifications"].([]any)
	for _, mod := range mods {
		if mod := mod.(map[string]any); mod["journal"] == nil {
			delete(mod, "journal")
		}
	}
}

// The versions of the transcripts obey the rule that a server must keep, save
// the one Transition that was sent wrong on purpose.
func TestTranscriptVersions(t *testing.T) {
	var last Version
	var broken []string
	transcriptLines(t, func(_, side, text string) {
		if side == "client" {
			if m, err := DecodeClient([]byte(text)); err == nil {
				if _, ok := m.(*Connect); ok {
					last = Version{}
				}
			}
			return
		}
		m, err := DecodeServer([]byte(text))
		if err != nil {
			return
		}
		tr, ok := m.(*Transition)
		if !ok {
			return
		}
		if tr.Start != last || tr.End.TS < last.TS {
			broken = append(broken, text)
		}
		last = tr.End
	})
	if len(broken) != 1 {
		t.Errorf("%d Transitions break the rule, want 1: %s", len(broken), strings.Join(broken, "\n"))
	}
}

func TestTimestamp(t *testing.T) {
	for _, tc := range []struct {
		ts   Timestamp
		text string
	}{
		{0, "AAAAAAAAAAA="},
		{1010, "8gMAAAAAAAA="},
		{1020, "/AMAAAAAAAA="},
		{1 << 53, "AAAAAAAAIAA="},
		{1<<64 - 1, "//////////8="},
	} {
		if got := tc.ts.String(); got != tc.text {
			t.Errorf("Timestamp(%d).String() = %s, want %s", tc.ts, got, tc.text)
		}
		if got, err := ParseTimestamp(tc.text); got != tc.ts || err != nil {
			t.Errorf("ParseTimestamp(%s) = %d, %v, want %d", tc.text, got, err, tc.ts)
		}
	}
	for _, bad := range []string{
		"", "AAAAAAAAAAA", "AAAAAAAAAAAA", "AAAAAAAAAAB=", "AAAAAAAAAA==", "AAAA\nAAAAAA=", "AAAAAAAAAAA=\n", "AAAAAAAA-_A=",
		strings.Repeat("A", 4096),
	} {
		if got, err := ParseTimestamp(bad); err == nil {
			t.Errorf("ParseTimestamp(%.30q) = %d, want an error", bad, got)
		}
	}
}

func TestDecodeClientRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", ``, "expected"},
		{"no object", `[]`, "expected"},
		{"no type", `{}`, `no field "type"`},
		{"type is no string", `{"type":1}`, "expected"},
		{"unknown type", `{"type":"Hello"}`, "unknown message type"},
		{"text behind", `{"type":"Event","eventType":"x","event":1} x`, "after the end"},
		{"comma at the end", `{"type":"Event",}`, "expected"},
		{"comma at the end of an array", `{"type":"Event","event":[1,]}`, "expected"},
		{"single quotes", `{'type':'Event'}`, "expected"},
		{"bare word", `{"type":"Event","event":nul}`, "expected null"},
		{"leading zero", `{"type":"Event","event":01}`, "expected"},
		{"no digits after the point", `{"type":"Event","event":1.}`, "digits"},
		{"no exponent", `{"type":"Event","event":1e}`, "digits"},
		{"control character", "{\"type\":\"Event\",\"event\":\"\x01\"}", "control character"},
		{"unknown escape", `{"type":"Event","event":"\x"}`, "escape"},
		{"short unicode escape", `{"type":"Event","event":"\u12"}`, "escape"},
		{"string without end", `{"type":"Event","event":"`, "without an end"},
		{"half a surrogate pair in a name", `{"type":"Event","eventType":"\ud800"}`, "surrogate"},
		{"a name that is not UTF-8", "{\"type\":\"Event\",\"eventType\":\"\xff\"}", "UTF-8"},
		{"nested too deep", `{"type":"Event","event":` + deep(nestingMax) + `}`, "nested deeper"},
		{"connect without session", `{"type":"Connect","connectionCount":0}`, `"sessionId"`},
		{"connect without count", `{"type":"Connect","sessionId":"x"}`, `"connectionCount"`},
		{"negative count", `{"type":"Connect","sessionId":"x","connectionCount":-1}`, "unsigned"},
		{"fraction of a count", `{"type":"Connect","sessionId":"x","connectionCount":1.5}`, "unsigned"},
		{"count over 32 bits", `{"type":"Connect","sessionId":"x","connectionCount":4294967296}`, "unsigned"},
		{"bad timestamp", `{"type":"Connect","sessionId":"x","connectionCount":0,"maxObservedTimestamp":"AA"}`, "timestamp"},
		{"infinite clock", `{"type":"Connect","sessionId":"x","connectionCount":0,"clientTs":1e999}`, "out of range"},
		{"query set without base", `{"type":"ModifyQuerySet","newVersion":1,"modifications":[]}`, `"baseVersion"`},
		{"query set without changes", `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1}`, `"modifications"`},
		{"unknown change", `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Put","queryId":1}]}`, "modification type"},
		{"add without path", `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Add","queryId":1,"args":[]}]}`, `"udfPath"`},
		{"remove without id", `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Remove"}]}`, `"queryId"`},
		{"too many changes", `{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[` +
			strings.Repeat(`{"type":"Remove","queryId":1},`, ModificationsMax) + `{"type":"Remove","queryId":1}]}`, "more than 16384"},
		{"path too long", `{"type":"Mutation","requestId":0,"args":[],"udfPath":"` + strings.Repeat("a", PathBytesMax+1) + `"}`, "longer than 1024"},
		{"mutation without id", `{"type":"Mutation","udfPath":"a:b","args":[]}`, `"requestId"`},
		{"action without arguments", `{"type":"Action","requestId":0,"udfPath":"a:b"}`, `"args"`},
		{"unknown token type", `{"type":"Authenticate","baseVersion":0,"tokenType":"Root"}`, "token type"},
		{"token too long", `{"type":"Authenticate","baseVersion":0,"tokenType":"User","value":"` + strings.Repeat("a", TokenBytesMax+1) + `"}`, "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := DecodeClient([]byte(tc.text))
			if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("DecodeClient(%.200s) = %v, %v, want ErrSyntax with %q", tc.text, m, err, tc.want)
			}
		})
	}
}

func TestDecodeClientAtLimits(t *testing.T) {
	for _, text := range []string{
		`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[` +
			strings.Repeat(`{"type":"Remove","queryId":1},`, ModificationsMax-1) + `{"type":"Remove","queryId":1}]}`,
		`{"type":"Mutation","requestId":4294967295,"args":[],"udfPath":"` + strings.Repeat("a", PathBytesMax) + `"}`,
		`{"type":"Event","event":` + strings.Repeat("[", nestingMax-1) + strings.Repeat("]", nestingMax-1) + `}`,
		" {\"event\" : null , \"unknown\":[{}],\n\t\"type\" : \"Event\" }\r\n",
	} {
		if _, err := DecodeClient([]byte(text)); err != nil {
			t.Errorf("DecodeClient(%.60s) = %v", text, err)
		}
	}
}

func TestDecodeConnect(t *testing.T) {
	ts := Timestamp(1010)
	for _, tc := range []struct {
		name, text string
		want       *Connect
	}{
		{"first of the npm client", `{"connectionCount":0,"lastCloseReason":"InitialConnect","clientTs":1795321970961,"type":"Connect","sessionId":"s"}`,
			&Connect{SessionID: "s", LastCloseReason: "InitialConnect", ClientTS: 1795321970961}},
		{"nulls and unknown fields", `{"type":"Connect","sessionId":"s","connectionCount":3,"lastCloseReason":null,"clientTs":null,"maxObservedTimestamp":null,"new":{"a":[1,"\"",true]}}`,
			&Connect{SessionID: "s", ConnectionCount: 3}},
		{"a later one", `{"type":"Connect","sessionId":"s","connectionCount":1,"maxObservedTimestamp":"8gMAAAAAAAA=","clientTs":0}`,
			&Connect{SessionID: "s", ConnectionCount: 1, MaxObserved: &ts}},
	} {
		got, err := DecodeClient([]byte(tc.text))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, text := range []string{
		"", "plain", `"quoted\"`, "\x00\x1f\b\f\n\r\t", "żółć", "\U0001F600 and \u2028", "<script>&", "a\\u0041",
	} {
		quoted := AppendString(nil, text)
		var viaJSON string
		if err := json.Unmarshal(quoted, &viaJSON); err != nil || viaJSON != text {
			t.Errorf("AppendString(%q) = %s, read back as %q, %v", text, quoted, viaJSON, err)
		}
		if got, err := (&scanner{data: quoted}).string(); err != nil || got != text {
			t.Errorf("scanner reads %s as %q, %v", quoted, got, err)
		}
		theirs, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (&scanner{data: theirs}).string(); err != nil || got != text {
			t.Errorf("scanner reads %s as %q, %v", theirs, got, err)
		}
	}
	if got, err := (&scanner{data: []byte(`"\ud83d\ude00\/"`)}).string(); got != "\U0001F600/" || err != nil {
		t.Errorf("scanner reads a surrogate pair as %q, %v", got, err)
	}
	if got, want := string(AppendString(nil, "a\xffb\xc3")), "\"a\ufffdb\ufffd\""; got != want {
		t.Errorf("AppendString of broken UTF-8 = %s, want %s", got, want)
	}
}

func TestTransitionFromParts(t *testing.T) {
	skew, now := int64(-3), int64(1795321970474000000)
	journal := "J0"
	whole := &Transition{
		Start: Version{1, 0, 5}, End: Version{2, 1, 9},
		Modifications: []QueryChange{
			{Kind: QueryUpdated, QueryID: 7, Value: json.RawMessage(`{"a":1}`), LogLines: []string{"[LOG] 'x'"}, Journal: &journal},
			{Kind: QueryFailed, QueryID: 8, ErrorMessage: "boom", ErrorData: json.RawMessage(`null`)},
			{Kind: QueryRemoved, QueryID: 9},
		},
		ClockSkew: &skew, ServerTS: &now,
	}
	updated := AppendQueryUpdated(nil, []byte(`{"a":1}`), []string{"[LOG] 'x'"}, &journal)
	failed := AppendQueryFailed(nil, "boom", []byte(`null`), nil, nil)

	parts := AppendTransitionStart(nil, whole.Start, whole.End)
	parts = append(AppendModificationStart(parts, 7), updated...)
	parts = append(AppendModificationStart(append(parts, ','), 8), failed...)
	parts = AppendQueryRemoved(append(parts, ','), 9)
	parts = AppendTransitionEnd(parts, &skew, &now)
	if got, want := string(parts), string(whole.Append(nil)); got != want {
		t.Errorf("from parts: %s\nwhole:      %s", got, want)
	}
	back, err := DecodeServer(parts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestErrorDataIsAbsentWithoutOne(t *testing.T) {
	for _, m := range []ServerMessage{
		&MutationResponse{ErrorMessage: "x"},
		&ActionResponse{ErrorMessage: "x"},
		&Transition{Modifications: []QueryChange{{Kind: QueryFailed, ErrorMessage: "x"}}},
	} {
		if text := string(m.Append(nil)); strings.Contains(text, "errorData") {
			t.Errorf("%s has errorData: clients would take it for an error of the app", text)
		}
	}
}

func TestHTTPCall(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       HTTPCall
		err        string
	}{
		{"npm client", `{"path":"m:q","format":"convex_encoded_json","args":[{"a":1}]}`,
			HTTPCall{Path: "m:q", Format: FormatEncoded, Args: json.RawMessage(`[{"a":1}]`)}, ""},
		{"by hand", `{"path":"m:q","args":{}}`, HTTPCall{Path: "m:q", Args: json.RawMessage(`{}`)}, ""},
		{"no path", `{"args":{}}`, HTTPCall{}, `missing field "path"`},
		{"no arguments", `{"path":"m:q"}`, HTTPCall{}, `missing field "args"`},
		{"unknown format", `{"path":"m:q","args":{},"format":"xml"}`, HTTPCall{}, "unknown format"},
		{"text behind", `{"path":"m:q","args":{}} 1`, HTTPCall{}, "after the end"},
	} {
		got, err := DecodeHTTPCall([]byte(tc.text))
		if tc.err != "" {
			if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want ErrSyntax with %q", tc.name, err, tc.err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tc.name, err, diff)
		}
	}
	for _, tc := range []struct{ args, want string }{
		{`{"a":1}`, `{"a":1}`}, {`[{"a":1}]`, `{"a":1}`}, {`[]`, `{}`}, {` [ {} ] `, `{}`},
		{`[{},{}]`, ""}, {`[1]`, ""}, {`1`, ""}, {`null`, ""}, {``, ""}, {`[[]]`, ""},
	} {
		got, err := ArgsObject(json.RawMessage(tc.args))
		if (err == nil) != (tc.want != "") || err == nil && string(got) != tc.want {
			t.Errorf("ArgsObject(%s) = %s, %v, want %s", tc.args, got, err, tc.want)
		}
	}
	for _, tc := range []struct{ got, want string }{
		{string(AppendHTTPSuccess(nil, []byte(`1`), nil)), `{"status":"success","value":1}`},
		{string(AppendHTTPSuccess(nil, []byte(`1`), []string{"[LOG] 'hello'"})), `{"status":"success","value":1,"logLines":["[LOG] 'hello'"]}`},
		{string(AppendHTTPFailure(nil, "boom", nil, nil)), `{"status":"error","errorMessage":"boom"}`},
		{string(AppendHTTPFailure(nil, "boom", []byte(`{"code":1}`), []string{"[LOG] 1"})),
			`{"status":"error","errorMessage":"boom","errorData":{"code":1},"logLines":["[LOG] 1"]}`},
		{string(AppendHTTPError(nil, "NotFound", `no "x"`)), `{"code":"NotFound","message":"no \"x\""}`},
	} {
		if tc.got != tc.want {
			t.Errorf("got %s, want %s", tc.got, tc.want)
		}
	}
}
