package main

import (
	"os"
	"strings"
	"testing"
)

// installTools installs one program of each package manager that is there, from
// nothing but files, and runs it by its name.
const installTools = `set -e; cd "$(mktemp -d)"
mkdir -p m n c/src p
if [ -n "$COMPILED" ]; then cd m && printf 'module example.com/hellogo\ngo 1.21\n' > go.mod
echo 'package main; func main(){println("go tool")}' > main.go; go install . && cd ..; fi
cd n && echo '{"name":"hello-npm","version":"1.0.0","bin":{"hello-npm":"x.js"}}' > package.json && printf '#!/usr/bin/env node\nconsole.log("npm tool")\n' > x.js && chmod +x x.js && npm i -g . --silent; cd ..
if [ -n "$COMPILED" ] && cargo --version >/dev/null 2>&1; then cd c && printf '[package]\nname="hellocargo"\nversion="0.1.0"\nedition="2021"\n' > Cargo.toml && echo 'fn main(){println!("cargo tool")}' > src/main.rs && cargo install -q --path . && cd ..; fi
/usr/bin/python3 - <<'E'
import zipfile
z = zipfile.ZipFile("hellopip-1-py3-none-any.whl", "w")
d = "hellopip-1.dist-info/"
z.writestr("hellopip.py", "def main(): print('pip tool')\n")
z.writestr(d + "METADATA", "Metadata-Version: 2.1\nName: hellopip\nVersion: 1\n")
z.writestr(d + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
z.writestr(d + "entry_points.txt", "[console_scripts]\nhellopip = hellopip:main\n")
z.writestr(d + "RECORD", "")
z.close()
E
PIP_BREAK_SYSTEM_PACKAGES=1 /usr/bin/python3 -m pip install -q --user --no-index hellopip-1-py3-none-any.whl
`

// TestInstalledPrograms: what a command installs for its user is found by the ones
// after it, in a private home and in one that is the workspace.
func TestInstalledPrograms(t *testing.T) {
	needPrograms(t, "go", "npm", "/usr/bin/python3")
	compiled, found := "", "hello-npm; hellopip"
	wanted := []string{"npm tool", "pip tool"}
	if os.Getenv("MCP_SANDBOX_TEST_LONG") != "" {
		compiled, found = "COMPILED=1\n", found+"; hellogo; if cargo --version >/dev/null 2>&1; then hellocargo; fi"
		wanted = append(wanted, "go tool")
	}
	for _, args := range [][]string{{"--root", t.TempDir()}, nil} {
		if args != nil {
			openPath(t, args[1])
		}
		c := startServer(t, args...)
		c.initialize("2025-11-25")
		if o := c.exec(map[string]any{"cmd": compiled + installTools, "yield_time_ms": 45000}); o.ExitCode == nil || *o.ExitCode != 0 {
			t.Fatalf("%+v", o)
		}
		o := c.exec(map[string]any{"cmd": found, "yield_time_ms": 45000})
		for _, want := range wanted {
			if !strings.Contains(o.Output, want) {
				t.Errorf("%q: no %s", o.Output, want)
			}
		}
		if o.ExitCode == nil || *o.ExitCode != 0 {
			t.Errorf("%+v", o)
		}
	}
}
