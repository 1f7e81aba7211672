package serve

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	log := slog.New(slog.DiscardHandler)
	for what, text := range map[string]string{
		"empty":           "\n# nobody\n",
		"no name":         "0123456789abcdef0123\n",
		"a short token":   "ann:short\n",
		"a space":         "ann:0123456789 abcdef\n",
		"the same twice":  "ann:0123456789abcdef\nbob:0123456789abcdef\n",
		"settings twice":  "ann:0123456789abcdef a=1\nann:0123456789abcdeg a=2\n",
		"no setting":      "ann:0123456789abcdef\n@ann\n",
		"no value":        "ann:0123456789abcdef a=\n",
		"settings alone":  "@ann a=1\n",
		"a name of paths": "../x:0123456789abcdef\n",
	} {
		writeTokens(t, file, text)
		if _, err := LoadPrincipals(file, log); sandbox.CodeOf(err) != "invalid_argument" || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("%s: %v", what, err)
		}
	}
	writeTokens(t, file, "ann:"+annToken+"\n")
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPrincipals(file, log); sandbox.CodeOf(err) != "permission_denied" {
		t.Errorf("open to the group: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPrincipals(file, log)
	if err != nil {
		t.Fatal(err)
	}
	who := func(token string) string { p.checked = time.Time{}; name, _, _ := p.Lookup(token); return name }
	if who(annToken) != "ann" || who("") != "" || who("ann") != "" {
		t.Error("the wrong principal")
	}
	// Taken back, and given to another, without a restart.
	writeTokens(t, file, "bob:"+bobToken+"0\n")
	if who(annToken) != "" || who(bobToken+"0") != "bob" {
		t.Error("the old tokens are in force")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if who(bobToken+"0") != "" {
		t.Error("a file that is gone lets in")
	}
	for _, bad := range []string{"", "*", "http://x", "a/b", "a b", "*.example"} {
		if checkHost(bad) == nil {
			t.Errorf("http-host %q", bad)
		}
	}
	for _, bad := range []string{"", "*", "null", "good.example", "https://good.example/path", "https://*.example"} {
		if checkOrigin(bad) == nil {
			t.Errorf("http-origin %q", bad)
		}
	}
}
