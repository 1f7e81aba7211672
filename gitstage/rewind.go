package gitstage

import (
	"fmt"
	"strings"
)

// Move is a ref, or HEAD, that something moves behind git's back: a restore.
type Move struct {
	Name     string
	From, To string // an object id or "ref: NAME"; "" is no such ref
}

// maxMoveLines bounds what is said about one directory.
const maxMoveLines = 10

// mover is what describing moves needs of a git directory.
type mover struct {
	stays   map[string]bool               // objects that refs point to afterwards
	reached func(oid string) bool         // from some of them
	leads   func(commit, old string) bool // commit has old among its ancestors
	keep    func(name, oid string) (ref string, err error)
}

// tell keeps what moves leave without a ref, and has a sentence for each.
func (m mover) tell(title string, moves []Move) (lines []string) {
	more := 0
	for _, v := range moves {
		line := m.one(v)
		if title != "" {
			line = title + ": " + line
		}
		if len(lines) == maxMoveLines {
			more++
			continue
		}
		lines = append(lines, line)
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more refs", more))
	}
	return lines
}

func (m mover) one(v Move) string {
	what, from, to := refTitle(v.Name), valueTitle(v.From), valueTitle(v.To)
	if v.From == "" {
		return fmt.Sprintf("%s comes back at %s", what, to)
	}
	ahead := isOID(v.From) && isOID(v.To) && m.leads(v.To, v.From)
	end := ""
	if isOID(v.From) && !ahead && !m.stays[v.From] && !m.reached(v.From) {
		ref, err := m.keep(v.Name, v.From)
		end = ", kept as " + ref
		if err != nil {
			end = ", which is in the snapshot from before the restore alone"
		}
	}
	switch {
	case v.To == "":
		return fmt.Sprintf("%s at %s goes%s", what, from, end)
	case isOID(v.From) && isOID(v.To) && m.leads(v.From, v.To):
		return fmt.Sprintf("%s moves from %s back to %s%s", what, from, to, end)
	}
	return fmt.Sprintf("%s moves from %s to %s%s", what, from, to, end)
}

func refTitle(name string) string {
	for prefix, title := range map[string]string{"refs/heads/": "branch ", "refs/tags/": "tag ", "refs/remotes/": "remote branch "} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return title + rest
		}
	}
	if name == "refs/stash" {
		return "the stash"
	}
	return name
}

func valueTitle(v string) string {
	if target, ok := strings.CutPrefix(v, "ref: "); ok {
		return refTitle(target)
	}
	return v[:min(len(v), 10)]
}
