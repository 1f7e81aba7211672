// Package manifest reads what a new workspace holds and what its commands see,
// refuses what could never be made, and puts the entries into a workspace.
//
// A manifest comes from whoever starts the server; what its sources hold is
// trusted for its content alone: no link is followed and nothing hidden is
// copied. Running git is left to the caller, who has a sandbox for it.
package manifest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"

	"mcp-sandbox/hostpath"
	"mcp-sandbox/sandbox"
)

// Manifest says what a new workspace holds and what its commands see. It comes
// from whoever starts the server, never from a workspace. The zero value is an
// empty workspace.
type Manifest struct {
	// Version is 1, or 0 for the same.
	Version int `json:"version,omitempty"`
	// Root is an absolute directory to work in, kept at the end; "" makes an owned
	// temporary one.
	Root string `json:"root,omitempty"`
	// From is what a new workspace starts with, before its entries: a tar file,
	// relative to the manifest's directory, or a snapshot, see the flag --from.
	From        string              `json:"from,omitempty"`
	Entries     map[string]Entry    `json:"entries,omitempty"`
	Environment map[string]EnvValue `json:"environment,omitempty"`
	Grants      []PathGrant         `json:"extra_path_grants,omitempty"`
	Ports       []int               `json:"exposed_ports,omitempty"`
	// Users and Groups are known only to be refused by name.
	Users  []any `json:"users,omitempty"`
	Groups []any `json:"groups,omitempty"`

	// base is the directory of the manifest file; sources are relative to it.
	base string
}

// Entry is one file or directory of the workspace. Its key is a slash-separated
// relative path.
type Entry struct {
	// Type is file, dir, local_file, local_dir or git_repo.
	Type        string `json:"type"`
	Description string `json:"description,omitempty"`
	// Ephemeral entries are made again at every start, also of a resumed session,
	// and are left out of snapshots.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// Permissions is an octal text such as "0644". Without it a file is 0644, a
	// directory 0755, and a copy executable when its source is.
	Permissions string `json:"permissions,omitempty"`
	// Group is known only to be refused by name.
	Group string `json:"group,omitempty"`

	Content       *string `json:"content,omitempty"`        // file: text
	ContentBase64 []byte  `json:"content_base64,omitempty"` // file: any bytes

	Children map[string]Entry `json:"children,omitempty"` // dir

	// Src is the source of local_file and local_dir: relative to the manifest's
	// directory, or absolute in it or in a granted path.
	Src string `json:"src,omitempty"`

	Host    string `json:"host,omitempty"`    // git_repo: github.com, or host:port
	Repo    string `json:"repo,omitempty"`    // git_repo: owner/name
	Ref     string `json:"ref,omitempty"`     // git_repo: branch, tag or commit
	Subpath string `json:"subpath,omitempty"` // git_repo: only this directory of it
}

// EnvValue is one environment value: given, or taken from the server's own
// environment or a file when a session starts. In a manifest it is a string or
// an object. What is taken from elsewhere or is ephemeral is a secret to the
// logs, and no value is ever part of a session's state.
type EnvValue struct {
	Value       *string `json:"value,omitempty"`
	FromEnv     string  `json:"from_env,omitempty"`
	FromFile    string  `json:"from_file,omitempty"`
	Description string  `json:"description,omitempty"`
	Ephemeral   bool    `json:"ephemeral,omitempty"`
}

// PathGrant is a host path that commands and file tools may use, at the same
// path inside.
type PathGrant struct {
	Path        string `json:"path"`
	ReadOnly    bool   `json:"read_only,omitempty"`
	Description string `json:"description,omitempty"`
	// HostPath is known only to be refused by name.
	HostPath string `json:"host_path,omitempty"`
}

// UnmarshalJSON takes a plain string for a value. An object must name exactly
// one source: with none or two it could mean several things.
func (v *EnvValue) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*v = EnvValue{Value: &text}
		return nil
	}
	type plain EnvValue
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(v)); err != nil {
		return err
	}
	n := 0
	for _, given := range []bool{v.Value != nil, v.FromEnv != "", v.FromFile != ""} {
		if given {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("an environment value needs exactly one of value, from_env and from_file")
	}
	return nil
}

// MaxBytes bounds a manifest file, in bytes.
const MaxBytes = 64 << 20

// Load reads a manifest: TOML when its name ends in .toml, else JSON.
// Unknown keys, and anything this product does not do, are refused by name.
// Codes: invalid_argument, not_found, too_large, path_outside_workspace.
func Load(path string) (*Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errorf("not_found", err, "the manifest %q cannot be read; check its path and permissions", path)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, errorf("invalid_argument", err, "the manifest %q cannot be read; name a plain file", path)
	}
	if len(b) > MaxBytes {
		return nil, errorf("too_large", nil, "the manifest is over %d MiB; put large content in files and name them as local_file", MaxBytes>>20)
	}
	abs, err := filepath.Abs(path)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, errorf("not_found", err, "the manifest %q cannot be resolved; name it in full", path)
	}
	return Parse(b, strings.EqualFold(filepath.Ext(path), ".toml"), filepath.Dir(abs))
}

// Parse is Load for text that is at hand; base is the absolute
// directory that sources are relative to.
func Parse(text []byte, isTOML bool, base string) (*Manifest, error) {
	if isTOML {
		// TOML is turned into JSON, so that both forms have one set of rules.
		var tree map[string]any
		if err := toml.Unmarshal(text, &tree); err != nil {
			return nil, errorf("invalid_argument", err, "the manifest is not valid TOML (%v); correct it", err)
		}
		var err error
		if text, err = json.Marshal(tree); err != nil {
			return nil, errorf("invalid_argument", err, "the manifest holds a value that JSON cannot express, such as a date or inf (%v); write it as text", err)
		}
	} else if err := checkDoubledKeys(text); err != nil {
		return nil, err
	}
	m := &Manifest{base: base}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, errorf("invalid_argument", err, "invalid manifest (%s); correct it", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errorf("invalid_argument", nil, "trailing data after the manifest's JSON object; remove it")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// checkDoubledKeys refuses an object with the same key twice: decoders keep
// different ones of them, so what was reviewed may not be what is applied.
func checkDoubledKeys(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	var walk func() error
	walk = func() error {
		t, err := d.Token()
		if err != nil {
			return err
		}
		open, ok := t.(json.Delim)
		if !ok {
			return nil
		}
		seen := map[string]bool{}
		for d.More() {
			if open == '{' {
				k, err := d.Token()
				if err != nil {
					return err
				}
				key, _ := k.(string)
				if seen[strings.ToLower(key)] {
					return errorf("invalid_argument", nil, "the manifest has the key %q twice in one object; keep one", key)
				}
				seen[strings.ToLower(key)] = true
			}
			if err := walk(); err != nil {
				return err
			}
		}
		_, err = d.Token()
		return err
	}
	if err := walk(); err != nil {
		if e, ok := err.(*sandbox.Error); ok {
			return e
		}
		return errorf("invalid_argument", err, "the manifest is not valid JSON (%v); correct it", err)
	}
	return nil
}

// check refuses everything that could be known to fail, before anything is made.
func (m *Manifest) check() error {
	if m.Version != 0 && m.Version != 1 {
		return errorf("invalid_argument", nil, "the manifest has version %d; use version 1", m.Version)
	}
	if m.Root != "" && !filepath.IsAbs(m.Root) {
		return errorf("invalid_argument", nil, "the manifest's root %q is not absolute; write the whole path or leave it out for a temporary directory", m.Root)
	}
	if strings.ContainsRune(m.From, 0) {
		return errorf("invalid_argument", nil, "the manifest's from holds a NUL byte; remove it")
	}
	if len(m.Users) > 0 {
		return errorf("invalid_argument", nil, "the manifest lists users: a session runs as one unprivileged identity; remove users")
	}
	if len(m.Groups) > 0 {
		return errorf("invalid_argument", nil, "the manifest lists groups: a session runs as one unprivileged identity; remove groups")
	}
	for name, v := range m.Environment {
		if err := sandbox.CheckEnvName(name); err != nil {
			return err
		}
		if v.Value != nil && strings.ContainsRune(*v.Value, 0) {
			return errorf("invalid_argument", nil, "the environment value of %q holds a NUL byte; remove it", name)
		}
	}
	for _, g := range m.Grants {
		if g.HostPath != "" {
			return errorf("invalid_argument", nil, "the grant of %q has a host_path: a granted path is found at the same path inside; remove host_path", g.Path)
		}
		if !filepath.IsAbs(g.Path) || filepath.Clean(g.Path) == "/" || strings.ContainsRune(g.Path, 0) {
			return errorf("invalid_argument", nil, "the granted path %q is not an absolute path below /; write the whole path of a file or directory", g.Path)
		}
	}
	for _, p := range m.Ports {
		if p < 1 || p > 65535 {
			return errorf("invalid_argument", nil, "the exposed port %d is out of range; use 1 to 65535", p)
		}
	}
	entries, err := m.flatten()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return err
		}
	}
	return nil
}

// item is one entry with its whole path, and with what it inherits.
type item struct {
	Entry
	path string
}

// flatten lists the entries with their children, parents before children and
// otherwise by path.
func (m *Manifest) flatten() ([]item, error) {
	var out []item
	seen := map[string]string{}
	var add func(prefix string, es map[string]Entry, ephemeral bool) error
	add = func(prefix string, es map[string]Entry, ephemeral bool) error {
		for _, key := range slices.Sorted(maps.Keys(es)) {
			rel, err := entryPath(key)
			if err != nil {
				return err
			}
			if prefix != "" {
				rel = prefix + "/" + rel
			}
			if other, ok := seen[rel]; ok {
				return errorf("invalid_argument", nil, "the entries %q and %q are the same path; keep one", other, key)
			}
			seen[rel] = key
			e := es[key]
			e.Ephemeral = e.Ephemeral || ephemeral
			out = append(out, item{e, rel})
			if e.Type != "dir" && len(e.Children) > 0 {
				return errorf("invalid_argument", nil, "the entry %q is a %s and has children; only a dir can have them", rel, e.Type)
			}
			if err := add(rel, e.Children, e.Ephemeral); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add("", m.Entries, false); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b item) int { return strings.Compare(a.path, b.path) })
	// Only a directory has anything below it.
	kinds := map[string]string{}
	for _, e := range out {
		kinds[e.path] = e.Type
		for dir := filepath.Dir(e.path); dir != "."; dir = filepath.Dir(dir) {
			if k := kinds[dir]; k == "file" || k == "local_file" {
				return nil, errorf("invalid_argument", nil, "the entry %q lies below %q, which is a file; make that a dir", e.path, dir)
			}
		}
	}
	return out, nil
}

var drivePath = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z]:`) })

// entryPath normalises a key. The reasons in the texts, absolute and
// escape_root, are those of the reference.
func entryPath(key string) (string, error) {
	p := strings.ReplaceAll(key, `\`, "/")
	switch {
	case strings.ContainsRune(key, 0):
		return "", errorf("invalid_argument", nil, "the entry path %q holds a NUL byte; remove it", key)
	case strings.HasPrefix(p, "/") || drivePath().MatchString(p):
		return "", errorf("path_outside_workspace", nil, "the entry path %q is absolute; write it relative to the workspace", key)
	case slices.Contains(strings.Split(p, "/"), ".."):
		return "", errorf("path_outside_workspace", nil, "the entry path %q has a .. part (escape_root); write where it really lies", key)
	}
	if p = filepath.Clean(p); p == "." {
		return "", errorf("invalid_argument", nil, "the entry path %q is the workspace itself; name something in it", key)
	}
	return p, nil
}

// check knows which fields go with which type.
func (e item) check() error {
	fail := func(code, format string, args ...any) error {
		return errorf(code, nil, "the entry %q "+format, append([]any{e.path}, args...)...)
	}
	if e.Group != "" {
		return fail("invalid_argument", "names a group: a session has one identity; remove group")
	}
	if _, err := e.mode(0); err != nil {
		return err
	}
	used := map[string]bool{
		"content": e.Content != nil, "content_base64": len(e.ContentBase64) > 0, "src": e.Src != "",
		"host": e.Host != "", "repo": e.Repo != "", "ref": e.Ref != "", "subpath": e.Subpath != "",
	}
	allowed := map[string][]string{
		"file": {"content", "content_base64"}, "dir": {}, "local_file": {"src"}, "local_dir": {"src"},
		"git_repo": {"host", "repo", "ref", "subpath"},
	}
	fields, known := allowed[e.Type]
	if !known {
		if e.Type == "" {
			return fail("invalid_argument", "has no type; use file, dir, local_file, local_dir or git_repo")
		}
		return fail("invalid_argument", "has the type %q; use file, dir, local_file, local_dir or git_repo (mounts are not done here)", e.Type)
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if used[name] && !slices.Contains(fields, name) {
			return fail("invalid_argument", "is a %s and has %s, which does not go with it; remove it", e.Type, name)
		}
	}
	switch e.Type {
	case "file":
		if e.Content != nil && len(e.ContentBase64) > 0 {
			return fail("invalid_argument", "has both content and content_base64; keep one")
		}
	case "local_file":
		if e.Src == "" {
			return fail("invalid_argument", "has no src; name the file to copy")
		}
	case "git_repo":
		return checkRepo(e)
	}
	if strings.ContainsRune(e.Src, 0) {
		return fail("invalid_argument", "has a src with a NUL byte; remove it")
	}
	return nil
}

// mode reads Permissions; without them it is fallback. Only permission bits are
// taken: set-ID and sticky bits have no use in a workspace.
func (e item) mode(fallback os.FileMode) (os.FileMode, error) {
	if e.Permissions == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(e.Permissions, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return 0, errorf("invalid_argument", nil, "the entry %q has the permissions %q; write three octal digits such as 0644", e.path, e.Permissions)
	}
	return os.FileMode(n), nil
}

// Ephemeral lists the topmost ephemeral paths.
func (m *Manifest) Ephemeral() []string {
	if m == nil {
		return nil
	}
	items, _ := m.flatten()
	return ephemeralOf(items)
}

// Digest tells two manifests apart. It is keyed, because a plain hash of a
// manifest lets a short secret in it be guessed.
func (m *Manifest) Digest(key []byte) string {
	if m == nil {
		return ""
	}
	b, _ := json.Marshal(m)
	h := hmac.New(sha256.New, key)
	h.Write([]byte("mcp-sandbox manifest 1\n"))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// within reports whether path lies strictly below dir; both clean.
func within(path, dir string) bool {
	return path != dir && hostpath.Within(path, dir)
}
