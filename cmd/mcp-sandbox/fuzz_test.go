package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"mcp-sandbox/sandbox"
)

func settingsFlags() *pflag.FlagSet {
	var s settings
	f := pflag.NewFlagSet("fuzz", pflag.ContinueOnError)
	s.register(f)
	return f
}

// FuzzTOML: a file is refused with a code, or every key of it is a flag that is
// now set and holds what the file says, whatever its type.
func FuzzTOML(f *testing.F) {
	for _, s := range []string{
		"root = \"/srv\"\nread-only = true\nlimit-procs = 5\nlimit-memory = \"1G\"\nread = [\"/a\", \"/b\"]\n",
		"read = \"/a\"", "root = [\"/a\"]", "config = \"x\"", "[root]\na = 1", "limit-procs = 1e30", "limit-procs = 1979-05-27", "allow-host = [1]", "root = 'a'\nroot = 'b'",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		flags := settingsFlags()
		if err := overlayTOML(flags, bytes.NewReader(text)); err != nil {
			assertCoded(t, err)
			return
		}
		var keys map[string]any
		if err := toml.Unmarshal(text, &keys); err != nil {
			t.Fatalf("%q was taken: %v", text, err)
		}
		for key, value := range keys {
			flag := flags.Lookup(key)
			if flag == nil || !flag.Changed {
				t.Fatalf("the key %q of %q set nothing", key, text)
			}
			switch v := value.(type) {
			case string:
				if flag.Value.Type() == "string" && flag.Value.String() != v {
					t.Fatalf("%s is %q, the file says %q", key, flag.Value, v)
				}
			case []any:
				if n := len(flag.Value.(pflag.SliceValue).GetSlice()); n != len(v) {
					t.Fatalf("%s has %d values, the file %d", key, n, len(v))
				}
			case map[string]any:
				t.Fatalf("the table %q was taken", key)
			}
		}
	})
}

// FuzzEnviron: a variable of ours is refused with a code or sets its flag; those
// of others do nothing.
func FuzzEnviron(f *testing.F) {
	for _, kv := range []string{"MCP_SANDBOX_ROOT=/srv", "MCP_SANDBOX_READ=/a,/b", "MCP_SANDBOX_ENV=A=1\nB=2", "MCP_SANDBOX_LIMIT_PROCS=x", "MCP_SANDBOX_NO_SUCH=1", "MCP_SANDBOX_TEST_X=1", "PATH=/bin", "=", "MCP_SANDBOX_"} {
		f.Add(kv)
	}
	f.Fuzz(func(t *testing.T, kv string) {
		flags := settingsFlags()
		name, value, _ := strings.Cut(kv, "=")
		ours := strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, envPrefix+"TEST_")
		if err := overlayEnviron(flags, []string{kv}); err != nil {
			if !ours {
				t.Fatalf("%q, which is not ours, was refused: %v", kv, err)
			}
			assertCoded(t, err)
			return
		}
		changed := 0
		flags.VisitAll(func(fl *pflag.Flag) {
			if fl.Changed {
				changed++
			}
		})
		if want := ours && value != ""; (changed == 1) != want || changed > 1 {
			t.Fatalf("%q set %d flags", kv, changed)
		}
	})
}

func assertCoded(t *testing.T, err error) {
	t.Helper()
	if sandbox.CodeOf(err) != "invalid_argument" {
		t.Fatalf("an error without a code: %v", err)
	}
}
