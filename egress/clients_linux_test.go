package egress

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// internet stands for the package sources: every host of the presets, over https
// with a certificate authority of its own, and over http.
type internet struct {
	*world
	ca   string // a PEM file
	mu   sync.Mutex
	seen []string // "scheme host path"
	mux  *http.ServeMux
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	n := &internet{world: newWorld(), mux: http.NewServeMux()}
	var hosts []string
	for _, rules := range presets() {
		hosts = append(hosts, rules...)
	}
	for _, h := range hosts {
		n.name(h, public.String())
	}
	cert, ca := certificate(t, hosts)
	n.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(n.ca, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		n.mu.Lock()
		n.seen = append(n.seen, scheme+" "+r.Host+" "+r.URL.Path)
		n.mu.Unlock()
		n.mux.ServeHTTP(w, r)
	})
	n.serve(t, public.String()+":80", h)
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	n.place(public.String()+":443", s.Listener.Addr().String())
	return n
}

func (n *internet) saw(prefix string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.seen, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

func (n *internet) file(pattern string, content []byte) {
	n.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

func certificate(t *testing.T, hosts []string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1}}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: hosts, AuthorityKeyId: []byte{1},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
}

// zipOf and tgzOf make archives of name, content pairs.
func zipOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = io.WriteString(w, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tgzOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for i := 0; i < len(files); i += 2 {
		err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))})
		if err == nil {
			_, err = io.WriteString(w, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// session is a proxy with presets, and the environment of a command behind it.
func (n *internet) session(t *testing.T, presets ...string) (*Proxy, []string) {
	t.Helper()
	pol, err := NewPolicy(nil, nil, presets)
	if err != nil {
		t.Fatal(err)
	}
	p := hear(Options{Policy: pol, Resolver: n, Dial: n.dial})
	t.Cleanup(p.Close)
	home := t.TempDir()
	t.Cleanup(func() { // the module cache is read-only
		_ = filepath.WalkDir(home, func(path string, d os.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
	})
	env := append(Environ(innerAddr), "PATH="+os.Getenv("PATH"), "HOME="+home, "TMPDIR="+home, "LANG=C.UTF-8",
		// The test's own authority, in the words of each client.
		"CURL_CA_BUNDLE="+n.ca, "GIT_SSL_CAINFO="+n.ca, "NODE_EXTRA_CA_CERTS="+n.ca, "npm_config_cafile="+n.ca, "SSL_CERT_FILE="+n.ca, "PIP_CERT="+n.ca, "CARGO_HTTP_CAINFO="+n.ca)
	return p, env
}

// need skips a test whose client is not installed, or not for this user.
func need(t *testing.T, name string, args ...string) {
	t.Helper()
	if len(args) == 0 {
		args = []string{"--version"}
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Skipf("%s: %v %s", name, err, out)
	}
}

// AC-40, AC-42: from inside a network of its own, the proxy is the one way out.
func TestAC40NoWayAround(t *testing.T) {
	need(t, "curl")
	n := newInternet(t)
	n.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "reached") })
	secret := n.serve(t, "198.41.0.4:80", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the forbidden server was reached") }))
	p, env := n.session(t, "github")
	out, err := inside(t, p, env, `
try() { printf '%s: ' "$1"; shift; curl -sS -m 10 "$@" 2>&1 || true; echo; }
try https https://github.com/x
try http http://github.com/x
try socks --proxy socks5h://`+innerAddr+` https://github.com/x
try socks-http --proxy socks5h://`+innerAddr+` http://github.com/x
try socks-local --proxy socks5://`+innerAddr+` --resolve github.com:443:93.184.215.14 https://github.com/x
try direct --noproxy '*' http://93.184.215.14/x
try direct-host --noproxy '*' `+secret.URL+`/x
try no-proxy-range http://127.0.0.1:`+secret.URL[strings.LastIndex(secret.URL, ":")+1:]+`/x
try by-proxy --noproxy '' `+secret.URL+`/x
try other-name https://evil.test/x
try own-resolve --connect-to github.com:443:198.41.0.4:80 https://github.com/x
try host-header -H 'Host: evil.test' http://github.com/x
try host-header-tunnel -p -H 'Host: evil.test' http://github.com/x
`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		wanted := name == "https" || name == "http" || name == "socks" || name == "socks-http"
		if reached := rest == "reached"; reached != wanted {
			t.Errorf("%s: %s", name, rest)
		}
	}
	if strings.Count(out, "reached\n") != 4 {
		t.Errorf("output:\n%s", out)
	}
	if n.saw("http evil.test") || len(p.denials()) == 0 {
		t.Errorf("seen %q, denied %v", n.seen, p.denials())
	}
}

func TestClientGit(t *testing.T) {
	need(t, "git")
	n := newInternet(t)
	root := t.TempDir()
	execPath, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	n.mux.Handle("github.com/", &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(execPath)), "git-http-backend"), Dir: root, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=x", "HOME=" + root, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}})
	setup := exec.Command("sh", "-euc", `git init -q -b main src && cd src && head -c 3000000 /dev/urandom > big && git add . && git -c user.name=x -c user.email=x@x commit -qm one
cd .. && mkdir o && git clone -q --bare src o/r.git && git -C o/r.git config http.receivepack true`)
	setup.Dir, setup.Env = root, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + root, "GIT_CONFIG_NOSYSTEM=1"}
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	p, env := n.session(t, "github")
	out, err := inside(t, p, env, `
git clone -q https://github.com/o/r.git a
git clone -q http://github.com/o/r.git b
git clone -q git@github.com:o/r.git c
git clone -q ssh://git@github.com/o/r.git d
cmp a/big c/big
cd a && head -c 2000000 /dev/urandom > more && git add . && git -c user.name=x -c user.email=x@x commit -qm two && git push -q origin main
cd ../c && git pull -q && cmp more ../a/more && echo all there`)
	if err != nil || !strings.Contains(out, "all there") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientGo(t *testing.T) {
	need(t, "go", "version")
	n := newInternet(t)
	mod := "module example.org/demo\n\ngo 1.21\n"
	n.file("proxy.golang.org/example.org/demo/@v/list", []byte("v1.2.3\n"))
	n.file("proxy.golang.org/example.org/demo/@v/v1.2.3.info", []byte(`{"Version":"v1.2.3","Time":"2024-01-01T00:00:00Z"}`))
	n.file("proxy.golang.org/example.org/demo/@v/v1.2.3.mod", []byte(mod))
	n.file("proxy.golang.org/example.org/demo/@v/v1.2.3.zip", zipOf(t, "example.org/demo@v1.2.3/go.mod", mod, "example.org/demo@v1.2.3/demo.go", "package demo\n"))
	p, env := n.session(t, "go")
	// The checksum database signs with a key that a test does not have.
	out, err := inside(t, p, append(env, "GONOSUMDB=example.org", "GOTOOLCHAIN=local", "GOTELEMETRY=off"), `
printf 'module m\n\ngo 1.21\n\nrequire example.org/demo v1.2.3\n' > go.mod
go mod download -x example.org/demo
go list -m -versions example.org/demo`)
	if err != nil || !strings.Contains(out, "example.org/demo v1.2.3") || !n.saw("https proxy.golang.org /example.org/demo/@v/v1.2.3.zip") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientNPM(t *testing.T) {
	need(t, "npm")
	n := newInternet(t)
	tgz := tgzOf(t, "package/package.json", `{"name":"demo","version":"1.0.0"}`, "package/index.js", "module.exports=1")
	n.file("registry.npmjs.org/demo/-/demo-1.0.0.tgz", tgz)
	n.mux.HandleFunc("registry.npmjs.org/demo", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"name":"demo","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"demo","version":"1.0.0","dist":{"tarball":"https://registry.npmjs.org/demo/-/demo-1.0.0.tgz"}}}}`)
	})
	p, env := n.session(t, "npm")
	out, err := inside(t, p, env, `
echo '{"name":"x","version":"1.0.0"}' > package.json
npm install --no-audit --no-fund --no-update-notifier demo
node -e 'console.log("demo is", require("demo"))'`)
	if err != nil || !strings.Contains(out, "demo is 1") || !n.saw("https registry.npmjs.org /demo/-/demo-1.0.0.tgz") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientPip(t *testing.T) {
	need(t, "python3", "-m", "pip", "--version")
	n := newInternet(t)
	wheel := zipOf(t, "demo.py", "x = 1\n", "demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n", "demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "demo-1.0.dist-info/RECORD", "demo.py,,\n")
	n.file("files.pythonhosted.org/demo-1.0-py3-none-any.whl", wheel)
	n.mux.HandleFunc("pypi.org/simple/demo/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!DOCTYPE html><a href="https://files.pythonhosted.org/demo-1.0-py3-none-any.whl">demo-1.0-py3-none-any.whl</a>`)
	})
	p, env := n.session(t, "pypi")
	out, err := inside(t, p, env, `
python3 -m pip install -q --disable-pip-version-check --no-input --target lib demo
PYTHONPATH=lib python3 -c 'import demo; print("demo is", demo.x)'
python3 -c 'import urllib.request as u; print(u.urlopen("http://pypi.org/simple/demo/").status)'`)
	if err != nil || !strings.Contains(out, "demo is 1") || !n.saw("https files.pythonhosted.org /demo") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientCargo(t *testing.T) {
	need(t, "cargo")
	n := newInternet(t)
	crate := tgzOf(t, "demo-1.0.0/Cargo.toml", "[package]\nname = \"demo\"\nversion = \"1.0.0\"\nedition = \"2021\"\n", "demo-1.0.0/src/lib.rs", "pub fn x() {}\n")
	n.file("index.crates.io/config.json", []byte(`{"dl":"https://static.crates.io/crates","api":"https://crates.io"}`))
	n.file("index.crates.io/de/mo/demo", fmt.Appendf(nil, `{"name":"demo","vers":"1.0.0","deps":[],"cksum":"%x","features":{},"yanked":false}`+"\n", sha256.Sum256(crate)))
	n.file("static.crates.io/crates/demo/1.0.0/download", crate)
	n.file("static.crates.io/crates/demo/demo-1.0.0.crate", crate)
	p, env := n.session(t, "crates")
	// Where the toolchain lies is rustup's own business; its home is not the test's.
	for _, name := range []string{"RUSTUP_HOME", "RUSTUP_TOOLCHAIN"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		} else if home, err := os.UserHomeDir(); err == nil && name == "RUSTUP_HOME" {
			env = append(env, name+"="+filepath.Join(home, ".rustup"))
		}
	}
	out, err := inside(t, p, env, `
mkdir src && echo 'fn main() {}' > src/main.rs
printf '[package]\nname = "m"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\ndemo = "1"\n' > Cargo.toml
cargo fetch && grep demo Cargo.lock && cargo vendor -q >/dev/null && test -f vendor/demo/src/lib.rs && echo vendored`)
	if err != nil || !strings.Contains(out, "vendored") || !n.saw("https static.crates.io /crates/demo") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientApt(t *testing.T) {
	need(t, "apt-get")
	n := newInternet(t)
	deb := bytes.Repeat([]byte("not really an archive\n"), 10000) // download checks its size and sum alone
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Skip(err)
	}
	n.file("deb.debian.org/debian/demo.deb", deb)
	n.file("deb.debian.org/debian/Packages", fmt.Appendf(nil, "Package: demo\nVersion: 1.0\nArchitecture: %sFilename: ./demo.deb\nSize: %d\nSHA256: %x\nDescription: x\nMaintainer: x\n\n", arch, len(deb), sha256.Sum256(deb)))
	p, env := n.session(t, "debian")
	out, err := inside(t, p, env, `
mkdir -p apt/etc apt/state/lists/partial apt/cache/archives/partial && touch apt/status
echo 'deb [trusted=yes] http://deb.debian.org/debian ./' > apt/etc/sources.list
o="-o Dir::Etc::SourceList=$PWD/apt/etc/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Parts=/dev/null -o Dir::State=$PWD/apt/state -o Dir::State::status=$PWD/apt/status -o Dir::Cache=$PWD/apt/cache -o APT::Sandbox::User=root -o Acquire::Languages=none"
apt-get $o update && apt-get $o download demo && cksum demo*.deb`)
	if err != nil || !n.saw("http deb.debian.org /debian/demo.deb") || !strings.Contains(out, fmt.Sprint(len(deb))) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestClientWget(t *testing.T) {
	need(t, "wget")
	n := newInternet(t)
	n.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "reached ") })
	p, env := n.session(t, "github")
	out, err := inside(t, p, env, `wget -q -O - http://github.com/; wget -q --ca-certificate="$CURL_CA_BUNDLE" -O - https://github.com/`)
	if err != nil || out != "reached reached " {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEnviron(t *testing.T) {
	env := Environ("127.0.0.1:3128")
	seen := map[string]string{}
	for _, kv := range env {
		k, v, ok := strings.Cut(kv, "=")
		if _, twice := seen[k]; twice || !ok || v == "" {
			t.Errorf("%q", kv)
		}
		seen[k] = v
	}
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"} {
		if seen[name] != "http://127.0.0.1:3128" {
			t.Errorf("%s=%s", name, seen[name])
		}
	}
	if seen["NO_PROXY"] != seen["no_proxy"] || !strings.Contains(seen["no_proxy"], "127.0.0.1") {
		t.Errorf("no_proxy=%s", seen["no_proxy"])
	}
}
