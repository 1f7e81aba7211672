package session

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
)

// passedEnv are the variables of the server that commands get: for text, colour and
// non-interactive use. None of them holds a secret.
var passedEnv = []string{
	"LANG", "LANGUAGE", "TZ",
	"LC_ALL", "LC_ADDRESS", "LC_COLLATE", "LC_CTYPE", "LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_MESSAGES",
	"LC_MONETARY", "LC_NAME", "LC_NUMERIC", "LC_PAPER", "LC_TELEPHONE", "LC_TIME",
	"CI", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLORFGBG",
}

// caFileEnv name a file of certificates to trust, caDirEnv a list of directories
// of them. Commands get those whose files they can read.
var (
	caFileEnv = []string{
		"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO",
		"PIP_CERT", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "DENO_CERT", "npm_config_cafile", "NIX_SSL_CERT_FILE",
	}
	caDirEnv = []string{"SSL_CERT_DIR", "GIT_SSL_CAPATH"}
)

// longestPassed bounds one value that is passed on, in bytes.
const longestPassed = 4096

// offlineEnv keeps package managers from retrying, for a minute and more, where
// there is no network to come back.
var offlineEnv = []string{
	"npm_config_fetch_retries=0", "npm_config_update_notifier=false", // pnpm reads them too
	"YARN_HTTP_RETRY=0", "PIP_RETRIES=1", "PIP_DISABLE_PIP_VERSION_CHECK=1", "UV_HTTP_RETRIES=0",
	"POETRY_REQUESTS_MAX_RETRIES=0", "CARGO_NET_RETRY=0", "BUNDLE_RETRY=0",
}

// hostEnviron is what of the server's environment commands get.
func hostEnviron() []string {
	env := []string{"LANG=C.UTF-8"}
	for _, name := range passedEnv {
		if v := os.Getenv(name); v != "" && len(v) <= longestPassed && !strings.ContainsAny(v, "\x00\n") {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// trustStore is the certificates that the server's environment has programs
// trust.
type trustStore struct {
	env    []string // NAME=VALUE
	grants []string // what must be readable for them
	java   string   // a key store, as Java reads none of the variables
}

// hostTrust finds the certificates the server's environment names. A file with
// something else in it, above all a private key, is left out, as is what hidden
// covers; left names each.
func hostTrust(hidden *deny.List, left func(name, why string)) trustStore {
	var t trustStore
	read := trustFiles{}
	for _, name := range caFileEnv {
		v := os.Getenv(name)
		if v == "" {
			continue
		}
		if why := read.notTrust(v, hidden); why != "" {
			left(name, why)
			continue
		}
		t.add(name, v, v)
	}
	for _, name := range caDirEnv {
		var dirs []string
		for _, dir := range filepath.SplitList(os.Getenv(name)) {
			if fi, err := os.Stat(dir); err != nil || !fi.IsDir() || !filepath.IsAbs(dir) || hidden.Covers(dir) || broad(dir) {
				left(name, "a directory in it is missing, hidden or no directory of certificates")
				continue
			}
			dirs = append(dirs, dir)
		}
		if len(dirs) > 0 {
			t.add(name, strings.Join(dirs, string(filepath.ListSeparator)), dirs...)
		}
	}
	// A replaced bundle is meant for all programs, and each reads a variable of its
	// own.
	if all := os.Getenv("SSL_CERT_FILE"); slices.Contains(t.env, "SSL_CERT_FILE="+all) {
		for _, name := range []string{"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "PIP_CERT", "CARGO_HTTP_CAINFO"} {
			if os.Getenv(name) == "" {
				t.env = append(t.env, name+"="+all)
			}
		}
		t.java = javaTrust(all)
	}
	return t
}

func (t *trustStore) add(name, value string, grants ...string) {
	t.env = append(t.env, name+"="+value)
	for _, g := range grants {
		if g = filepath.Clean(g); !slices.Contains(t.grants, g) {
			t.grants = append(t.grants, g)
		}
	}
}

// broad are directories that hold more than certificates.
func broad(dir string) bool {
	dir = filepath.Clean(dir)
	home, _ := os.UserHomeDir()
	return dir == home || within(home, dir) || strings.Count(dir, "/") < 2
}

// trustFiles holds what was said of a file's content, as most hosts name one file
// in several variables.
type trustFiles map[fileID]string

type fileID struct {
	dev, ino   uint64
	size, nano int64
}

// notTrust says why a file is not one of certificates that commands may read.
func (seen trustFiles) notTrust(name string, hidden *deny.List) string {
	const most = 8 << 20
	if !filepath.IsAbs(name) {
		return "it is not an absolute path"
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return "its file does not exist"
	}
	if hidden.Covers(name) || hidden.Covers(real) {
		return "its file is hidden by --deny-read or --deny-secrets"
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "its file cannot be read"
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > most {
		return "it is not a file of certificates"
	}
	st := fi.Sys().(*syscall.Stat_t)
	id := fileID{uint64(st.Dev), uint64(st.Ino), fi.Size(), fi.ModTime().UnixNano()}
	if why, ok := seen[id]; ok {
		return why
	}
	seen[id] = notCertificates(io.LimitReader(f, most))
	return seen[id]
}

// notCertificates says why r is not a file of certificates alone.
func notCertificates(r io.Reader) string {
	var (
		certificate = []byte("CERTIFICATE-----")
		private     = []byte("PRIVATE KEY")
		found       bool
		kept        int // of the piece before, where a word may begin that ends in the next
	)
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b[kept:])
		seen := b[:kept+n]
		if bytes.Contains(seen, private) {
			return "its file holds a private key"
		}
		found = found || bytes.Contains(seen, certificate)
		switch {
		case err == io.EOF && !found:
			return "its file holds no certificate"
		case err == io.EOF:
			return ""
		case err != nil:
			return "its file cannot be read"
		}
		kept = copy(b, seen[max(0, len(seen)-len(certificate)):])
	}
}

// environ is a clean environment: what is true inside the sandbox, what of the
// server's says how output looks and whom to trust, the configured values, then
// the call's own. Nothing else of the server's.
func (s *Session) environ(extra map[string]string, tty bool) ([]string, error) {
	term := "dumb"
	if tty {
		term = "xterm-256color"
	}
	env := slices.Clone(s.sandbox.Environ())
	env = append(env, "TERM="+term)
	env = append(env, hostEnviron()...)
	env = append(env, s.trust.env...)
	if !s.hasNetwork() {
		env = append(env, offlineEnv...)
	}
	if s.config.Network == sandbox.NetworkAllow {
		// It would be refused, and told to a command that never asked for it.
		env = append(env, "npm_config_update_notifier=false")
	}
	env = append(env, s.env...)
	env = append(env, s.config.Env...)
	for name, value := range extra {
		if err := sandbox.CheckEnvName(name); err != nil {
			return nil, err
		}
		if strings.ContainsRune(value, 0) {
			return nil, errorf("invalid_argument", nil, "the environment value of %q holds a NUL byte; remove it", name)
		}
		env = append(env, name+"="+value)
	}
	return lastWins(env), nil
}

// lastWins keeps the last value of each name: getenv(3) of most C libraries
// finds the first, so a doubled name would undo the later setting.
func lastWins(env []string) []string {
	at := make(map[string]int, len(env))
	out := env[:0:0]
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if i, ok := at[name]; ok {
			out[i] = kv
			continue
		}
		at[name] = len(out)
		out = append(out, kv)
	}
	return out
}
