package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"mcp-sandbox/session"
)

// typist is a person at the terminal of a review.
type typist struct {
	t    *testing.T
	tty  *os.File
	mu   sync.Mutex
	seen strings.Builder
}

func newTypist(t *testing.T, cmd *exec.Cmd) *typist {
	t.Helper()
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 100, Rows: 30})
	if err != nil {
		t.Fatal(err)
	}
	y := &typist{t: t, tty: tty}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := tty.Read(b)
			y.mu.Lock()
			y.seen.Write(b[:n])
			y.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return y
}

// press types keys and waits until the screen shows text.
func (y *typist) press(keys, text string) {
	y.t.Helper()
	y.mu.Lock()
	y.seen.Reset()
	y.mu.Unlock()
	if _, err := io.WriteString(y.tty, keys); err != nil {
		y.t.Fatal(err)
	}
	y.shows(text)
}

func (y *typist) shows(text string) {
	y.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		y.mu.Lock()
		now := y.seen.String()
		y.mu.Unlock()
		if strings.Contains(now, text) {
			return
		}
		if time.Now().After(deadline) {
			y.t.Fatalf("the screen does not show %q:\n%q", text, now)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestReviewScreen: a person applies, skips and discards files and parts of files by
// keys, and is asked about what is theirs alone to allow.
func TestReviewScreen(t *testing.T) {
	p := newStagedProject(t)
	var long strings.Builder
	for i := range 40 {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	put(t, p.dir+"/long.txt", long.String())
	p.settled()
	p.session(`echo mine >> a.txt; echo mine > b.txt; sed -i 's/^line 3$/LINE 3/; s/^line 20$/LINE 20/; s/^line 35$/LINE 35/' long.txt; printf '#!/bin/sh\n' > tool; chmod +x tool; printf '\033]0;title\a' > "z$(printf '\033[2J')"`)
	cmd := exec.Command(binary, "review", "--root", p.dir, "--state-dir", p.state)
	y := newTypist(t, cmd)
	defer y.tty.Close()
	y.shows("review " + p.dir + ": 5 changes")
	y.shows("+mine")
	y.press("a", "applied a.txt")
	expect(t, p.dir+"/a.txt", "one\ntwo\nmine\n")
	y.press("s", "[skipped]")
	y.press("\t\t", "> @@")
	y.press("a", "applied long.txt")
	want := strings.Replace(long.String(), "line 20\n", "LINE 20\n", 1)
	expect(t, p.dir+"/long.txt", want)
	y.press("\t", "> @@")
	y.press("d", "this part of long.txt")
	y.press("y", "discarded long.txt")
	y.press("a", "applied long.txt")
	expect(t, p.dir+"/long.txt", strings.Replace(want, "line 35\n", "LINE 35\n", 1))
	y.press("a", "It is a program. (y/n) tool")
	y.press("n", "left as it is")
	if _, err := os.Lstat(p.dir + "/tool"); err == nil {
		t.Error("a program was applied without a yes")
	}
	y.press("a", "It is a program. (y/n) tool")
	y.press("y", "applied tool")
	if fi, err := os.Stat(p.dir + "/tool"); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("tool: %v %v", fi, err)
	}
	// A name that the model chose gives the terminal no orders.
	y.mu.Lock()
	if s := y.seen.String(); strings.Contains(s, "\x1b[2J") || strings.Contains(s, "\x1b]0;") {
		t.Errorf("an order reached the terminal: %q", s)
	}
	y.mu.Unlock()
	y.press("d", "Discard what the session did? (y/n) ")
	y.press("y", "discarded z")
	y.press("q", "wait")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the review ended with %v", err)
	}
	y.shows("4 applied, 2 discarded, 1 wait")
	y.shows("to undo: mcp-sandbox snapshots restore")
	if r := p.review(); len(r.Changes) != 1 || r.Changes[0].Path != "b.txt" {
		t.Errorf("what waits: %+v", r.Changes)
	}
}

// TestReviewShown: keys and questions are about what the screen shows, while the
// session goes on and where a name begins another.
func TestReviewShown(t *testing.T) {
	p := newStagedProject(t)
	c := p.serve()
	c.sh("echo mine >> a.txt; mkdir d; echo x > d/x; echo y > d/y")
	cmd := exec.Command(binary, "review", "--root", p.dir, "--state-dir", p.state)
	y := newTypist(t, cmd)
	defer y.tty.Close()
	y.shows("4 changes")
	y.press("\t", "> @@")
	c.sh("echo more >> a.txt")
	y.press("a", "changed since it was shown")
	y.shows("+more")
	c.sh("echo again >> a.txt")
	y.press("a", "changed since it was shown")
	expect(t, p.dir+"/a.txt", "one\ntwo\n")
	y.press("j", "added     d/")
	y.press("d", "2 changes in d/")
	c.sh("echo z > d/z")
	y.press("y", "it holds what was not shown")
	y.press("jjs", "[skipped]")
	y.press("A", "(y/n)")
	y.press("y", "applied")
	y.press("q", "wait")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the review ended with %v", err)
	}
	got := ""
	for _, ch := range p.review().Changes {
		got += ch.Path + " "
	}
	if len(strings.Fields(got)) != 1 || !strings.HasPrefix(got, "d/") {
		t.Errorf("what waits: %q", got)
	}
}

// TestReviewNames: a name or reason cannot forge a line of the output.
func TestReviewNames(t *testing.T) {
	var out strings.Builder
	printResult(&out, "applied", &session.StageResult{Left: []session.StageLeft{{Path: "a\nnot applied: b", Why: "c\nd"}}})
	if want := "applied: 0\nnot applied: \"a\\nnot applied: b\": \"c\\nd\"\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	for name, want := range map[string]string{"a b": "a b", "a ": `"a "`, " a": `" a"`, `"a"`: `"\"a\""`, "a\x9b": `"a\x9b"`, "a\u202e": `"a\u202e"`, "ä": "ä"} {
		if got := onOneLine(name); got != want {
			t.Errorf("%q is shown as %s, want %s", name, got, want)
		}
	}
}
