package confine

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"mcp-sandbox/hostpath"
	"mcp-sandbox/sandbox"
)

// A toolchain is more than its bin directory: python needs its lib, cargo its
// registry of toolchains. toolchainDirs finds what the programs on a PATH need
// to be readable, and no more.

// hostView is what toolchainDirs asks of the host, so that it can be tested on
// any machine.
type hostView interface {
	// Resolve gives the path behind all links; ok is false when nothing is there.
	Resolve(p string) (resolved string, ok bool)
	IsDir(p string) bool
	// Links lists the targets of the symbolic links directly in dir, resolved.
	Links(dir string) []string
}

// systemDirs are visible in every sandbox.
var systemDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// neverWiden are the dot directories of a home that hold secrets or state
// rather than programs; only the very directory named on PATH opens there.
var neverWiden = []string{".ssh", ".aws", ".gnupg", ".config", ".kube", ".docker", ".local", ".cache", ".mozilla", ".password-store", ".azure", ".netrc", ".git"}

// toolchainSecrets are credential files toolchains keep in their own tree,
// hidden wherever one is opened.
var toolchainSecrets = []string{"credentials", "credentials.toml", "config.json", ".npmrc", ".netrc", ".git-credentials", "auth.json"}

// secretPaths are where credentials may lie in toolchains, whether they are there
// yet or not. The workspace has rules of its own.
func secretPaths(dirs []string, workspace string) []string {
	var paths []string
	for _, d := range dirs {
		if within(d, workspace) || within(workspace, d) {
			continue
		}
		for _, s := range toolchainSecrets {
			paths = append(paths, path.Join(d, s))
		}
	}
	return paths
}

// companions are trees a toolchain cannot work without and that lie next to it.
var companions = []struct{ dir, with string }{
	{".cargo", ".rustup"},
	{".local/bin", ".local/lib"},
	{".local/bin", ".local/share/pipx"},
	{".local/bin", ".local/share/uv"},
	{".local/bin", ".local/share/mise"},
}

// toolchainEnviron gives NAME=VALUE pairs for toolchains that look for their parts
// in HOME, which is another one inside. shown are directories that commands can
// read, besides the system's.
func toolchainEnviron(h hostView, homes, shown []string) []string {
	shown = slices.Concat(shown, systemDirs)
	// https://rust-lang.github.io/rustup/environment-variables.html
	const name = "RUSTUP_HOME"
	if set := os.Getenv(name); set != "" {
		if real, ok := h.Resolve(set); ok && path.IsAbs(set) && within(real, shown...) {
			return []string{name + "=" + real}
		}
		return nil
	}
	for _, home := range homes {
		if dir := path.Join(home, ".rustup"); within(dir, shown...) && h.IsDir(dir) {
			return []string{name + "=" + dir}
		}
	}
	return nil
}

// toolchainDirs returns the directories that make the programs on searchPath
// run, in order, without those already visible. homes are the home directories
// in which the first dot directory on the way counts as the toolchain.
func toolchainDirs(h hostView, searchPath string, homes []string) []string {
	t := toolchainSearch{h: h, homes: homes}
	for dir := range strings.SplitSeq(searchPath, ":") {
		if !strings.HasPrefix(dir, "/") {
			continue // relative entries are never searched inside
		}
		dir = path.Clean(dir)
		resolved, ok := h.Resolve(dir)
		// A missing entry opens nothing; opening its parent would let a PATH
		// widen what a sandbox reads.
		if !ok || !h.IsDir(resolved) {
			continue
		}
		t.add(resolved)
		if slices.Contains([]string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"}, resolved) {
			continue // the distribution's own, all below /usr
		}
		if t.forbidden(resolved) {
			continue
		}
		for _, target := range h.Links(resolved) {
			if !h.IsDir(target) {
				t.add(path.Dir(target))
			}
		}
	}
	slices.Sort(t.dirs)
	return dropNested(t.dirs)
}

type toolchainSearch struct {
	h     hostView
	homes []string
	dirs  []string
}

func (t *toolchainSearch) add(dir string) {
	w := t.widen(dir)
	if w == "" {
		return
	}
	if !slices.Contains(t.dirs, w) {
		t.dirs = append(t.dirs, w)
	}
	if w == dir {
		t.addBeside(dir)
	}
	for _, home := range t.homes {
		for _, c := range companions {
			with := path.Join(home, c.with)
			if w == path.Join(home, c.dir) && t.h.IsDir(with) && !slices.Contains(t.dirs, with) {
				t.dirs = append(t.dirs, with)
			}
		}
	}
}

// besidePrograms are directories that hold the data of the programs in the bin
// directory next to them, in a prefix without libraries of its own.
var besidePrograms = []string{"share", "include", "etc", "packages", "pkg"}

// addBeside opens what programs of a small prefix need besides themselves, such as
// protoc its ../include; the rest of the prefix stays closed.
func (t *toolchainSearch) addBeside(dir string) {
	parent := path.Dir(dir)
	if base := path.Base(dir); base != "bin" && base != "sbin" || t.forbidden(parent) {
		return
	}
	for _, name := range besidePrograms {
		sibling := path.Join(parent, name)
		// A link may lead anywhere.
		if real, ok := t.h.Resolve(sibling); ok && real == sibling && t.h.IsDir(sibling) && !slices.Contains(t.dirs, sibling) {
			t.dirs = append(t.dirs, sibling)
		}
	}
}

// widen gives the tree that dir, which holds programs, belongs to; "" when it
// is visible anyway or must not be opened.
func (t *toolchainSearch) widen(dir string) string {
	if within(dir, systemDirs...) {
		return ""
	}
	for _, top := range []string{"/opt", "/nix", "/snap"} {
		if within(dir, top) {
			return top
		}
	}
	for _, home := range t.homes {
		rest, ok := beneath(home, dir)
		if !ok {
			continue
		}
		if rest == "" {
			return "" // programs loose in the home: it stays hidden
		}
		first, _, _ := strings.Cut(rest, "/")
		if strings.HasPrefix(first, ".") && !slices.Contains(neverWiden, first) {
			return path.Join(home, first)
		}
		break
	}
	parent := path.Dir(dir)
	base := path.Base(dir)
	if (base == "bin" || base == "sbin") && !t.forbidden(parent) &&
		(t.h.IsDir(path.Join(parent, "lib")) || t.h.IsDir(path.Join(parent, "libexec"))) {
		return parent // an installation prefix or a virtual environment
	}
	if t.forbidden(dir) {
		return ""
	}
	return dir
}

// forbidden are trees no PATH entry opens as a whole.
func (t *toolchainSearch) forbidden(dir string) bool {
	if dir == "/" || slices.Contains(t.homes, dir) || path.Dir(dir) == "/home" {
		return true
	}
	for _, home := range t.homes {
		if dir == path.Join(home, ".local") || dir == path.Join(home, ".config") {
			return true
		}
	}
	return slices.Contains([]string{"/home", "/root", "/var", "/tmp", "/run", "/mnt", "/media", "/srv"}, dir) ||
		within(dir, "/etc", "/proc", "/sys", "/dev", "/boot", "/run", "/tmp", "/var/tmp")
}

// beneath gives the part of p below dir.
func beneath(dir, p string) (string, bool) {
	if p == dir {
		return "", true
	}
	if dir == "/" {
		return strings.TrimPrefix(p, "/"), true
	}
	return strings.CutPrefix(p, dir+"/")
}

// within says whether p is one of dirs or lies in one.
func within(p string, dirs ...string) bool {
	for _, d := range dirs {
		if _, ok := beneath(d, p); ok && d != "" {
			return true
		}
	}
	return false
}

// dropNested removes from sorted paths those that lie in another.
func dropNested(dirs []string) []string {
	var out []string
	for _, d := range dirs {
		if !within(d, out...) {
			out = append(out, d)
		}
	}
	return out
}

// osView is the real host. No link is followed that lies in one of the writable
// directories: an earlier session may have put it there, to have what it leads to
// opened for the next one.
type osView struct {
	writable []string
	// left is told the directory of each link that was not followed, and may be nil.
	left func(dir string)
}

// viewOf is the host as the toolchains of p may be looked for in it.
func viewOf(p *sandbox.Policy, left func(dir string)) osView {
	v := osView{left: left}
	for _, d := range append([]string{p.Workspace}, p.Write...) {
		if real, err := filepath.EvalSymlinks(d); err == nil {
			v.writable = append(v.writable, real)
		}
	}
	return v
}

func (v osView) Resolve(p string) (string, bool) {
	r, err := hostpath.Resolve(p, v.writable)
	var planted *hostpath.PlantedError
	if errors.As(err, &planted) && v.left != nil {
		// A link to what is shown anyway, as python of a virtual environment to
		// /usr/bin, loses nothing.
		if to, err := filepath.EvalSymlinks(p); err == nil && !within(to, systemDirs...) && !within(to, v.writable...) {
			v.left(path.Dir(planted.Link))
		}
	}
	return r, err == nil
}

func (osView) IsDir(p string) bool {
	fi, err := os.Stat(p)
	return err == nil && fi.IsDir()
}

// maxLinks bounds how much of one directory is looked at on every start.
const maxLinks = 1024

func (v osView) Links(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	entries, _ := d.ReadDir(maxLinks)
	var out []string
	looked := map[string]bool{} // rustup's are a dozen links to one program
	for _, e := range entries {
		if e.Type()&os.ModeSymlink == 0 {
			continue
		}
		p := path.Join(dir, e.Name())
		to, err := os.Readlink(p)
		if err != nil || looked[to] {
			continue
		}
		looked[to] = true
		if r, ok := v.Resolve(p); ok {
			out = append(out, r)
		}
	}
	return out
}
