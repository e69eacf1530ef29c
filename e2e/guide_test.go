package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A guide's blocks of code are told apart by what stands after the language:
//
//	sh         is run, and has to succeed
//	sh fails   is run, and has to fail
//	sh serve   is started, and ends those that were started before, if they serve the same
//	LANG FILE  is the whole of a file
//	diff FILE  is a change of one: what stands after " " and "-" is there once, and " " and "+" takes its place
//	text       is somewhere in what the block before wrote; "..." stands for anything within a line
type block struct {
	line     int // where it begins, from 1
	language string
	rest     string
	text     string
}

// readBlocks returns the blocks of code of a page.
func readBlocks(page string) (blocks []block) {
	inside := false
	for i, line := range strings.Split(page, "\n") {
		switch info, fence := strings.CutPrefix(line, "```"); {
		case fence && inside:
			inside = false
		case fence:
			language, rest, _ := strings.Cut(info, " ")
			blocks = append(blocks, block{line: i + 1, language: language, rest: rest})
			inside = true
		case inside:
			blocks[len(blocks)-1].text += line + "\n"
		}
	}
	return blocks
}

// changed returns a file after the change of a diff block.
func changed(file, diff string) (string, error) {
	var before, after strings.Builder
	for line := range strings.Lines(diff) {
		if line[0] != '+' {
			before.WriteString(line[1:])
		}
		if line[0] != '-' {
			after.WriteString(line[1:])
		}
	}
	if n := strings.Count(file, before.String()); n != 1 {
		return "", fmt.Errorf("the file has it %d times, want once:\n%s", n, &before)
	}
	return strings.Replace(file, before.String(), after.String(), 1), nil
}

// holds reports whether output has what a text block says.
func holds(output, text string) bool {
	var pattern strings.Builder
	for i, part := range strings.Split(strings.TrimSpace(text), "...") {
		if i > 0 {
			pattern.WriteString(".*")
		}
		pattern.WriteString(regexp.QuoteMeta(part))
	}
	return regexp.MustCompile(pattern.String()).MatchString(output)
}

// walk follows a guide in a folder.
type walk struct {
	t       testing.TB
	dir     string
	replace *strings.Replacer // addresses of the page to those of the test
	env     []string
	output  string // of the newest block that was run
	running []*serving
}

// serving is a block that was started and runs on.
type serving struct {
	cmd    *exec.Cmd
	output output
	done   sync.WaitGroup
}

// shell returns a command for a block, with a process group of its own.
func (w *walk) shell(ctx context.Context, text string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir, cmd.Env = w.dir, w.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// run does what a block says.
func (w *walk) run(b block) error {
	text := w.replace.Replace(b.text)
	switch {
	case b.language == "sh" && b.rest == "serve":
		s := &serving{cmd: w.shell(context.WithoutCancel(w.t.Context()), text)}
		s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
		if err := s.cmd.Start(); err != nil {
			return err
		}
		s.done.Go(func() { _ = s.cmd.Wait() }) // it ends by a signal
		w.running = append(w.running, s)
		return nil
	case b.language == "sh":
		ctx, cancel := context.WithTimeout(w.t.Context(), 4*patience) // go and npm may have to fetch a lot
		defer cancel()
		out, err := w.shell(ctx, text).CombinedOutput()
		w.output = string(out)
		if (err != nil) != (b.rest == "fails") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	case b.language == "text":
		if !holds(w.output, b.text) {
			return fmt.Errorf("the block before wrote\n%s\nwhich lacks\n%s", w.output, b.text)
		}
		return nil
	case b.rest == "":
		return fmt.Errorf("a block of %q that is neither a file nor run", b.language)
	}
	path := filepath.Join(w.dir, b.rest)
	if b.language == "diff" {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if text, err = changed(string(old), text); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// stop ends what runs, as Ctrl-C does.
func (w *walk) stop() {
	for _, s := range w.running {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT) // it may have ended
		force := time.AfterFunc(patience, func() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
		s.done.Wait()
		force.Stop()
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", s.cmd.Args[len(s.cmd.Args)-1], &s.output)
		}
	}
	w.running = nil
}

// await waits until something answers at an address. It may have to be built before.
func (w *walk) await(url string) {
	w.t.Helper()
	pollFor(w.t, 2*patience, url+" answers", func() (bool, string) {
		answer, err := http.Get(url)
		if err != nil {
			return false, err.Error()
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK, answer.Status
	})
}

func TestReadBlocks(t *testing.T) {
	got := readBlocks("text\n```sh fails\nfalse\n```\n\n```go main.go\npackage main\n\nfunc main() {}\n```\n")
	want := []block{{2, "sh", "fails", "false\n"}, {6, "go", "main.go", "package main\n\nfunc main() {}\n"}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("readBlocks = %+v, want %+v", got, want)
	}
	if text, err := changed("a\nb\nc\n", " b\n+x\n"); err != nil || text != "a\nb\nx\nc\n" {
		t.Errorf("changed = %q, %v", text, err)
	}
	if text, err := changed("a\nb\na\n", "-a\n+x\n"); err == nil {
		t.Errorf("a change in two places gave %q", text)
	}
	if !holds("x\n{\"id\":\"k1\"} \n", "{\"id\":\"...\"}\n") || holds("{\"id\":\n\"k1\"}", "{\"id\":...\"}") {
		t.Error("... stands for anything within a line, and for nothing else")
	}
}

// A new user with an empty folder follows docs/guide/first-app.md to the letter.
func TestFirstApp(t *testing.T) {
	t.Parallel()
	if !*long && os.Getenv("HALCYON_E2E") != "required" {
		t.Skip("builds a Go module and a Vite page from nothing, which takes minutes; -e2e.long has it run")
	}
	chromium(t)
	if err := installed[clientsDir](); err != nil {
		lacking(t, "npm", err)
	}
	if err := openSources(); err != nil {
		t.Fatal(err)
	}
	noteRun(t)
	page, err := os.ReadFile("../docs/guide/first-app.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	address, vite := "127.0.0.1:"+freePort(t), freePort(t)
	w := &walk{t: t, dir: t.TempDir(), replace: strings.NewReplacer(
		"127.0.0.1:3210", address,
		"npm run dev", "npm run dev -- --strictPort --host 127.0.0.1 --port "+vite,
		// The module of this repository, not the one of the proxy.
		"go mod init example.com/talk", "go mod init example.com/talk && go mod edit -replace github.com/halcyon-db/halcyon="+root,
	)}
	w.env = append(plainEnv(), "HALCYON_SERVER_LISTEN="+address, "GOWORK=off", "NO_COLOR=1", "npm_config_audit=false", "npm_config_fund=false")
	t.Cleanup(w.stop)

	served := 0
	var b *browser
	shows := func(url string, want ...string) {
		t.Helper()
		if b == nil {
			b = openBrowser(t, "reader")
		}
		if url != "" {
			b.visit(url)
		}
		poll(t, "the page shows "+strings.Join(want, ", "), func() (bool, string) {
			text := evaluate[string](b, `document.body.innerText`)
			for _, part := range want {
				if !strings.Contains(text, part) {
					return false, text
				}
			}
			return true, text
		})
	}
	say := func(text string) {
		t.Helper()
		act(b, "type "+text, chromedp.SendKeys(chromedp.CSS("input"), text))
		act(b, "send it", chromedp.Click(chromedp.CSS("form button")))
	}
	for _, block := range readBlocks(string(page)) {
		// Where the page has the servers stopped, or stopping goes without saying.
		build := strings.Contains(block.text, "npm run build") || strings.Contains(block.text, "go build")
		if again := block.rest == "serve" && strings.HasPrefix(block.text, "./talk"); block.language == "sh" && (build || again) {
			if b != nil {
				b.visit("about:blank")
			}
			w.stop()
		}
		if err := w.run(block); err != nil {
			t.Fatalf("first-app.md:%d: %v", block.line, err)
		}
		if block.rest != "serve" {
			continue
		}
		// What the page says that one sees then.
		switch served++; served {
		case 1:
			w.await("http://" + address + "/_ready")
		case 2:
			w.await("http://127.0.0.1:" + vite)
			shows("http://127.0.0.1:"+vite, "lobby")
			say("from Vite")
			shows("", "me: from Vite")
		case 3:
			w.await("http://" + address + "/_ready")
			shows("http://"+address, "lobby", "me: from Vite")
			say("from the binary")
			shows("", "me: from the binary")
		case 4:
			w.await("http://" + address + "/_ready")
			shows("http://"+address, "lobby", "all about the lobby", "me: from the binary")
		}
	}
	if served != 4 {
		t.Errorf("the page serves %d times, want 4", served)
	}
}
