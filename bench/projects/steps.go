package main

import (
	"regexp"
	"slices"
	"strings"
)

// step is a project and what its user does first.
type step struct {
	name, what string
	needs      []string // programs of the host
	present    []string // paths of the host
	packages   []string // NAME@VERSION of npm that the mirror has to fetch
	// files are written before the first run, and cmd runs among them with bash;
	// {{mirror}} is the mirror's URL in both.
	files map[string]string
	cmd   string
	want  string // what the command prints when it worked
	// wantSecond is what it prints the second time, where that differs.
	wantSecond string
}

func (s step) command() string { return "set -e -o pipefail\n" + s.cmd }

// dirName has no spaces, which make and its kin take for the end of a name.
func (s step) dirName() string { return strings.ReplaceAll(s.name, " ", "-") }

// runPath is where a run keeps a project.
var runPath = regexp.MustCompile(`/[^ ]*/mcp-sandbox-projects-[0-9]+/[^ /]+/(inside|outside|warm-up)`)

// steps are all rows of the table.
func steps() []step {
	return slices.Concat(goSteps(), nodeSteps(), pythonSteps(), rustSteps(), javaSteps(), cSteps(), serviceSteps())
}

const goEnv = "export GOPROXY={{mirror}}/go GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=\n"

func goSteps() []step {
	return []step{
		{name: "go build", what: "a module from a proxy, `go mod tidy`, `go build`", needs: []string{"go"},
			files: map[string]string{
				"go.mod":  "module example.test/app\n\ngo 1.21\n",
				"main.go": "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.test/greet\"\n)\n\nfunc main() { fmt.Println(greet.Hello()) }\n",
			},
			cmd: goEnv + "go mod tidy && go build -o app . && ./app", want: "hello from the mirror"},
		{name: "go test", what: "tests of a package, with an HTTP server on loopback", needs: []string{"go"},
			files: map[string]string{
				"go.mod":      "module example.test/web\n\ngo 1.21\n",
				"web.go":      "package web\n",
				"web_test.go": "package web\n\nimport (\n\t\"net/http\"\n\t\"net/http/httptest\"\n\t\"testing\"\n)\n\nfunc TestServer(t *testing.T) {\n\ts := httptest.NewServer(http.NotFoundHandler())\n\tdefer s.Close()\n\tif r, err := http.Get(s.URL); err != nil || r.StatusCode != 404 {\n\t\tt.Fatal(r, err)\n\t}\n}\n",
			},
			cmd: goEnv + "go vet ./... && go test -count=1 -v ./...", want: "--- PASS: TestServer"},
		{name: "cgo", what: "Go with C in it", needs: []string{"go", "gcc"},
			files: map[string]string{
				"go.mod":  "module example.test/c\n\ngo 1.21\n",
				"main.go": "package main\n\n// static int twice(int n) { return 2 * n; }\nimport \"C\"\n\nfunc main() { println(\"twice\", C.twice(21)) }\n",
			},
			cmd: goEnv + "CGO_ENABLED=1 go run . 2>&1", want: "twice 42"},
	}
}

func pythonSteps() []step {
	return []step{
		{name: "venv", what: "`python3 -m venv`, `pip install` of a wheel", needs: []string{"python3"},
			cmd:  "python3 -m venv .venv && .venv/bin/pip install --index-url {{mirror}}/pypi/simple tinywheel && .venv/bin/python -c 'import tinywheel; print(tinywheel.hello())'",
			want: "hello from the mirror"},
		{name: "pip build", what: "`pip install .` of a project with a build backend", needs: []string{"python3"},
			files: map[string]string{
				"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n\n[project]\nname = \"app\"\nversion = \"1.0\"\ndependencies = [\"tinywheel\"]\n",
				"app.py":         "import tinywheel\n\n\ndef main():\n    print('app:', tinywheel.hello())\n",
				"backend.py": `import os, zipfile


def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "app-1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(directory, "app-1.0-py3-none-any.whl"), "w") as z:
        z.write("app.py")
        z.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: app\nVersion: 1.0\nRequires-Dist: tinywheel\n")
        z.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: app\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(info + "entry_points.txt", "[console_scripts]\nsay = app:main\n")
        z.writestr(info + "RECORD", "")
    return "app-1.0-py3-none-any.whl"
`,
			},
			cmd:  "python3 -m venv .venv && . .venv/bin/activate && pip install --index-url {{mirror}}/pypi/simple . && say",
			want: "app: hello from the mirror"},
		{name: "unittest", what: "`python3 -m unittest` with processes, a socket and SQLite", needs: []string{"python3"},
			files: map[string]string{"test_app.py": `import http.client, http.server, multiprocessing, sqlite3, threading, unittest


class Tests(unittest.TestCase):
    def test_pool(self):
        with multiprocessing.Pool(2) as pool:
            self.assertEqual(pool.map(abs, [-1, -2]), [1, 2])

    def test_server(self):
        with http.server.ThreadingHTTPServer(("localhost", 0), http.server.SimpleHTTPRequestHandler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            c = http.client.HTTPConnection("localhost", server.server_port)
            c.request("GET", "/test_app.py")
            self.assertEqual(c.getresponse().status, 200)
            server.shutdown()

    def test_database(self):
        db = sqlite3.connect("app.db")
        db.execute("pragma journal_mode=wal")
        db.execute("create table if not exists t(n)")
        db.execute("insert into t values (1)")
        db.commit()
`},
			cmd: "python3 -m unittest -v 2>&1", want: "Ran 3 tests"},
	}
}

func rustSteps() []step {
	const config = "[source.crates-io]\nreplace-with = \"mirror\"\n\n[source.mirror]\nregistry = \"sparse+{{mirror}}/cargo/\"\n"
	return []step{
		{name: "cargo build", what: "a crate from a sparse registry", needs: []string{"cargo", "cc"},
			files: map[string]string{
				".cargo/config.toml": config,
				"Cargo.toml":         "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\ntinycrate = \"1\"\n",
				"src/main.rs":        "fn main() {\n    println!(\"{}\", tinycrate::hello());\n}\n",
			},
			cmd: "cargo run", want: "hello from the mirror"},
		{name: "cargo test", what: "tests, with a build script", needs: []string{"cargo", "cc"},
			files: map[string]string{
				"Cargo.toml": "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
				"build.rs":   "fn main() {\n    println!(\"cargo:rustc-env=MADE=by the script\");\n}\n",
				"src/lib.rs": "#[cfg(test)]\nmod tests {\n    #[test]\n    fn made() {\n        assert_eq!(env!(\"MADE\"), \"by the script\");\n    }\n}\n",
			},
			cmd: "cargo test", want: "1 passed"},
	}
}
