package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"math/bits"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The privacy claim is that addresses are used in memory and never written. These
// tests let addresses that nobody else has into every place where one comes in, and
// then look for them in all that the programs leave behind.

// canary is an address that is looked for.
type canary struct {
	what string
	at   netip.Addr
}

// forms returns everything that an address, or the network that it is in, could look
// like, by a name for each.
func (c canary) forms() map[string][]byte {
	raw := c.at.AsSlice()
	forms := map[string][]byte{"bytes": raw}
	text := map[string]string{"ASCII": c.at.String(), "ASCII, expanded": c.at.StringExpanded()}
	if c.at.Is4() {
		mapped := netip.AddrFrom16(c.at.As16())
		text["ASCII, in IPv6"] = mapped.String()
		text["ASCII of the /24"] = c.at.String()[:strings.LastIndexByte(c.at.String(), '.')+1]
		forms["bytes in IPv6"] = mapped.AsSlice()
	} else {
		forms["bytes of the /64"] = raw[:8]
		forms["bytes of the /48"] = raw[:6]
		text["ASCII of the /48"] = strings.Join(strings.Split(c.at.StringExpanded(), ":")[:3], ":")
	}
	for name, s := range text {
		forms[name] = []byte(s)
	}
	for name, form := range map[string][]byte{"bytes": raw, "text": []byte(c.at.String()), "expanded text": []byte(c.at.StringExpanded())} {
		sum := sha256.Sum256(form)
		forms["SHA-256 of the "+name] = sum[:]
		forms["hex of the SHA-256 of the "+name] = []byte(hex.EncodeToString(sum[:]))
		forms["base64 of the SHA-256 of the "+name] = []byte(base64.RawStdEncoding.EncodeToString(sum[:])[:40])
		h := xxhash64(form)
		forms["xxhash of the "+name] = binary.BigEndian.AppendUint64(nil, h)
		forms["xxhash of the "+name+", little endian"] = binary.LittleEndian.AppendUint64(nil, h)
		forms["hex of the xxhash of the "+name] = fmt.Appendf(nil, "%016x", h)
		forms["decimal of the xxhash of the "+name] = fmt.Append(nil, h)
		forms["hex of the "+name] = []byte(hex.EncodeToString(form))
		forms["base64 of the "+name] = []byte(base64.RawStdEncoding.EncodeToString(form))
		forms["base64 for URLs of the "+name] = []byte(base64.RawURLEncoding.EncodeToString(form))
	}
	for name, form := range forms {
		if upper := bytes.ToUpper(form); strings.HasPrefix(name, "hex") && !bytes.Equal(upper, form) {
			forms[name+", upper case"] = upper
		}
	}
	return forms
}

// formsOf is forms, made once.
var formsOf = sync.OnceValue(func() map[canary]map[string][]byte {
	forms := make(map[canary]map[string][]byte)
	for _, c := range canaries {
		forms[c] = c.forms()
	}
	return forms
})

// search returns where a text has an address in it, in whatever form.
func search(text []byte, canaries []canary) (found []string) {
	for _, c := range canaries {
		for name, form := range formsOf()[c] {
			if i := bytes.Index(text, form); i >= 0 {
				found = append(found, fmt.Sprintf("%s, %s: %q", c.what, name, text[max(0, i-40):min(len(text), i+len(form)+20)]))
			}
		}
	}
	slices.Sort(found)
	return found
}

// searchFolder is search for all files below a folder, and their names.
func searchFolder(t *testing.T, dir string, canaries []canary) (found []string, files int) {
	t.Helper()
	return searchFiles(readFolder(t, dir), canaries)
}

func searchFiles(read map[string][]byte, canaries []canary) (found []string, files int) {
	for name, text := range read {
		for _, where := range search(append(text, filepath.Base(name)...), canaries) {
			found = append(found, filepath.Base(name)+": "+where)
		}
	}
	return found, len(read)
}

// readFolder returns what is in the files below a folder.
func readFolder(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	read := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // it went meanwhile
			return nil
		case err != nil || !d.Type().IsRegular():
			return err
		}
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			return nil
		}
		read[name] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// xxhash64 is XXH64 with the seed 0.
func xxhash64(b []byte) uint64 {
	const p1, p2, p3, p4, p5 uint64 = 11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579, 2870177450012600261
	round := func(acc, in uint64) uint64 { return bits.RotateLeft64(acc+in*p2, 31) * p1 }
	n := uint64(len(b))
	h := p5
	if len(b) >= 32 {
		one := p1 // constants may not overflow, numbers do
		v := [4]uint64{one + p2, p2, 0, -one}
		for ; len(b) >= 32; b = b[32:] {
			for i := range v {
				v[i] = round(v[i], binary.LittleEndian.Uint64(b[8*i:]))
			}
		}
		h = bits.RotateLeft64(v[0], 1) + bits.RotateLeft64(v[1], 7) + bits.RotateLeft64(v[2], 12) + bits.RotateLeft64(v[3], 18)
		for i := range v {
			h = (h^round(0, v[i]))*p1 + p4
		}
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round(0, binary.LittleEndian.Uint64(b)), 27)*p1 + p4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*p1, 23)*p2 + p3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*p5, 11) * p1
	}
	h = (h ^ h>>33) * p2
	h = (h ^ h>>29) * p3
	return h ^ h>>32
}

// The addresses: one for each way in, so that a leak tells where it is. No byte of
// them is 0, which some encodings write in another way.
var (
	canaryPeer      = canary{"the peer of a connection", netip.MustParseAddr("127.83.194.61")}
	canaryForwarded = canary{"a forwarded address, version 4", netip.MustParseAddr("203.119.211.77")}
	canaryForward6  = canary{"a forwarded address, version 6", netip.MustParseAddr("2a0d:5c1e:7fb3:9d42:a1b6:c3d7:e5f8:1a9c")}
	canaryForged    = canary{"a forged header", netip.MustParseAddr("198.51.173.219")}
	canaryLog       = canary{"a line of a log, version 4", netip.MustParseAddr("185.220.137.91")}
	canaryLog6      = canary{"a line of a log, version 6", netip.MustParseAddr("2b1f:8ad3:6ce7:b94f:d2c5:a8e1:97b6:f3d4")}

	canaries = []canary{canaryPeer, canaryForwarded, canaryForward6, canaryForged, canaryLog, canaryLog6}
)

// TestTheSearchFindsALeak in every form that it knows: what it does not find is not
// there.
func TestTheSearchFindsALeak(t *testing.T) {
	for text, want := range map[string]uint64{"": 0xef46db3751d8e999, "a": 0xd24ec4f1a98c6e5b, "abc": 0x44bc2cf5ad770999,
		"Nobody inspects the spammish repetition": 0xfbcea83c8a378bf1} {
		if got := xxhash64([]byte(text)); got != want {
			t.Errorf("xxhash of %q: %x, want %x", text, got, want)
		}
	}
	for _, c := range canaries {
		for name, form := range c.forms() {
			dir := t.TempDir()
			leak := append(append([]byte("before"), form...), "after"...)
			if err := os.WriteFile(filepath.Join(dir, "000007.log"), leak, 0o600); err != nil {
				t.Fatal(err)
			}
			if found, _ := searchFolder(t, dir, canaries); !slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, "000007.log: "+c.what) }) {
				t.Errorf("%s as %s is not found: %v", c.what, name, found)
			}
		}
	}
	if found := search([]byte("127.0.0.1 and 203.0.113.7"), canaries); len(found) > 0 {
		t.Errorf("found where nothing is: %v", found)
	}
}

// canaryServer starts the program on a folder with settings, over TLS.
func canaryServer(t *testing.T, dir, temporary, cert, key string, log *output, settings ...string) *server {
	t.Helper()
	s := &server{t: t, path: halcyon.path(t), dir: dir, address: net.JoinHostPort("127.0.0.1", freePort(t)), output: log, exited: make(chan struct{})}
	s.cmd = exec.Command(s.path, "serve", "--server.listen", s.address, "--storage.dir", dir, "--log.level", "debug", "--tls.cert", cert, "--tls.key", key)
	s.cmd.Dir, s.cmd.Env = repository, append(append(plainEnv(), "TMPDIR="+temporary), settings...)
	s.cmd.Stderr, s.cmd.Stdout = log, log
	dieWithParent(s.cmd)
	runtime.LockOSThread() // see launch
	defer runtime.UnlockOSThread()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.status = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	return s
}

// fromCanary returns a dialer and a client whose connections come from the address of canaryPeer.
func fromCanary() (*net.Dialer, *http.Client) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: canaryPeer.at.AsSlice()}, Timeout: patience}
	return dialer, &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // of this test
	}}
}

// writeCanaryCertificate writes a certificate for 127.0.0.1 and its key.
func writeCanaryCertificate(t *testing.T, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "canary"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAddressesAreNeverWritten drives addresses through every way in and searches
// everything that is left.
func TestAddressesAreNeverWritten(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("connections come from an address of 127.0.0.0/8, which only Linux has as a whole")
	}
	base := t.TempDir()
	dir, temporary := filepath.Join(base, "data"), filepath.Join(base, "tmp")
	if err := os.MkdirAll(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem")
	writeCanaryCertificate(t, cert, key)
	log := new(output)
	told := new(bytes.Buffer) // what the programs answered
	halcyon.path(t)           // built before anything waits for it

	admin := strings.TrimSpace(run(t, halcyon, dir, "key", "create", "canary"))
	importCanaries(t, dir, temporary, told)
	for _, settings := range [][]string{nil, {"HALCYON_STATS_TRUSTED_PROXIES=127.0.0.0/8"}} {
		s := canaryServer(t, dir, temporary, cert, key, log, settings...)
		driveCanaries(t, s, admin, told)
		if status := s.terminate(); status != 0 {
			t.Errorf("the server ended with %d", status)
		}
	}
	if t.Failed() {
		return
	}
	for _, args := range [][]string{
		{"stats", "export"}, {"stats", "export", "--format", "jsonl"}, {"stats", "export", "--events"},
		{"backup", filepath.Join(base, "backup")}, {"verify", "--json"}, {"data", "tables"},
	} {
		told.WriteString(run(t, halcyon, dir, args...))
	}
	for line := range strings.Lines(run(t, halcyon, dir, "data", "tables", "--json")) {
		name := line[strings.Index(line, `"name":"`)+len(`"name":"`):]
		name = name[:strings.IndexByte(name, '"')]
		told.WriteString(run(t, halcyon, dir, "data", "export", name))
	}
	look := func() (found []string, files int) {
		found, files = searchFolder(t, base, canaries)
		for name, text := range map[string][]byte{"log": []byte(log.String()), "answers": told.Bytes()} {
			for _, where := range search(text, canaries) {
				found = append(found, name+": "+where)
			}
		}
		return found, files
	}
	found, files := look()
	if len(found) > 0 {
		t.Errorf("addresses were written:\n%s", strings.Join(found, "\n"))
	}
	if files < 10 || len(log.String()) < 100 || told.Len() < 1000 || !strings.Contains(told.String(), "canary-visitor") {
		t.Errorf("%d files, %d bytes of log and %d of answers searched; want what was driven through in them", files, len(log.String()), told.Len())
	}
	// A leak into the rows is found by the same search.
	run(t, halcyon, dir, "run", "stats:recordPageView", fmt.Sprintf(`{"path": "/of/%s", "pageType": "page", "sessionId": "leak"}`, canaryForward6.at))
	if found, _ := look(); len(found) == 0 {
		t.Error("a path with an address in it was stored and is not found")
	}
}

// driveCanaries sends requests of every kind.
func driveCanaries(t *testing.T, s *server, admin string, told *bytes.Buffer) {
	t.Helper()
	dialer, client := fromCanary()
	defer client.CloseIdleConnections()
	url := "https://" + s.address
	headers := func(h http.Header) {
		forwarded := []string{canaryForged.at.String() + ", " + canaryForwarded.at.String(), canaryForward6.at.String()}
		h["X-Forwarded-For"] = forwarded
		h.Set("Forwarded", fmt.Sprintf(`for=%s;by="[%s]:443"`, canaryForwarded.at, canaryForward6.at))
		for _, name := range []string{"X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "Fly-Client-IP", "X-Client-IP", "X-Vercel-Forwarded-For"} {
			h.Set(name, canaryForged.at.String())
		}
		h.Set("CF-IPCountry", "CH")
		h.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0")
		h.Set("Accept-Language", "en")
	}
	send := func(method, path, body string, more ...string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		headers(r.Header)
		for i := 0; i < len(more); i += 2 {
			r.Header.Set(more[i], more[i+1])
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		fmt.Fprintf(told, "%s %s %s\n", answer.Status, answer.Header, text)
	}
	poll(t, "the server is ready", func() (bool, string) {
		answer, err := client.Get(url + "/_ready")
		if err != nil {
			return false, err.Error()
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK, answer.Status
	})

	// Handshakes that fail, of TLS and of WebSockets, and requests that are none.
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello", ""} {
		if c, err := dialer.DialContext(t.Context(), "tcp", s.address); err == nil {
			_, _ = io.WriteString(c, garbage)
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = io.ReadAll(io.LimitReader(c, 1<<10))
			_ = c.Close()
		} else {
			t.Error(err)
		}
	}
	if c, err := (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}).DialContext(t.Context(), "tcp", s.address); err == nil { //nolint:gosec // of this test
		_, _ = io.WriteString(c, "nonsense\r\n\r\n")
		_, _ = io.ReadAll(io.LimitReader(c, 1<<10))
		_ = c.Close()
	} else {
		t.Error(err)
	}

	view := `{"name": "pageview", "url": "https://a.example/%s", "visitor": "canary-visitor-%s", "referrer": "https://b.example/"}`
	for i := range 5 {
		send("POST", "/api/event", fmt.Sprintf(view, fmt.Sprint(i), "a"), "Content-Type", "text/plain")
	}
	send("POST", "/api/event", `{"name": "heartbeat", "url": "https://a.example/", "visitor": "canary-visitor-a"}`)
	send("POST", "/api/event", `{"name": "signup", "url": "https://a.example/", "visitor": "canary-visitor-a", "props": {"plan": "big"}}`)
	send("POST", "/api/event", `{"name": "leave", "url": "https://a.example/", "visitor": "canary-visitor-a"}`)
	for _, wrong := range []string{"", "{", `{"name": ""}`, `{"name": "pageview", "url": "nowhere"}`, strings.Repeat("x", 20<<10)} {
		send("POST", "/api/event", wrong)
	}
	send("POST", "/api/event", fmt.Sprintf(view, "bot", "b"), "User-Agent", "Googlebot/2.1")
	send("GET", "/api/geo", "")
	send("POST", "/api/mutation", `{"path": "stats:recordPageView", "args": {"path": "/http", "pageType": "page", "sessionId": "canary-visitor-c"}}`)
	send("POST", "/api/mutation", `{"path": "stats:heartbeat", "args": {"currentPath": "/http", "sessionId": "canary-visitor-c"}}`)
	send("POST", "/api/mutation", `{"path": "stats:recordPageView", "args": {"path": 1}}`)
	send("POST", "/api/mutation", `{"path": "stats:nothing", "args": {}}`)
	send("POST", "/api/query", `{"path": "stats:getStats", "args": {}}`)
	send("POST", "/api/query", `not JSON`)
	send("POST", "/api/query", `{"path": "stats:getStats", "args": {}}`, "Authorization", "Bearer nonsense")
	for _, path := range []string{"/", "/stats", "/track.js", "/nothing/here", "/http/none", "/%2e%2e/x", "/_health", "/metrics", "/api/1.48.0/sync", "/rss.xml"} {
		send("GET", path, "")
	}

	// WebSockets: one that does what it should, one that does not, one that just goes.
	for _, messages := range [][]string{
		{
			`{"type":"Connect","sessionId":"3f2c9d1e-8a57-4b66-9f10-5d7e2c4b8a91","connectionCount":0,"lastCloseReason":"InitialConnect","clientTs":0}`,
			`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Add","queryId":0,"udfPath":"stats:getStats","args":[{}]}]}`,
			`{"type":"Mutation","requestId":0,"udfPath":"stats:recordPageView","args":[{"path":"/ws","pageType":"page","sessionId":"canary-visitor-d"}]}`,
		},
		{`{"type":"Nonsense"}`},
		{"no JSON"},
		{},
	} {
		header := make(http.Header)
		headers(header)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ws, _, err := websocket.Dial(ctx, url+"/api/1.48.0/sync", &websocket.DialOptions{HTTPClient: client, HTTPHeader: header})
		if err != nil {
			t.Error("WebSocket:", err)
			cancel()
			continue
		}
		for _, text := range messages {
			if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
				break
			}
		}
		for len(messages) > 0 {
			_, text, err := ws.Read(ctx)
			if err != nil {
				fmt.Fprintln(told, err)
				break
			}
			told.Write(text)
			if bytes.Contains(text, []byte("MutationResponse")) {
				break
			}
		}
		_ = ws.CloseNow()
		cancel()
	}

	// What an operator sees.
	for _, path := range []string{
		"/api/admin/insights", "/api/admin/logs", "/api/admin/tables", "/api/admin/keys", "/api/admin/export?table=stats/pageViews",
		"/_debug/pprof/goroutine?debug=2", "/_debug/pprof/heap?debug=1", "/_debug/pprof/profile?seconds=1", "/_debug/pprof/allocs", "/_debug/pprof/cmdline",
	} {
		send("GET", path, "", "Authorization", "Convex "+admin)
	}
}

// importCanaries imports logs with addresses, by transactions and into empty tables, and
// looks at what lies around while that goes on.
func importCanaries(t *testing.T, dir, temporary string, told *bytes.Buffer) {
	t.Helper()
	logs := t.TempDir() // apart: they do have the addresses
	names := []string{filepath.Join(logs, "first.log"), filepath.Join(logs, "second.log")}
	for i, name := range names {
		var b strings.Builder
		for line := range 8_000 {
			from := [2]canary{canaryLog, canaryLog6}[line%2].at
			at := time.Date(2026, time.March, 1+10*i, 0, 0, line, 0, time.UTC)
			fmt.Fprintf(&b, "%s - - [%s] \"GET /page/%d?from=x HTTP/1.1\" 200 1 \"https://b.example/\" \"Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/133.0\"\n",
				from, at.Format("02/Jan/2006:15:04:05 -0700"), line%500, line%300)
		}
		if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names { // the first into empty tables
		cmd := exec.Command(halcyon.path(t), "stats", "import", "--site", "a.example", name)
		cmd.Dir, cmd.Env = repository, append(plainEnv(), "TMPDIR="+temporary, "HALCYON_STORAGE_DIR="+dir, "HALCYON_LOG_LEVEL=debug")
		var out lockedBuffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		looks, seen := 0, 0
		for running := true; running; {
			select {
			case err := <-ended:
				if running = false; err != nil {
					t.Fatalf("%v\n%s", err, out.String())
				}
			case <-time.After(100 * time.Millisecond):
				// Stopped while it is read, so that what it has open is looked at as a whole.
				if cmd.Process.Signal(syscall.SIGSTOP) != nil {
					continue
				}
				read := readFolder(t, filepath.Dir(temporary))
				_ = cmd.Process.Signal(syscall.SIGCONT)
				found, files := searchFiles(read, canaries)
				if looks, seen = looks+1, max(seen, files); len(found) > 0 {
					t.Errorf("during an import addresses lie around:\n%s", strings.Join(found, "\n"))
				}
			}
		}
		t.Logf("looked %d times at up to %d files of an import", looks, seen)
		if looks == 0 {
			t.Error("the import was over before anybody looked")
		}
		told.WriteString(out.String())
	}
}

// lockedBuffer is a buffer that a process writes to while somebody reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
