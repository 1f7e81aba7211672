package session

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestJavaTrust: Java's own tool reads the key store; the system's bundle gets none.
func TestJavaTrust(t *testing.T) {
	dir := t.TempDir()
	bundle, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Skip(err)
	}
	first, rest := pem.Decode(bundle)
	second, _ := pem.Decode(rest)
	name := filepath.Join(dir, "company.pem")
	text := "# a comment\n" + string(pem.EncodeToMemory(first)) + "between\n" + string(pem.EncodeToMemory(second))
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	store := javaTrust(name)
	if err := os.WriteFile(dir+"/store", []byte(store), 0o644); err != nil {
		t.Fatal(err)
	}
	if tool, err := exec.LookPath("keytool"); err == nil {
		out, err := exec.Command(tool, "-list", "-keystore", dir+"/store", "-storepass", "changeit").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "contains 2 entries") {
			t.Errorf("%v: %s", err, out)
		}
	}
	if err := os.WriteFile(dir+"/none.pem", []byte("no certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc/ssl/certs/ca-certificates.crt", dir + "/none.pem", dir + "/missing"} {
		if javaTrust(name) != "" {
			t.Errorf("%s has a key store", name)
		}
	}
}
