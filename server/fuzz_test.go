package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/protocol"
)

// FuzzQueryString sends parameters of a GET. Whatever they are, the answer is JSON with a status that fits it; what is read is what was meant.
func FuzzQueryString(f *testing.F) {
	for _, text := range []string{
		"path=t:echo&args=%7B%22a%22%3A1%7D&format=json", "path=t%3Aecho", "", "path=", "path=t:echo&args=", "path=t:echo&args=%7", "path=t:echo;args=1",
		"args={}&args=[]&path=t:echo&path=t:nothing", "path=t:echo&format=xml", "path=t:echo&args=[{}]", "path=t:fails&format=convex_encoded_json",
		"path=t:send", "path=../t:echo", "path=t:echo&args=%00", "path=t:echo&args=%ff",
	} {
		f.Add(text)
	}
	fixture := newFixture(f)
	s := New(fixture.app, nil)
	f.Cleanup(func() { _ = s.Shutdown(f.Context()) })
	f.Fuzz(func(t *testing.T, parameters string) {
		call, code, message := parseQueryCall(parameters)
		switch {
		case code == "":
			v, _ := url.ParseQuery(parameters)
			format, err := protocol.ParseFormat(v.Get("format"))
			if args := v.Get("args"); err != nil || message != "" || call.Path == "" || call.Path != v.Get("path") || args != "" && string(call.Args) != args || call.Format != format {
				t.Errorf("%q is read as %+v, code %q", parameters, call, code)
			}
		case code != "BadQueryArgs" && code != "BadFormat" || message == "":
			t.Errorf("%q has the error %q: %q", parameters, code, message)
		}
		r := httptest.NewRequest("GET", "/api/query", nil)
		r.URL.RawQuery = parameters
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		var answer struct{ Status, Code string }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%q is answered with %d %q", parameters, w.Code, w.Body)
		}
		ran := answer.Status == "success" || answer.Status == "error"
		if ran != (w.Code == 200) || !ran && (w.Code < 400 || w.Code >= 500 || answer.Code == "") {
			t.Errorf("%q is answered with %d %s", parameters, w.Code, w.Body)
		}
	})
}

// FuzzModuleSocket sends a stream of bytes to the WebSocket of a module that answers with what it is told, compressed or not. Whatever it is, what
// comes back are whole frames, and the connection ends.
func FuzzModuleSocket(f *testing.F) {
	text := func(first byte, payload string) []byte { return appendFrame(nil, first, []byte(payload), 9) }
	f.Add(bytes.Join([][]byte{text(0x81, "hello"), text(0x89, "ping"), text(0x82, "\xff\x00"), text(0x88, "\x03\xe8")}, nil), false)
	f.Add(bytes.Join([][]byte{text(0x01, "in "), text(0x8a, ""), text(0x80, "pieces")}, nil), false)
	f.Add(append(text(0xc1, string(deflated([]byte("hello hello hello")))), text(0x88, "\x0f\xa1why")...), true)
	f.Add(text(0xc2, "\xff\xff\xff"), true)
	f.Add(text(0x81, strings.Repeat("x", 70_000)), false)
	f.Add(append([]byte{}, claim16MiB...), false)
	w := newSocketWorld(f, Options{Compression: true, Workers: 1})
	f.Fuzz(func(t *testing.T, stream []byte, compressed bool) {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(waitMax)); err != nil {
			t.Fatal(err)
		}
		header := ""
		if compressed {
			header = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
		}
		r := handshakeWith(t, c, "/echo", header)
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_, _ = c.Write(stream) // the server may have closed already
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(r)
		_ = c.Close()
		<-wrote
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatalf("the connection did not end")
		}
		if err == nil { // and not a reset, which can cut what has come
			for at := 0; at < len(got); {
				frame, _, ok := parseFrame(got[at:])
				if !ok || got[at+1]&0x80 != 0 || int64(len(got)-at-frame.size) < frame.payload {
					t.Fatalf("what came back is no frame from byte %d on: %.100q", at, got[at:])
				}
				at += frame.size + int(frame.payload)
			}
		}
		w.seen(t) // the handler has ended
	})
}
