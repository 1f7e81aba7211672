package main

import (
	"archive/zip"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// companyServer is one of a company that signs its certificates itself: a registry of
// npm, an index of pip, a git repository, a proxy of Go modules. cert is its file.
func companyServer(t *testing.T) (url, cert string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "company.pem"), filepath.Join(dir, "key.pem")
	makeCertificate(t, "company", cert, key)
	if err := os.Chmod(cert, 0o644); err != nil {
		t.Fatal(err)
	}
	openPath(t, dir)
	repo := filepath.Join(dir, "a.git")
	for _, args := range [][]string{{"init", "-q", "-b", "main", repo}, {"-C", repo, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "hello"}, {"-C", repo, "update-server-info"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var module bytes.Buffer
	z := zip.NewWriter(&module)
	w, err := z.Create("company.example/mod@v1.0.0/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "module company.example/mod\n")
	z.Close()
	mux := http.NewServeMux()
	for path, body := range map[string]string{
		"/hello":                                 "hello from the company\n",
		"/npm/company-package":                   `{"name":"company-package","dist-tags":{"latest":"1.2.3"},"versions":{"1.2.3":{"name":"company-package","version":"1.2.3","dist":{"tarball":"x","shasum":"x"}}}}`,
		"/pip/company-wheel/":                    `<a href="company_wheel-4.5.6-py3-none-any.whl">company_wheel-4.5.6-py3-none-any.whl</a>`,
		"/go/company.example/mod/@v/list":        "v1.0.0\n",
		"/go/company.example/mod/@latest":        `{"Version":"v1.0.0"}`,
		"/go/company.example/mod/@v/v1.0.0.info": `{"Version":"v1.0.0"}`,
		"/go/company.example/mod/@v/v1.0.0.mod":  "module company.example/mod\n",
		"/go/company.example/mod/@v/v1.0.0.zip":  module.String(),
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(path, "/pip") {
				w.Header().Set("Content-Type", "text/html")
			}
			io.WriteString(w, body)
		})
	}
	mux.Handle("/git/", http.StripPrefix("/git/", http.FileServer(http.Dir(repo+"/.git"))))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, cert
}

// TestCompanyCA: a company's own certificates, which SSL_CERT_FILE of the server names,
// are trusted by the programs inside, through the proxy and at the gate.
func TestCompanyCA(t *testing.T) {
	needsOwnNetwork(t)
	needPrograms(t, "npm", "git", "curl", "java", "/usr/bin/python3")
	url, cert := companyServer(t)
	root := t.TempDir()
	openPath(t, root)
	t.Setenv("SSL_CERT_FILE", cert)
	for _, name := range []string{"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO", "SSL_CERT_DIR"} {
		t.Setenv(name, "")
	}
	java := `import java.net.*; public class Get { public static void main(String[] a) throws Exception { System.out.print(new String(new URL(a[0]).openStream().readAllBytes())); } }`
	if err := os.WriteFile(filepath.Join(root, "Get.java"), []byte(java), 0o644); err != nil {
		t.Fatal(err)
	}
	c := startServer(t, "--root", root, "--network", "allow", "--allow-host", strings.TrimPrefix(url, "https://"))
	c.initialize("2025-11-25")
	for _, tc := range []struct{ cmd, want string }{
		{"curl -sS {u}/hello", "hello from the company"},
		{"npm view company-package version --registry {u}/npm", "1.2.3"},
		{"PIP_DISABLE_PIP_VERSION_CHECK=1 /usr/bin/python3 -m pip index versions company-wheel --index-url {u}/pip/", "4.5.6"},
		{"git ls-remote {u}/git/", "refs/heads/main"},
		{"cd \"$(mktemp -d)\" && GOFLAGS=-mod=mod GOSUMDB=off GOPROXY={u}/go go list -m -versions company.example/mod", "v1.0.0"},
		{"/usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"{u}/hello\").read())'", "hello from the company"},
		{"node -e 'fetch(\"{u}/hello\").then(r => r.text()).then(console.log)'", "hello from the company"},
		{"java -XX:TieredStopAtLevel=1 Get.java {u}/hello", "hello from the company"},
	} {
		line := strings.ReplaceAll(tc.cmd, "{u}", url)
		if o := c.exec(map[string]any{"cmd": line, "yield_time_ms": 45000}); !strings.Contains(o.Output, tc.want) {
			t.Errorf("%s: %s", line, fmt.Sprintf("%.800s, %q", o.Output, o.Notices))
		}
	}
}
