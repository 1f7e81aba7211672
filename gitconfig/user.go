package gitconfig

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// User is what of a person's git configuration a session needs to make commits.
type User struct {
	Name, Email   string
	DefaultBranch string // init.defaultBranch
	Ignore        string // content of core.excludesFile
}

// ParseUser reads "Name <mail>".
func ParseUser(s string) (name, email string, ok bool) {
	name, rest, ok := strings.Cut(s, "<")
	email, after, closed := strings.Cut(rest, ">")
	name, email = strings.TrimSpace(name), strings.TrimSpace(email)
	ok = ok && closed && strings.TrimSpace(after) == "" && name != "" && email != "" &&
		!strings.ContainsAny(name+email, "<>\n\r\x00")
	return name, email, ok
}

// maxIgnore bounds core.excludesFile, in bytes.
const maxIgnore = 256 << 10

// ReadUser reads the global configuration of the person whose home directory it
// is, and the files it includes without a condition. Of all it holds only the
// fields of User are looked at; what cannot be read is left out.
func ReadUser(home, xdg string) User {
	if xdg == "" {
		xdg = filepath.Join(home, ".config")
	}
	var u User
	excludes := filepath.Join(xdg, "git", "ignore")
	r := userReader{home: home, set: func(e *Entry) {
		switch e.Name() {
		case "user.name":
			u.Name = e.Value
		case "user.email":
			u.Email = e.Value
		case "init.defaultbranch":
			u.DefaultBranch = e.Value
		case "core.excludesfile":
			excludes = e.Value
		}
	}}
	r.file(filepath.Join(xdg, "git", "config"), 0)
	r.file(filepath.Join(home, ".gitconfig"), 0)
	u.Ignore, _ = readSmall(r.path(excludes, home), maxIgnore)
	for _, s := range []*string{&u.Name, &u.Email, &u.DefaultBranch} {
		if strings.ContainsAny(*s, "\n\r\x00") {
			*s = ""
		}
	}
	return u
}

type userReader struct {
	home string
	set  func(*Entry)
}

// file reads one file, and what it includes where it does so.
func (r *userReader) file(name string, depth int) {
	text, ok := readSmall(name, MaxSize)
	if !ok || depth > 10 {
		return
	}
	f, err := Parse(text)
	if err != nil {
		return
	}
	for i := range f.entries {
		e := &f.entries[i]
		if e.Name() == "include.path" {
			r.file(r.path(e.Value, filepath.Dir(name)), depth+1)
			continue
		}
		r.set(e)
	}
}

// path is a path of a configuration file.
func (r *userReader) path(p, dir string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		return filepath.Join(r.home, rest)
	}
	if !filepath.IsAbs(p) {
		return filepath.Join(dir, p)
	}
	return p
}

// readSmall reads a regular file of at most max bytes.
func readSmall(name string, max int64) (string, bool) {
	fi, err := os.Stat(name)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > max {
		return "", false
	}
	f, err := os.Open(name)
	if err != nil {
		return "", false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max))
	return string(b), err == nil
}

// Text is the user as a configuration file, without the ignore file.
func (u User) Text() string {
	f := &File{}
	set := func(section, key, value string) {
		if value != "" {
			_ = f.Set(section, "", key, []string{value})
		}
	}
	set("user", "name", u.Name)
	set("user", "email", u.Email)
	set("init", "defaultBranch", u.DefaultBranch)
	return f.Text()
}
