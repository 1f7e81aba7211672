package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// mirror serves packages on a port of loopback: /go is a GOPROXY, /npm an npm
// registry, /pypi/simple an index of Python wheels, /cargo a sparse registry,
// /maven a repository with Debian's in it, /playwright its browsers.
type mirror struct {
	listener net.Listener
	server   http.Server
	upstream string
	free     int    // a port for services of the steps
	browser  []byte // what Playwright installs, whichever version it asks for

	mu    sync.Mutex
	files map[string][]byte // by URL path
}

// debianMaven is where Debian keeps maven's plugins and libraries.
const debianMaven = "/usr/share/maven-repo"

func startMirror(upstream string) (*mirror, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	free, err := freePort()
	if err != nil {
		return nil, err
	}
	m := &mirror{listener: l, upstream: upstream, free: free, files: map[string][]byte{}}
	m.server.ReadHeaderTimeout = 10 * time.Second
	m.server.Handler = http.HandlerFunc(m.serve)
	for _, fill := range []func() error{m.makeGo, m.makePython, m.makeCargo, m.makeMaven, m.makeNPM, m.makeBrowser} {
		if err := fill(); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
	}
	go func() { _ = m.server.Serve(l) }()
	return m, nil
}

func (m *mirror) Close() { _ = m.server.Close() }

// address is the HOST:PORT of the rule that opens the mirror to a session.
func (m *mirror) address() string { return m.listener.Addr().String() }

// fill puts the mirror's URL, and a port that is free, into a command or a
// project's file.
func (m *mirror) fill(text string) string {
	return strings.NewReplacer("{{mirror}}", "http://"+m.address(), "{{port}}", strconv.Itoa(m.free)).Replace(text)
}

// freePort finds a port of loopback that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (m *mirror) put(path string, body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[path] = body
}

func (m *mirror) has(path string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.files[path]
	return ok
}

func (m *mirror) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	body, ok := m.files[strings.TrimSuffix(r.URL.Path, "/")]
	m.mu.Unlock()
	switch {
	case ok:
		if strings.HasPrefix(r.URL.Path, "/npm/") && !strings.HasSuffix(r.URL.Path, ".tgz") {
			w.Header().Set("Content-Type", "application/json")
		}
		http.ServeContent(w, r, r.URL.Path, time.Time{}, bytes.NewReader(body))
	case strings.HasPrefix(r.URL.Path, "/playwright/") && strings.HasSuffix(r.URL.Path, ".zip"):
		_, _ = w.Write(m.browser)
	case strings.HasPrefix(r.URL.Path, "/maven/"):
		http.StripPrefix("/maven", http.FileServer(http.Dir(debianMaven))).ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (m *mirror) makeGo() error {
	const module = "example.test/greet"
	mod := "module " + module + "\n\ngo 1.21\n"
	source, err := zipped(map[string]string{
		module + "@v1.0.0/go.mod":   mod,
		module + "@v1.0.0/greet.go": "package greet\n\n// Hello greets.\nfunc Hello() string { return \"hello from the mirror\" }\n",
	})
	if err != nil {
		return err
	}
	at := "/go/" + module + "/@v/"
	info := []byte(`{"Version":"v1.0.0","Time":"2026-01-02T03:04:05Z"}`)
	m.put(at+"list", []byte("v1.0.0\n"))
	m.put("/go/"+module+"/@latest", info)
	m.put(at+"v1.0.0.info", info)
	m.put(at+"v1.0.0.mod", []byte(mod))
	m.put(at+"v1.0.0.zip", source)
	return nil
}

func (m *mirror) makePython() error {
	const info = "tinywheel-1.0.dist-info/"
	wheel, err := zipped(map[string]string{
		"tinywheel.py":     "def hello():\n    return 'hello from the mirror'\n",
		info + "METADATA":  "Metadata-Version: 2.1\nName: tinywheel\nVersion: 1.0\n",
		info + "WHEEL":     "Wheel-Version: 1.0\nGenerator: projects\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		info + "RECORD":    "tinywheel.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n",
		info + "LICENSE":   "none\n",
		info + "INSTALLER": "projects\n",
	})
	if err != nil {
		return err
	}
	const name = "tinywheel-1.0-py3-none-any.whl"
	page := fmt.Sprintf("<!DOCTYPE html><html><body><a href=\"/pypi/files/%s#sha256=%s\">%s</a></body></html>", name, sum(wheel), name)
	m.put("/pypi/simple/tinywheel", []byte(page))
	m.put("/pypi/files/"+name, wheel)
	return nil
}

func (m *mirror) makeCargo() error {
	crate, err := tarred(map[string]string{
		"tinycrate-1.0.0/Cargo.toml": "[package]\nname = \"tinycrate\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
		"tinycrate-1.0.0/src/lib.rs": "pub fn hello() -> &'static str {\n    \"hello from the mirror\"\n}\n",
	})
	if err != nil {
		return err
	}
	index, err := json.Marshal(map[string]any{
		"name": "tinycrate", "vers": "1.0.0", "deps": []string{}, "cksum": sum(crate), "features": map[string]any{}, "yanked": false,
	})
	if err != nil {
		return err
	}
	m.put("/cargo/config.json", []byte(m.fill(`{"dl":"{{mirror}}/cargo/dl"}`)))
	m.put("/cargo/ti/ny/tinycrate", append(index, '\n'))
	m.put("/cargo/dl/tinycrate/1.0.0/download", crate)
	return nil
}

func (m *mirror) makeMaven() error {
	jar, err := zipped(map[string]string{
		"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n\n",
		"greet.txt":            "hello from the mirror\n",
	})
	if err != nil {
		return err
	}
	at := "/maven/example/test/greet/1.0/greet-1.0"
	m.put(at+".jar", jar)
	m.put(at+".pom", []byte("<project><modelVersion>4.0.0</modelVersion><groupId>example.test</groupId><artifactId>greet</artifactId><version>1.0</version></project>\n"))
	return nil
}

// makeBrowser makes the archives that Playwright installs browsers from: they
// start the host's Chromium.
func (m *mirror) makeBrowser() (err error) {
	const start = "#!/bin/sh\nexec chromium --headless \"$@\"\n"
	m.browser, err = zipped(map[string]string{
		"chrome-linux/headless_shell": start,
		"ffmpeg-linux":                "#!/bin/sh\nexit 1\n",
	})
	return err
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// zipped gives a zip file of executables, the same bytes for the same files.
func zipped(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		w, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// tarred gives a gzipped tar file, in which files of a bin directory are
// executable.
func tarred(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	t := tar.NewWriter(g)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := int64(0o644)
		if strings.Contains(name, "/bin/") {
			mode = 0o755
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(files[name])), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := t.Write([]byte(files[name])); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := g.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
