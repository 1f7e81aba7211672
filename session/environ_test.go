package session

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/deny"
)

// TestHostTrust: of the variables that name certificates those are passed whose
// files hold nothing else and can be read.
func TestHostTrust(t *testing.T) {
	for _, name := range slices.Concat(caFileEnv, caDirEnv) {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	const cert = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
	good := write("ca.crt", cert)
	hidden, err := deny.Parse([]string{filepath.Join(dir, "hidden.crt")}, "/nowhere", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, value, why string
	}{
		{"NODE_EXTRA_CA_CERTS", good, ""},
		{"GIT_SSL_CAINFO", write("key.pem", cert+"-----BEGIN PRIVATE KEY-----\n"), "private key"},
		{"CURL_CA_BUNDLE", write("text", "password"), "no certificate"},
		{"PIP_CERT", filepath.Join(dir, "nope"), "does not exist"},
		{"AWS_CA_BUNDLE", "ca.crt", "absolute"},
		{"DENO_CERT", dir, "not a file"},
		{"REQUESTS_CA_BUNDLE", write("hidden.crt", cert), "hidden"},
		{"SSL_CERT_DIR", "/", "directory"},
	} {
		t.Setenv(tc.name, tc.value)
		var left []string
		got := hostTrust(hidden, func(name, why string) { left = append(left, name+" "+why) })
		passed := slices.Contains(got.env, tc.name+"="+tc.value) && slices.Contains(got.grants, tc.value)
		if passed != (tc.why == "") || !passed && (len(left) != 1 || !strings.Contains(left[0], tc.why)) {
			t.Errorf("%s=%s: %+v, left %q, want %q", tc.name, tc.value, got, left, tc.why)
		}
		t.Setenv(tc.name, "")
	}
	t.Setenv("SSL_CERT_FILE", good)
	got := hostTrust(nil, func(name, why string) { t.Error(name, why) })
	for _, name := range []string{"SSL_CERT_FILE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS"} {
		if !slices.Contains(got.env, name+"="+good) {
			t.Errorf("%s is not set: %q", name, got.env)
		}
	}
}

// TestHostEnviron: what is passed of the server's environment names no secret.
func TestHostEnviron(t *testing.T) {
	t.Setenv("LC_TIME", "de_DE.UTF-8")
	t.Setenv("NO_COLOR", "1")
	t.Setenv("CI", "a\nb")
	t.Setenv("LC_SECRET", "s3cret")
	t.Setenv("GITHUB_TOKEN", "s3cret")
	env := hostEnviron()
	if !slices.Contains(env, "LC_TIME=de_DE.UTF-8") || !slices.Contains(env, "NO_COLOR=1") {
		t.Errorf("%q", env)
	}
	if all := strings.Join(env, " "); strings.Contains(all, "s3cret") || strings.Contains(all, "CI=") {
		t.Errorf("%q", env)
	}
}
