package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// hostileTexts are what a model may put into files, names and labels.
var hostileTexts = map[string]struct{ text, shown string }{
	"title":         {"\x1b]0;PWNED\x07", `\x1b]0;PWNED\x07`},
	"clipboard":     {"\x1b]52;c;Zm9v\x1b\\", `\x1b]52;c;Zm9v\x1b\`},
	"cursor":        {"\x1b[2J\x1b[H", `\x1b[2J\x1b[H`},
	"device":        {"\x1bP0;1|17/41\x1b\\", `\x1bP0;1|17/41\x1b\`},
	"C1, one byte":  {"\x9b31m", `\x9b31m`},
	"C1, UTF-8":     {"\u009b31m", `\u009b31m`},
	"return":        {"rm -rf\recho  ", `rm -rf\x0decho  `},
	"backspace":     {"a\b\b\x7f", `a\x08\x08\x7f`},
	"override":      {"a\u202egpj.exe", `a\u202egpj.exe`},
	"isolate":       {"\u2066x\u2069", `\u2066x\u2069`},
	"tag":           {"\U000e0041", `\U000e0041`},
	"line":          {"a\u2028b", `a\u2028b`},
	"shift":         {"\x0e\x0f", `\x0e\x0f`},
	"broken letter": {"\xe2\x82", `\xe2\x82`},
	"text":          {"Grüße\t日本 👩‍💻\n", "Grüße\t日本 👩‍💻\n"},
}

func TestEscaper(t *testing.T) {
	for name, c := range hostileTexts {
		var b bytes.Buffer
		n, err := (&escaper{&b}).Write([]byte(c.text))
		if b.String() != c.shown || n != len(c.text) || err != nil {
			t.Errorf("%s: %q, %d, %v", name, b.String(), n, err)
		}
	}
}

func FuzzEscaper(f *testing.F) {
	for _, c := range hostileTexts {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var b bytes.Buffer
		if _, err := (&escaper{&b}).Write(p); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.String() {
			if r != '\n' && r != '\t' && sandbox.Steers(r) {
				t.Fatalf("%q became %q", p, b.String())
			}
		}
		if !utf8.Valid(b.Bytes()) {
			t.Fatalf("%q became %q", p, b.String())
		}
	})
}

// onTerminal runs the program with its output on a terminal, and returns what
// that was sent.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	fd := int(m.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	peer, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		t.Fatal(e)
	}
	tty := os.NewFile(peer, "terminal")
	cmd := exec.Command(binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	out, _ := io.ReadAll(m) // ends in EIO
	cmd.Wait()
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

// Whatever a command prints of a workspace, its errors included, a terminal gets
// as text, and a pipe as it is.
func TestOperatorOutputIsText(t *testing.T) {
	state, root := t.TempDir(), filepath.Join(t.TempDir(), "ws")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	common := []string{"--root", root, "--state-dir", state}
	verb := func(args ...string) []string { return append(args, common...) }
	id := strings.TrimSpace(onTerminal(t, verb("snapshots", "create", "label \x1b]0;L\x07\u202e")...))
	name := "name\x1b]0;N\x07\u009b"
	if err := os.WriteFile(filepath.Join(root, name), []byte("content \x1b]0;C\x07\x1b]52;c;Zm9v\x07\u202e\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	shows := map[string]string{
		"snapshots show":  onTerminal(t, verb("snapshots", "show", id)...),
		"snapshots list":  onTerminal(t, verb("snapshots", "list")...),
		"an error":        onTerminal(t, verb("snapshots", "show", "\x1b]0;E\x07")...),
		"a wrong command": onTerminal(t, "\x1b]0;E\x07"),
		"a wrong setting": onTerminal(t, "doctor", "--network", "\x1b]0;E\x07"),
		"sessions list":   onTerminal(t, verb("sessions", "list")...),
		"doctor":          onTerminal(t, verb("doctor")...),
	}
	for what, text := range shows {
		for _, r := range text {
			if r != '\n' && r != '\t' && sandbox.Steers(r) {
				t.Errorf("%s sends %q to the terminal", what, text)
				break
			}
		}
	}
	for what, want := range map[string]string{"snapshots show": `content \x1b]0;C\x07\x1b]52;c;Zm9v\x07\u202e`, "snapshots list": "label"} {
		if !strings.Contains(shows[what], want) {
			t.Errorf("%s: %q does not hold %q", what, shows[what], want)
		}
	}
	raw, err := exec.Command(binary, verb("snapshots", "show", id)...).Output()
	if err != nil || !bytes.Contains(raw, []byte("content \x1b]0;C\x07")) {
		t.Errorf("through a pipe: %q, %v", raw, err)
	}
}
