package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// browser is a headless Chromium, spoken to over its debugging pipe.
type browser struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Reader
	session string
	next    int
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium")
	}
	toRead, toWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromRead, fromWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--window-size=1200,760", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{toRead, fromWrite}
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toRead.Close()
	fromWrite.Close()
	b := &browser{t: t, in: toWrite, out: bufio.NewReader(fromRead)}
	t.Cleanup(func() {
		_, _ = io.WriteString(toWrite, `{"id":999999,"method":"Browser.close"}`+"\x00")
		done := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		done.Stop()
		toWrite.Close()
		fromRead.Close()
	})
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	return b
}

func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	b.next++
	m := map[string]any{"id": b.next, "method": method, "params": params}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		line, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: the browser ended: %v", method, err)
		}
		var answer struct {
			ID     int             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(line[:len(line)-1], &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.next {
			continue // an event
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// eval runs JavaScript in the page and gives its text.
func (b *browser) eval(code string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": code, "awaitPromise": true, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", code, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// becomes waits until an expression has that value.
func (b *browser) becomes(code, want string) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	got := ""
	for time.Now().Before(deadline) {
		if got = b.eval(code); got == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("%s is %q, want %q", code, got, want)
}

// picture saves a screenshot where MCP_SANDBOX_TEST_PICTURES names a directory.
func (b *browser) picture(name string) {
	dir := os.Getenv("MCP_SANDBOX_TEST_PICTURES")
	if dir == "" {
		return
	}
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(dir+"/"+name, png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestReviewInBrowser: the page works in a real browser, whose rules its own policy
// keeps; names and texts of the model are never markup.
func TestReviewInBrowser(t *testing.T) {
	b := newBrowser(t)
	p := newStagedProject(t)
	put(t, p.dir+"/parser.py", `"""Parse and evaluate arithmetic."""

import re


def tokens(text):
    return re.findall(r"\d+|[-+*/()]", text)


def number(text):
    return int(text)


def divide(a, b):
    return a / b


def evaluate(text):
    total = 0
    for token in tokens(text):
        if token.isdigit():
            total += number(token)
    return total


def main():
    print(evaluate(input()))
`)
	p.settled()
	p.session(`sed -i 's/return int(text)/return float(text)/; s/    print(evaluate(input()))/    for line in open(0):\n        print(evaluate(line))/' parser.py
printf '#!/bin/sh\nexec python3 parser.py\n' > calc; chmod +x calc; echo mine >> a.txt; mkdir .vscode; echo '{"python.defaultInterpreterPath": "./calc"}' > .vscode/settings.json
echo x > '<img src=x onerror=document.title=1>'; echo '<script>document.title=1</script>' > "$(printf 'a\342\200\256b')"`)
	put(t, p.dir+"/a.txt", "theirs\n")
	address, _, _ := serveReviewPage(t, p)
	b.call("Page.enable", nil, nil)
	b.call("Page.navigate", map[string]any{"url": address}, nil)
	b.becomes(`document.querySelectorAll("#list button").length`, "7")
	if title := b.eval(`document.title`); title != "Review" {
		t.Errorf("a name or text ran: the title is %q", title)
	}
	if names := b.eval(`[...document.querySelectorAll("#list button")].map(e => e.firstChild.textContent).join(" ")`); !strings.Contains(names, `a\u202eb`) || !strings.Contains(names, "<img") {
		t.Errorf("names: %s", names)
	}
	choose := func(name string) {
		t.Helper()
		b.eval(`[...document.querySelectorAll("#list button")].find(e => e.firstChild.textContent === "` + name + `").click()`)
	}
	press := func(part int, op string) {
		t.Helper()
		b.eval(fmt.Sprintf(`document.querySelectorAll("#diff .bar")[%d].querySelector("[data-op=%s]").click()`, part, op))
	}
	choose("parser.py")
	b.picture("page.png")
	press(1, "apply") // the first part
	b.becomes(`document.getElementById("status").textContent`, "applied parser.py")
	if text, _ := os.ReadFile(p.dir + "/parser.py"); !strings.Contains(string(text), "return float(text)") || strings.Contains(string(text), "open(0)") {
		t.Errorf("after one part: %s", text)
	}
	choose("a.txt")
	press(0, "apply")
	b.becomes(`document.getElementById("ask").open`, "true")
	b.picture("ask.png")
	b.eval(`document.getElementById("no").click()`)
	expect(t, p.dir+"/a.txt", "theirs\n")
	press(0, "discard")
	b.becomes(`document.getElementById("ask").open`, "true")
	b.eval(`document.getElementById("yes").click()`)
	b.becomes(`document.getElementById("status").textContent`, "discarded a.txt")
	choose("calc")
	press(0, "apply")
	b.becomes(`document.getElementById("ask").open`, "true")
	b.eval(`document.getElementById("yes").click()`)
	b.becomes(`document.getElementById("status").textContent`, "applied calc")
	if fi, err := os.Stat(p.dir + "/calc"); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("calc: %v %v", fi, err)
	}
	b.eval(`document.getElementById("end").click()`)
	b.becomes(`document.body.textContent.includes("has ended")`, "true")
}
