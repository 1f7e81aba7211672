package manifest

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"mcp-sandbox/sandbox"
)

// maxDescription bounds a description, in characters.
const maxDescription = 5000

// Describe draws the manifest (not the disk) as a tree of the given depth, with
// each entry's whole path and description next to it, in the reference's form:
// directories end in "/", comments are aligned, names sorted, and what is over 5000
// characters is cut with a note of how many are missing. A depth below 1 is
// invalid_argument.
func (m *Manifest) Describe(root string, depth int) (string, error) {
	if depth < 1 {
		return "", errorf("invalid_argument", nil, "depth is %d; use 1 or more", depth)
	}
	top := &node{children: map[string]*node{}}
	if m != nil {
		items, err := m.flatten()
		if err != nil {
			return "", err
		}
		for _, e := range items {
			n := top.find(e.path)
			n.dir = n.dir || e.Type == "dir" || e.Type == "local_dir" || e.Type == "git_repo"
			n.description = e.Description
		}
		for _, g := range m.Grants {
			note := "granted"
			if g.ReadOnly {
				note = "granted, read-only"
			}
			if g.Description != "" {
				note += ": " + g.Description
			}
			top.grants = append(top.grants, [2]string{g.Path, note})
		}
	}
	lines := [][2]string{{root, ""}}
	top.draw(&lines, "", root, depth)
	lines = append(lines, top.grants...)
	width := 0
	for _, l := range lines {
		if l[1] != "" {
			width = max(width, utf8.RuneCountInString(l[0]))
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l[0])
		if l[1] != "" {
			fmt.Fprintf(&b, "%s  # %s", strings.Repeat(" ", width-utf8.RuneCountInString(l[0])), l[1])
		}
		b.WriteByte('\n')
	}
	text := []rune(b.String())
	if len(text) > maxDescription {
		return string(text[:maxDescription]) + fmt.Sprintf("\n... %d characters cut\n", len(text)-maxDescription), nil
	}
	return string(text), nil
}

// node is one name of the drawn tree. Directories that only occur in paths of
// entries are drawn too.
type node struct {
	dir         bool
	description string
	children    map[string]*node
	grants      [][2]string
}

func (n *node) find(p string) *node {
	for name := range strings.SplitSeq(p, "/") {
		n.dir = true
		if n.children[name] == nil {
			n.children[name] = &node{children: map[string]*node{}}
		}
		n = n.children[name]
	}
	return n
}

func (n *node) draw(lines *[][2]string, indent, at string, depth int) {
	if depth == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(n.children))
	for i, name := range names {
		c := n.children[name]
		branch, below := "├── ", "│   "
		if i == len(names)-1 {
			branch, below = "└── ", "    "
		}
		where := path.Join(at, name)
		shown, comment := sandbox.OneLine(name), where
		if c.dir {
			shown += "/"
		}
		if c.description != "" {
			comment += ": " + c.description
		}
		*lines = append(*lines, [2]string{indent + branch + shown, sandbox.OneLine(comment)})
		c.draw(lines, indent+below, where, depth-1)
	}
}
