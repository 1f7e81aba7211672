package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestConfigurationDoc keeps docs/configuration.md the list of what can be set.
// MCP_SANDBOX_TEST_UPDATE=1 writes it.
func TestConfigurationDoc(t *testing.T) {
	var s settings
	f := pflag.NewFlagSet("doc", pflag.ContinueOnError)
	s.register(f)
	var b bytes.Buffer
	b.WriteString("# Configuration\n\nEvery setting is a flag of `mcp-sandbox serve`, a variable of the environment, and a key of the TOML file named by `--config`. A flag wins over the environment, the environment over the file; unknown names are errors, and so is a setting without the one it needs to have an effect. Other commands take the flags that have an effect there, and ignore the rest of a server's environment and file. An empty variable counts as unset. On the command line a flag that `serve --help` shows as `string...` is given once for each value; one shown as `strings` also takes several with commas. Lists are written with commas in the environment (`MCP_SANDBOX_ENV` one a line) and as lists of strings in the file. Nothing in a workspace is ever read as configuration: a file for --config in the workspace, or in a directory granted for writing, is refused, as a session could change the settings of the next.\n\nThis file is generated from the flags; a test keeps it true.\n\n| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n")
	f.VisitAll(func(fl *pflag.Flag) {
		def := fl.DefValue
		if def == "" || def == "[]" || def == "0" || def == "false" {
			def = ""
		} else {
			def = "`" + def + "`"
		}
		env := "`" + envPrefix + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_")) + "`"
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", fl.Name, env, def, fl.Usage)
	})
	checkDoc(t, filepath.Join("..", "..", "docs", "configuration.md"), b.String())
}

func checkDoc(t *testing.T, path, want string) {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_UPDATE") == "1" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the program says: run MCP_SANDBOX_TEST_UPDATE=1 go test ./cmd/mcp-sandbox -run %s", path, t.Name())
	}
}

// TestReadmeNamesEveryTool: the README's table is for people, but it must not
// leave one out.
func TestReadmeNamesEveryTool(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	c := startServer(t)
	c.initialize("2025-11-25")
	var list struct{ Tools []struct{ Name string } }
	if err := json.Unmarshal(c.request("tools/list", nil).Result, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Tools) < 8 {
		t.Fatalf("only %d tools", len(list.Tools))
	}
	for _, tool := range list.Tools {
		if !bytes.Contains(readme, []byte("`"+tool.Name+"`")) {
			t.Errorf("the README does not name %s", tool.Name)
		}
	}
}
