package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// httpConnections is how many clients insert at once, each over a connection of its own.
const httpConnections = 16

// httpInsert measures durable inserts over HTTP, beside PocketBase's, which are not synced to the disk one by one. One load generator asks
// both, from this process, with the same body.
func httpInsert(s settings) error {
	var ours, theirs figures
	var took, tookTheirs []time.Duration
	const text = "hello hello hello hello hello hello hello hello"
	for range s.rounds {
		c, err := startChild(s)
		if err != nil {
			return err
		}
		n, d, err := post(s.length, c.addr, "/api/mutation", func(k int) any {
			return map[string]any{"path": "bench:insert", "args": map[string]any{"body": text, "n": k}, "format": "json"}
		}, `"status":"success"`)
		c.stop()
		if err != nil {
			return err
		}
		ours, took = append(ours, n), append(took, d...)
		if s.pocketBase == "" {
			continue
		}
		p, err := startPocketBase(s)
		if err != nil {
			return err
		}
		n, d, err = post(s.length, strings.TrimPrefix(p.base, "http://"), "/api/collections/notes/records", func(k int) any { return map[string]any{"body": text, "n": k} }, `"collectionName":"notes"`)
		p.stop()
		if err != nil {
			return err
		}
		theirs, tookTheirs = append(theirs, n), append(tookTheirs, d...)
	}
	tell := func(name string, f figures, took []time.Duration) {
		sortDurations(took)
		fmt.Printf("%-52s %s a second, %.2f ms p50, %.2f ms p99\n", name, f, percentile(took, 0.5), percentile(took, 0.99))
	}
	tell(fmt.Sprintf("insert over HTTP, %d connections, durable", httpConnections), ours, took)
	if s.pocketBase == "" {
		fmt.Println("  no PocketBase to compare with: name its program with -pocketbase")
		return nil
	}
	tell("  PocketBase, not durable one by one", theirs, tookTheirs)
	reachedAtLeast("times PocketBase", ours.median()/theirs.median(), 4)
	return nil
}

// post sends bodies from all connections for a while. Each answer must have want in it.
func post(length time.Duration, address, path string, body func(k int) any, want string) (perSecond float64, took []time.Duration, err error) {
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	for range httpConnections {
		wg.Go(func() {
			own, err := postAll(address, path, body, want, func() bool { return time.Since(start) < length })
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	return float64(len(took)) / time.Since(start).Seconds(), took, failed
}

// postAll posts one body after the other over one connection. It writes requests by itself, since the processors it would use with an
// [http.Client] are those of the server.
func postAll(address, path string, body func(k int) any, want string, more func() bool) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	var request, answer bytes.Buffer
	for k := 0; more(); k++ {
		text, err := json.Marshal(body(k))
		if err != nil {
			return took, err
		}
		request.Reset()
		fmt.Fprintf(&request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, address, len(text), text)
		begun := time.Now()
		if _, err := conn.Write(request.Bytes()); err != nil {
			return took, err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return took, err
		}
		answer.Reset()
		if _, err := answer.ReadFrom(resp.Body); err != nil {
			return took, err
		}
		took = append(took, time.Since(begun))
		if resp.StatusCode != http.StatusOK || !bytes.Contains(answer.Bytes(), []byte(want)) {
			return took, fmt.Errorf("%s answers %s: %.200s", path, resp.Status, answer.Bytes())
		}
	}
	return took, nil
}

// pocketBase is a PocketBase with a folder of its own and a collection that everybody may write to.
type pocketBase struct {
	cmd  *exec.Cmd
	dir  string
	base string
}

func startPocketBase(s settings) (p *pocketBase, err error) {
	dir, err := os.MkdirTemp(s.dir, "pocketbase-bench-")
	if err != nil {
		return nil, err
	}
	const email, password = "a@example.com", "password1234"
	if out, err := exec.Command(s.pocketBase, "superuser", "upsert", email, password, "--dir", dir).CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a superuser: %w: %s", err, out), os.RemoveAll(dir))
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		return nil, err
	}
	p = &pocketBase{cmd: exec.Command(s.pocketBase, "serve", "--http", address, "--dir", dir), dir: dir, base: "http://" + address}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(p.base + "/api/health")
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		if time.Since(begun) > 30*time.Second {
			return nil, fmt.Errorf("PocketBase does not answer: %w", err)
		}
	}
	var auth struct{ Token string }
	if err := p.ask("/api/collections/_superusers/auth-with-password", "", map[string]any{"identity": email, "password": password}, &auth); err != nil {
		return nil, err
	}
	return p, p.ask("/api/collections", auth.Token, map[string]any{
		"name": "notes", "type": "base", "listRule": "", "viewRule": "", "createRule": "", "updateRule": "", "deleteRule": "",
		"fields": []map[string]any{{"name": "body", "type": "text"}, {"name": "n", "type": "number"}},
	}, nil)
}

func (p *pocketBase) ask(path, token string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, p.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("PocketBase answers %s to %s: %.200s", resp.Status, path, answer)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (p *pocketBase) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
	_ = os.RemoveAll(p.dir)
}
