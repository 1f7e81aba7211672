// Package stage keeps what a session changed in a staged workspace, until a person
// has decided about it.
//
// A staged workspace is an overlay (package confine mounts it): the project lies
// below and is never written, and the upper layer, in the server's state directory,
// holds what the session changed. This package compares the two, applies changes to
// the project path by path, or discards them. An index of the project, taken when the
// session starts, tells what somebody else has changed since: that is never
// overwritten unless a person says so.
//
// All of it works below descriptors and follows no link: the upper layer was written
// by a hostile session. A change of the project is announced in a journal before it
// is made, and made by one rename, so a kill at any moment leaves each path as it was
// or as it shall be.
package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// ErrEnded says that the session of the stage has ended.
var ErrEnded = errors.New("the session of the stage has ended")

// ErrInUse says that a session uses the stage.
var ErrInUse = errors.New("a session uses the stage")

// Info says what a stage is of.
type Info struct {
	Root    string    `json:"root"`
	Session string    `json:"session,omitempty"`
	Created time.Time `json:"created"`
	// Bytes and Files are what its upper layer holds.
	Bytes int64 `json:"bytes"`
	Files int   `json:"files"`
	InUse bool  `json:"in_use"`
	// GitLeft counts what of git directories stayed in sessions that are not staged.
	GitLeft int `json:"git_left,omitempty"`
	// Protect are paths that the sessions of the stage protect, in addition to those
	// that every review does.
	Protect []string `json:"protect,omitempty"`
	// Dir is the directory of the stage.
	Dir string `json:"-"`
}

// Kind is what happened to a path.
type Kind string

// The kinds of a Change.
const (
	Added    Kind = "added"
	Modified Kind = "modified"
	Removed  Kind = "removed"
	Meta     Kind = "metadata" // mode or attributes alone
	Replaced Kind = "replaced" // by a thing of another type
)

// sig tells whether a file is still the one that was looked at.
type sig struct {
	mode         uint32
	size         int64
	mtime, ctime int64
	ino          uint64
}

// TypeGit is the Type of a change that stands for the data of a git directory: commits,
// refs, the index and the like.
const TypeGit = "git"

// GitView is what waits in a git directory.
type GitView struct {
	New   bool // the project does not have it
	Title string
	Lines []string
	// Conflict says what somebody else did meanwhile, "" for nothing.
	Conflict string
	// Seen identifies it all.
	Seen string
	// Stays says whether a changed file, or a removed directory, is none of that.
	Stays func(path string, dir bool) bool
}

// Git knows how git directories are written. Directories are named by their paths in
// the workspace.
type Git interface {
	// Begin notes what the project has, at the start of a session.
	// What changed since a time, in nanoseconds of the clock, is not known.
	Begin(dirs []string, since int64) error
	// Reload reads what another process has noted.
	Reload()
	Look(dir string) (GitView, error)
	// Publish fails if what waits is no more what Seen is of. conflicts name what was
	// changed on both sides, and where the session's is.
	Publish(dir, seen string) (conflicts []string, err error)
	// Wrote has the texts, before and after, of files that the last Publish wrote and
	// that are also decided about path by path.
	Wrote() map[string][2]string
	Close()
}

// Change is one path that the session changed.
type Change struct {
	Path string `json:"path"` // relative to the workspace
	Kind Kind   `json:"kind"`
	// Type is file, directory, link, pipe or socket: of what the session has, or of
	// what it removed. TypeGit is the data of a git directory.
	Type    string `json:"type"`
	Size    int64  `json:"size"`
	OldSize int64  `json:"old_size,omitempty"`
	Mode    uint32 `json:"mode"`
	OldMode uint32 `json:"old_mode,omitempty"`
	Target  string `json:"target,omitempty"` // of a link
	// Git says of a git directory what of its data the session changed.
	Git string `json:"git,omitempty"`
	// Value is that of a git setting, Reason why it stays in the session unless a person
	// applies it.
	Value  string `json:"value,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Protected: programs outside run what lies there, or go by it. Executable: it is
	// a program. Both are applied only when a person asks for them by name.
	Protected  bool `json:"protected,omitempty"`
	Executable bool `json:"executable,omitempty"`
	// Attributes are words for what differs in user attributes and access lists.
	Attributes []string `json:"attributes,omitempty"`
	// Access says who may read or change with it what they may not without, "" for
	// nobody. It is applied only when a person asks for it by name.
	Access string `json:"access,omitempty"`
	// Names is how many further names the file has in the project: they keep the old
	// content.
	Names int `json:"other_names,omitempty"`
	// Conflict says what somebody else did to the path meanwhile, "" for nothing.
	Conflict string `json:"conflict,omitempty"`
	// Unfit says why the path can never be applied.
	Unfit string `json:"unfit,omitempty"`

	// Seen identifies the change as it is listed: another one of the path has another.
	Seen string `json:"-"`

	lines      []string // of a git directory: what Git sums up
	repo       string   // the directory around it that git takes for a repository, "." for the root
	attributes string   // identifies those that the session has
	content    string   // identifies the text that the session has, "" for what is not shown

	now sig // of what the session has, as it was when this was listed
}

// Marks are words for why the change is one for a person to decide about, none for
// a plain one.
func (c *Change) Marks() (out []string) {
	if c.Protected {
		out = append(out, c.protection())
	}
	if c.Executable {
		out = append(out, "executable")
	}
	if c.Access != "" {
		out = append(out, "access: "+c.Access)
	}
	if c.Conflict != "" {
		out = append(out, "conflict: "+c.Conflict)
	}
	if c.Unfit != "" {
		out = append(out, c.Unfit)
	}
	return out
}

func (c *Change) protection() string {
	if c.Reason != "" {
		return "protected: " + c.Reason
	}
	return "protected"
}

// Choice is what a person agrees to in addition to plain changes.
type Choice struct {
	Protected, Executable, Access, Conflicts bool
}

// Unasked says why a change is not applied with a choice, "" if it is.
func (c Choice) Unasked(x *Change) string {
	switch {
	case x.Unfit != "":
		return x.Unfit
	case x.Protected && !c.Protected && x.Reason != "":
		return x.protection()
	case x.Protected && !c.Protected:
		return "protected: programs outside run it or go by it"
	case x.Executable && !c.Executable:
		return "executable"
	case x.Access != "" && !c.Access:
		return "access: " + x.Access
	case x.Conflict != "" && !c.Conflicts:
		return "conflict: " + x.Conflict
	}
	return ""
}

// Key names what is kept of a project and a session in the state directory; "" is the
// session without a name.
func Key(root, session string) string {
	sum := sha256.Sum256([]byte(root + "\x00" + session))
	return hex.EncodeToString(sum[:12])
}

// NothingThere is why a path is left that names no change.
const NothingThere = "the session changed nothing there"

// Left is a path that was not applied or discarded, and why.
type Left struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Result is what Apply or Discard did.
type Result struct {
	Done []string `json:"done"`
	Left []Left   `json:"left,omitempty"`
}
